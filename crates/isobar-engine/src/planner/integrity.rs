//! Which instances a run has: at its start, and after its Dag changed.

use isobar_model::{MapIndex, RunType, TaskState, UNMAPPED};
use jiff::Timestamp;

use super::Planner;
use super::book::{Book, Inst};
use super::command::{Command, NewInstance, WhyState};
use super::event::{Instance, key};
use crate::graph::{SharedGraph, TaskNo, TaskSpec};

/// The instances a new run begins with: one for each task of that date, tasks mapped over literals expanded already,
/// other mapped tasks as one placeholder (-1).
#[must_use]
pub fn initial_instances(graph: &SharedGraph, run_type: RunType, logical_date: Option<Timestamp>) -> Vec<NewInstance> {
    let book = Book::new(SharedGraph::clone(graph));
    graph
        .numbers()
        .filter(|task| belongs(graph.task(*task), run_type, logical_date))
        .flat_map(|task| new_instances(&book, task))
        .collect()
}

/// A task's start and end dates bound the logical dates it is part of, except in a backfill.
fn belongs(task: &TaskSpec, run_type: RunType, logical_date: Option<Timestamp>) -> bool {
    let Some(date) = logical_date else { return true };
    run_type == RunType::Backfill
        || (task.start_date.is_none_or(|start| start <= date) && task.end_date.is_none_or(|end| date <= end))
}

fn new_instances(book: &Book, task: TaskNo) -> Vec<NewInstance> {
    let spec = book.graph.task(task);
    let expands = book.graph.derived(task).needs_expansion;
    let count = if expands {
        book.mapped_count(task).unwrap_or(0)
    } else {
        0
    };
    let indices = if count == 0 {
        UNMAPPED..0
    } else {
        0..MapIndex::try_from(count).unwrap_or(MapIndex::MAX)
    };
    indices
        .map(|index| NewInstance {
            key: key(&spec.task_id, index),
            task,
            max_tries: spec.retries,
        })
        .collect()
}

impl Planner {
    /// Enters the rows of a run. Rows of tasks that the Dag does not have become `removed`; with `verify`, those that it has
    /// again are restored, those that no longer fit are removed, and missing ones are made.
    pub(super) fn enter(&mut self, rows: Vec<Instance>, verify: bool, now: Timestamp, out: &mut Vec<Command>) {
        let mut entered = Vec::new();
        for row in rows {
            let Some(task) = self.book.graph.find(&row.key.task_id) else {
                if row.state != Some(TaskState::Removed) {
                    out.push(Command::SetState {
                        from: (row.state, row.try_number),
                        to: Some(TaskState::Removed),
                        why: WhyState::RemovedFromDag,
                        key: row.key,
                    });
                }
                continue;
            };
            self.book.put(task, row.key.map_index, Some(Inst::from_row(&row)));
            entered.push((task, row.key.map_index));
        }
        if verify {
            for (task, index) in entered {
                self.verify_one(task, index, now, out);
            }
            self.create_missing(out);
        }
    }

    fn verify_one(&mut self, task: TaskNo, index: MapIndex, now: Timestamp, out: &mut Vec<Command>) {
        let was_removed = self
            .book
            .get(task, index)
            .is_some_and(|inst| inst.state == Some(TaskState::Removed));
        let misfit = self.misfit(task, index);
        match (was_removed, misfit) {
            (false, Some(why)) => self.set(task, index, Some(TaskState::Removed), why, now, out),
            (true, None) => self.set(task, index, None, WhyState::RestoredToDag, now, out),
            _ => {}
        }
    }

    /// Why an index no longer fits how the task is mapped, if it does not.
    fn misfit(&self, task: TaskNo, index: MapIndex) -> Option<WhyState> {
        let graph = &self.book.graph;
        let derived = graph.derived(task);
        if !derived.needs_expansion {
            return None;
        }
        let groups = derived
            .mapped_groups
            .iter()
            .map(|group| graph.group(*group).expand.as_ref());
        let literal = std::iter::once(graph.task(task).expand.as_ref())
            .chain(groups)
            .flatten()
            .all(crate::graph::Expand::is_literal);
        let count = self.book.mapped_count(task);
        match u64::try_from(index) {
            Err(_) => literal.then_some(WhyState::StalePlaceholder),
            Ok(index) => (count.is_none_or(|count| index >= count)).then_some(WhyState::BeyondMapLength),
        }
    }

    fn create_missing(&mut self, out: &mut Vec<Command>) {
        let graph = SharedGraph::clone(&self.book.graph);
        let mut missing = Vec::new();
        for task in graph.numbers() {
            let spec = graph.task(task);
            if self.book.task(task).own.total == 0 && belongs(spec, self.run.run_type, self.run.logical_date) {
                missing.extend(new_instances(&self.book, task));
            }
        }
        for instance in &missing {
            self.book.put(instance.task, instance.key.map_index, Some(Inst::NEW));
        }
        if !missing.is_empty() {
            out.push(Command::Create(missing));
        }
    }
}
