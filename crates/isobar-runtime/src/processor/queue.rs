//! Which file is read next.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::bundle::FileId;

/// Why a file is to be read, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Somebody asked, or waits: it was just changed.
    Now,
    /// It is new to us.
    New,
    /// Something that it may use has changed.
    Perhaps,
}

/// Files to be read, each once; of equal urgency the youngest first.
#[derive(Default)]
pub(super) struct Queue {
    order: BTreeSet<(Urgency, Reverse<i64>, FileId)>,
    places: HashMap<FileId, (Urgency, i64)>,
}

impl Queue {
    /// Adds a file, or moves it to the front where that is more urgent.
    pub(super) fn add(&mut self, id: &FileId, urgency: Urgency, mtime_ns: i64) {
        let mut urgency = urgency;
        if let Some((before, mtime)) = self.places.get(id).copied() {
            urgency = urgency.min(before);
            self.order.remove(&(before, Reverse(mtime), id.clone()));
        }
        self.places.insert(id.clone(), (urgency, mtime_ns));
        self.order.insert((urgency, Reverse(mtime_ns), id.clone()));
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, id: &FileId) {
        if let Some((urgency, mtime)) = self.places.remove(id) {
            self.order.remove(&(urgency, Reverse(mtime), id.clone()));
        }
    }

    /// The next file, with its urgency.
    pub(super) fn pop(&mut self) -> Option<(FileId, Urgency)> {
        let (urgency, _, id) = self.order.pop_first()?;
        self.places.remove(&id);
        Some((id, urgency))
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(rel_path: &str) -> FileId {
        FileId {
            bundle: "b".into(),
            rel_path: rel_path.into(),
        }
    }

    #[test]
    fn changed_files_come_first_then_young_ones_and_none_twice() {
        let mut queue = Queue::default();
        queue.add(&id("old"), Urgency::New, 1);
        queue.add(&id("young"), Urgency::New, 9);
        queue.add(&id("perhaps"), Urgency::Perhaps, 10);
        queue.add(&id("changed"), Urgency::New, 2);
        queue.add(&id("changed"), Urgency::Now, 3);
        queue.add(&id("changed"), Urgency::Perhaps, 3);
        queue.add(&id("gone"), Urgency::Now, 3);
        queue.remove(&id("gone"));
        assert_eq!(queue.len(), 4);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|(id, _)| id.rel_path.to_string())
            .collect();
        assert_eq!(order, ["changed", "young", "old", "perhaps"]);
    }
}
