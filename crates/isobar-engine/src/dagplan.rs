//! The plan of one Dag: when its runs are made, which of them start, and when too many failures pause it.
//!
//! Runs are made queued, and started where there is room, as in Airflow: scheduled and asset-triggered runs are made only
//! while fewer than `max_active_runs` are queued or running; runs made otherwise wait, queued, until fewer are running.

mod event;
mod plan;
mod runid;
mod said;
mod schedule;

use std::collections::BTreeMap;

use isobar_model::{RunId, RunState, RunType};
use jiff::Timestamp;

pub use event::{
    ActiveRun, AssetTrigger, BackfillLimits, Command, DagFacts, DagSnapshot, Event, NewRun, NextFields, NextSaid,
    PausedBecause, RunIdPlan, Started,
};
pub use runid::{run_id, suffix_of};
use said::Said;
pub use schedule::{Next, NextRun, Restriction, Schedule, ScheduleProblem};

/// The plan of one Dag. See the [module](self).
#[derive(Debug)]
pub struct DagPlan {
    dag: DagFacts,
    next: NextFields,
    /// What the row shows of it: while Python is asked, what it said before.
    shown: NextFields,
    last_automated: Option<NextRun>,
    active: BTreeMap<RunId, ActiveRun>,
    /// Runs that were commanded and have not been seen yet.
    coming: Vec<(RunType, NextRun)>,
    backfills: BTreeMap<i64, BackfillLimits>,
    assets: Option<AssetTrigger>,
    asked: bool,
    /// What Python said of runs to come.
    said: Said,
    /// The id that Python gave the next run.
    named: Option<RunId>,
    woken_at: Option<Timestamp>,
}

impl DagPlan {
    /// Starts planning a Dag, and says what is to be done at once.
    pub fn load(snapshot: DagSnapshot, now: Timestamp, out: &mut Vec<Command>) -> Self {
        let known = snapshot.next.is_some();
        let mut plan = Self {
            dag: snapshot.dag,
            shown: snapshot.next.clone().unwrap_or_default(),
            next: snapshot.next.unwrap_or_default(),
            last_automated: snapshot.last_automated,
            active: BTreeMap::new(),
            coming: Vec::new(),
            backfills: snapshot
                .backfills
                .into_iter()
                .map(|backfill| (backfill.id, backfill))
                .collect(),
            assets: snapshot.assets,
            asked: false,
            said: Said::default(),
            named: None,
            woken_at: None,
        };
        for run in snapshot.active {
            plan.note_run(run);
        }
        // Python is asked anew: it also gives the id of the run, which no column keeps.
        let python = plan
            .dag
            .schedule
            .as_ref()
            .is_some_and(|schedule| schedule.question().is_some());
        if !known || python {
            plan.work_out_next(now, out);
        }
        plan.settle(now, out);
        plan
    }

    /// Takes in one event and says what is to be done.
    pub fn step(&mut self, event: Event, now: Timestamp, out: &mut Vec<Command>) {
        match event {
            Event::Timer => self.woken_at = None,
            Event::DagChanged {
                dag,
                reschedule,
                last_automated,
            } => {
                // While a Dag is paused time goes by: without catchup its next run is another one by now.
                let resumed = self.dag.paused && !dag.paused;
                self.dag = dag;
                if reschedule || resumed {
                    self.said = Said::default();
                    self.last_automated = last_automated;
                    self.work_out_next(now, out);
                }
            }
            Event::RunChanged(run) => self.note_run(run),
            Event::RunDeleted(run_id) => self.drop_run(&run_id),
            Event::RunFailed { latest } => self.judge_failures(&latest, out),
            Event::AlreadyThere(run) => {
                self.coming
                    .retain(|(_, coming)| coming.logical_date() != run.logical_date());
                let is_latest = |last: &NextRun| last.logical_date() == run.logical_date();
                if self.last_automated.as_ref().is_some_and(is_latest) {
                    self.last_automated = Some(run);
                    self.work_out_next(now, out);
                }
            }
            Event::Assets(trigger) => self.assets = trigger,
            Event::Backfill(backfill) => {
                self.backfills.insert(backfill.id, backfill);
            }
            Event::Answered(said) => {
                if std::mem::take(&mut self.asked) && !said.is_empty() {
                    self.said = Said::about(self.last_automated.clone(), said, now);
                    self.work_out_next(now, out);
                }
            }
        }
        self.settle(now, out);
    }

    /// The next run, for those who show it.
    #[must_use]
    pub fn next(&self) -> Option<&NextRun> {
        self.next.next.as_ref()
    }

    fn note_run(&mut self, run: ActiveRun) {
        if run.state.is_finished() {
            self.drop_run(&run.run_id);
            return;
        }
        if !self.active.contains_key(&run.run_id) {
            let arrived = |(kind, info): &(RunType, NextRun)| *kind == run.run_type && info.run_after == run.run_after;
            if let Some(at) = self.coming.iter().position(arrived) {
                self.coming.remove(at);
            }
        }
        self.active.insert(run.run_id.clone(), run);
    }

    /// Forgets a run, and its backfill where that was the last one of it.
    fn drop_run(&mut self, run_id: &RunId) {
        let Some((backfill, _)) = self.active.remove(run_id).and_then(|run| run.backfill) else {
            return;
        };
        let is_of_it = |run: &ActiveRun| run.backfill.is_some_and(|(id, _)| id == backfill);
        if !self.active.values().any(is_of_it) {
            self.backfills.remove(&backfill);
        }
    }

    /// Pauses the Dag when as many of its latest runs failed as it allows.
    fn judge_failures(&mut self, latest: &[RunState], out: &mut Vec<Command>) {
        let limit = self.dag.max_consecutive_failed_dag_runs;
        let judged = latest.get(..limit as usize);
        let all_failed = judged.is_some_and(|runs| runs.iter().all(|state| *state == RunState::Failed));
        if limit > 0 && all_failed && !self.dag.paused {
            self.dag.paused = true;
            out.push(Command::Pause(PausedBecause::ConsecutiveFailures(limit)));
        }
    }
}
