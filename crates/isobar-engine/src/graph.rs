//! The graph of a Dag as a planner needs it: tasks by number, edges both ways, and what follows from them once and for all.
//!
//! It is made once per Dag version and shared by all its runs.

mod from_dag;
mod setup;
mod spec;

use std::collections::HashMap;
use std::sync::Arc;

use isobar_model::TaskId;
pub use spec::{DagSpec, Expand, GroupSpec, LengthOf, TaskNo, TaskSpec};

/// A checked [`DagSpec`] with everything that can be known before any run starts.
#[derive(Debug)]
pub struct RunGraph {
    spec: DagSpec,
    by_id: HashMap<TaskId, TaskNo>,
    upstream: Vec<Vec<TaskNo>>,
    derived: Vec<Derived>,
}

/// What follows from the shape of the Dag for one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Derived {
    /// Enclosing mapped groups, innermost first.
    pub mapped_groups: Vec<u32>,
    /// Set-ups that must succeed first and are not direct upstreams.
    pub indirect_setups: Vec<TaskNo>,
    /// For a teardown: the tasks between its set-ups and itself that are not direct upstreams.
    pub scope: Vec<TaskNo>,
    /// Tasks to look at again when an instance of this one changes, apart from its direct downstream.
    pub watchers: Vec<TaskNo>,
    /// Tasks whose results tell how often this one is mapped (own expansion, or the closest mapped group's).
    pub map_dependencies: Vec<TaskNo>,
    /// Tasks that this one tells how often they are mapped.
    pub map_dependents: Vec<TaskNo>,
    /// Mapped itself or inside a mapped group.
    pub needs_expansion: bool,
    /// Counts for the state of the run: not a teardown that may fail, and nothing but such below it.
    pub decides_run: bool,
    /// How many direct upstream tasks are set-ups.
    pub upstream_setups: u32,
    /// Direct upstream tasks that may choose not to go on.
    pub skipping_parents: Vec<TaskNo>,
    /// Any direct upstream is mapped or in a mapped group.
    pub upstream_expands: bool,
}

/// Why a graph was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGraph {
    /// Two tasks with one id.
    #[error("the Dag has two tasks called `{0}`; task ids must be unique in a Dag")]
    TwiceTheSameTask(TaskId),
    /// An edge, group or expansion points at nothing.
    #[error("`{0}` refers to a task or group that the Dag does not have; parse the Dag again")]
    DanglingReference(String),
}

impl RunGraph {
    /// Checks a Dag's shape and works out what follows from it.
    ///
    /// # Errors
    /// Where ids repeat or references dangle.
    pub fn new(spec: DagSpec) -> Result<Self, BadGraph> {
        let count = spec.tasks.len();
        let mut by_id = HashMap::with_capacity(count);
        for (task, number) in spec.tasks.iter().zip(0..) {
            if by_id.insert(task.task_id.clone(), TaskNo(number)).is_some() {
                return Err(BadGraph::TwiceTheSameTask(task.task_id.clone()));
            }
        }
        spec.check_references()?;
        let mut upstream = vec![Vec::new(); count];
        for (task, number) in spec.tasks.iter().zip(0..) {
            for down in &task.downstream {
                upstream[down.at()].push(TaskNo(number));
            }
        }
        let mut graph = Self {
            spec,
            by_id,
            upstream,
            derived: vec![Derived::default(); count],
        };
        graph.derive();
        Ok(graph)
    }

    /// The Dag as given.
    #[must_use]
    pub fn spec(&self) -> &DagSpec {
        &self.spec
    }

