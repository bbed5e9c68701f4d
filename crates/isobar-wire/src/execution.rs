//! The Task Execution API as a trait: one [`Operation`] per route of Airflow's Execution API, version 2026-06-30.
//!
//! The in-process supervisor and the HTTP routes both call [`ExecutionApi::call`], so the same code answers both.

use std::future::Future;
use std::pin::Pin;

use isobar_model::{AirflowTime, DagId, Dispatch, MapIndex, RunId, TaskId, TeamId, TeamName, TiId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the Execution API that Isobar speaks, as in the header `Airflow-API-Version`.
pub const API_VERSION: &str = "2026-06-30";

/// A boxed future, so that the traits here can be used behind `dyn`.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One try of one task instance, as its token names it (rule 22).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskIdentity {
    /// The owning team.
    pub team: TeamId,
    /// Its name, for logs and for plain-name resolution.
    pub team_name: TeamName,
    /// The Dag.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The map index, -1 where not mapped.
    pub map_index: MapIndex,
    /// The try, from 1.
    pub try_number: i32,
    /// The UUID of this try.
    pub ti_id: TiId,
    /// The fencing number of this handing-out.
    pub dispatch: Dispatch,
}

/// Who calls: the identity is (team, phase), never "no team" (rule 17).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Caller {
    /// A running task.
    Task(TaskIdentity),
    /// A parse of one of the team's files, or a callback that runs in a parse child.
    Parse {
        /// The owning team.
        team: TeamId,
        /// Its name.
        team_name: TeamName,
        /// The bundle of the file.
        bundle: String,
    },
    /// The team's triggerer.
    Trigger {
        /// The owning team.
        team: TeamId,
        /// Its name.
        team_name: TeamName,
    },
}

impl Caller {
    /// The calling team.
    #[must_use]
    pub fn team(&self) -> TeamId {
        match self {
            Self::Task(task) => task.team,
            Self::Parse { team, .. } | Self::Trigger { team, .. } => *team,
        }
    }

    /// The calling team's name.
    #[must_use]
    pub fn team_name(&self) -> &TeamName {
        match self {
            Self::Task(task) => &task.team_name,
            Self::Parse { team_name, .. } | Self::Trigger { team_name, .. } => team_name,
        }
    }
}

/// Which XCom a call means. `dag_id` may be written `other-team:dag`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XComKey {
    /// The Dag.
    pub dag_id: String,
    /// The run.
    pub run_id: String,
    /// The task.
    pub task_id: String,
    /// The key, `return_value` for a task's result.
    pub key: String,
}

/// A filter over task instances or runs, as the `count` and `states` routes take it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    /// The Dag.
    pub dag_id: String,
    /// Only this map index.
    pub map_index: Option<MapIndex>,
    /// Only these tasks; all where none.
    pub task_ids: Option<Vec<String>>,
    /// Only tasks of this group.
    pub task_group_id: Option<String>,
    /// Only runs of these logical dates.
    pub logical_dates: Option<Vec<AirflowTime>>,
    /// Only these runs.
    pub run_ids: Option<Vec<String>>,
    /// Only these states; the word `null` means no state.
    pub states: Option<Vec<String>>,
}

/// The body of `PATCH /task-instances/{id}/run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskStart {
    /// The host that runs it.
    pub hostname: String,
    /// The operating system's user.
    pub unixname: String,
    /// The process id.
    pub pid: i32,
    /// When it started.
    pub start_date: AirflowTime,
}

/// The body of `PATCH /task-instances/{id}/state`, told apart by `state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskEnd {
    /// The task succeeded.
    Success {
        /// When it ended.
        end_date: AirflowTime,
        /// Outlets as the child reports them: `[{name, uri, type}]`.
        #[serde(default)]
        task_outlets: Vec<Value>,
        /// Outlet events: `[{dest_asset_key, source_alias_key?, extra, ...}]`.
        #[serde(default)]
        outlet_events: Vec<Value>,
        /// The rendered `map_index_template`.
        #[serde(default)]
        rendered_map_index: Option<String>,
    },
    /// The task failed and will be retried.
    UpForRetry {
        /// When it ended.
        end_date: AirflowTime,
        /// Delay chosen by a retry policy, in seconds.
        #[serde(default)]
        retry_delay_seconds: Option<f64>,
        /// Reason given by a retry policy.
        #[serde(default)]
        retry_reason: Option<String>,
        /// The rendered `map_index_template`.
        #[serde(default)]
        rendered_map_index: Option<String>,
    },
    /// The task failed for good.
    Failed {
        /// When it ended.
        end_date: AirflowTime,
        /// The rendered `map_index_template`.
        #[serde(default)]
        rendered_map_index: Option<String>,
    },
    /// The task skipped itself.
    Skipped {
        /// When it ended.
        end_date: AirflowTime,
        /// The rendered `map_index_template`.
        #[serde(default)]
        rendered_map_index: Option<String>,
    },
    /// The task vanished from its Dag.
    Removed {
        /// When it ended.
        end_date: AirflowTime,
        /// The rendered `map_index_template`.
        #[serde(default)]
        rendered_map_index: Option<String>,
    },
    /// The task waits for a trigger. The body is kept whole for the triggerer.
    Deferred(Value),
    /// A sensor asks to be started again.
    UpForReschedule {
        /// When to start again.
        reschedule_date: AirflowTime,
        /// When this poke ended.
        end_date: AirflowTime,
    },
    /// The task waits for a person.
    AwaitingInput(Value),
}

