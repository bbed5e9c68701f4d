//! What stands between one instance and its start: all of Airflow's dependency rules for a task, in one verdict.

use isobar_model::{MapIndex, TaskState, TriggerRule, UNMAPPED};
use jiff::Timestamp;

use super::Planner;
use super::book::Inst;
use super::command::{Decision, WhyState};
use super::retry::{Retry, next_retry_at};
use super::rule::{self, Verdict};
use crate::graph::TaskNo;

/// The verdict on one open instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// May run now.
    Open,
    /// Will never run: this state instead.
    Set(TaskState, WhyState),
    /// May run from then on.
    OpensAt(Timestamp),
    /// Waits for something to happen.
    Shut(Shut),
}

/// What an instance waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    Upstream,
    Setup,
    Scope,
    MapDependency,
    Past,
}

/// What rules about other tasks of the run say; the same for all instances that have the same upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    Passes,
    Set(TaskState, WhyState),
    Shut(Shut),
}

impl Planner {
    /// The verdict on an open instance. Times still to come count as passed if `any_time`.
    ///
    /// Several rules may set a state: a branch that did not choose the task stands above all, then comes a map dependency that
    /// ended badly, then the trigger rule; but `upstream_failed` stands above `skipped` among these two. Airflow evaluates
    /// them in no fixed order, this is one of those it can take.
    pub(super) fn gate(
        &self,
        task: TaskNo,
        index: MapIndex,
        inst: &Inst,
        upstream: &Upstream,
        now: Timestamp,
        any_time: bool,
    ) -> Gate {
        if let Some(by) = self.not_followed(task, index) {
            return Gate::Set(TaskState::Skipped, WhyState::NotFollowed { by });
        }
        match upstream {
            Upstream::Set(state, why) => return Gate::Set(*state, why.clone()),
            Upstream::Shut(shut) => return Gate::Shut(*shut),
            Upstream::Passes => {}
        }
        if !self.past_allows(task) {
            return Gate::Shut(Shut::Past);
        }
        match self.due(task, inst) {
            Some(due) if due > now && !any_time => Gate::OpensAt(due),
            _ => Gate::Open,
        }
    }

    /// Whether [`Planner::upstream`] says the same for every index of the task.
    pub(super) fn upstream_is_common(&self, task: TaskNo) -> bool {
        self.book.graph.derived(task).mapped_groups.is_empty() && self.book.task(task).up.removed == 0
    }

    /// Trigger rule, set-ups, scope of a teardown and map dependencies.
    pub(super) fn upstream(&self, task: TaskNo, index: MapIndex) -> Upstream {
        let by_rule = self.by_trigger_rule(task, index);
        let by_map = self.by_map_dependencies(task);
        let failed = |upstream: &Upstream| matches!(upstream, Upstream::Set(TaskState::UpstreamFailed, _));
        match (by_rule, by_map) {
            (by_rule, by_map @ Upstream::Set(..)) if !failed(&by_rule) => by_map,
            (Upstream::Passes, by_map) => by_map,
            (by_rule, _) => by_rule,
        }
    }

    fn by_trigger_rule(&self, task: TaskNo, index: MapIndex) -> Upstream {
        let graph = &self.book.graph;
        let spec = graph.task(task);
        if graph.upstream(task).is_empty() || spec.trigger_rule == TriggerRule::Always {
            return Upstream::Passes;
        }
        let derived = graph.derived(task);
        let mut setups = Verdict::PASSES;
        if !derived.indirect_setups.is_empty() && !spec.is_teardown {
            setups = rule::setups(&self.book.count_upstream(task, index, &derived.indirect_setups), index);
            if let Verdict {
                set: Some(state),
                passes: false,
            } = setups
            {
                return Upstream::Set(state, WhyState::Setup);
            }
        }
        let direct = if derived.mapped_groups.is_empty() {
            rule::apply(spec.trigger_rule, &self.book.task(task).up, index)
        } else {
            let counts = self.book.count_upstream(task, index, graph.upstream(task));
            rule::apply(spec.trigger_rule, &counts, index)
        };
        if let Some(state) = direct.set {
            return Upstream::Set(state, WhyState::TriggerRule);
        }
        if let Some(state) = setups.set {
            return Upstream::Set(state, WhyState::Setup);
        }
        if !direct.passes {
            return Upstream::Shut(Shut::Upstream);
        }
        if !setups.passes {
            return Upstream::Shut(Shut::Setup);
        }
        if spec.is_teardown && !derived.scope.is_empty() {
            let scope = self.book.count_upstream(task, index, &derived.scope);
            if scope.done() < scope.total {
                return Upstream::Shut(Shut::Scope);
            }
        }
        Upstream::Passes
    }

