//! The graph of a Dag's tasks: dense indices in topological order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde_json::Value;

use super::error::{DagError, Problem, Read, excerpt};
use super::read::{Object, each, id, object, optional, required, text};
use crate::TaskId;

/// A task's place in its Dag's topological order; an index into everything a Dag keeps per task.
///
/// It belongs to one serialized Dag: another version of the same Dag numbers its tasks anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIdx(pub u32);

impl TaskIdx {
    /// The same as an index of a slice.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The edges of a Dag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    ids: Vec<TaskId>,
    by_id: HashMap<TaskId, TaskIdx>,
    upstream: Vec<Box<[TaskIdx]>>,
    downstream: Vec<Box<[TaskIdx]>>,
}

impl Graph {
    /// How many tasks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tasks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Every task, each after all that it depends on; otherwise in the order of the Dag file.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskIdx> + ExactSizeIterator {
        (0..u32::try_from(self.ids.len()).expect("a Dag's tasks are counted when it is read")).map(TaskIdx)
    }

    /// A task's id.
    #[must_use]
    pub fn id(&self, task: TaskIdx) -> &TaskId {
        &self.ids[task.index()]
    }

    /// The task with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<TaskIdx> {
        self.by_id.get(id).copied()
    }

    /// The tasks directly before a task, in ascending order.
    #[must_use]
    pub fn upstream(&self, task: TaskIdx) -> &[TaskIdx] {
        &self.upstream[task.index()]
    }

    /// The tasks directly after a task, in ascending order.
    #[must_use]
    pub fn downstream(&self, task: TaskIdx) -> &[TaskIdx] {
        &self.downstream[task.index()]
    }

    /// Every task that must end before a task, in ascending order.
    #[must_use]
    pub fn ancestors(&self, task: TaskIdx) -> Vec<TaskIdx> {
        self.reach(task, &self.upstream)
    }

    /// Every task that waits for a task, directly or not, in ascending order.
    #[must_use]
    pub fn descendants(&self, task: TaskIdx) -> Vec<TaskIdx> {
        self.reach(task, &self.downstream)
    }

    fn reach(&self, from: TaskIdx, edges: &[Box<[TaskIdx]>]) -> Vec<TaskIdx> {
        let mut seen = vec![false; self.len()];
        let mut waiting = edges[from.index()].to_vec();
        let mut found = Vec::new();
        while let Some(task) = waiting.pop() {
            if !std::mem::replace(&mut seen[task.index()], true) {
                found.push(task);
                waiting.extend_from_slice(&edges[task.index()]);
            }
        }
        found.sort_unstable();
        found
    }

    /// Reads ids and edges. Also gives, for each task in topological order, its place in the list as written.
    pub(crate) fn read(tasks: &[&Object]) -> Read<(Self, Vec<usize>)> {
        let mut place = HashMap::with_capacity(tasks.len());
        let mut names = Vec::with_capacity(tasks.len());
        for (index, task) in tasks.iter().enumerate() {
            let name = required(task, "task_id", id).map_err(|e| e.under("__var").at(index))?;
            if place.insert(name, index).is_some() {
                let problem = Problem::DuplicateTask(excerpt(name));
                return Err(DagError::here(problem).under("__var").at(index));
            }
            names.push(name);
        }
        let mut edges = Vec::with_capacity(tasks.len());
        let mut waits_for = vec![0_usize; tasks.len()];
        for (index, task) in tasks.iter().enumerate() {
            let find = |value: &Value| {
                let name = text(value)?;
                place
                    .get(name)
                    .copied()
                    .ok_or_else(|| DagError::here(Problem::UnknownTask(excerpt(name))))
            };
            let mut targets = optional(task, "downstream_task_ids", |v| each(v, find))
                .map_err(|e| e.under("__var").at(index))?
                .unwrap_or_default();
            targets.sort_unstable();
            targets.dedup();
            for &target in &targets {
                waits_for[target] += 1;
            }
            edges.push(targets);
        }
        let order =
            topological(&edges, waits_for).map_err(|stuck| DagError::here(Problem::Cycle(excerpt(names[stuck]))))?;
        Ok((Self::build(&names, &edges, &order), order))
    }

    fn build(names: &[&str], edges: &[Vec<usize>], order: &[usize]) -> Self {
        let mut idx = vec![TaskIdx(0); names.len()];
        for (position, &written) in (0_u32..).zip(order) {
            idx[written] = TaskIdx(position);
        }
        let mut upstream = vec![Vec::new(); names.len()];
        let mut downstream = vec![Vec::new(); names.len()];
        for &written in order {
            for &target in &edges[written] {
                downstream[idx[written].index()].push(idx[target]);
                upstream[idx[target].index()].push(idx[written]);
            }
        }
        let ids: Vec<TaskId> = order.iter().map(|&written| TaskId::from(names[written])).collect();
        let sorted = |lists: Vec<Vec<TaskIdx>>| {
            lists
                .into_iter()
                .map(|mut list| {
                    list.sort_unstable();
                    list.into_boxed_slice()
                })
                .collect()
        };
        Self {
            by_id: ids.iter().cloned().zip((0..).map(TaskIdx)).collect(),
            ids,
            upstream: sorted(upstream),
            downstream: sorted(downstream),
        }
    }
}

/// Kahn's algorithm; of the tasks that are free the one written first goes first. An error names a task in a circle.
fn topological(edges: &[Vec<usize>], mut waits_for: Vec<usize>) -> Result<Vec<usize>, usize> {
    let mut free: BinaryHeap<Reverse<usize>> = (0..edges.len()).filter(|&t| waits_for[t] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(edges.len());
    while let Some(Reverse(task)) = free.pop() {
        order.push(task);
        for &target in &edges[task] {
            waits_for[target] -= 1;
            if waits_for[target] == 0 {
                free.push(Reverse(target));
            }
        }
    }
    if order.len() == edges.len() {
        return Ok(order);
    }
    Err(waits_for.iter().position(|&left| left > 0).unwrap_or_default())
}

/// The tasks of `"tasks"`: each is `{"__type": "operator", "__var": {..}}`.
pub(crate) fn read_task_objects(value: &Value) -> Read<Vec<&Object>> {
    each(value, |entry| required(object(entry)?, "__var", object))
}
