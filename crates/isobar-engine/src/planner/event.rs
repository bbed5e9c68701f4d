//! What a planner is told. All of it is plain data that the store can read by key.

use std::collections::HashMap;

use isobar_model::{MapIndex, RunId, RunState, RunType, TaskId, TaskKey, TaskState};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::SharedGraph;

/// The row of a run, as far as planning goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunFacts {
    /// The run.
    pub run_id: RunId,
    /// Why it exists.
    pub run_type: RunType,
    /// Its state; a planner works only while this is `running`.
    pub state: RunState,
    /// The date it is for; none for asset-triggered runs and some manual ones.
    pub logical_date: Option<Timestamp>,
    /// When it was made to run (set when it went from queued to running).
    pub start_date: Option<Timestamp>,
    /// Not before this.
    pub run_after: Timestamp,
    /// Nothing starts while the Dag is paused; what follows from tasks that end still happens, and the run can end.
    pub paused: bool,
}

/// A task instance's row, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Which one.
    pub key: TaskKey,
    /// Its state now.
    pub state: Option<TaskState>,
    /// The number of its current or last try; 0 before the first.
    #[serde(default)]
    pub try_number: i32,
    /// When its last try ended; the base of a retry's delay.
    #[serde(default)]
    pub end_date: Option<Timestamp>,
    /// The delay a retry policy asked for instead of the Dag's.
    #[serde(default)]
    pub retry_delay_override: Option<SignedDuration>,
    /// When a sensor that gave its place back wants to be started again: the latest `task_reschedule` row of this try.
    #[serde(default)]
    pub reschedule_date: Option<Timestamp>,
    /// Whether it has a `return_value` XCom (needed of tasks that others are mapped over).
    #[serde(default)]
    pub has_result: bool,
}

/// The length of an unmapped task's result (Airflow's `task_map`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapLength {
    /// The task that pushed it.
    pub task_id: TaskId,
    /// The length; none: the row is gone (the task was cleared).
    pub length: Option<u64>,
}

/// What a branch or short circuit decided: its XCom `skipmixin_key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipChoice {
    /// The instance that decided.
    pub key: TaskKey,
    /// `followed`: direct downstream tasks not in the list are skipped.
    #[serde(default)]
    pub followed: Option<Vec<TaskId>>,
    /// `skipped`: these are skipped.
    #[serde(default)]
    pub skipped: Option<Vec<TaskId>>,
}

impl SkipChoice {
    /// Reads the XCom, which holds the value in Airflow's serialized form: a JSON text or its value.
    #[must_use]
    pub fn read(key: TaskKey, stored: &Value) -> Self {
        let parsed: Value;
        let value = match stored {
            Value::String(text) => {
                parsed = serde_json::from_str(text).unwrap_or(Value::Null);
                &parsed
            }
            value => value,
        };
        let tasks = |word: &str| -> Option<Vec<TaskId>> {
            let names = value.get(word)?;
            // A tuple or set comes wrapped: {"__classname__": "builtins.tuple", "__data__": […]}.
            let names = names.get("__data__").unwrap_or(names).as_array()?;
            Some(names.iter().filter_map(Value::as_str).map(TaskId::from).collect())
        };
        Self {
            key,
            followed: tasks("followed"),
            skipped: tasks("skipped"),
        }
    }
}

/// What `depends_on_past` asks of the preceding run.
///
/// Preceding: the run with the greatest earlier logical date; in a Dag that catches up, of those that are not manual.
/// A run without logical date has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastFacts {
    /// The first run of a backfill waits for nothing.
    pub first_of_backfill: bool,
    /// The preceding run, none where there is none.
    pub previous: Option<PreviousRun>,
    /// Tasks that had an instance in any run with an earlier logical date (asked for tasks with
    /// `ignore_first_depends_on_past` that the preceding run does not have).
    pub existed_before: Vec<TaskId>,
}

/// The preceding run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousRun {
    /// Its logical date.
    pub logical_date: Option<Timestamp>,
    /// Tasks with `depends_on_past` that it has.
    pub tasks: HashMap<TaskId, PreviousTask>,
}

/// A task in the preceding run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousTask {
    /// Its instances that are neither successful nor skipped.
    pub unsuccessful: u32,
    /// Whether an instance of a task directly below it is neither (needed with `wait_for_downstream`).
    pub downstream_unsuccessful: bool,
}

/// Everything a planner starts from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// The run.
    pub run: RunFacts,
    /// All its task instances.
    pub instances: Vec<Instance>,
    /// Its `task_map` rows.
    #[serde(default)]
    pub lengths: Vec<MapLength>,
    /// The `skipmixin_key` XComs of its skipping tasks.
    #[serde(default)]
    pub choices: Vec<SkipChoice>,
    /// The preceding run, if any task depends on the past.
    #[serde(default)]
    pub past: PastFacts,
    /// Failures that the run may not have heard of yet ([`Changes::failed`]).
    #[serde(default)]
    pub failed: Vec<TaskKey>,
    /// Compare the instances with the Dag: remove, restore and create. Say so when the run's Dag version changed.
    /// A run without any instance is always compared.
    #[serde(default)]
    pub verify: bool,
}

/// Rows that changed. Give each as it is *now*, not as it was when the event was written; rows that did not change do no harm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Instances whose row changed or appeared.
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// Instances whose row is gone.
    #[serde(default)]
    pub deleted: Vec<TaskKey>,
    /// Lengths that became known, changed or went.
    #[serde(default)]
    pub lengths: Vec<MapLength>,
    /// Choices that were made or, empty, taken back.
    #[serde(default)]
    pub choices: Vec<SkipChoice>,
    /// Instances whose try failed for good, by a worker's word or because it was lost: under `fail_fast` they stop the others.
    /// One that was marked failed by hand does not. Say it again where it is not known whether it was heard; an instance that is
    /// not failed any more stops nobody.
    #[serde(default)]
    pub failed: Vec<TaskKey>,
}

/// Something happened to the run.
#[derive(Clone, Debug)]
pub enum Event {
    /// Rows changed.
    Changed(Changes),
    /// A time that a [`Command::WakeAt`](super::Command::WakeAt) named has come. Early and extra ones do no harm.
    Timer,
    /// The run's own row changed: cleared, paused, marked by hand.
    RunChanged(RunFacts),
    /// The preceding run changed.
    PastChanged(PastFacts),
    /// The Dag has another version, which this run follows. Tasks that depend on the past wait for [`Event::PastChanged`] after it.
    DagChanged(SharedGraph),
}

/// Shorthand for an unmapped or mapped instance's key.
pub(crate) fn key(task_id: &TaskId, map_index: MapIndex) -> TaskKey {
    TaskKey {
        task_id: task_id.clone(),
        map_index,
    }
}
