//! A deployment of one team whose tasks do what their ids say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isobar_auth::{MasterKey, OrgScope, TeamScope};
use isobar_config::{Config, Team};
use isobar_execution::{Execution, Settings};
use isobar_executors::{LocalExecutor, RunEnded, RunTask, Running};
use isobar_model::{AirflowTime, RunKey, RunState, RunType, TaskState, TeamId, TeamName};
use isobar_scheduler::{Holder, Scheduler, Setting, StuckRule, TeamSetting};
use isobar_store::runs::{self, NewRun};
use isobar_store::task_instances::{self, TaskInstance};
use isobar_store::{Store, events, migrate, pools, teams};
use isobar_wire::agent::{AgentApi, KnownFile, ParsedFile};
use isobar_wire::execution::{Caller, ExecutionApi, Operation, TaskEnd, TaskStart};
use isobar_wire::workload::Workload;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub const TEAM: TeamId = TeamId::DEFAULT;
/// Nothing here takes longer; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One test on both databases.
macro_rules! driving {
    ($name:ident, |$ground:ident| $body:block) => {
        mod $name {
            use super::*;

            async fn promise($ground: &$crate::ground::Ground) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                let ground = $crate::ground::Ground::sqlite().await;
                promise(&ground).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                let Some(ground) = $crate::ground::Ground::postgres().await else { return };
                promise(&ground).await;
            }
        }
    };
}

pub struct Ground {
    pub store: Store,
    pub org: OrgScope,
    pub execution: Arc<Execution>,
    alone: bool,
    url: String,
    _folder: tempfile::TempDir,
}

/// A scheduler that runs until it is dropped (as if killed) or stopped.
pub struct At {
    stop: CancellationToken,
    work: tokio::task::JoinHandle<()>,
    pub tasks: Arc<Tasks>,
}

impl At {
    pub async fn stop(self) {
        self.stop.cancel();
        self.work.await.unwrap();
    }

    /// As `kill -9`: nothing is given back.
    pub async fn kill(self) {
        self.tasks.dead.cancel();
        self.work.abort();
        let _ = self.work.await;
    }
}

/// Runs tasks: `hang…` until cancelled, `gate…` until [`Tasks::gate`] lets one pass, `fail…` fails, `once…` fails at its
/// first try, `silent…` ends without a word, `stuck…` never begins (`stuck_once`: the first time only), others succeed.
pub struct Tasks {
    execution: Arc<Execution>,
    pub gate: Semaphore,
    /// What began, in order.
    pub began: Mutex<Vec<String>>,
    /// How many ran at once, at most.
    pub most: Mutex<(usize, usize)>,
    /// What was written into logs.
    pub said: Mutex<Vec<String>>,
    /// The machine is gone: nothing is reported any more.
    dead: CancellationToken,
}

impl RunTask for Tasks {
    fn run<'a>(&'a self, workload: &'a Workload, cancel: CancellationToken) -> Running<'a> {
        Box::pin(async move {
            tokio::select! {
                ended = self.work(workload, cancel) => ended,
                () = self.dead.cancelled() => std::future::pending().await,
            }
        })
    }

    fn explain(&self, log_path: &str, said: &str) {
        self.said.lock().unwrap().push(format!("{log_path}: {said}"));
    }
}

impl Tasks {
    async fn work(&self, workload: &Workload, cancel: CancellationToken) -> RunEnded {
        let task = workload.identity.task_id.to_string();
        self.began.lock().unwrap().push(task.clone());
        {
            let mut most = self.most.lock().unwrap();
            most.0 += 1;
            most.1 = most.1.max(most.0);
        }
        let times = self
            .began
            .lock()
            .unwrap()
            .iter()
            .filter(|began| **began == task)
            .count();
        if task.starts_with("stuck") && (times == 1 || task != "stuck_once") {
            self.most.lock().unwrap().0 -= 1;
            cancel.cancelled().await;
            return failed("cancelled");
        }
        let caller = Caller::Task(workload.identity.clone());
        let start = TaskStart {
            hostname: "here".to_owned(),
            unixname: "me".to_owned(),
            pid: 1,
            start_date: AirflowTime(Timestamp::now()),
        };
        if let Err(refused) = self.execution.call(&caller, Operation::Run(start)).await {
            self.most.lock().unwrap().0 -= 1;
            return failed(&refused.to_string());
        }
        if task.starts_with("hang") {
            cancel.cancelled().await;
        }
        // Its slot is free with the commit of its end, which others may see before we do.
        self.most.lock().unwrap().0 -= usize::from(!task.starts_with("gate"));
        if task.starts_with("hang") {
            return failed("cancelled");
        }
        if task.starts_with("silent") {
            return RunEnded::default();
        }
        if task.starts_with("gate") {
            self.gate.acquire().await.unwrap().forget();
            self.most.lock().unwrap().0 -= 1;
        }
        let (at, first) = (AirflowTime(Timestamp::now()), workload.identity.try_number == 1);
        let end = if task.starts_with("once") && first {
            TaskEnd::UpForRetry {
                end_date: at,
                retry_delay_seconds: Some(0.05),
                retry_reason: None,
                rendered_map_index: None,
            }
        } else if task.starts_with("fail") {
            TaskEnd::Failed {
                end_date: at,
                rendered_map_index: None,
            }
        } else {
            TaskEnd::Success {
                end_date: at,
                task_outlets: Vec::new(),
                outlet_events: Vec::new(),
                rendered_map_index: None,
            }
        };
        match self.execution.call(&caller, Operation::State(end)).await {
            Ok(_) => RunEnded::default(),
            Err(refused) => failed(&refused.to_string()),
        }
    }
}

