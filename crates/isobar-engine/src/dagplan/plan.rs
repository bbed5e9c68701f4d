//! Making and starting runs.

use isobar_model::{RunId, RunState, RunTrigger, RunType};
use jiff::Timestamp;

use super::DagPlan;
use super::event::{ActiveRun, AssetTrigger, Command, NewRun, NextFields, RunIdPlan, Started};
use super::runid::{run_id, suffix_of};
use super::schedule::{Next, NextRun};

impl DagPlan {
    pub(super) fn settle(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.make_asset_triggered(out);
        self.make_scheduled(now, out);
        self.start_queued(now, out);
        self.wake(now, out);
    }

    /// Asks the timetable for the run after the latest automated one.
    pub(super) fn work_out_next(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        self.asked = false;
        self.named = None;
        let Some(schedule) = &self.dag.schedule else {
            return self.set_next(None, out);
        };
        match schedule.next(self.last_automated.as_ref(), &self.dag.within, now) {
            Ok(Next::At(next)) => self.set_next(Some(next), out),
            Ok(Next::Never) => self.set_next(None, out),
            Ok(Next::Ask) => {
                if let Some(known) = self.said.after(self.last_automated.as_ref(), now) {
                    self.named.clone_from(&known.run_id);
                    let next = known.next.clone();
                    return self.set_next(next, out);
                }
                self.asked = true;
                self.next = NextFields::default();
                out.push(Command::AskNextRun {
                    timetable: schedule.question().cloned().unwrap_or_default(),
                    last: self.last_automated.clone(),
                    within: self.dag.within,
                });
            }
            Err(problem) => {
                self.set_next(None, out);
                out.push(Command::ScheduleBroken(problem.to_string()));
            }
        }
    }

    pub(super) fn set_next(&mut self, next: Option<NextRun>, out: &mut Vec<Command>) {
        self.next = NextFields { next };
        if self.next != self.shown {
            self.shown = self.next.clone();
            out.push(Command::SetNext(self.next.clone()));
        }
    }

    /// New runs may be made at all, and fewer than `max_active_runs` are queued or running.
    ///
    /// Runs of backfills count against asset-triggered runs only, as in Airflow.
    fn may_make(&self, count_backfills: bool) -> bool {
        let counts = |run: &&ActiveRun| count_backfills || run.run_type != RunType::Backfill;
        let active = self.active.values().filter(counts).count() + self.coming.len();
        let in_order = self.dag.makes_runs && !self.dag.paused && !self.dag.stale && !self.dag.has_import_errors;
        in_order && active < self.dag.max_active_runs as usize
    }

    fn make_asset_triggered(&mut self, out: &mut Vec<Command>) {
        if !self.may_make(true) {
            return;
        }
        let Some(AssetTrigger { triggered_at }) = self.assets.take() else {
            return;
        };
        let info = NextRun {
            run_after: triggered_at,
            data_interval: None,
            partition_key: None,
            partition_date: None,
        };
        self.coming.push((RunType::AssetTriggered, info.clone()));
        out.push(Command::CreateRun(NewRun {
            run_id: RunIdPlan::WithRandomTail(format!("{}__{}_", RunType::AssetTriggered, suffix_of(triggered_at))),
            run_type: RunType::AssetTriggered,
            triggered_by: RunTrigger::Asset,
            info,
            consume_assets_until: Some(triggered_at),
        }));
    }

    /// Makes every run that is due, as far as there is room.
    fn make_scheduled(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        while self.may_make_scheduled() {
            let Some(info) = self.next.next.clone().filter(|next| next.run_after <= now) else {
                return;
            };
            self.coming.push((RunType::Scheduled, info.clone()));
            out.push(Command::CreateRun(NewRun {
                run_id: self.scheduled_run_id(&info),
                run_type: RunType::Scheduled,
                triggered_by: RunTrigger::Timetable,
                info: info.clone(),
                consume_assets_until: None,
            }));
            self.last_automated = Some(info);
            self.work_out_next(now, out);
        }
    }

    fn may_make_scheduled(&self) -> bool {
        let allowed = self
            .dag
            .allowed_run_types
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&RunType::Scheduled));
        allowed && self.may_make(false)
    }

    fn scheduled_run_id(&self, info: &NextRun) -> RunIdPlan {
        if let Some(named) = &self.named {
            return RunIdPlan::Exact(named.clone());
        }
        if !self
            .dag
            .schedule
            .as_ref()
            .is_some_and(|schedule| schedule.ids_name_partitions())
        {
            return RunIdPlan::Exact(run_id(RunType::Scheduled, info.run_after));
        }
        let start = run_id(RunType::Scheduled, info.run_after);
        RunIdPlan::WithRandomTail(match &info.partition_key {
            Some(key) => format!("{start}__{key}__"),
            None => format!("{start}__"),
        })
    }

    /// Starts queued runs: those of no backfill first, then those never looked at, then the earlier.
    fn start_queued(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        let any_room = || self.has_room_to_run(None) || self.backfills.keys().any(|id| self.has_room_to_run(Some(*id)));
        if self.dag.paused || self.dag.stale || !any_room() {
            return;
        }
        let mut queued: Vec<&ActiveRun> = self
            .active
            .values()
            .filter(|run| run.state == RunState::Queued && run.run_after <= now)
            .collect();
        queued.sort_by_key(|run| {
            (
                run.backfill.map(|(_, place)| place),
                run.last_scheduling_decision,
                run.run_after,
            )
        });
        let queued: Vec<(RunId, Option<i64>)> = queued
            .into_iter()
            .map(|run| (run.run_id.clone(), run.backfill.map(|(id, _)| id)))
            .collect();
        for (run_id, backfill) in queued {
            if !self.has_room_to_run(backfill) {
                continue;
            }
            if let Some(run) = self.active.get_mut(&run_id) {
                run.state = RunState::Running;
                out.push(Command::StartRun(Started { run_id }));
            }
        }
    }

    /// Runs of a backfill have its limit, all others together the Dag's.
    fn has_room_to_run(&self, backfill: Option<i64>) -> bool {
        let running = self.active.values().filter(|run| run.state == RunState::Running);
        let running = running.filter(|run| run.backfill.map(|(id, _)| id) == backfill).count();
        let limit = match backfill {
            None => self.dag.max_active_runs,
            Some(id) => match self.backfills.get(&id) {
                Some(limits) if !limits.paused => limits.max_active_runs,
                _ => 0,
            },
        };
        running < limit as usize
    }

    fn wake(&mut self, now: Timestamp, out: &mut Vec<Command>) {
        if self.dag.paused || self.dag.stale {
            return;
        }
        let due = self.next.next.as_ref().map(|next| next.run_after);
        let queued = self
            .active
            .values()
            .filter(|run| run.state == RunState::Queued)
            .map(|run| run.run_after);
        let Some(at) = due.into_iter().chain(queued).filter(|at| *at > now).min() else {
            return;
        };
        if self.woken_at.is_none_or(|woken| at < woken || woken <= now) {
            self.woken_at = Some(at);
            out.push(Command::WakeAt(at));
        }
    }
}
