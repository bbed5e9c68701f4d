//! What admission is told and what it says.

use isobar_model::{DagId, RunId, TaskKey, TaskState, TeamId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A Dag of a team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DagKey {
    /// The team.
    pub team: TeamId,
    /// Its Dag.
    pub dag_id: DagId,
}

/// A task instance in the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceKey {
    /// The team and Dag.
    pub dag: DagKey,
    /// The run.
    pub run_id: RunId,
    /// The task and its map index.
    pub task: TaskKey,
}

/// A pool: a team's own, or shared (rule 18).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolKey {
    /// The owner; none: shared.
    pub owner: Option<TeamId>,
    /// Its name.
    pub name: String,
}

/// An executor: a team's own, or the organisation's, which several teams may list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExecutorKey {
    /// The owner; none: the organisation's.
    pub owner: Option<TeamId>,
    /// Its instance name.
    pub name: String,
}

/// A task instance that waits for a slot. Resolve pool and executor before: admission never guesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which one.
    pub key: InstanceKey,
    /// Its pool.
    pub pool: PoolKey,
    /// Slots of the pool it takes.
    pub pool_slots: u32,
    /// Its executor.
    pub executor: ExecutorKey,
    /// Higher goes first, inside its team.
    pub priority_weight: i64,
    /// Then earlier goes first: the run's logical date, or `run_after` where it has none.
    pub date: Timestamp,
    /// The task's `max_active_tis_per_dag`.
    pub max_active_tis_per_dag: Option<u32>,
    /// The task's `max_active_tis_per_dagrun`.
    pub max_active_tis_per_dagrun: Option<u32>,
}

/// An instance that already holds something when admission starts: queued, running, deferred, awaiting input, restarting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The instance, as it was admitted.
    pub candidate: Candidate,
    /// Its state.
    pub state: TaskState,
}

/// Slots of a pool. A pool that admission was not told of admits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolLimits {
    /// The pool.
    pub pool: PoolKey,
    /// Its slots; negative: unlimited.
    pub slots: i64,
    /// Whether deferred instances take slots.
    pub include_deferred: bool,
}

/// A team's share of the slots (rule 27).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamShare {
    /// The team.
    pub team: TeamId,
    /// Slots beyond the guarantees are shared in proportion to this; at least 1.
    pub weight: u32,
    /// Slots it gets before any other team gets more than its own guarantee.
    pub guaranteed: u32,
    /// Slots it never exceeds.
    pub max_running: Option<u32>,
}

/// Slots of an executor. An executor that admission was not told of admits nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorSlots {
    /// The executor.
    pub executor: ExecutorKey,
    /// How many instances it may hold, queued or running; none: unlimited.
    pub slots: Option<u32>,
}

/// A Dag's limits as the Dag's row has them now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DagLimits {
    /// The Dag.
    pub dag: DagKey,
    /// Instances queued or running in one run.
    pub max_active_tasks: u32,
    /// Nothing of it is queued while it is paused.
    pub paused: bool,
}

/// Something admission must know.
#[derive(Clone, Debug)]
pub enum Event {
    /// These wait for a slot. Ones that wait or hold already are replaced or left as they are.
    Ready(Vec<Candidate>),
    /// These hold slots from before admission started.
    Holding(Vec<Holder>),
    /// These are in another state now: ended, deferred, resumed, cleared, put back to `scheduled`; none: no state, or gone.
    /// A waiting one that is no longer `scheduled` stops waiting.
    StateChanged(Vec<(InstanceKey, Option<TaskState>)>),
    /// Waiting ones go: their run was deleted or stopped. Holding ones too.
    Removed(Vec<InstanceKey>),
    /// Pools appeared or changed.
    Pools(Vec<PoolLimits>),
    /// Pools are gone.
    PoolsDeleted(Vec<PoolKey>),
    /// Teams appeared or their shares changed.
    Teams(Vec<TeamShare>),
    /// Executors appeared or their slots changed.
    Executors(Vec<ExecutorSlots>),
    /// An executor is gone or not to be used for now; what waits for it waits.
    ExecutorsGone(Vec<ExecutorKey>),
    /// Dags' limits.
    Dags(Vec<DagLimits>),
    /// Slots in the whole organisation (`core.parallelism`); none: as many as executors have.
    Parallelism(Option<u32>),
}

/// What admission wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make these queued (compare: `scheduled`), in this order, with a new dispatch each, and hand them to their executors.
    /// Where that fails, say how it is now with [`Event::StateChanged`].
    Queue(Vec<Candidate>),
}

/// Why an instance waits, for a person who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// It is not waiting here: not `scheduled`, or admitted.
    NotHere,
    /// It has room everywhere; others of its team, or other teams, come before it.
    ItsTurn,
    /// The Dag is paused, or admission knows no limits of it.
    DagPaused,
    /// The organisation's slots are all taken.
    Parallelism,
    /// The team is at `max_running`.
    TeamLimit {
        /// The limit.
        max_running: u32,
    },
    /// The executor has no free slot, or is gone.
    Executor(ExecutorKey),
    /// The pool has not enough free slots, or does not exist.
    Pool {
        /// The pool.
        pool: PoolKey,
        /// Slots it wants.
        wants: u32,
        /// Slots that are free.
        free: i64,
    },
    /// The run is at the Dag's `max_active_tasks`.
    MaxActiveTasks(u32),
    /// The task is at `max_active_tis_per_dag`.
    MaxActiveTisPerDag(u32),
    /// The task is at `max_active_tis_per_dagrun`.
    MaxActiveTisPerDagrun(u32),
}
