//! From a planner's commands to what is written of its run.

use isobar_engine::planner::{Command, Event, RunEnd, WhyEnded, WhyState};
use isobar_model::{RunState, TaskKey, TaskState};
use isobar_store::transitions::{Dates, Decided, NewCallback, Placeholder, ReadyTask, RunUpdate};
use isobar_store::{StoreError, task_instances};
use serde_json::json;

use crate::memory::RunRef;
use crate::pass::Pass;
use crate::timers::Timed;

impl Pass<'_> {
    /// Feeds a run's planner, if it has one, and plans what it commands.
    pub(crate) fn step_run(&mut self, run: &RunRef, event: Event) {
        let Some(planner) = self.memory.runs.get_mut(run).and_then(|live| live.planner.as_mut()) else {
            return;
        };
        let mut commands = Vec::new();
        planner.step(event, self.now, &mut commands);
        self.carry_out(run, commands);
    }

    /// Plans what a planner commands.
    pub(crate) fn carry_out(&mut self, run: &RunRef, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Create(new) => {
                    let Some(live) = self.memory.runs.get(run) else { return };
                    let rows: Vec<_> = new.iter().map(|new| live.version.new_instance(new)).collect();
                    self.plan(run).create.extend(rows);
                }
                Command::PlaceholderBecomesFirst { task_id } => {
                    self.plan(run).placeholders.push(Placeholder::BecomesFirst(task_id));
                }
                Command::DeletePlaceholder { task_id } => {
                    self.plan(run).placeholders.push(Placeholder::Delete(task_id));
                }
                Command::SetState { key, from, to, why } => {
                    tracing::debug!(run = %run.key.run_id, task = %key.task_id, ?to, ?why, "decided");
                    let dates = match why {
                        WhyState::MappedOverNothing | WhyState::MapLengthUnknown | WhyState::RunTimedOut => Dates::Kept,
                        // Running tasks that a failure elsewhere stops.
                        WhyState::FailFast { .. } if to == Some(TaskState::Failed) => Dates::Kept,
                        _ => Dates::WhereMissing,
                    };
                    self.decide(run, key, from.0, to, dates);
                }
                Command::SucceedAtOnce { key, from, .. } => {
                    self.decide(run, key, from.0, Some(TaskState::Success), Dates::AtOnce);
                }
                Command::DeferAtOnce {
                    key, from, try_number, ..
                } => {
                    let task = ReadyTask {
                        key,
                        from: from.0,
                        next_try: try_number != from.1,
                    };
                    if !self.defer_at_once(run, &task) {
                        self.ready(run, task);
                    }
                }
                Command::Ready {
                    key, from, try_number, ..
                } => self.ready(
                    run,
                    ReadyTask {
                        key,
                        from: from.0,
                        next_try: try_number != from.1,
                    },
                ),
                Command::WakeAt(at) => self.memory.timers.wish(Timed::Run(run.clone()), at),
                Command::FinishRun(end) => self.finish_run(run, &end),
            }
        }
    }

    /// Its executor does not exist: it cannot ever run.
    pub(crate) fn fail_without_executor(&mut self, run: &RunRef, key: TaskKey) {
        self.decide(
            run,
            key,
            Some(TaskState::Scheduled),
            Some(TaskState::Failed),
            Dates::WhereMissing,
        );
    }

    /// Plans that an instance waits for a slot.
    fn ready(&mut self, run: &RunRef, task: ReadyTask) {
        let key = task.key.clone();
        self.plan(run).ready.push(task);
        if self.waits_for_shape(run, &key) {
            return;
        }
        match self.offer(run, &key) {
            Some(candidate) => self.admission.ready(candidate),
            None => self.fail_without_executor(run, key),
        }
    }

    /// Plans a decided state. Two decisions of one pass about one instance become one.
    fn decide(&mut self, run: &RunRef, key: TaskKey, from: Option<TaskState>, to: Option<TaskState>, dates: Dates) {
        // What frees slots counts when it is written: the write may yet fail, and others must not have the slots by then.
        // A planner does not hear that an instance was queued: to it that one is scheduled until it runs.
        let was_queued = || self.memory.admission.is_holding(&run.instance(key.clone()));
        let held = from.is_some_and(crate::admitting::holds) || (from == Some(TaskState::Scheduled) && was_queued());
        if held && !to.is_some_and(crate::admitting::holds) {
            self.freed.entry(run.clone()).or_default().push((key.clone(), to));
        } else {
            self.tell_admission(run, &key, to);
        }
        if to.is_some_and(TaskState::is_finished) && self.may_be_asked(run) {
            self.memory.past_later.insert(run.clone());
        }
        let plan = self.plan(run);
        if let Some(at) = plan.ready.iter().position(|ready| ready.key == key) {
            let ready = plan.ready.remove(at);
            plan.decided.push(Decided {
                key,
                from: ready.from,
                to,
                dates,
            });
        } else if let Some(decided) = plan.decided.iter_mut().find(|decided| decided.key == key) {
            decided.to = to;
            decided.dates = dates;
        } else {
            plan.decided.push(Decided { key, from, to, dates });
        }
    }

    fn finish_run(&mut self, run: &RunRef, end: &RunEnd) {
        let now = self.now;
        let plan = self.plan(run);
        // A run may start and end in one pass, where nothing of it is left to run.
        let started = plan.run.as_ref().and_then(|update| update.start_date);
        plan.run = Some(RunUpdate {
            state: end.state,
            start_date: started,
            end_date: Some(now),
            why_ended: Some(end.why.as_str()),
        });
        let Some(live) = self.memory.runs.get_mut(run) else {
            return;
        };
        live.row.state = end.state;
        live.row.end_date = Some(now);
        if end.why == WhyEnded::TaskFailure {
            self.failed_by_tasks.insert(run.clone());
        }
        self.backfills.extend(live.row.backfill_id.map(|id| (run.team, id)));
        let (team, seconds) = (run.team, live.row.start_date.map(|start| now.duration_since(start)));
        tracing::info!(%team, dag = %run.key.dag_id, run = %run.key.run_id, state = %end.state, why = ?end.why, took = ?seconds, "run ended");
        self.ended.push((run.clone(), end.clone()));
        if self.may_be_asked(run) {
            self.memory.past_later.insert(run.clone());
        }
    }

    /// The Dag's own callback, run by the team's dag-processor.
    pub(crate) async fn call_back(&mut self, run: &RunRef, end: &RunEnd) -> Result<(), StoreError> {
        let Some(live) = self.memory.runs.get(run) else {
            return Ok(());
        };
        let failed = end.state == RunState::Failed;
        let (version, row) = (&live.version, live.row.clone());
        let wanted = if failed { version.on_failure } else { version.on_success };
        let Some(dag) = self.memory.dags.get(&run.dag()).filter(|_| wanted) else {
            return Ok(());
        };
        let (bundle, rel_path) = (dag.row.bundle.clone(), dag.row.rel_path.clone());
        let scope = self.setting.org.team(run.team);
        let last = match &end.cause {
            Some(key) => task_instances::get(self.tx, scope, &run.key, key).await?,
            None if end.why == WhyEnded::TimedOut => {
                // What this pass skips is still unfinished in the rows.
                task_instances::last_begun_unfinished(self.tx, scope, &run.key).await?
            }
            None => None,
        };
        let request = json!({
            "type": "DagCallbackRequest",
            "filepath": rel_path,
            "bundle_name": bundle,
            "bundle_version": row.bundle_version,
            "msg": end.why.as_str(),
            "dag_id": run.key.dag_id,
            "run_id": run.key.run_id,
            "is_failure_callback": failed,
            "context_from_server": {
                "dag_run": crate::losses::run_json(&row),
                "last_ti": last.as_ref().map(crate::losses::instance_json),
            },
        });
        self.plan(run).callbacks.push(NewCallback {
            bundle,
            rel_path,
            request,
        });
        Ok(())
    }
}
