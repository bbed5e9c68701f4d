//! What a planner wants done.

use isobar_model::{MapIndex, RunState, TaskId, TaskKey, TaskState};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::graph::TaskNo;

/// One change to the run, to be committed if the run is still at the revision the planner was fed from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Make instances that do not exist yet; static columns come from the Dag's task.
    Create(Vec<NewInstance>),
    /// The unmapped placeholder (-1) of a mapped task becomes index 0, keeping its row and id.
    PlaceholderBecomesFirst {
        /// The task.
        task_id: TaskId,
    },
    /// The placeholder goes; index 0 exists already.
    DeletePlaceholder {
        /// The task.
        task_id: TaskId,
    },
    /// A state decided without running the instance.
    SetState {
        /// The instance.
        key: TaskKey,
        /// Compare: its state and try as planned from.
        from: (Option<TaskState>, i32),
        /// Set.
        to: Option<TaskState>,
        /// Why, for the audit record and the UI.
        why: WhyState,
    },
    /// Its dependencies are met: none, `up_for_retry` or `up_for_reschedule` becomes `scheduled`
    /// (`scheduled_dttm` = now), then admission is told.
    Ready {
        /// The instance.
        key: TaskKey,
        /// Its number in the graph, for pool, weight and limits.
        task: TaskNo,
        /// Compare: its state and try as planned from.
        from: (Option<TaskState>, i32),
        /// Set: one more, except after a reschedule.
        try_number: i32,
    },
    /// A trivial task: becomes `success` at once, start and end now, duration 0.
    SucceedAtOnce {
        /// The instance.
        key: TaskKey,
        /// Compare.
        from: (Option<TaskState>, i32),
        /// Set.
        try_number: i32,
    },
    /// A task that starts in the triggerer: becomes `deferred` with a new trigger (`start_trigger_args`).
    DeferAtOnce {
        /// The instance.
        key: TaskKey,
        /// Its number in the graph.
        task: TaskNo,
        /// Compare.
        from: (Option<TaskState>, i32),
        /// Set.
        try_number: i32,
    },
    /// Send [`Event::Timer`](super::Event::Timer) at this time. Replaces an earlier wish only if it is earlier.
    WakeAt(Timestamp),
    /// The run has ended: set state and `end_date`, drop the planner.
    FinishRun(RunEnd),
}

/// An instance to create, without state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInstance {
    /// Which one.
    pub key: TaskKey,
    /// Its number in the graph.
    pub task: TaskNo,
    /// Its `max_tries`: the task's retries.
    pub max_tries: i32,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Success or failed.
    pub state: RunState,
    /// Why.
    pub why: WhyEnded,
    /// The instance that a callback is told of. None after a time-out: it is the unfinished one that began last, which the
    /// store knows.
    pub cause: Option<TaskKey>,
}

/// Why a run ended. The words are Airflow's callback reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyEnded {
    /// All that decides succeeded or was skipped.
    Success,
    /// Something that decides failed.
    TaskFailure,
    /// Nothing runs and nothing can.
    AllTasksDeadlocked,
    /// `dagrun_timeout`.
    TimedOut,
}

impl WhyEnded {
    /// Airflow's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::TaskFailure => "task_failure",
            Self::AllTasksDeadlocked => "all_tasks_deadlocked",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Why an instance's state was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyState {
    /// Its trigger rule.
    TriggerRule,
    /// A set-up it needs did not succeed.
    Setup,
    /// A task that tells how often it is mapped did not succeed.
    MapDependency,
    /// That task succeeded, but pushed nothing to map over.
    MapLengthUnknown,
    /// Mapped over nothing.
    MappedOverNothing,
    /// Its index is beyond what it is mapped over now.
    BeyondMapLength,
    /// The unmapped placeholder, where indices exist.
    StalePlaceholder,
    /// A branch, short circuit or the like upstream.
    NotFollowed {
        /// The task that chose.
        by: TaskId,
    },
    /// The Dag no longer has the task.
    RemovedFromDag,
    /// The Dag has the task again.
    RestoredToDag,
    /// Another task failed and the Dag is `fail_fast`.
    FailFast {
        /// The one that failed.
        by: TaskKey,
    },
    /// The run took longer than `dagrun_timeout`.
    RunTimedOut,
}

/// What stands between an instance and its start, for a person who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Nothing; it was or will be made ready.
    Ready,
    /// It is being run, or has ended.
    NotWaiting(Option<TaskState>),
    /// The trigger rule is not satisfied yet.
    WaitsForUpstream {
        /// Upstream instances that have ended.
        done: u32,
        /// Upstream instances there are.
        of: u32,
    },
    /// Its set-ups have not all succeeded.
    WaitsForSetup,
    /// A teardown: tasks between its set-ups and itself have not ended.
    WaitsForScope,
    /// The task's instance in the preceding run.
    WaitsForPast,
    /// A retry or reschedule is due later.
    WaitsUntil(Timestamp),
    /// Decided already by one of the rules; the state will be set.
    Decided(WhyState),
    /// The Dag is paused, or the run does not run.
    RunNotRunning,
    /// No such instance.
    Unknown {
        /// The index asked for.
        map_index: MapIndex,
    },
}
