//! What time will cause: the earliest wish of each Dag and run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

use isobar_engine::admission::DagKey;
use jiff::Timestamp;

use crate::memory::RunRef;

/// Whose timer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timed {
    /// The plan of a Dag.
    Dag(DagKey),
    /// The planner of a run.
    Run(RunRef),
    /// Deadlines of runs.
    Deadlines,
}

/// The earliest wish of each.
#[derive(Debug)]
pub(crate) struct Timers<T = Timed> {
    heap: BinaryHeap<Reverse<(Timestamp, T)>>,
    /// What holds; older entries of the heap are void.
    wished: HashMap<T, Timestamp>,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            wished: HashMap::new(),
        }
    }
}

impl<T: Clone + Ord + Hash> Timers<T> {
    /// Wishes to be woken. Replaces an earlier wish only if it is earlier.
    pub(crate) fn wish(&mut self, whose: T, at: Timestamp) {
        if self.wished.get(&whose).is_some_and(|wished| *wished <= at) {
            return;
        }
        self.wished.insert(whose.clone(), at);
        self.heap.push(Reverse((at, whose)));
    }

    /// Forgets what one wished.
    pub(crate) fn forget(&mut self, whose: &T) {
        self.wished.remove(whose);
    }

    /// The next moment at which something is due.
    pub(crate) fn next(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, whose))) = self.heap.peek() {
            if self.wished.get(whose) == Some(at) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out all that is due.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<T> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            if let Some(Reverse((_, whose))) = self.heap.pop() {
                self.wished.remove(&whose);
                due.push(whose);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::TeamId;

    fn dag(name: &str) -> Timed {
        Timed::Dag(DagKey {
            team: TeamId(1),
            dag_id: name.into(),
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_earlier_wish_replaces_a_later_one_and_not_the_other_way_round() {
        let mut timers = Timers::<Timed>::default();
        timers.wish(dag("a"), at(10));
        timers.wish(dag("a"), at(20));
        timers.wish(dag("b"), at(15));
        timers.wish(dag("b"), at(5));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.due(at(12)), [dag("b"), dag("a")]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_forgotten_wish_does_not_come() {
        let mut timers = Timers::<Timed>::default();
        timers.wish(dag("a"), at(10));
        timers.forget(&dag("a"));
        assert!(timers.due(at(100)).is_empty());
    }
}
