//! What a team's triggerer asks of and reports to the control plane.

use std::collections::BTreeSet;

use isobar_model::TaskState;
use serde_json::{Map, Value};

use crate::execution::{Answering, Caller, Refusal};

/// A triggerer says that it lives, and what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Its number; none before it was given one.
    pub triggerer: Option<i64>,
    /// Where it runs.
    pub hostname: String,
    /// The server process that keeps it, so that another can see that it is dead.
    pub holder: String,
    /// How many triggers it may run at once.
    pub capacity: u32,
    /// How many more it may be given at once.
    pub at_once: u32,
    /// Triggers that it runs now.
    pub running: BTreeSet<i64>,
}

/// What a triggerer is to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assigned {
    /// Its number; none where there is nothing for it to run and it has none yet.
    pub triggerer: Option<i64>,
    /// Triggers to start: assigned to it and not among those that it runs.
    pub start: Vec<RunTrigger>,
    /// All triggers that are its own. What it runs beside these is no longer wanted.
    pub keep: BTreeSet<i64>,
    /// There may be more for it, which others had a chance to take first.
    pub more: bool,
}

/// One trigger to run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTrigger {
    /// The trigger.
    pub id: i64,
    /// Airflow's `RunTrigger` message.
    pub message: Value,
    /// Where its log goes, below the log folder; none for a trigger without a task.
    pub log_path: Option<String>,
}

/// What became of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum TriggerNews {
    /// It fired.
    Fired {
        /// Which.
        trigger: i64,
        /// What it said.
        event: TriggerEvent,
    },
    /// It ended without an event.
    Failed {
        /// Which.
        trigger: i64,
        /// Python's lines; none where it just returned.
        traceback: Option<Vec<String>>,
    },
}

impl TriggerNews {
    /// Which trigger this is about.
    #[must_use]
    pub fn trigger(&self) -> i64 {
        match self {
            Self::Fired { trigger, .. } | Self::Failed { trigger, .. } => *trigger,
        }
    }
}

/// An event of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum TriggerEvent {
    /// The task goes on with this; an asset gets it in its event.
    Payload {
        /// As plain JSON, for asset events.
        plain: Value,
        /// As Airflow's serializer writes it, for the task that resumes.
        serialized: Value,
    },
    /// The task ends with this, without a worker (`TaskSuccessEvent` and its like).
    Ends {
        /// `success`, `failed` or `skipped`.
        state: TaskState,
        /// XComs that the task leaves.
        xcoms: Map<String, Value>,
    },
}

/// What the team's triggerer needs of the control plane. The caller is always [`Caller::Trigger`].
pub trait TriggerApi: Send + Sync + 'static {
    /// Says that the triggerer lives, and gives it what to run. One that was given up gets a new number.
    fn beat<'a>(&'a self, caller: &'a Caller, beat: Beat) -> Answering<'a, Result<Assigned, Refusal>>;
    /// Stores what became of a trigger, once it is committed.
    fn trigger_news<'a>(&'a self, caller: &'a Caller, news: TriggerNews) -> Answering<'a, Result<(), Refusal>>;
    /// The triggerer ends: others may take its triggers at once.
    fn triggerer_leaves<'a>(&'a self, caller: &'a Caller, triggerer: i64) -> Answering<'a, Result<(), Refusal>>;
}
