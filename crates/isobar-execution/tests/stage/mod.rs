//! A store with three teams, Dags made of JSON, and tasks brought to life: what the tests act on.
//!
//! Every test runs on SQLite, and on PostgreSQL too where `ISOBAR_TEST_POSTGRES` names a server.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "no test file uses all of the stage, and it is a crate of none"
)]

use std::time::Duration;

use isobar_auth::{MasterKey, OrgScope, TeamScope};
use isobar_config::{Config, Consent, ConsentAction, Step, Team};
use isobar_execution::{Execution, Settings};
use isobar_model::{AirflowTime, RunKey, RunType, TaskKey, TeamId, TeamName};
use isobar_store::runs::NewRun;
use isobar_store::transitions::{PlanOutcome, PlannedRun, QueueTask, ReadyTask, commit_plans};
use isobar_store::{Store, dags, leases, migrate, task_instances, teams};
use isobar_wire::agent::{AgentApi, KnownFile, ParsedFile};
use isobar_wire::execution::{
    Answer, Caller, ExecutionApi, Operation, Refusal, TaskEnd, TaskIdentity, TaskStart, XComKey,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::Executor as _;

pub const ALPHA: TeamId = TeamId(1);
pub const BETA: TeamId = TeamId(2);

pub struct Stage {
    pub store: Store,
    pub org: OrgScope,
    pub api: Execution,
    _folder: tempfile::TempDir,
}

/// The stages to act on: SQLite always, PostgreSQL where there is one.
pub async fn stages() -> Vec<Stage> {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("isobar.db").display());
    let mut stages = vec![Stage::open(&url, folder).await];
    if let Ok(server) = std::env::var("ISOBAR_TEST_POSTGRES") {
        let name = format!("execution_{}", uuid::Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(&server).await.unwrap();
        pool.execute(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {name}")))
            .await
            .unwrap();
        pool.close().await;
        let url = format!("{server}?options=-c%20search_path%3D{name}");
        stages.push(Stage::open(&url, tempfile::tempdir().unwrap()).await);
    }
    stages
}

impl Stage {
    async fn open(url: &str, folder: tempfile::TempDir) -> Self {
        let org = OrgScope::at_process_start();
        let store = Store::open(url).await.unwrap();
        migrate::migrate(&store, &org).await.unwrap();
        let now = Timestamp::now();
        let mut tx = store.begin().await.unwrap();
        teams::ensure_default(&mut tx, &org, now).await.unwrap();
        let named = |name: &str| TeamName::parse(name).unwrap();
        let steps = ["alpha", "beta"].map(|name| Step::Create { name: named(name) });
        teams::apply(&mut tx, &org, &steps, now).await.unwrap();
        tx.commit().await.unwrap();

        let mut config = Config::with_home(folder.path());
        config.core.multi_team = true;
        let mut beta = Team::new(named("beta"));
        beta.consents.push(Consent {
            dags: vec!["open_*".to_owned()],
            teams: vec!["al*".to_owned()],
            actions: vec![ConsentAction::Read, ConsentAction::Trigger],
        });
        config.teams = vec![Team::new(named("alpha")), beta];
        let master = MasterKey::from_text(&"k".repeat(32)).unwrap();
        let api = Execution::new(store.clone(), org.clone(), Settings::from_config(&config, master));
        Self {
            store,
            org,
            api,
            _folder: folder,
        }
    }

    pub fn scope(&self, team: TeamId) -> TeamScope {
        self.org.team(team)
    }

    /// Stores a file with these Dags.
    pub async fn parse(&self, team: TeamId, path: &str, dags: Vec<Value>) {
        self.api.files_parsed(team, vec![file(path, dags)]).await.unwrap();
    }

    /// Makes a run of a Dag with its task instances.
    pub async fn run(&self, team: TeamId, dag_id: &str, run_id: &str) -> RunKey {
        let scope = self.scope(team);
        let mut tx = self.store.begin().await.unwrap();
        let head = dags::head(&mut tx, scope, dag_id)
            .await
            .unwrap()
            .expect("the Dag is there");
        let logical_date: Option<Timestamp> = run_id.strip_prefix("at_").and_then(|at| at.parse().ok());
        let new = NewRun {
            version_id: head.current_version_id,
            logical_date,
            interval: logical_date.map(|at| (at, at)),
            triggering_user: Some("ada".to_owned()),
            ..NewRun::new(dag_id.into(), run_id.into(), RunType::Manual, Timestamp::now())
        };
        let made = self
            .api
            .new_runs()
            .create(&mut tx, scope, &new, Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        made.key()
    }

    /// Brings a task instance to `queued`; answers its identity.
    pub async fn queue(&self, team: TeamId, run: &RunKey, task_id: &str) -> TaskIdentity {
        let scope = self.scope(team);
        let key = TaskKey {
            task_id: task_id.into(),
            map_index: -1,
        };
        let now = Timestamp::now();
        let mut tx = self.store.begin().await.unwrap();
        let lease = leases::acquire(&mut tx, &self.org, "scheduler", "test", Duration::from_secs(60), now)
            .await
            .unwrap()
            .expect("nobody else schedules");
        let row = isobar_store::runs::get(&mut tx, scope, run).await.unwrap().unwrap();
        let before = task_instances::get(&mut tx, scope, run, &key)
            .await
            .unwrap()
            .expect("the task is there");
        let mut plan = PlannedRun::new(team, run.clone(), row.rev);
        plan.ready.push(ReadyTask {
            key: key.clone(),
            from: before.state,
            next_try: true,
        });
        plan.queue.push(QueueTask { key: key.clone() });
        let outcomes = commit_plans(&mut tx, &self.org, &lease, &[plan], now).await.unwrap();
        tx.commit().await.unwrap();
        let PlanOutcome::Committed { queued, .. } = &outcomes[0] else {
            panic!("the plan conflicted");
        };
        let names = ["default", "alpha", "beta"];
        TaskIdentity {
            team,
            team_name: TeamName::from_stored(names[usize::try_from(team.0).unwrap()].to_owned()),
            dag_id: run.dag_id.clone(),
            run_id: run.run_id.clone(),
            task_id: task_id.into(),
            map_index: -1,
            try_number: queued[0].try_number,
            ti_id: queued[0].ti_id,
            dispatch: queued[0].dispatch,
        }
    }

    /// Brings a task instance to `running`.
    pub async fn start(&self, team: TeamId, run: &RunKey, task_id: &str) -> Caller {
        let caller = Caller::Task(self.queue(team, run, task_id).await);
        self.call(&caller, Operation::Run(start())).await.unwrap();
        caller
    }

    /// A Dag of one team, a run of it, and its first task running.
    pub async fn running(&self, team: TeamId, dag_id: &str) -> Caller {
        self.parse(team, &format!("{dag_id}.py"), vec![dag(dag_id, &["a", "b"])])
            .await;
        let run = self.run(team, dag_id, "at_2026-01-02T00:00:00Z").await;
        self.start(team, &run, "a").await
    }

    pub async fn call(&self, caller: &Caller, operation: Operation) -> Result<Answer, Refusal> {
        self.api.call(caller, operation).await
    }

    /// The row of the caller's task instance.
    pub async fn row(&self, caller: &Caller) -> task_instances::TaskInstance {
        let Caller::Task(task) = caller else { panic!("no task") };
        let run = RunKey {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
        };
        let key = TaskKey {
            task_id: task.task_id.clone(),
            map_index: task.map_index,
        };
        let mut tx = self.store.read().await.unwrap();
        task_instances::get(&mut tx, self.scope(task.team), &run, &key)
            .await
            .unwrap()
            .unwrap()
    }
}

pub fn start() -> TaskStart {
    TaskStart {
        hostname: "host".to_owned(),
        unixname: "ada".to_owned(),
        pid: 42,
        start_date: now(),
    }
}

pub fn now() -> AirflowTime {
    AirflowTime(Timestamp::now())
}

pub fn success() -> Operation {
    Operation::State(TaskEnd::Success {
        end_date: now(),
        task_outlets: Vec::new(),
        outlet_events: Vec::new(),
        rendered_map_index: None,
    })
}

pub fn xcom(caller: &Caller, key: &str) -> XComKey {
    let Caller::Task(task) = caller else { panic!("no task") };
    XComKey {
        dag_id: task.dag_id.to_string(),
        run_id: task.run_id.to_string(),
        task_id: task.task_id.to_string(),
        key: key.to_owned(),
    }
}

pub fn set(xcom: XComKey, value: Value) -> Operation {
    Operation::SetXCom {
        xcom,
        value,
        map_index: None,
        dag_result: false,
        mapped_length: None,
    }
}

pub fn get(xcom: XComKey) -> Operation {
    Operation::GetXCom {
        xcom,
        map_index: None,
        include_prior_dates: false,
        offset: None,
    }
}

pub fn parser(team: TeamId, name: &str) -> Caller {
    Caller::Parse {
        team,
        team_name: TeamName::from_stored(name.to_owned()),
        bundle: "dags-folder".to_owned(),
    }
}

/// A serialized Dag: a chain of tasks.
pub fn dag(dag_id: &str, tasks: &[&str]) -> Value {
    let members: Vec<Value> = tasks
        .iter()
        .enumerate()
        .map(|(index, task_id)| {
            let next: Vec<&&str> = tasks.get(index + 1).into_iter().collect();
            json!({"__type": "operator", "__var": {
                "task_id": task_id, "task_type": "PythonOperator", "_task_module": "x", "retries": 1,
                "downstream_task_ids": next}})
        })
        .collect();
    json!({"__version": 3, "dag": {
        "dag_id": dag_id, "fileloc": format!("/dags/{dag_id}.py"), "relative_fileloc": format!("{dag_id}.py"),
        "timezone": "UTC", "timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}},
        "tags": ["one", "two"], "tasks": members}})
}

/// An asset as serialized.
pub fn asset(name: &str, uri: &str) -> Value {
    json!({"__type": "asset", "name": name, "uri": uri, "group": "asset", "extra": {}})
}

pub fn scheduled_by(mut dag: Value, condition: Value) -> Value {
    dag["dag"]["timetable"] = json!({"__type": "airflow.timetables.simple.AssetTriggeredTimetable",
        "__var": {"asset_condition": condition}});
    dag
}

/// Gives the first task an outlet (as inside a task, the fields of an asset stand under `__var`… or not: both are read).
pub fn with_outlet(mut dag: Value, outlet: Value) -> Value {
    dag["dag"]["tasks"][0]["__var"]["outlets"] = json!([outlet]);
    dag
}

pub fn file(path: &str, dags: Vec<Value>) -> ParsedFile {
    ParsedFile {
        file: KnownFile {
            bundle: "dags-folder".to_owned(),
            rel_path: path.to_owned(),
            mtime_ns: 1,
            size: 2,
            fingerprint: "f".to_owned(),
        },
        fileloc: format!("/dags/{path}"),
        source: "# source".to_owned(),
        dags,
        warnings: Vec::new(),
        import_errors: Vec::new(),
        parsed_at: now(),
        seconds: 0.1,
    }
}