fn master_key() -> MasterKey {
    MasterKey::from_text("a test's secret of more than thirty-two bytes").unwrap()
}

fn failed(why: &str) -> RunEnded {
    RunEnded {
        failure: Some(why.to_owned()),
        callbacks_lost: false,
    }
}

impl Ground {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("isobar.db").display());
        Self::migrated(&url, folder, true).await
    }

    /// A schema of its own in the database that `ISOBAR_TEST_POSTGRES` names.
    pub async fn postgres() -> Option<Self> {
        let url = std::env::var("ISOBAR_TEST_POSTGRES").ok()?;
        let schema = format!("driving_{}", uuid::Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}options=-c%20search_path%3D{schema}");
        Some(Self::migrated(&url, tempfile::tempdir().unwrap(), false).await)
    }

    async fn migrated(url: &str, folder: tempfile::TempDir, alone: bool) -> Self {
        let org = OrgScope::at_process_start();
        let store = Store::open(url).await.unwrap();
        migrate::migrate(&store, &org).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        teams::ensure_default(&mut tx, &org, Timestamp::now()).await.unwrap();
        pools::create(
            &mut tx,
            org.team(TEAM),
            "default_pool",
            128,
            None,
            false,
            Timestamp::now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let mut config = Config::with_home(folder.path());
        config.core.dags_are_paused_at_creation = false;
        let settings = Settings::from_config(&config, master_key());
        let execution = Arc::new(Execution::new(store.clone(), org.clone(), settings));
        Self {
            store,
            org,
            execution,
            alone,
            url: url.to_owned(),
            _folder: folder,
        }
    }

    /// Writes past the store, which has no way to give rows a past.
    pub async fn write(&self, statements: &[String]) {
        let statements = statements.iter().cloned().map(sqlx::AssertSqlSafe);
        if self.alone {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            for statement in statements {
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            for statement in statements {
                sqlx::query(statement).execute(&mut connection).await.unwrap();
            }
        }
    }

    pub fn scope(&self) -> TeamScope {
        self.org.team(TEAM)
    }

    /// A scheduler with a local executor of so many slots.
    pub fn start(&self, slots: u32) -> At {
        self.start_with(slots, |_| {})
    }

    /// The same, its setting changed.
    pub fn start_with(&self, slots: u32, change: impl FnOnce(&mut Setting)) -> At {
        let (reports, reported) = mpsc::unbounded_channel();
        let tasks = Arc::new(Tasks {
            execution: Arc::clone(&self.execution),
            gate: Semaphore::new(0),
            began: Mutex::default(),
            most: Mutex::default(),
            said: Mutex::default(),
            dead: CancellationToken::new(),
        });
        let executor = LocalExecutor::new(Arc::clone(&tasks) as Arc<dyn RunTask>, Some(slots), reports.clone());
        let team = TeamSetting {
            name: TeamName::default_team(),
            config: Team::new(TeamName::default_team()),
            executors: HashMap::from([(
                "local".to_owned(),
                Arc::new(executor) as Arc<dyn isobar_executors::Executor>,
            )]),
        };
        let mut setting = Setting {
            org: self.org.clone(),
            master_key: master_key(),
            holder: Holder::this_process(),
            alone: self.alone,
            teams: HashMap::from([(TEAM, team)]),
            parallelism: 32,
            makes_runs: true,
            heartbeat_timeout: Duration::from_secs(300),
            rendered_runs: 30,
            most_downstream_keys: 1000,
            lease: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(30),
            stuck: StuckRule::default(),
        };
        change(&mut setting);
        let scheduler = Scheduler::new(self.store.clone(), setting, reported);
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let work = tokio::spawn(async move {
            let _reports = reports;
            scheduler.run(asked).await.unwrap();
        });
        At { stop, work, tasks }
    }

    /// Stores a Dag of these tasks: id, what is downstream, and further attributes.
    pub async fn dag(&self, dag_id: &str, tasks: &[(&str, &[&str], Value)], attributes: Value) {
        let tasks: Vec<Value> = tasks
            .iter()
            .map(|(id, downstream, more)| {
                let mut task = json!({
                    "task_id": id, "task_type": "PythonOperator", "_task_module": "x", "downstream_task_ids": downstream,
                });
                merge(&mut task, more);
                json!({"__type": "operator", "__var": task})
            })
            .collect();
        let mut dag = json!({
            "dag_id": dag_id, "fileloc": format!("/dags/{dag_id}.py"), "relative_fileloc": format!("{dag_id}.py"),
            "timezone": "UTC", "tasks": tasks,
            "timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}},
        });
        merge(&mut dag, &attributes);
        let file = ParsedFile {
            file: KnownFile {
                bundle: "dags-folder".to_owned(),
                rel_path: format!("{dag_id}.py"),
                mtime_ns: 1,
                size: 1,
                fingerprint: "f".to_owned(),
            },
            fileloc: format!("/dags/{dag_id}.py"),
            source: String::new(),
            dags: vec![json!({"__version": 3, "dag": dag})],
            warnings: Vec::new(),
            import_errors: Vec::new(),
            parsed_at: AirflowTime(Timestamp::now()),
            seconds: 0.1,
        };
        self.execution.files_parsed(TEAM, vec![file]).await.unwrap();
    }

    pub async fn trigger(&self, dag_id: &str, run_id: &str) -> RunKey {
        let mut tx = self.store.begin().await.unwrap();
        let new = NewRun::new(dag_id.into(), run_id.into(), RunType::Manual, Timestamp::now());
        let run = runs::create(&mut tx, self.scope(), &new, Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        run.key()
    }

    pub async fn instances(&self, run: &RunKey) -> Vec<TaskInstance> {
        let mut tx = self.store.read().await.unwrap();
        task_instances::of_run(&mut tx, self.scope(), run).await.unwrap()
    }

    pub async fn states(&self, run: &RunKey) -> Vec<(String, Option<TaskState>, i32)> {
        let all = self.instances(run).await.into_iter();
        all.map(|ti| (ti.task_id.to_string(), ti.state, ti.try_number))
            .collect()
    }

    /// Waits until the run has ended; answers how.
    pub async fn ended(&self, run: &RunKey) -> RunState {
        self.until(run, |row, _| row.state.is_finished().then_some(row.state))
            .await
    }

    /// Waits until a task is in a state.
    pub async fn reaches(&self, run: &RunKey, task: &str, state: TaskState) -> TaskInstance {
        self.until(run, |_, all| {
            all.iter()
                .find(|ti| ti.task_id.as_str() == task && ti.state == Some(state))
                .cloned()
        })
        .await
    }

    /// Looks whenever something was committed, and now and then.
    pub async fn until<T>(&self, run: &RunKey, found: impl Fn(&runs::Run, &[TaskInstance]) -> Option<T>) -> T {
        let mut signals = self.store.signals().subscribe();
        let looking = async {
            loop {
                let mut tx = self.store.read().await.unwrap();
                let row = runs::get(&mut tx, self.scope(), run).await.unwrap();
                let all = task_instances::of_run(&mut tx, self.scope(), run).await.unwrap();
                drop(tx);
                if let Some(found) = row.and_then(|row| found(&row, &all)) {
                    return found;
                }
                let _ = tokio::time::timeout(Duration::from_millis(50), signals.recv()).await;
            }
        };
        let Ok(found) = tokio::time::timeout(PATIENCE, looking).await else {
            panic!("it never came; instances: {:?}", self.states(run).await)
        };
        found
    }
}

/// Stores Dags as Airflow serializes them, each in a file of its own.
pub async fn store(ground: &Ground, dags: Vec<Value>) {
    let files = dags
        .into_iter()
        .map(|dag| {
            let rel_path = format!("{}.py", dag["dag_id"].as_str().unwrap());
            ParsedFile {
                fileloc: format!("/dags/{rel_path}"),
                file: KnownFile {
                    bundle: "dags-folder".to_owned(),
                    rel_path,
                    mtime_ns: 1,
                    size: 1,
                    fingerprint: "f".to_owned(),
                },
                source: String::new(),
                dags: vec![json!({"__version": 3, "dag": dag})],
                warnings: Vec::new(),
                import_errors: Vec::new(),
                parsed_at: AirflowTime(Timestamp::now()),
                seconds: 0.1,
            }
        })
        .collect();
    ground.execution.files_parsed(TEAM, files).await.unwrap();
}

/// Waits until the scheduler has acted on everything.
pub async fn settled(ground: &Ground) {
    let quiet = async {
        let mut quiet = 0;
        while quiet < 3 {
            let mut tx = ground.store.read().await.unwrap();
            let waiting = events::waiting(&mut tx, &ground.org).await.unwrap();
            drop(tx);
            quiet = if waiting == 0 { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), quiet).await.unwrap();
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        into[key] = value.clone();
    }
}
