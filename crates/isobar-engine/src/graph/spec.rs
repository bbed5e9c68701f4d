//! What the engine reads of a Dag: a small, serializable extract of the serialized Dag.

use isobar_model::{DagId, TaskId, TriggerRule};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BadGraph;

/// The position of a task in [`DagSpec::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskNo(pub u32);

impl TaskNo {
    pub(crate) fn at(self) -> usize {
        self.0 as usize
    }
}

/// One version of a Dag, as far as planning a run of it goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DagSpec {
    /// The Dag; its id goes into the spread of retry delays.
    pub dag_id: DagId,
    /// The tasks, in the serialized Dag's order.
    pub tasks: Vec<TaskSpec>,
    /// The task groups other than the root; a parent stands before its children or after, either is fine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSpec>,
    /// Whether one failed task stops the others.
    #[serde(default)]
    pub fail_fast: bool,
    /// How long a run may last from its start date; then it fails and its unfinished tasks are skipped.
    #[serde(default)]
    pub dagrun_timeout: Option<SignedDuration>,
    /// Whether the Dag catches up; `depends_on_past` then looks at the preceding run that is not manual.
    #[serde(default)]
    pub catchup: bool,
    /// Tasks running or queued at a time in one run of the Dag.
    #[serde(default = "default_max_active_tasks")]
    pub max_active_tasks: u32,
}

/// A task, mapped or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSpec {
    /// Its id.
    pub task_id: TaskId,
    /// Direct downstream tasks.
    pub downstream: Vec<TaskNo>,
    /// When it may start, given its upstream tasks.
    pub trigger_rule: TriggerRule,
    /// A set-up task.
    pub is_setup: bool,
    /// A teardown task.
    pub is_teardown: bool,
    /// A teardown whose failure fails the run.
    pub on_failure_fail_dagrun: bool,
    /// How often it is tried again.
    pub retries: i32,
    /// How long to wait before a retry.
    pub retry_delay: SignedDuration,
    /// The factor by which the delay grows with each try; 0 or 1: it does not.
    pub retry_exponential_backoff: f64,
    /// The longest delay that growing may give.
    pub max_retry_delay: Option<SignedDuration>,
    /// Waits for its own success in the preceding run.
    pub depends_on_past: bool,
    /// Also waits for the tasks directly below it in the preceding run.
    pub wait_for_downstream: bool,
    /// Does not wait for a preceding run in which it did not exist, if it never existed before.
    pub ignore_first_depends_on_past: bool,
    /// Runs before this logical date do not have the task.
    pub start_date: Option<Timestamp>,
    /// Runs after this logical date do not have the task.
    pub end_date: Option<Timestamp>,
    /// Instances at a time over all runs.
    pub max_active_tis_per_dag: Option<u32>,
    /// Instances at a time in one run.
    pub max_active_tis_per_dagrun: Option<u32>,
    /// The pool as the Dag names it.
    pub pool: String,
    /// Slots of the pool that one instance takes.
    pub pool_slots: u32,
    /// The weight after the weight rule was applied (`priority_weight_total`).
    pub priority_weight: i64,
    /// The queue as the Dag names it.
    pub queue: String,
    /// The executor as the Dag names it; none: the team's first.
    pub executor: Option<String>,
    /// The class of the operator, for the instance's row.
    pub operator: String,
    /// An `EmptyOperator` with nothing attached: succeeds without an executor.
    pub is_trivial: bool,
    /// Starts in the triggerer (`start_from_trigger`).
    pub starts_deferred: bool,
    /// A branch, short circuit or the like: it pushes `skipmixin_key`.
    pub skips: bool,
    /// Mapped itself.
    pub expand: Option<Expand>,
    /// The innermost task group, an index into [`DagSpec::groups`]; none: the root.
    pub group: Option<u32>,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self {
            task_id: TaskId::from(""),
            downstream: Vec::new(),
            trigger_rule: TriggerRule::AllSuccess,
            is_setup: false,
            is_teardown: false,
            on_failure_fail_dagrun: false,
            retries: 0,
            retry_delay: SignedDuration::from_secs(300),
            retry_exponential_backoff: 0.0,
            max_retry_delay: None,
            depends_on_past: false,
            wait_for_downstream: false,
            ignore_first_depends_on_past: false,
            start_date: None,
            end_date: None,
            max_active_tis_per_dag: None,
            max_active_tis_per_dagrun: None,
            pool: "default_pool".to_owned(),
            pool_slots: 1,
            priority_weight: 1,
            queue: "default".to_owned(),
            executor: None,
            operator: String::new(),
            is_trivial: false,
            starts_deferred: false,
            skips: false,
            expand: None,
            group: None,
        }
    }
}

