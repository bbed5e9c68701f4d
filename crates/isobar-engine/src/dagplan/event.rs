//! What the plan of a Dag is told and what it wants done.

use std::sync::Arc;

use isobar_model::{RunId, RunState, RunTrigger, RunType};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::schedule::{NextRun, Restriction, Schedule};

/// What the Dag's row and its serialized form say.
#[derive(Clone, Debug)]
pub struct DagFacts {
    /// Nothing is made or started while paused.
    pub paused: bool,
    /// The file no longer has it.
    pub stale: bool,
    /// Its file has import errors: no new runs are made; those there are go on.
    pub has_import_errors: bool,
    /// Runs are made by schedule and by assets at all; those that clients make start all the same.
    pub makes_runs: bool,
    /// Runs queued or running that scheduled and asset-triggered creation may reach; runs running that starting may reach.
    pub max_active_runs: u32,
    /// Consecutive failures that pause the Dag; 0: never.
    pub max_consecutive_failed_dag_runs: u32,
    /// Kinds of run the Dag allows; none: all.
    pub allowed_run_types: Option<Vec<RunType>>,
    /// Bounds on the timetable.
    pub within: Restriction,
    /// The timetable; none: the Dag has no schedule, or assets alone.
    pub schedule: Option<Arc<dyn Schedule>>,
}

/// The columns of the Dag's row that show its next run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextFields {
    /// `next_dagrun`, the interval, `next_dagrun_create_after` and the partition; none: no next run.
    pub next: Option<NextRun>,
}

/// A run that is queued or running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveRun {
    /// The run.
    pub run_id: RunId,
    /// Why it exists.
    pub run_type: RunType,
    /// Queued or running.
    pub state: RunState,
    /// Not started before this.
    pub run_after: Timestamp,
    /// Its logical date.
    pub logical_date: Option<Timestamp>,
    /// Its backfill and its place in that (from 1).
    pub backfill: Option<(i64, i64)>,
    /// When the scheduler last decided on it; a cleared run goes behind those never looked at.
    pub last_scheduling_decision: Option<Timestamp>,
}

/// Limits of a running backfill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillLimits {
    /// Its id.
    pub id: i64,
    /// Runs of it running at a time.
    pub max_active_runs: u32,
    /// Its queued runs do not start while it is paused.
    pub paused: bool,
}

/// Everything the plan starts from.
#[derive(Clone, Debug)]
pub struct DagSnapshot {
    /// The Dag.
    pub dag: DagFacts,
    /// The next run as stored; none where it was never worked out.
    pub next: Option<NextFields>,
    /// The latest run that the timetable or a backfill made (greatest logical date; partitioned: greatest `run_after`).
    pub last_automated: Option<NextRun>,
    /// All runs queued or running.
    pub active: Vec<ActiveRun>,
    /// Backfills that have runs queued or running.
    pub backfills: Vec<BackfillLimits>,
    /// Asset events queued for the Dag that satisfy its condition.
    pub assets: Option<AssetTrigger>,
}

/// The queue of asset events for the Dag satisfies its condition ([`crate::assets::ready`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetTrigger {
    /// The time of the newest queued event: `run_after` of the run.
    pub triggered_at: Timestamp,
}

/// Something happened to the Dag.
#[derive(Clone, Debug)]
pub enum Event {
    /// A time that a [`Command::WakeAt`] named has come.
    Timer,
    /// The Dag's row or version changed. `reschedule`: its timetable or bounds did, so the next run is worked out anew.
    DagChanged {
        /// How it is now.
        dag: DagFacts,
        /// Work out the next run again from the latest automated one.
        reschedule: bool,
        /// The latest automated run, read now.
        last_automated: Option<NextRun>,
    },
    /// A run appeared, changed state, or was cleared; one that is neither queued nor running has ended.
    RunChanged(ActiveRun),
    /// A run was deleted.
    RunDeleted(RunId),
    /// A run failed; these are the states of the latest runs by `run_after`, newest first, the failed one among them.
    /// As many as `max_consecutive_failed_dag_runs`.
    RunFailed {
        /// The states.
        latest: Vec<RunState>,
    },
    /// The interval that the plan wants to make has a run already (a client made it): go on after it.
    AlreadyThere(NextRun),
    /// The queued asset events changed.
    Assets(Option<AssetTrigger>),
    /// A backfill that has runs queued or running appeared or changed. Told before its runs are.
    Backfill(BackfillLimits),
    /// Python's answer to [`Command::AskNextRun`]: what follows the run that was asked about, what follows that, and so on as
    /// far as Python went ahead. Nothing follows what is none.
    Answered(Vec<NextSaid>),
}

/// A next run that Python gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NextSaid {
    /// The run; none: there is no next one.
    pub next: Option<NextRun>,
    /// Its id: timetables may name runs as they like.
    pub run_id: Option<RunId>,
}

/// Something to be done for the Dag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a run, queued, with its task instances ([`crate::planner::initial_instances`]).
    /// Where one for the logical date exists: [`Event::AlreadyThere`].
    CreateRun(NewRun),
    /// Store the next-run columns.
    SetNext(NextFields),
    /// Make queued runs running, `start_date` = now.
    StartRun(Started),
    /// Pause the Dag.
    Pause(PausedBecause),
    /// Send [`Event::Timer`] then.
    WakeAt(Timestamp),
    /// Ask the team's helper for the run after this one.
    AskNextRun {
        /// The timetable as serialized.
        timetable: serde_json::Value,
        /// The latest automated run.
        last: Option<NextRun>,
        /// The bounds.
        within: Restriction,
    },
    /// The timetable cannot answer: show this as the Dag's problem.
    ScheduleBroken(String),
}

/// A run to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub run_id: RunIdPlan,
    /// Scheduled or asset-triggered.
    pub run_type: RunType,
    /// By the timetable or by assets.
    pub triggered_by: RunTrigger,
    /// What the timetable said; for an asset-triggered run, `run_after` is the time of the newest event and nothing else is set.
    pub info: NextRun,
    /// Asset-triggered: take the queued events up to this time and delete their queue rows, in the same transaction.
    pub consume_assets_until: Option<Timestamp>,
}

/// The id of a new run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunIdPlan {
    /// This.
    Exact(RunId),
    /// This, followed by eight random letters or digits.
    WithRandomTail(String),
}

/// A run to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub run_id: RunId,
}

/// Why the Dag is to be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBecause {
    /// That many of its latest runs failed (`max_consecutive_failed_dag_runs`).
    ConsecutiveFailures(u32),
}
