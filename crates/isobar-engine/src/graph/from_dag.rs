//! Takes what planning needs out of a serialized Dag. Tasks keep their numbers: [`TaskNo`] n is `TaskIdx` n.

use isobar_model::dag::{ExpandArg, ExpandInput, SerializedDag, Task, TaskIdx, XComArg};

use super::{BadGraph, DagSpec, Expand, GroupSpec, LengthOf, RunGraph, TaskNo, TaskSpec};

impl From<TaskIdx> for TaskNo {
    fn from(index: TaskIdx) -> Self {
        Self(index.0)
    }
}

impl RunGraph {
    /// The graph of a serialized Dag.
    ///
    /// # Errors
    /// None that reading the Dag would not have found before.
    pub fn from_dag(dag: &SerializedDag) -> Result<Self, BadGraph> {
        let groups = dag.groups();
        // The root is not a group here, so all numbers are one less.
        let below_root = |number: u32| number.checked_sub(1);
        let group_specs = groups.iter().skip(1).map(|(_, group)| GroupSpec {
            group_id: group.group_id.clone().unwrap_or_default(),
            parent: group.parent.and_then(|parent| below_root(parent.0)),
            expand: group.expand_input.as_ref().map(expand),
        });
        Self::new(DagSpec {
            dag_id: dag.dag_id.clone(),
            tasks: dag
                .tasks()
                .map(|task| task_spec(dag, task, below_root(groups.of_task(task).0)))
                .collect(),
            groups: group_specs.collect(),
            fail_fast: dag.fail_fast,
            dagrun_timeout: dag.dagrun_timeout,
            catchup: dag.catchup,
            max_active_tasks: u32::try_from(dag.max_active_tasks).unwrap_or(0),
        })
    }
}

fn task_spec(dag: &SerializedDag, index: TaskIdx, group: Option<u32>) -> TaskSpec {
    let task = dag.task(index);
    let limit = |limit: Option<i32>| limit.map(|limit| u32::try_from(limit).unwrap_or(0));
    TaskSpec {
        task_id: task.task_id.clone(),
        downstream: dag
            .graph()
            .downstream(index)
            .iter()
            .copied()
            .map(TaskNo::from)
            .collect(),
        trigger_rule: task.trigger_rule,
        is_setup: task.is_setup,
        is_teardown: task.is_teardown,
        on_failure_fail_dagrun: task.on_failure_fail_dagrun,
        retries: task.retries,
        retry_delay: task.retry_delay,
        retry_exponential_backoff: task.retry_exponential_backoff,
        max_retry_delay: task.max_retry_delay,
        depends_on_past: task.depends_on_past,
        wait_for_downstream: task.wait_for_downstream,
        ignore_first_depends_on_past: task.ignore_first_depends_on_past,
        start_date: task.start_date,
        end_date: task.end_date,
        max_active_tis_per_dag: limit(task.max_active_tis_per_dag),
        max_active_tis_per_dagrun: limit(task.max_active_tis_per_dagrun),
        pool: task.pool.clone(),
        pool_slots: u32::try_from(task.pool_slots).unwrap_or(1),
        priority_weight: i64::from(dag.priority(index)),
        queue: task.queue.clone(),
        executor: task.executor.clone(),
        operator: task.task_type.clone(),
        is_trivial: is_trivial(task),
        starts_deferred: task.start_from_trigger && task.start_trigger_args.is_some(),
        skips: task.can_skip_downstream,
        expand: task.mapping.as_ref().map(|mapping| expand(&mapping.input)),
        group,
    }
}

/// An `EmptyOperator` that nobody would notice running.
fn is_trivial(task: &Task) -> bool {
    task.is_empty
        && !task.callbacks.execute
        && !task.callbacks.success
        && task.inlets.is_empty()
        && task.outlets.is_empty()
}

fn expand(input: &ExpandInput) -> Expand {
    Expand {
        factors: input.args().map(length_of_arg).collect(),
        dependencies: input.references().into_iter().map(|(task, _)| task.into()).collect(),
    }
}

fn length_of_arg(arg: &ExpandArg) -> LengthOf {
    match arg {
        ExpandArg::Literal { len, .. } => LengthOf::Literal(*len as u64),
        ExpandArg::XCom(xcom) => length_of(xcom),
        ExpandArg::GroupArgument { .. } => LengthOf::Unknown,
    }
}

fn length_of(xcom: &XComArg) -> LengthOf {
    let all = |args: &[XComArg]| args.iter().map(length_of).collect();
    match xcom {
        XComArg::Plain { task, .. } => LengthOf::Task((*task).into()),
        XComArg::Map { arg, .. } => length_of(arg),
        XComArg::Zip { args, fillvalue: None } => LengthOf::Shortest(all(args)),
        XComArg::Zip { args, .. } => LengthOf::Longest(all(args)),
        XComArg::Concat { args } => LengthOf::Sum(all(args)),
    }
}
