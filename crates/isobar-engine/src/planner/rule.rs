//! The trigger rules: what the counts of upstream instances by state mean for a task.

use isobar_model::{MapIndex, TaskState, TriggerRule};

/// Upstream instances that matter to one instance, counted by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many there are (tasks, where none of them is mapped or in a mapped group).
    pub total: u32,
    /// How many of those are set-ups.
    pub setups: u32,
    pub success: u32,
    pub skipped: u32,
    pub failed: u32,
    pub upstream_failed: u32,
    pub removed: u32,
    pub success_setup: u32,
    pub skipped_setup: u32,
}

impl Counts {
    /// How many have ended.
    pub(super) fn done(&self) -> u32 {
        self.success + self.skipped + self.failed + self.upstream_failed + self.removed
    }

    /// Takes one instance in a state into the count.
    pub(super) fn add(&mut self, state: Option<TaskState>, is_setup: bool) {
        match state {
            Some(TaskState::Success) => {
                self.success += 1;
                self.success_setup += u32::from(is_setup);
            }
            Some(TaskState::Skipped) => {
                self.skipped += 1;
                self.skipped_setup += u32::from(is_setup);
            }
            Some(TaskState::Failed) => self.failed += 1,
            Some(TaskState::UpstreamFailed) => self.upstream_failed += 1,
            Some(TaskState::Removed) => self.removed += 1,
            _ => {}
        }
    }

    /// Takes another count into this one.
    pub(super) fn merge(&mut self, other: &Self) {
        self.total += other.total;
        self.setups += other.setups;
        self.success += other.success;
        self.skipped += other.skipped;
        self.failed += other.failed;
        self.upstream_failed += other.upstream_failed;
        self.removed += other.removed;
        self.success_setup += other.success_setup;
        self.skipped_setup += other.skipped_setup;
    }

    /// Takes one instance in a state out of the count.
    pub(super) fn take(&mut self, state: Option<TaskState>, is_setup: bool) {
        match state {
            Some(TaskState::Success) => {
                self.success -= 1;
                self.success_setup -= u32::from(is_setup);
            }
            Some(TaskState::Skipped) => {
                self.skipped -= 1;
                self.skipped_setup -= u32::from(is_setup);
            }
            Some(TaskState::Failed) => self.failed -= 1,
            Some(TaskState::UpstreamFailed) => self.upstream_failed -= 1,
            Some(TaskState::Removed) => self.removed -= 1,
            _ => {}
        }
    }
}

/// What a rule says: a state to set at once, and whether it is satisfied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Decided without running; stands above `passes`.
    pub set: Option<TaskState>,
    /// The instance may run, as far as this goes.
    pub passes: bool,
}

impl Verdict {
    pub(super) const PASSES: Self = Self {
        set: None,
        passes: true,
    };
}

/// Applies a trigger rule. `map_index` matters for instances beyond what their upstream was reduced to.
pub(crate) fn apply(rule: TriggerRule, up: &Counts, map_index: MapIndex) -> Verdict {
    Verdict {
        set: decided(rule, up, map_index),
        passes: satisfied(rule, up),
    }
}

