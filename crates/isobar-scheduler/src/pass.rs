//! One pass: claim events, feed the engine, write what it commands, all in one transaction; then hand out workloads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isobar_engine::admission;
use isobar_engine::admission::{DagKey, News};
use isobar_engine::dagplan::{self, ActiveRun};
use isobar_engine::planner::RunEnd;
use isobar_model::{RunState, TaskKey, TaskState, TeamId};
use isobar_store::leases::Lease;
use isobar_store::transitions::{PlanOutcome, PlannedRun, QueuedTask, commit_plans};
use isobar_store::{Store, StoreError, Tx, events, loading, rendered};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

use crate::memory::{Memory, Over, RunRef};
use crate::setting::Setting;
use crate::timers::Timed;

/// Events claimed in one pass; where there are more, another pass follows at once.
const EVENTS_A_PASS: u32 = 2000;

/// What one pass works with and collects.
pub(crate) struct Pass<'a> {
    pub memory: &'a mut Memory,
    pub setting: &'a Setting,
    pub tx: &'a mut Tx,
    pub now: Timestamp,
    pub plans: BTreeMap<RunRef, PlannedRun>,
    pub dag_commands: VecDeque<(DagKey, dagplan::Command)>,
    /// For admission.
    pub admission: News,
    /// Runs whose following run may ask about them.
    pub past: BTreeSet<RunRef>,
    /// Failures that runs were told of, for `fail_fast`: told again if what follows could not be written.
    pub failed: BTreeMap<RunRef, Vec<TaskKey>>,
    /// Instances that no longer hold slots once this pass is written.
    pub freed: BTreeMap<RunRef, Vec<(TaskKey, Option<TaskState>)>>,
    /// Runs that end in this pass, whose Dag may have a callback.
    pub ended: Vec<(RunRef, RunEnd)>,
    /// Runs that end in this pass because tasks of theirs failed.
    pub failed_by_tasks: BTreeSet<RunRef>,
    /// Dags of which a run failed and that pause after too many.
    pub failed_dags: BTreeMap<DagKey, Vec<ActiveRun>>,
    /// Dags of which runs were deleted or backfilled: their schedule goes on from what is the latest run now.
    pub to_reschedule: BTreeSet<DagKey>,
    /// Runs with instances that the team's Python has a say in.
    pub to_shape: BTreeSet<RunRef>,
    /// Backfills that may have ended.
    pub backfills: BTreeSet<(TeamId, i64)>,
    /// To be cancelled after the commit.
    pub cancels: Cancels,
}

/// What a pass gave.
pub(crate) struct PassDone {
    /// Where more waits, look again at once.
    pub more: bool,
}

/// Runs one pass.
///
/// # Errors
/// After an error the memory no longer agrees with the rows: load it again.
pub(crate) async fn pass(
    store: &Store,
    setting: &Setting,
    lease: &Lease,
    memory: &mut Memory,
) -> Result<PassDone, StoreError> {
    let mut tx = store.begin().await?;
    // Before their events are claimed, so that nothing can happen to them between that and what is planned.
    loading::hold_runs(&mut tx, &setting.org, &memory.take_contended()).await?;
    let now = Timestamp::now();
    let claimed = events::claim(&mut tx, &setting.org, EVENTS_A_PASS).await?;
    let more = claimed.len() >= EVENTS_A_PASS as usize;
    let mut pass = Pass::new(memory, setting, &mut tx, now);
    pass.past = std::mem::take(&mut pass.memory.past_later);
    pass.tell_what_was_written();
    for run in std::mem::take(&mut pass.memory.followed_version) {
        pass.tell_the_past(&run).await?;
    }
    pass.take_events(claimed).await?;
    pass.take_timers().await?;
    pass.load_stale().await?;
    let (queued, cancels) = pass.finish(lease).await?;
    tx.commit().await?;
    crate::handing::hand_out(memory, setting, queued);
    crate::handing::cancel(setting, cancels);
    Ok(PassDone {
        more: more
            || !memory.stale.is_empty()
            || !memory.past_later.is_empty()
            || !memory.followed_version.is_empty()
            || !memory.over.is_empty()
            || !memory.freed.is_empty(),
    })
}

pub(crate) type Queued = Vec<(RunRef, QueuedTask)>;
pub(crate) type Cancels = Vec<(admission::ExecutorKey, TaskIdentity)>;

impl<'a> Pass<'a> {
    pub(crate) fn new(memory: &'a mut Memory, setting: &'a Setting, tx: &'a mut Tx, now: Timestamp) -> Self {
        Self {
            memory,
            setting,
            tx,
            now,
            plans: BTreeMap::new(),
            dag_commands: VecDeque::new(),
            admission: News::default(),
            past: BTreeSet::new(),
            failed: BTreeMap::new(),
            freed: BTreeMap::new(),
            ended: Vec::new(),
            failed_by_tasks: BTreeSet::new(),
            failed_dags: BTreeMap::new(),
            to_reschedule: BTreeSet::new(),
            to_shape: BTreeSet::new(),
            backfills: BTreeSet::new(),
            cancels: Vec::new(),
        }
    }

    /// The plan of a run in this pass.
    pub(crate) fn plan(&mut self, run: &RunRef) -> &mut PlannedRun {
        let rev = self.memory.runs.get(run).map_or(0, |live| live.row.rev);
        self.plans
            .entry(run.clone())
            .or_insert_with(|| PlannedRun::new(run.team, run.key.clone(), rev))
    }