/// A task group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// Its id.
    pub group_id: String,
    /// The enclosing group, an index into [`DagSpec::groups`]; none: the root.
    #[serde(default)]
    pub parent: Option<u32>,
    /// Mapped.
    #[serde(default)]
    pub expand: Option<Expand>,
}

/// What a task or group is mapped over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// The number of instances is the product of these; none: no instance.
    pub factors: Vec<LengthOf>,
    /// Every task whose result is used.
    #[serde(default)]
    pub dependencies: Vec<TaskNo>,
}

/// Where a length comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthOf {
    /// Written in the Dag file.
    Literal(u64),
    /// The length of a task's result; of a mapped task: how many of its instances pushed one.
    Task(TaskNo),
    /// The shortest.
    Shortest(Vec<LengthOf>),
    /// The longest (`zip` with a fill value).
    Longest(Vec<LengthOf>),
    /// All together (`concat`).
    Sum(Vec<LengthOf>),
    /// An argument of the enclosing mapped group: never known, as in Airflow.
    Unknown,
}

impl DagSpec {
    pub(super) fn check_references(&self) -> Result<(), BadGraph> {
        let tasks = self.tasks.len();
        let known = |all: &[TaskNo]| all.iter().all(|number| number.at() < tasks);
        let expand_known = |expand: &Option<Expand>| {
            expand
                .as_ref()
                .is_none_or(|e| known(&e.dependencies) && e.factors.iter().all(|f| f.known(tasks)))
        };
        let group_known = |group: Option<u32>| group.is_none_or(|number| (number as usize) < self.groups.len());
        for task in &self.tasks {
            if !known(&task.downstream) || !expand_known(&task.expand) || !group_known(task.group) {
                return Err(BadGraph::DanglingReference(task.task_id.to_string()));
            }
        }
        for group in &self.groups {
            if !expand_known(&group.expand) || !group_known(group.parent) {
                return Err(BadGraph::DanglingReference(group.group_id.clone()));
            }
        }
        for number in 0..self.groups.len() {
            let mut seen = 0;
            let mut at = Some(number);
            while let Some(group) = at {
                seen += 1;
                if seen > self.groups.len() {
                    return Err(BadGraph::DanglingReference(self.groups[number].group_id.clone()));
                }
                at = self.groups[group].parent.map(|parent| parent as usize);
            }
        }
        Ok(())
    }
}

impl Expand {
    /// How many instances, given the lengths of single tasks' results; none where one is not known yet.
    pub fn length(&self, of: &dyn Fn(TaskNo) -> Option<u64>) -> Option<u64> {
        if self.factors.is_empty() {
            return Some(0);
        }
        self.factors.iter().try_fold(1_u64, |product, factor| {
            factor.length(of).map(|len| product.saturating_mul(len))
        })
    }

    /// Whether the Dag file alone tells the length.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.factors.iter().all(|factor| matches!(factor, LengthOf::Literal(_)))
    }
}

impl LengthOf {
    /// The length, given those of single tasks' results.
    pub fn length(&self, of: &dyn Fn(TaskNo) -> Option<u64>) -> Option<u64> {
        let all = |args: &[Self]| args.iter().map(|arg| arg.length(of)).collect::<Option<Vec<_>>>();
        match self {
            Self::Literal(length) => Some(*length),
            Self::Task(number) => of(*number),
            Self::Shortest(args) => all(args)?.into_iter().min(),
            Self::Longest(args) => all(args)?.into_iter().max(),
            Self::Sum(args) => all(args)?.into_iter().try_fold(0_u64, u64::checked_add),
            Self::Unknown => None,
        }
    }

    fn known(&self, tasks: usize) -> bool {
        match self {
            Self::Literal(_) | Self::Unknown => true,
            Self::Task(number) => number.at() < tasks,
            Self::Shortest(args) | Self::Longest(args) | Self::Sum(args) => args.iter().all(|arg| arg.known(tasks)),
        }
    }
}

fn default_max_active_tasks() -> u32 {
    16
}