fn decided(rule: TriggerRule, up: &Counts, map_index: MapIndex) -> Option<TaskState> {
    use TaskState::{Skipped, UpstreamFailed};
    let all_done = up.done() >= up.total;
    let bad = up.failed + up.upstream_failed > 0;
    let when = |condition: bool, state: TaskState| condition.then_some(state);
    match rule {
        TriggerRule::AllSuccess => when(bad, UpstreamFailed)
            .or(when(up.skipped > 0, Skipped))
            .or(when(outlived(up, map_index), TaskState::Removed)),
        TriggerRule::AllFailed => when(up.success + up.skipped > 0, Skipped),
        TriggerRule::OneSuccess => {
            when(all_done && up.done() == up.skipped, Skipped).or(when(all_done && up.success == 0, UpstreamFailed))
        }
        TriggerRule::OneFailed => when(all_done && !bad, Skipped),
        TriggerRule::OneDone => when(all_done && up.failed + up.success == 0, Skipped),
        TriggerRule::NoneFailed => when(bad, UpstreamFailed),
        TriggerRule::NoneFailedMinOneSuccess => when(bad, UpstreamFailed)
            .or(when(up.skipped == up.total, Skipped))
            .or(when(all_done && up.success == 0, UpstreamFailed)),
        TriggerRule::NoneSkipped => when(up.skipped > 0, Skipped),
        TriggerRule::AllSkipped => when(up.success > 0 || bad, Skipped),
        TriggerRule::AllDoneMinOneSuccess => {
            let ended = up.success + up.failed + up.upstream_failed + up.removed;
            when(up.skipped > 0, Skipped).or(when(
                ended >= up.total.saturating_sub(up.skipped) && up.success == 0,
                UpstreamFailed,
            ))
        }
        TriggerRule::AllDoneSetupSuccess => {
            let setups_done = all_done && up.setups > 0;
            when(setups_done && up.skipped_setup >= up.setups, Skipped)
                .or(when(setups_done && up.success_setup == 0, UpstreamFailed))
        }
        TriggerRule::AllDone | TriggerRule::Always => None,
    }
}

fn satisfied(rule: TriggerRule, up: &Counts) -> bool {
    let all_done = up.done() >= up.total;
    match rule {
        TriggerRule::OneSuccess => up.success > 0,
        TriggerRule::OneFailed => up.failed + up.upstream_failed > 0,
        TriggerRule::OneDone => up.success + up.failed > 0,
        TriggerRule::AllSuccess => up.total <= up.success + up.removed,
        TriggerRule::AllFailed => up.total <= up.failed + up.upstream_failed + up.removed,
        TriggerRule::AllDone => all_done,
        TriggerRule::NoneFailed => up.total <= up.success + up.skipped + up.removed,
        TriggerRule::NoneFailedMinOneSuccess => up.total <= up.success + up.skipped + up.removed && up.success > 0,
        TriggerRule::NoneSkipped => all_done && up.skipped == 0,
        TriggerRule::AllSkipped => up.total <= up.skipped,
        TriggerRule::AllDoneSetupSuccess => all_done && (up.setups == 0 || up.success_setup > 0),
        TriggerRule::AllDoneMinOneSuccess => {
            let ended = up.success + up.failed + up.upstream_failed;
            up.skipped == 0 && ended >= up.total.saturating_sub(up.removed) && up.success > 0
        }
        TriggerRule::Always => true,
    }
}

/// The set-ups a task needs though they are not directly above it: one that failed or was skipped decides at once.
pub(crate) fn setups(up: &Counts, map_index: MapIndex) -> Verdict {
    let set = if up.failed + up.upstream_failed > 0 {
        Some(TaskState::UpstreamFailed)
    } else if up.skipped > 0 {
        Some(TaskState::Skipped)
    } else {
        outlived(up, map_index).then_some(TaskState::Removed)
    };
    let excused = if map_index >= 0 { up.removed } else { 0 };
    Verdict {
        set,
        passes: up.total <= up.success + excused,
    }
}

/// An index to which the upstream, reduced since, has no counterpart.
fn outlived(up: &Counts, map_index: MapIndex) -> bool {
    up.removed > 0 && up.success > 0 && u32::try_from(map_index).is_ok_and(|index| index >= up.success)
}

/// Whether one more upstream instance ending in `state` can change what the rule says, given whether it was the last of its task.
/// Only a way to save work: when in doubt, yes.
pub(crate) fn can_matter(rule: TriggerRule, state: Option<TaskState>, task_complete: bool) -> bool {
    task_complete
        || state != Some(TaskState::Success)
        || matches!(
            rule,
            TriggerRule::OneSuccess | TriggerRule::OneDone | TriggerRule::AllFailed | TriggerRule::AllSkipped
        )
}
