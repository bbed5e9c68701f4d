//! Set-ups and teardowns: which set-ups a task must wait for, and which tasks a teardown must outlast.

use super::{RunGraph, TaskNo};

/// A set of tasks, one bit each.
#[derive(Clone)]
struct TaskSet(Vec<u64>);

impl TaskSet {
    fn new(tasks: usize) -> Self {
        Self(vec![0; tasks.div_ceil(64)])
    }

    /// True where the task was not in it before.
    fn insert(&mut self, task: TaskNo) -> bool {
        let (word, bit) = (task.at() / 64, 1 << (task.at() % 64));
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    fn has(&self, task: TaskNo) -> bool {
        self.0[task.at() / 64] & (1 << (task.at() % 64)) != 0
    }
}

impl RunGraph {
    /// Works out set-up and teardown relations; costs nothing in a Dag that has neither.
    pub(super) fn derive_setups(&mut self) {
        let setups: Vec<TaskNo> = self.numbers().filter(|t| self.task(*t).is_setup).collect();
        for setup in setups {
            let below = self.reach(&[setup], |graph, task| graph.task(task).downstream.clone());
            self.derive_waiting_for(setup, &below);
            self.derive_scopes_from(setup, &below);
        }
        for derived in &mut self.derived {
            derived.scope.sort_unstable();
            derived.scope.dedup();
        }
    }

    /// A task waits for a set-up above it if the set-up has no teardown, or has one below the task.
    fn derive_waiting_for(&mut self, setup: TaskNo, below: &TaskSet) {
        let teardowns: Vec<TaskNo> = self.teardowns_of(setup);
        let above = self.reach(&teardowns, |graph, task| graph.upstream(task).to_vec());
        for task in self.numbers() {
            let waits = below.has(task)
                && !self.task(task).is_teardown
                && (teardowns.is_empty() || above.has(task))
                && !self.upstream(task).contains(&setup);
            if waits {
                self.derived[task.at()].indirect_setups.push(setup);
            }
        }
    }

    /// A teardown with this set-up directly above it outlasts all between them.
    fn derive_scopes_from(&mut self, setup: TaskNo, below: &TaskSet) {
        for teardown in self.teardowns_of(setup) {
            let above = self.reach(&[teardown], |graph, task| graph.upstream(task).to_vec());
            let between: Vec<TaskNo> = self
                .numbers()
                .filter(|task| below.has(*task) && above.has(*task) && !self.upstream(teardown).contains(task))
                .collect();
            self.derived[teardown.at()].scope.extend(between);
        }
    }

    fn teardowns_of(&self, setup: TaskNo) -> Vec<TaskNo> {
        let downstream = &self.task(setup).downstream;
        downstream
            .iter()
            .copied()
            .filter(|t| self.task(*t).is_teardown)
            .collect()
    }

    /// Everything that can be reached from the given tasks, themselves not counted unless reached.
    fn reach(&self, from: &[TaskNo], next: impl Fn(&Self, TaskNo) -> Vec<TaskNo>) -> TaskSet {
        let mut found = TaskSet::new(self.len());
        let mut open: Vec<TaskNo> = from.to_vec();
        while let Some(task) = open.pop() {
            for neighbour in next(self, task) {
                if found.insert(neighbour) {
                    open.push(neighbour);
                }
            }
        }
        found
    }
}