    /// A task that tells how often this one is mapped, and ended otherwise than well without being mapped itself, decides.
    pub(super) fn by_map_dependencies(&self, task: TaskNo) -> Upstream {
        let mut ended_badly = None;
        for dependency in &self.book.graph.derived(task).map_dependencies {
            let rank = match self.book.ended_unmapped(*dependency) {
                Some(TaskState::Failed | TaskState::UpstreamFailed) => 3,
                Some(TaskState::Skipped) => 2,
                Some(TaskState::Removed) => 1,
                _ => 0,
            };
            ended_badly = ended_badly.max(Some(rank));
        }
        match ended_badly {
            Some(3) => Upstream::Set(TaskState::UpstreamFailed, WhyState::MapDependency),
            Some(2) => Upstream::Set(TaskState::Skipped, WhyState::MapDependency),
            Some(1) => Upstream::Shut(Shut::MapDependency),
            _ => Upstream::Passes,
        }
    }

    /// The direct upstream task, if any, that chose not to go on with this one.
    pub(super) fn not_followed(&self, task: TaskNo, index: MapIndex) -> Option<isobar_model::TaskId> {
        let graph = &self.book.graph;
        let task_id = &graph.task(task).task_id;
        for parent in &graph.derived(task).skipping_parents {
            let spec = graph.task(*parent);
            if self.book.task(*parent).own.done() == 0 {
                continue;
            }
            let place = if spec.expand.is_some() { index } else { UNMAPPED };
            let Some(choice) = self.choices.get(&(*parent, place)) else {
                continue;
            };
            let left_out = match (&choice.followed, &choice.skipped) {
                (Some(followed), _) if !followed.contains(task_id) => true,
                (_, Some(skipped)) => skipped.contains(task_id),
                _ => false,
            };
            if left_out {
                return Some(spec.task_id.clone());
            }
        }
        None
    }

    /// `depends_on_past`, `wait_for_downstream`, `ignore_first_depends_on_past`.
    pub(super) fn past_allows(&self, task: TaskNo) -> bool {
        let graph = &self.book.graph;
        let spec = graph.task(task);
        if !spec.depends_on_past {
            return true;
        }
        let Some(past) = &self.past else {
            return false;
        };
        if past.first_of_backfill {
            return true;
        }
        let Some(previous) = &past.previous else {
            return true;
        };
        let began_later = |date: Timestamp| spec.start_date.is_some_and(|start| date < start);
        if graph.spec().catchup && previous.logical_date.is_some_and(began_later) {
            return true;
        }
        match previous.tasks.get(&spec.task_id) {
            None => spec.ignore_first_depends_on_past && !past.existed_before.contains(&spec.task_id),
            Some(then) => then.unsuccessful == 0 && !(spec.wait_for_downstream && then.downstream_unsuccessful),
        }
    }

    /// When a retry or a rescheduled sensor is due.
    fn due(&self, task: TaskNo, inst: &Inst) -> Option<Timestamp> {
        if inst.state != Some(TaskState::UpForRetry) {
            return inst.reschedule_date;
        }
        let graph = &self.book.graph;
        Some(next_retry_at(&Retry {
            dag_id: &graph.spec().dag_id,
            task: graph.task(task),
            logical_date: self.run.logical_date,
            try_number: inst.try_number,
            end_date: inst.end_date?,
            delay_override: inst.retry_delay_override,
        }))
    }

    /// Says why an instance is where it is.
    pub(super) fn explain(&self, task: TaskNo, index: MapIndex, now: Timestamp) -> Decision {
        let Some(inst) = self.book.get(task, index) else {
            return Decision::Unknown { map_index: index };
        };
        if !inst.is_open() {
            return Decision::NotWaiting(inst.state);
        }
        match self.gate(task, index, inst, &self.upstream(task, index), now, false) {
            Gate::Open if !self.may_start(now) => Decision::RunNotRunning,
            Gate::Open => Decision::Ready,
            Gate::Set(_, why) => Decision::Decided(why),
            Gate::OpensAt(due) => Decision::WaitsUntil(due),
            Gate::Shut(Shut::Past) => Decision::WaitsForPast,
            Gate::Shut(Shut::Setup) => Decision::WaitsForSetup,
            Gate::Shut(Shut::Scope) => Decision::WaitsForScope,
            Gate::Shut(Shut::Upstream | Shut::MapDependency) => {
                let counts = self.book.count_upstream(task, index, self.book.graph.upstream(task));
                Decision::WaitsForUpstream {
                    done: counts.done(),
                    of: counts.total,
                }
            }
        }
    }
}
