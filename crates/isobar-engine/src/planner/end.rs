//! How a run ends: by itself, by deadlock, by its time limit; and what one failure does to the rest of a `fail_fast` Dag.

use isobar_model::{MapIndex, RunState, TaskKey, TaskState};
use jiff::Timestamp;

use super::Planner;
use super::book::Inst;
use super::command::{Command, RunEnd, WhyEnded, WhyState};
use super::gate::Gate;
use crate::graph::TaskNo;

impl Planner {
    /// Ends the run if there is nothing more to come.
    pub(super) fn conclude(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.book.unfinished > 0 {
            if self.is_deadlocked(now) {
                let cause = self.first_blocked();
                self.finish(RunState::Failed, WhyEnded::AllTasksDeadlocked, cause, out);
            }
            return;
        }
        if self.book.deciding_failures > 0 {
            let cause = self.latest_in(TaskState::Failed);
            self.finish(RunState::Failed, WhyEnded::TaskFailure, cause, out);
        } else {
            let cause = self.latest_in(TaskState::Success);
            self.finish(RunState::Success, WhyEnded::Success, cause, out);
        }
    }

    fn finish(&mut self, state: RunState, why: WhyEnded, cause: Option<TaskKey>, out: &mut Vec<Command>) {
        self.finished = true;
        out.push(Command::FinishRun(RunEnd { state, why, cause }));
    }

    /// Nothing is at work, waits for a trigger or a person, or could run now or later; and nothing waits for other runs.
    ///
    /// Tasks at work never count as blocked here. Airflow can also fail a run while a task is at work whose upstream was
    /// cleared meanwhile, and take the task's state from it; that we do not follow.
    fn is_deadlocked(&self, now: Timestamp) -> bool {
        if self.book.active > 0 || self.book.parked > 0 {
            return false;
        }
        self.open_instances().all(|(task, index, inst)| {
            let spec = self.book.graph.task(task);
            let waits_for_runs = spec.depends_on_past
                || spec.max_active_tis_per_dag.is_some()
                || spec.max_active_tis_per_dagrun.is_some();
            let gate = self.gate(task, index, inst, &self.upstream(task, index), now, true);
            !waits_for_runs && matches!(gate, Gate::Shut(_))
        })
    }

    fn open_instances(&self) -> impl Iterator<Item = (TaskNo, MapIndex, &Inst)> {
        self.instances().filter(|(.., inst)| inst.is_open())
    }

    fn instances(&self) -> impl Iterator<Item = (TaskNo, MapIndex, &Inst)> {
        let tasks = self.book.graph.numbers();
        tasks.flat_map(|task| {
            let book = self.book.task(task);
            book.indices()
                .filter_map(move |index| Some((task, index, book.get(index)?)))
        })
    }

    fn latest_in(&self, state: TaskState) -> Option<TaskKey> {
        let in_state = self.instances().filter(|(.., inst)| inst.state == Some(state));
        // Of those that ended at once the first in the Dag.
        let (task, index, _) = in_state.reduce(|latest, other| {
            let is_later = other.2.end_date > latest.2.end_date;
            if is_later { other } else { latest }
        })?;
        Some(self.key(task, index))
    }

    fn first_blocked(&self) -> Option<TaskKey> {
        let graph = &self.book.graph;
        let begun = |task: TaskNo| graph.upstream(task).iter().any(|up| self.book.task(*up).own.done() > 0);
        self.open_instances()
            .find(|(task, ..)| begun(*task))
            .map(|(task, index, _)| self.key(task, index))
    }

    /// When `dagrun_timeout` strikes: not while the Dag is paused, as in Airflow.
    fn deadline(&self) -> Option<Timestamp> {
        if self.run.paused {
            return None;
        }
        let limit = self.book.graph.spec().dagrun_timeout?;
        self.run.start_date?.checked_add(limit).ok()
    }

    pub(super) fn has_timed_out(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Skips everything unfinished and fails the run. Who began last, which is the cause, the store knows.
    pub(super) fn time_out(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let unfinished: Vec<(TaskNo, MapIndex)> = self
            .instances()
            .filter(|(.., inst)| !inst.is_finished())
            .map(|(task, index, _)| (task, index))
            .collect();
        for (task, index) in unfinished {
            self.set(task, index, Some(TaskState::Skipped), WhyState::RunTimedOut, now, out);
        }
        self.finish(RunState::Failed, WhyEnded::TimedOut, None, out);
    }

    /// Under `fail_fast`, failures stop the others.
    pub(super) fn heed_failures(&mut self, failed: &[TaskKey], now: Timestamp, out: &mut Vec<Command>) {
        if self.book.graph.spec().fail_fast && self.run.state == RunState::Running {
            for key in failed {
                self.stop_others(key, now, out);
            }
        }
    }

    /// A failure fails what runs and skips the rest, teardowns and what succeeded or failed apart.
    fn stop_others(&mut self, failed: &TaskKey, now: Timestamp, out: &mut Vec<Command>) {
        let is_failed = |inst: &Inst| inst.state == Some(TaskState::Failed);
        let task = self.book.graph.find(&failed.task_id);
        if !task.is_some_and(|task| self.book.get(task, failed.map_index).is_some_and(is_failed)) {
            return;
        }
        let others: Vec<(TaskNo, MapIndex, Option<TaskState>)> = self
            .instances()
            .filter(|(task, _, inst)| {
                let spec = self.book.graph.task(*task);
                let over = matches!(inst.state, Some(TaskState::Success | TaskState::Failed));
                spec.task_id != failed.task_id && !spec.is_teardown && !over
            })
            .map(|(task, index, inst)| (task, index, inst.state))
            .collect();
        for (task, index, state) in others {
            let to = if state == Some(TaskState::Running) {
                TaskState::Failed
            } else {
                TaskState::Skipped
            };
            self.set(
                task,
                index,
                Some(to),
                WhyState::FailFast { by: failed.clone() },
                now,
                out,
            );
        }
    }

    /// A run is not planned before its `run_after` and its logical date.
    pub(super) fn is_early(&self, now: Timestamp) -> bool {
        self.begins().is_some_and(|begins| begins > now)
    }

    fn begins(&self) -> Option<Timestamp> {
        Some(self.run.run_after).max(self.run.logical_date)
    }

    /// Asks to be woken at the next time that matters.
    pub(super) fn wake(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let begins = self.begins().filter(|begins| *begins > now);
        let retry = self.timers.first().map(|(due, ..)| *due);
        let Some(next) = [begins, retry, self.deadline()].into_iter().flatten().min() else {
            return;
        };
        if self.woken_at.is_none_or(|at| next < at) {
            self.woken_at = Some(next);
            out.push(Command::WakeAt(next));
        }
    }
}
