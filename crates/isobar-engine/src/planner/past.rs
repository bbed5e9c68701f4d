//! From the rows of the preceding run to what `depends_on_past` asks of it.

use std::collections::HashMap;

use isobar_model::TaskId;
use jiff::Timestamp;

use super::event::{PastFacts, PreviousRun, PreviousTask};
use crate::graph::{RunGraph, TaskSpec};

/// The preceding run as its rows say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preceding {
    /// Its logical date.
    pub logical_date: Option<Timestamp>,
    /// For each task that it has an instance of: how many of those neither succeeded nor were skipped.
    pub unsuccessful: HashMap<TaskId, u32>,
}

impl Preceding {
    /// Tasks of which it must be asked whether any run before this one had them.
    pub fn tasks_to_look_for<'a>(&'a self, graph: &'a RunGraph) -> impl Iterator<Item = &'a TaskSpec> {
        let missing = |task: &&TaskSpec| !self.unsuccessful.contains_key(&task.task_id);
        graph
            .past_tasks()
            .filter(|task| task.ignore_first_depends_on_past)
            .filter(missing)
    }
}

impl PastFacts {
    /// What the tasks of a run ask of the one before it. `existed_before`: those of [`Preceding::tasks_to_look_for`] that some
    /// earlier run had.
    #[must_use]
    pub fn of(preceding: &Preceding, graph: &RunGraph, existed_before: Vec<TaskId>) -> Self {
        let unsuccessful = |task: &TaskId| preceding.unsuccessful.get(task).copied();
        let tasks = graph.past_tasks().filter_map(|task| {
            let below = task.downstream.iter().map(|down| &graph.task(*down).task_id);
            let of_task = PreviousTask {
                unsuccessful: unsuccessful(&task.task_id)?,
                downstream_unsuccessful: below.filter_map(unsuccessful).any(|count| count > 0),
            };
            Some((task.task_id.clone(), of_task))
        });
        Self {
            first_of_backfill: false,
            previous: Some(PreviousRun {
                logical_date: preceding.logical_date,
                tasks: tasks.collect(),
            }),
            existed_before,
        }
    }

    /// The first run of a backfill: it waits for nothing.
    #[must_use]
    pub fn first_of_backfill() -> Self {
        Self {
            first_of_backfill: true,
            ..Self::default()
        }
    }
}
