//! Making and removing the instances of mapped tasks.

use isobar_model::{MapIndex, TaskState, UNMAPPED};
use jiff::Timestamp;

use super::book::Inst;
use super::command::{Command, NewInstance, WhyState};
use super::{Outcome, Planner};
use crate::graph::TaskNo;

/// What [`Planner::revise`] did.
#[derive(Debug, Default)]
pub(super) struct Revised {
    /// New instances, ready without further ado.
    pub(super) added: Vec<MapIndex>,
    /// Instances from this index on are removed, if the length was found to have changed.
    pub(super) end: Option<MapIndex>,
}

impl Planner {
    /// Turns the placeholder of a mapped task, which may run, into its instances; says which are new and to be looked at.
    ///
    /// No length known: the placeholder becomes `upstream_failed`. Length zero: `skipped`. Indices beyond the length: `removed`.
    pub(super) fn expand(
        &mut self,
        task: TaskNo,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        out: &mut Vec<Command>,
    ) -> Vec<MapIndex> {
        let count = self.book.mapped_count(task);
        let task_id = self.book.graph.task(task).task_id.clone();
        let mut fresh = Vec::new();
        match count {
            None => self.decide(
                task,
                UNMAPPED,
                TaskState::UpstreamFailed,
                WhyState::MapLengthUnknown,
                outcomes,
            ),
            Some(0) => self.decide(
                task,
                UNMAPPED,
                TaskState::Skipped,
                WhyState::MappedOverNothing,
                outcomes,
            ),
            Some(count) => {
                let placeholder = self.book.get(task, UNMAPPED).cloned();
                self.book.put(task, UNMAPPED, None);
                if self.book.get(task, 0).is_some() {
                    out.push(Command::DeletePlaceholder { task_id });
                } else {
                    out.push(Command::PlaceholderBecomesFirst { task_id });
                    self.book.put(task, 0, placeholder);
                    fresh.push(0);
                }
                let highest = self.book.task(task).mapped_indices().last().unwrap_or(0);
                let missing = highest + 1..MapIndex::try_from(count).unwrap_or(MapIndex::MAX);
                self.create(task, missing.clone(), out);
                fresh.extend(missing);
            }
        }
        self.remove_beyond(task, count.unwrap_or(0), now, outcomes, out);
        fresh
    }

    /// Makes the instances of a mapped task fit its length, which may have changed after clearing; says which are new,
    /// and from which index on the old ones go.
    pub(super) fn revise(
        &mut self,
        task: TaskNo,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        out: &mut Vec<Command>,
    ) -> Revised {
        let Some(count) = self.book.mapped_count(task) else {
            return Revised::default();
        };
        let book = self.book.task(task);
        let fits = book.unmapped.is_none() && u64::from(book.indices) == count && book.mapped.len() as u64 == count;
        if fits {
            return Revised::default();
        }
        let end = MapIndex::try_from(count).unwrap_or(MapIndex::MAX);
        let missing: Vec<MapIndex> = (0..end).filter(|index| self.book.get(task, *index).is_none()).collect();
        if self.book.get(task, UNMAPPED).is_some() {
            self.remove(task, UNMAPPED, WhyState::StalePlaceholder, now, outcomes, out);
        }
        self.remove_beyond(task, count, now, outcomes, out);
        self.create(task, missing.iter().copied(), out);
        Revised {
            added: missing,
            end: Some(end),
        }
    }

    fn remove_beyond(
        &mut self,
        task: TaskNo,
        count: u64,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        out: &mut Vec<Command>,
    ) {
        let beyond = self.book.task(task).mapped_indices();
        let beyond: Vec<MapIndex> = beyond
            .filter(|index| u64::try_from(*index).is_ok_and(|index| index >= count))
            .collect();
        for index in beyond {
            self.remove(task, index, WhyState::BeyondMapLength, now, outcomes, out);
        }
    }

    /// Removes an instance. What had ended counts as removed at once, what had not from the next wave on, as in Airflow.
    fn remove(
        &mut self,
        task: TaskNo,
        index: MapIndex,
        why: WhyState,
        now: Timestamp,
        outcomes: &mut Vec<Outcome>,
        out: &mut Vec<Command>,
    ) {
        if self.book.get(task, index).is_some_and(Inst::is_finished) {
            self.set(task, index, Some(TaskState::Removed), why, now, out);
        } else {
            self.decide(task, index, TaskState::Removed, why, outcomes);
        }
    }

    /// Decides a state, to be set when the wave is over.
    pub(super) fn decide(
        &mut self,
        task: TaskNo,
        index: MapIndex,
        state: TaskState,
        why: WhyState,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.book.decide(task, index, state);
        outcomes.push(Outcome::Set(task, index, state, why));
    }

    pub(super) fn create(&mut self, task: TaskNo, indices: impl Iterator<Item = MapIndex>, out: &mut Vec<Command>) {
        let max_tries = self.book.graph.task(task).retries;
        let new: Vec<NewInstance> = indices
            .map(|index| NewInstance {
                key: self.key(task, index),
                task,
                max_tries,
            })
            .collect();
        for instance in &new {
            self.book.put(task, instance.key.map_index, Some(Inst::NEW));
        }
        if !new.is_empty() {
            out.push(Command::Create(new));
        }
    }
}
