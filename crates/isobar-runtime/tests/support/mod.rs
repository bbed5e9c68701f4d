//! A team's real Python, a control plane in memory, and one task after another between them.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "what stands here runs in tests only")]

mod memory_api;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isobar_model::{Dispatch, TeamId, TeamName, TiId, UNMAPPED};
use isobar_runtime::masker::MaskerConfig;
use isobar_runtime::supervisor::{Ended, Supervisor, SupervisorConfig, Timers};
use isobar_runtime::zygote::{Launch, PythonSpec, Zygote, install_agent};
use isobar_wire::execution::TaskIdentity;
use isobar_wire::frames::DEFAULT_FRAME_LIMIT;
use isobar_wire::workload::Workload;
pub use memory_api::MemoryApi;
#[allow(unused_imports, reason = "each test file uses its part")]
pub use memory_api::World;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The interpreter of an environment with Airflow 3.3.2.
pub fn python() -> PathBuf {
    let python = std::env::var_os("ISOBAR_TEST_PYTHON").unwrap_or_else(|| {
        panic!("set ISOBAR_TEST_PYTHON to a Python that has apache-airflow 3.3.2 (`make test` makes one and sets it)")
    });
    let python = PathBuf::from(python);
    assert!(
        python.is_file(),
        "ISOBAR_TEST_PYTHON={} is not a file",
        python.display()
    );
    python
}

pub fn dags() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/dags")
        .canonicalize()
        .unwrap()
}

pub fn spec(home: &Path) -> PythonSpec {
    let bundles = serde_json::json!([{
        "name": "tests", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": dags()},
    }]);
    let env: Vec<(&str, String)> = vec![
        ("AIRFLOW_HOME", home.display().to_string()),
        ("HOME", home.display().to_string()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".into()),
        ("LANG", "C.UTF-8".into()),
        ("AIRFLOW__CORE__LOAD_EXAMPLES", "False".into()),
        ("AIRFLOW__CORE__EXECUTOR", "LocalExecutor".into()),
        ("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles.to_string()),
        ("AIRFLOW_CONN_FROM_ENV", "postgres://u:env-pass-word@h/db".into()),
    ];
    PythonSpec {
        team: "testers".into(),
        python: python(),
        agent: install_agent(home).unwrap(),
        env: env
            .into_iter()
            .map(|(name, value)| (name.into(), OsString::from(value)))
            .collect(),
        cwd: home.to_owned(),
        lock_file: home.join("zygote.lock"),
        confine: None,
        launch: Launch::Warm,
        start_timeout: Duration::from_secs(120),
    }
}

/// Longer than any task here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A team with a warm zygote and a log folder.
pub struct Team {
    pub home: TempDir,
    pub zygote: Zygote,
    pub timers: Timers,
}

impl Team {
    pub async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let zygote = Zygote::start(&spec(home.path())).await.unwrap();
        let timers = Timers {
            retries: [10, 20].map(Duration::from_millis).into(),
            ..Timers::default()
        };
        Self { home, zygote, timers }
    }

    pub fn supervisor(&self, api: &Arc<MemoryApi>) -> Supervisor {
        let config = SupervisorConfig {
            base_log_folder: self.home.path().join("logs"),
            hostname: "testhost".into(),
            unixname: "tester".into(),
            frame_limit: DEFAULT_FRAME_LIMIT,
            masker: MaskerConfig::default(),
            timers: self.timers.clone(),
        };
        Supervisor::new(Arc::clone(api) as _, config)
    }

    /// Runs a task of `flows.py` against `api`.
    pub async fn run(&self, api: &Arc<MemoryApi>, task: &str) -> Done {
        self.run_mapped(api, task, UNMAPPED).await
    }

    pub async fn run_mapped(&self, api: &Arc<MemoryApi>, task: &str, map_index: i32) -> Done {
        let workload = workload(task, map_index);
        let ended = self
            .supervisor(api)
            .run(&self.zygote, &workload, CancellationToken::new())
            .await;
        Done {
            log: self.log(&workload),
            ended,
        }
    }

    pub fn log(&self, workload: &Workload) -> Vec<Value> {
        let path = self.home.path().join("logs").join(&workload.log_path);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// How a task ended, and its log.
#[derive(Debug)]
pub struct Done {
    pub ended: Ended,
    pub log: Vec<Value>,
}

impl Done {
    pub fn has(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.to_string().contains(text))
    }
}

pub fn workload(task: &str, map_index: i32) -> Workload {
    let ti_id = TiId::fresh();
    Workload {
        identity: TaskIdentity {
            team: TeamId(1),
            team_name: TeamName::parse("testers").unwrap(),
            dag_id: "flows".into(),
            run_id: "manual__1".into(),
            task_id: task.into(),
            map_index,
            try_number: 1,
            ti_id,
            dispatch: Dispatch(1),
        },
        dag_version_id: uuid::Uuid::now_v7(),
        dag_rel_path: "flows.py".into(),
        bundle: "tests".into(),
        bundle_version: None,
        log_path: format!("testers/dag_id=flows/run_id=manual__1/task_id={task}/{ti_id}/attempt=1.log"),
        queue: "default".into(),
        executor: "local".into(),
        pool_slots: 1,
        priority_weight: 1,
    }
}