    /// How many tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spec.tasks.len()
    }

    /// Whether the Dag has no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spec.tasks.is_empty()
    }

    /// All task numbers.
    pub fn numbers(&self) -> impl Iterator<Item = TaskNo> + use<> {
        (0..u32::try_from(self.spec.tasks.len()).expect("a Dag has fewer than 2^32 tasks")).map(TaskNo)
    }

    /// A task by number.
    #[must_use]
    pub fn task(&self, number: TaskNo) -> &TaskSpec {
        &self.spec.tasks[number.at()]
    }

    /// The number of a task, none where the Dag has no such task.
    #[must_use]
    pub fn find(&self, task_id: &TaskId) -> Option<TaskNo> {
        self.by_id.get(task_id).copied()
    }

    /// Direct upstream tasks.
    #[must_use]
    pub fn upstream(&self, number: TaskNo) -> &[TaskNo] {
        &self.upstream[number.at()]
    }

    /// The tasks whose instances in the preceding run matter (`depends_on_past`).
    pub fn past_tasks(&self) -> impl Iterator<Item = &TaskSpec> {
        self.spec.tasks.iter().filter(|task| task.depends_on_past)
    }

    /// Tasks whose `skipmixin_key` XCom the planner must be given.
    pub fn skipping_tasks(&self) -> impl Iterator<Item = &TaskSpec> {
        self.spec.tasks.iter().filter(|task| task.skips)
    }

    pub(crate) fn derived(&self, number: TaskNo) -> &Derived {
        &self.derived[number.at()]
    }

    /// A group by number.
    pub(crate) fn group(&self, number: u32) -> &GroupSpec {
        &self.spec.groups[number as usize]
    }

    fn derive(&mut self) {
        for number in self.numbers() {
            let task = self.task(number);
            let mapped_groups = self.mapped_groups_of(task.group);
            let expansion = task
                .expand
                .as_ref()
                .or_else(|| mapped_groups.first().and_then(|g| self.group(*g).expand.as_ref()));
            let mut map_dependencies = expansion.map(|e| e.dependencies.clone()).unwrap_or_default();
            map_dependencies.sort_unstable();
            map_dependencies.dedup();
            let needs_expansion = task.expand.is_some() || !mapped_groups.is_empty();
            let derived = &mut self.derived[number.at()];
            derived.needs_expansion = needs_expansion;
            derived.mapped_groups = mapped_groups;
            derived.map_dependencies.clone_from(&map_dependencies);
            for dependency in map_dependencies {
                self.derived[dependency.at()].map_dependents.push(number);
            }
        }
        for number in self.numbers() {
            let setups = self.upstream(number).iter().filter(|u| self.task(**u).is_setup).count();
            let expands = self.upstream(number).iter().any(|u| self.derived(*u).needs_expansion);
            let skipping = self
                .upstream(number)
                .iter()
                .copied()
                .filter(|u| self.task(*u).skips)
                .collect();
            let derived = &mut self.derived[number.at()];
            derived.skipping_parents = skipping;
            derived.upstream_setups = u32::try_from(setups).expect("a Dag has fewer than 2^32 tasks");
            derived.upstream_expands = expands;
        }
        self.derive_leaves();
        self.derive_setups();
        self.derive_watchers();
    }

    fn mapped_groups_of(&self, mut group: Option<u32>) -> Vec<u32> {
        let mut found = Vec::new();
        while let Some(number) = group {
            let spec = self.group(number);
            if spec.expand.is_some() {
                found.push(number);
            }
            group = spec.parent;
        }
        found
    }

    /// The leaves that decide a run: teardowns do not, unless `on_failure_fail_dagrun`.
    fn derive_leaves(&mut self) {
        let ignorable = |task: &TaskSpec| task.is_teardown && !task.on_failure_fail_dagrun;
        let mut leaves: Vec<bool> = self
            .spec
            .tasks
            .iter()
            .map(|task| !ignorable(task) && task.downstream.iter().all(|down| ignorable(self.task(*down))))
            .collect();
        if !leaves.iter().any(|leaf| *leaf) {
            leaves = self.spec.tasks.iter().map(|task| task.downstream.is_empty()).collect();
        }
        for (derived, leaf) in self.derived.iter_mut().zip(leaves) {
            derived.decides_run = leaf;
        }
    }

    fn derive_watchers(&mut self) {
        let mut watchers: Vec<Vec<TaskNo>> = vec![Vec::new(); self.len()];
        for number in self.numbers() {
            let derived = self.derived(number);
            let mut watched: Vec<TaskNo> = [&derived.indirect_setups, &derived.scope, &derived.map_dependencies]
                .into_iter()
                .flatten()
                .copied()
                .collect();
            for group in &derived.mapped_groups {
                let expand = self.group(*group).expand.as_ref();
                watched.extend(expand.into_iter().flat_map(|e| e.dependencies.iter().copied()));
            }
            watched.sort_unstable();
            watched.dedup();
            for up in watched {
                if !self.task(up).downstream.contains(&number) {
                    watchers[up.at()].push(number);
                }
            }
        }
        for (derived, list) in self.derived.iter_mut().zip(watchers) {
            derived.watchers = list;
        }
    }
}

/// A graph shared by the planners of all runs of one Dag version.
pub type SharedGraph = Arc<RunGraph>;
