//! What the scheduler remembers between passes. Nothing here is a truth: rows are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use isobar_engine::admission::{Admission, DagKey, ExecutorKey, InstanceKey};
use isobar_engine::dagplan::{ActiveRun, DagPlan};
use isobar_engine::planner::{Planner, RunFacts};
use isobar_model::{RunKey, TaskKey, TaskState, TeamId};
use isobar_store::loading::ScheduledDag;
use isobar_store::runs::Run;
use isobar_wire::execution::TaskIdentity;
use uuid::Uuid;

use crate::mapping::Mapped;
use crate::shapes::Shapes;
use crate::timers::{Timed, Timers};
use crate::versions::Version;

/// How many passes hold a run before they read its events, once it moved while it was planned. A burst of ends goes on for
/// longer; a run whose events come one by one is not held for the rest of its life.
const PASSES_HELD: u32 = 100;

/// From how many tasks and waiting instances a run is held rather than read again.
const LARGE: usize = 50;

/// A run in the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunRef {
    pub team: TeamId,
    pub key: RunKey,
}

impl RunRef {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            team: run.team,
            key: run.key(),
        }
    }

    pub(crate) fn dag(&self) -> DagKey {
        DagKey {
            team: self.team,
            dag_id: self.key.dag_id.clone(),
        }
    }

    pub(crate) fn instance(&self, task: TaskKey) -> InstanceKey {
        InstanceKey {
            dag: self.dag(),
            run_id: self.key.run_id.clone(),
            task,
        }
    }
}

/// A Dag.
#[derive(Debug)]
pub(crate) struct LiveDag {
    pub row: ScheduledDag,
    /// None: it has no version yet, or one that cannot be read.
    pub version: Option<Arc<Version>>,
    pub plan: Option<DagPlan>,
    /// What the team's Python said of its partition mappers.
    pub mapped: Mapped,
    /// Its runs that are queued or running.
    pub runs: BTreeSet<RunRef>,
}

/// A run that is queued or running.
#[derive(Debug)]
pub(crate) struct LiveRun {
    /// The row as last read or written; its `rev` is what plans are made from.
    pub row: Run,
    pub version: Arc<Version>,
    /// None while it is queued.
    pub planner: Option<Planner>,
    /// Instances that admission knows.
    pub admitted: HashSet<TaskKey>,
    /// What the team's Python makes of its instances.
    pub shapes: Shapes,
}

impl LiveRun {
    /// The run as its planner sees it.
    pub(crate) fn facts(&self, paused: bool) -> RunFacts {
        RunFacts {
            run_id: self.row.run_id.clone(),
            run_type: self.row.run_type,
            state: self.row.state,
            logical_date: self.row.logical_date,
            start_date: self.row.start_date,
            run_after: self.row.run_after,
            paused,
        }
    }

    /// The run as its Dag's plan sees it.
    pub(crate) fn active(&self) -> ActiveRun {
        active(&self.row)
    }
}

/// A run as its Dag's plan sees it.
pub(crate) fn active(row: &Run) -> ActiveRun {
    ActiveRun {
        run_id: row.run_id.clone(),
        run_type: row.run_type,
        state: row.state,
        run_after: row.run_after,
        logical_date: row.logical_date,
        backfill: row.backfill_id.zip(row.backfill_ordinal),
        last_scheduling_decision: row.last_decision,
    }
}

/// A run that ended.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    pub run: ActiveRun,
    /// It failed because tasks of it did: only such failures can pause a Dag, as in Airflow.
    pub by_tasks: bool,
}

/// A workload that an executor holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub identity: TaskIdentity,
    pub executor: ExecutorKey,
    /// Its end was written: the executor's report will be no news.
    pub ended: bool,
}

/// What executors of this process hold, by run.
pub(crate) type AllHeld = HashMap<RunRef, HashMap<TaskKey, Held>>;

/// All that is remembered.
pub(crate) struct Memory {
    pub dags: HashMap<DagKey, LiveDag>,
    pub runs: HashMap<RunRef, LiveRun>,
    pub versions: HashMap<Uuid, Arc<Version>>,
    pub held: AllHeld,
    pub admission: Admission,
    /// Owner and name of every pool.
    pub pools: HashSet<(TeamId, String)>,
    pub timers: Timers,
    /// When a task of the run has waited too long for a trigger or a person.
    pub waits: Timers<RunRef>,
    /// Runs to read again in the next pass.
    pub stale: BTreeSet<RunRef>,
    /// Large runs that others changed while they were planned, and for how many more passes they are held before their events are
    /// claimed: reading a large run again and again would cost more than letting its workers wait for a pass.
    pub contended: BTreeMap<RunRef, u32>,
    /// Runs whose instances the last pass decided: what follows them is told when that is written.
    pub past_later: BTreeSet<RunRef>,
    /// Runs whose end was written: the next pass tells the plans of their Dags.
    pub over: Vec<(DagKey, Over)>,
    /// Instances whose slots are free since the scheduler wrote their state: the next pass tells admission.
    pub freed: Vec<(InstanceKey, Option<TaskState>)>,
    /// Runs that went on with another Dag version: what its tasks ask of the past is told when all runs have their instances.
    pub followed_version: BTreeSet<RunRef>,
    /// Teams whose cluster policies shape task instances.
    pub shaping: HashSet<TeamId>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            dags: HashMap::new(),
            runs: HashMap::new(),
            versions: HashMap::new(),
            held: HashMap::new(),
            admission: Admission::new(),
            pools: HashSet::new(),
            timers: Timers::default(),
            waits: Timers::default(),
            stale: BTreeSet::new(),
            contended: BTreeMap::new(),
            past_later: BTreeSet::new(),
            over: Vec::new(),
            freed: Vec::new(),
            followed_version: BTreeSet::new(),
            shaping: HashSet::new(),
        }
    }

    /// Forgets a run and gives it back; what executors hold of it stays known.
    pub(crate) fn forget_run(&mut self, run: &RunRef) -> Option<LiveRun> {
        self.timers.forget(&Timed::Run(run.clone()));
        if let Some(dag) = self.dags.get_mut(&run.dag()) {
            dag.runs.remove(run);
        }
        self.runs.remove(run)
    }

    /// Says that a run moved while it was planned. A small one is read again sooner than its workers would have waited.
    pub(crate) fn note_contention(&mut self, run: RunRef) {
        let is_large = self
            .runs
            .get(&run)
            .is_some_and(|live| live.version.graph.len() + live.admitted.len() >= LARGE);
        if is_large {
            self.contended.insert(run.clone(), PASSES_HELD);
        }
        self.stale.insert(run);
    }

    /// The runs that this pass holds.
    pub(crate) fn take_contended(&mut self) -> Vec<(TeamId, RunKey)> {
        let runs = self.contended.keys().map(|run| (run.team, run.key.clone())).collect();
        self.contended.retain(|_, left| {
            *left -= 1;
            *left > 0
        });
        runs
    }

    /// When something is due next.
    pub(crate) fn next_timer(&mut self) -> Option<jiff::Timestamp> {
        let (timer, wait) = (self.timers.next(), self.waits.next());
        timer.into_iter().chain(wait).min()
    }

    /// Drops versions that no Dag and no run uses.
    pub(crate) fn forget_unused_versions(&mut self) {
        self.versions.retain(|_, version| Arc::strong_count(version) > 1);
    }
}