    /// Feeds timers that are due.
    async fn take_timers(&mut self) -> Result<(), StoreError> {
        for timed in self.memory.timers.due(self.now) {
            match timed {
                Timed::Dag(dag) => self.step_dag(&dag, dagplan::Event::Timer),
                Timed::Run(run) => self.step_run(&run, isobar_engine::planner::Event::Timer),
                Timed::Deadlines => self.miss_deadlines().await?,
            }
        }
        self.settle().await
    }

    /// Loads runs that could not be written as planned, or are not known well enough.
    async fn load_stale(&mut self) -> Result<(), StoreError> {
        let stale = std::mem::take(&mut self.memory.stale);
        let keys: Vec<_> = stale.iter().map(|run| (run.team, run.key.clone())).collect();
        // Others who change such a run wait for this pass, so that a busy run is not loaded again and again.
        loading::try_to_hold_runs(self.tx, &self.setting.org, &keys).await?;
        for run in stale {
            self.load_run(&run).await?;
        }
        self.settle().await
    }

    /// Carries out commands until nothing more follows: runs that end let others start, which have tasks…
    pub(crate) async fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            while let Some((dag, command)) = self.dag_commands.pop_front() {
                self.carry_out_for_dag(&dag, command).await?;
            }
            if let Some((run, end)) = self.ended.pop() {
                self.call_back(&run, &end).await?;
                self.meet_deadlines(&run, end.state).await?;
                let keep = self.setting.rendered_runs;
                if keep > 0 {
                    rendered::trim(self.tx, self.setting.org.team(run.team), &run.key.dag_id, keep).await?;
                }
            } else if let Some(run) = self.past.pop_first() {
                self.tell_following(&run).await?;
            } else if let Some((dag, runs)) = self.failed_dags.pop_first() {
                self.tell_failures(&dag, runs).await?;
            } else if let Some(dag) = self.to_reschedule.pop_first() {
                self.dag_changed(&dag, true).await?;
            } else {
                return Ok(());
            }
        }
    }

    /// Asks admission, writes all plans and takes in how that went.
    pub(crate) async fn finish(mut self, lease: &Lease) -> Result<(Queued, Cancels), StoreError> {
        self.settle().await?;
        self.admit();
        let plans: Vec<PlannedRun> = std::mem::take(&mut self.plans)
            .into_values()
            .filter(|plan| !plan.is_empty())
            .collect();
        if plans.is_empty() {
            self.end_backfills().await?;
            self.ask_shapes().await?;
            return Ok((Vec::new(), self.cancels));
        }
        let outcomes = commit_plans(self.tx, &self.setting.org, lease, &plans, self.now).await?;
        let mut all_queued = Vec::new();
        for (plan, outcome) in plans.iter().zip(outcomes) {
            let run = RunRef {
                team: plan.team,
                key: plan.key.clone(),
            };
            match outcome {
                PlanOutcome::Committed { rev, queued } => {
                    self.note_written(&run, plan, rev);
                    all_queued.extend(queued.into_iter().map(|task| (run.clone(), task)));
                }
                PlanOutcome::Conflict => {
                    tracing::debug!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, "the run moved while it was planned");
                    if let Some(failed) = self.failed.remove(&run) {
                        events::remind(self.tx, &self.setting.org, &run.key, run.team, failed, self.now).await?;
                    }
                    self.memory.note_contention(run);
                }
            }
        }
        self.end_backfills().await?;
        self.ask_shapes().await?;
        Ok((all_queued, self.cancels))
    }

    fn note_written(&mut self, run: &RunRef, plan: &PlannedRun, rev: i64) {
        let Some(live) = self.memory.runs.get_mut(run) else {
            return;
        };
        live.row.rev = rev;
        if live.row.state != RunState::Queued {
            live.row.last_decision = Some(self.now);
        }
        let freed = self.freed.remove(run).unwrap_or_default();
        for (key, state) in freed {
            let known = live.admitted.contains(&key);
            if known && !state.is_some_and(crate::admitting::stays_known) {
                live.admitted.remove(&key);
            }
            if known {
                self.memory.freed.push((run.instance(key), state));
            }
        }
        if plan.run.as_ref().is_some_and(|update| update.state.is_finished()) {
            let over = Over {
                run: live.active(),
                by_tasks: self.failed_by_tasks.remove(run),
            };
            self.memory.over.push((run.dag(), over));
            self.memory.contended.remove(run);
            self.memory.forget_run(run);
        }
    }

    /// What the last pass wrote gives room: for other runs of a Dag, and for other tasks.
    fn tell_what_was_written(&mut self) {
        for (dag, run) in std::mem::take(&mut self.memory.over) {
            self.run_over(dag, run);
        }
        for (key, state) in std::mem::take(&mut self.memory.freed) {
            self.admission.state(key, state);
        }
    }

    /// Says that an instance is in another state now, where admission knows it.
    pub(crate) fn tell_admission(&mut self, run: &RunRef, task: &TaskKey, state: Option<isobar_model::TaskState>) {
        if let Some(live) = self.memory.runs.get_mut(run)
            && live.admitted.contains(task)
        {
            if !state.is_some_and(crate::admitting::stays_known) {
                live.admitted.remove(task);
            }
            self.admission.state(run.instance(task.clone()), state);
        }
    }
}
