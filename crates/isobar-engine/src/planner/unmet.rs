//! Everything that stands between one instance and its start, for a person who asks. Planning itself stops at the first.

use isobar_model::{TaskId, TaskKey, TriggerRule};
use jiff::Timestamp;

use super::Planner;
use super::gate::Upstream;
use super::rule::{self, Counts};
use crate::graph::TaskNo;

/// Upstream instances that have ended, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the state of its name; `done` is their sum")]
pub struct UpstreamStates {
    pub success: u32,
    pub skipped: u32,
    pub failed: u32,
    pub upstream_failed: u32,
    pub removed: u32,
    pub done: u32,
    pub success_setup: u32,
    pub skipped_setup: u32,
}

impl From<&Counts> for UpstreamStates {
    fn from(counts: &Counts) -> Self {
        Self {
            success: counts.success,
            skipped: counts.skipped,
            failed: counts.failed,
            upstream_failed: counts.upstream_failed,
            removed: counts.removed,
            done: counts.done(),
            success_setup: counts.success_setup,
            skipped_setup: counts.skipped_setup,
        }
    }
}

/// One thing that is not as the instance needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// A branch or the like upstream chose not to go on with it.
    NotFollowed {
        /// The task that chose.
        by: TaskId,
    },
    /// A task that tells how often it is mapped did not end well.
    MapDependency,
    /// Set-ups that it needs have not succeeded.
    Setups {
        /// All set-ups that matter to it.
        setups: Vec<TaskId>,
        /// How they stand.
        states: UpstreamStates,
        /// Its direct upstream tasks.
        upstream: Vec<TaskId>,
    },
    /// Its trigger rule.
    Rule {
        /// The rule.
        rule: TriggerRule,
        /// Upstream instances there are.
        total: u32,
        /// How many of them are set-ups.
        setups: u32,
        /// How they stand.
        states: UpstreamStates,
        /// Its direct upstream tasks.
        upstream: Vec<TaskId>,
    },
    /// A teardown: tasks between its set-ups and itself have not ended.
    Scope {
        /// Its rule.
        rule: TriggerRule,
        /// How many have not.
        missing: u32,
        /// All of these tasks.
        tasks: Vec<TaskId>,
    },
    /// The preceding run lacks the task.
    PastMissing,
    /// Instances of the task in the preceding run are neither successful nor skipped.
    Past {
        /// How many.
        unsuccessful: u32,
    },
    /// Tasks below it in the preceding run are not, and it waits for them.
    PastDownstream,
    /// It starts again then.
    Rescheduled(Timestamp),
}

impl Planner {
    /// All that an instance waits for; nothing where it is unknown or could start.
    #[must_use]
    pub fn unmet(&self, key: &TaskKey, now: Timestamp) -> Vec<Unmet> {
        let mut found = Vec::new();
        let Some(task) = self.book.graph.find(&key.task_id) else {
            return found;
        };
        let Some(inst) = self.book.get(task, key.map_index) else {
            return found;
        };
        found.extend(
            self.not_followed(task, key.map_index)
                .map(|by| Unmet::NotFollowed { by }),
        );
        if self.by_map_dependencies(task) != Upstream::Passes {
            found.push(Unmet::MapDependency);
        }
        self.unmet_rule(task, key, &mut found);
        found.extend(self.unmet_past(task));
        found.extend(inst.reschedule_date.filter(|due| *due > now).map(Unmet::Rescheduled));
        found
    }

    fn ids(&self, tasks: &[TaskNo]) -> Vec<TaskId> {
        let graph = &self.book.graph;
        let mut ids: Vec<TaskId> = tasks.iter().map(|task| graph.task(*task).task_id.clone()).collect();
        ids.sort();
        ids
    }

    fn unmet_rule(&self, task: TaskNo, key: &TaskKey, found: &mut Vec<Unmet>) {
        let graph = &self.book.graph;
        let (spec, derived) = (graph.task(task), graph.derived(task));
        let above = graph.upstream(task);
        if above.is_empty() || spec.trigger_rule == TriggerRule::Always {
            return;
        }
        let upstream = || self.ids(above);
        if !spec.is_teardown && !derived.indirect_setups.is_empty() {
            let counts = self.book.count_upstream(task, key.map_index, &derived.indirect_setups);
            if !rule::setups(&counts, key.map_index).passes {
                let direct = above.iter().filter(|up| graph.task(**up).is_setup);
                let setups: Vec<TaskNo> = direct.chain(&derived.indirect_setups).copied().collect();
                found.push(Unmet::Setups {
                    setups: self.ids(&setups),
                    states: (&counts).into(),
                    upstream: upstream(),
                });
            }
        }
        let counts = self.book.count_upstream(task, key.map_index, above);
        if !rule::apply(spec.trigger_rule, &counts, key.map_index).passes {
            found.push(Unmet::Rule {
                rule: spec.trigger_rule,
                total: counts.total,
                setups: counts.setups,
                states: (&counts).into(),
                upstream: upstream(),
            });
        } else if spec.is_teardown && !derived.scope.is_empty() {
            let scope = self.book.count_upstream(task, key.map_index, &derived.scope);
            if scope.done() < scope.total {
                found.push(Unmet::Scope {
                    rule: spec.trigger_rule,
                    missing: scope.total - scope.done(),
                    tasks: self.ids(&derived.scope),
                });
            }
        }
    }

    fn unmet_past(&self, task: TaskNo) -> Option<Unmet> {
        if self.past_allows(task) {
            return None;
        }
        let task_id = &self.book.graph.task(task).task_id;
        let past = self.past.as_ref()?;
        let then = past.previous.as_ref().and_then(|run| run.tasks.get(task_id));
        Some(match then {
            None => Unmet::PastMissing,
            Some(then) if then.unsuccessful > 0 => Unmet::Past {
                unsuccessful: then.unsuccessful,
            },
            Some(_) => Unmet::PastDownstream,
        })
    }
}