/// One call of the Task Execution API. The task instance of `/task-instances/{id}/…` is the caller's own, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "variants and fields carry the names of Airflow's routes and their parameters"
)]
pub enum Operation {
    Run(TaskStart),
    State(TaskEnd),
    Heartbeat {
        hostname: String,
        pid: i32,
    },
    SetRenderedFields(Value),
    SetRenderedMapIndex(String),
    SkipDownstream {
        tasks: Vec<Value>,
    },
    PreviousSuccessfulDagRun,
    ValidateInletsAndOutlets,
    RescheduleStartDate {
        try_number: Option<i32>,
    },
    CountTasks(TaskFilter),
    TaskStates(TaskFilter),
    TaskBreadcrumbs {
        dag_id: String,
        run_id: String,
    },
    PreviousTask {
        dag_id: String,
        task_id: String,
        logical_date: Option<AirflowTime>,
        run_id: Option<String>,
        map_index: MapIndex,
        state: Option<String>,
    },
    GetConnection {
        conn_id: String,
    },
    GetVariable {
        key: String,
    },
    VariableKeys {
        prefix: Option<String>,
        limit: u32,
        offset: u32,
    },
    PutVariable {
        key: String,
        value: Option<String>,
        description: Option<String>,
    },
    DeleteVariable {
        key: String,
    },
    GetXCom {
        xcom: XComKey,
        map_index: Option<MapIndex>,
        include_prior_dates: bool,
        offset: Option<i64>,
    },
    CountXCom {
        xcom: XComKey,
    },
    XComItem {
        xcom: XComKey,
        offset: i64,
    },
    XComSlice {
        xcom: XComKey,
        start: Option<i64>,
        stop: Option<i64>,
        step: Option<i64>,
        include_prior_dates: bool,
    },
    SetXCom {
        xcom: XComKey,
        value: Value,
        map_index: Option<MapIndex>,
        dag_result: bool,
        mapped_length: Option<i64>,
    },
    DeleteXCom {
        xcom: XComKey,
        map_index: Option<MapIndex>,
    },
    TriggerDagRun {
        dag_id: String,
        run_id: String,
        body: Value,
    },
    ClearDagRun {
        dag_id: String,
        run_id: String,
    },
    GetDagRun {
        dag_id: String,
        run_id: String,
    },
    DagRunState {
        dag_id: String,
        run_id: String,
    },
    CountDagRuns {
        dag_id: String,
        logical_dates: Option<Vec<AirflowTime>>,
        run_ids: Option<Vec<String>>,
        states: Option<Vec<String>>,
    },
    PreviousDagRun {
        dag_id: String,
        logical_date: AirflowTime,
        state: Option<String>,
    },
    GetDag {
        dag_id: String,
    },
    AssetByName {
        name: String,
    },
    AssetByUri {
        uri: String,
    },
    AssetsByAlias {
        alias: String,
    },
    AssetEventsByAsset {
        name: Option<String>,
        uri: Option<String>,
        after: Option<AirflowTime>,
        before: Option<AirflowTime>,
        ascending: bool,
        limit: Option<u32>,
        partition_key: Option<String>,
    },
    AssetEventsByAlias {
        alias: String,
        after: Option<AirflowTime>,
        before: Option<AirflowTime>,
        ascending: bool,
        limit: Option<u32>,
        partition_key: Option<String>,
    },
    GetTaskStore {
        key: String,
    },
    SetTaskStore {
        key: String,
        value: Value,
        expires_at: Option<AirflowTime>,
    },
    DeleteTaskStore {
        key: String,
    },
    ClearTaskStore,
    GetAssetStore {
        asset: AssetRef,
        key: String,
    },
    SetAssetStore {
        asset: AssetRef,
        key: String,
        value: Value,
    },
    DeleteAssetStore {
        asset: AssetRef,
        key: String,
    },
    ClearAssetStore {
        asset: AssetRef,
    },
    CreateHitlDetail(Value),
    UpdateHitlDetail {
        ti_id: String,
        body: Value,
    },
    GetHitlDetail {
        ti_id: String,
    },
}

/// An asset named by a task: by name or by URI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AssetRef {
    /// By its name inside the team.
    Name(String),
    /// By its URI.
    Uri(String),
}

/// A call that was carried out: the status and body of Airflow's route.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 200, 201 or 204.
    pub status: u16,
    /// The JSON body, `null` for none.
    pub body: Value,
    /// Extra information that HTTP puts in headers: `Content-Range: map_indexes N` of [`Operation::CountXCom`].
    pub count: Option<i64>,
}

impl Answer {
    /// 200 with a body.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body,
            count: None,
        }
    }

    /// 201 with a body.
    #[must_use]
    pub fn created(body: Value) -> Self {
        Self {
            status: 201,
            body,
            count: None,
        }
    }

    /// 204, nothing to say.
    #[must_use]
    pub fn done() -> Self {
        Self {
            status: 204,
            body: Value::Null,
            count: None,
        }
    }
}

/// A call that was refused: the status and the value of `detail` in Airflow's error body.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{status}: {detail}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// A string, an object such as `{"reason":"not_found","message":"…"}`, or validation errors.
    pub detail: Value,
}

impl Refusal {
    /// A refusal with a plain sentence or an object as detail.
    #[must_use]
    pub fn new(status: u16, detail: impl Into<Value>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }
}

/// The door between team-side machinery and the control plane.
pub trait ExecutionApi: Send + Sync + 'static {
    /// Carries out one operation for one caller. Answers after the commit, never before.
    fn call<'a>(&'a self, caller: &'a Caller, operation: Operation) -> Answering<'a, Result<Answer, Refusal>>;
}
