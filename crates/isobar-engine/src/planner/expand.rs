//! Making and removing the instances of mapped tasks.

use isobar_model::{MapIndex, TaskState, UNMAPPED};
use jiff::Timestamp;

use super::Planner;
use super::book::Inst;
use super::command::{Command, NewInstance, WhyState};
use crate::graph::TaskNo;

impl Planner {
    /// Turns the placeholder of a mapped task, which may run, into its instances; says which are new and to be looked at.
    ///
    /// No length known: the placeholder becomes `upstream_failed`. Length zero: `skipped`. Indices beyond the length: `removed`.
    pub(super) fn expand(&mut self, task: TaskNo, now: Timestamp, out: &mut Vec<Command>) -> Vec<MapIndex> {
        let count = self.book.mapped_count(task);
        let task_id = self.book.graph.task(task).task_id.clone();
        let mut fresh = Vec::new();
        match count {
            None => self.set(
                task,
                UNMAPPED,
                Some(TaskState::UpstreamFailed),
                WhyState::MapLengthUnknown,
                now,
                out,
            ),
            Some(0) => self.set(
                task,
                UNMAPPED,
                Some(TaskState::Skipped),
                WhyState::MappedOverNothing,
                now,
                out,
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
        self.remove_beyond(task, count.unwrap_or(0), now, out);
        fresh
    }

    /// Makes the instances of a mapped task fit its length, which may have changed after clearing; says which are new.
    pub(super) fn revise(&mut self, task: TaskNo, now: Timestamp, out: &mut Vec<Command>) -> Vec<MapIndex> {
        let Some(count) = self.book.mapped_count(task) else {
            return Vec::new();
        };
        let book = self.book.task(task);
        let fits = book.unmapped.is_none() && u64::from(book.indices) == count && book.mapped.len() as u64 == count;
        if fits {
            return Vec::new();
        }
        let missing: Vec<MapIndex> = (0..MapIndex::try_from(count).unwrap_or(MapIndex::MAX))
            .filter(|index| self.book.get(task, *index).is_none())
            .collect();
        if self.book.get(task, UNMAPPED).is_some() {
            self.set(
                task,
                UNMAPPED,
                Some(TaskState::Removed),
                WhyState::StalePlaceholder,
                now,
                out,
            );
        }
        self.remove_beyond(task, count, now, out);
        self.create(task, missing.iter().copied(), out);
        missing
    }

    fn remove_beyond(&mut self, task: TaskNo, count: u64, now: Timestamp, out: &mut Vec<Command>) {
        let beyond: Vec<MapIndex> = self
            .book
            .task(task)
            .mapped_indices()
            .filter(|index| u64::try_from(*index).is_ok_and(|index| index >= count))
            .collect();
        for index in beyond {
            self.set(
                task,
                index,
                Some(TaskState::Removed),
                WhyState::BeyondMapLength,
                now,
                out,
            );
        }
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
