//! Dag versions as scheduling needs them: the graph, the timetable, and little else. Read once and shared by all runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use isobar_engine::dagplan::{Restriction, Schedule};
use isobar_engine::graph::{RunGraph, SharedGraph};
use isobar_engine::partition::PartitionedAssets;
use isobar_engine::planner::NewInstance;
use isobar_engine::timetable::{self, Timetable};
use isobar_model::dag::{self, AssetExpr, AssetLeaf, SerializedDag};
use isobar_model::{RunType, TaskId};
use isobar_store::loading::VersionData;
use isobar_store::task_instances::NewTaskInstance;
use uuid::Uuid;

use crate::waits::DeferredStartOf;

/// One version of a Dag.
#[derive(Debug)]
pub(crate) struct Version {
    pub id: Uuid,
    pub bundle_version: Option<String>,
    pub graph: SharedGraph,
    /// None: assets alone, no schedule, or one that is broken.
    pub schedule: Option<Arc<dyn Schedule>>,
    /// Why there is no schedule although the Dag names one.
    pub problem: Option<String>,
    pub within: Restriction,
    /// Tells two schedules apart.
    pub schedule_print: String,
    pub allowed_run_types: Option<Vec<RunType>>,
    /// Where the Dag listens to partitions of assets; an error where its mappers make no sense.
    pub partitions: Option<Result<PartitionedAssets, String>>,
    /// The asset condition, where the Dag has one and does not listen to partitions.
    pub condition: Option<AssetExpr>,
    /// Runs are known by partition keys.
    pub partitioned: bool,
    /// Tasks whose weight rule is a class of the team.
    pub custom_weights: HashSet<TaskId>,
    /// The aliases that the condition names.
    pub aliases: Vec<String>,
    pub on_success: bool,
    pub on_failure: bool,
    pub deadlines: Vec<dag::Deadline>,
    extras: HashMap<TaskId, Extras>,
}

/// What a task instance's row takes from the task beside what the graph has.
#[derive(Debug)]
struct Extras {
    display_name: Option<String>,
    operator_name: Option<String>,
    executor_config: Option<String>,
    on_failure: bool,
    on_retry: bool,
    /// Somebody gets e-mail of a failure, of a retry.
    email: (bool, bool),
    deferred_start: Option<DeferredStartOf>,
}

impl Version {
    /// Reads a stored version.
    ///
    /// # Errors
    /// A sentence that says why this version cannot be scheduled.
    pub(crate) fn read(id: Uuid, stored: &VersionData) -> Result<Self, String> {
        let json =
            serde_json::from_str(&stored.data).map_err(|error| format!("its stored form is no JSON: {error}"))?;
        let dag = SerializedDag::read(json).map_err(|error| format!("its stored form cannot be read: {error}"))?;
        let graph = RunGraph::from_dag(&dag).map_err(|error| error.to_string())?;
        let (schedule, problem) = match Timetable::from_model(&dag.timetable) {
            Ok(timetable) => (Some(Arc::new(timetable) as Arc<dyn Schedule>), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let within = timetable::restriction(&dag);
        let condition = dag.timetable.triggering_condition().cloned();
        let partitions = (dag.timetable.partitions())
            .map(|model| PartitionedAssets::from_model(model).map_err(|error| error.to_string()));
        let aliases = dag
            .timetable
            .asset_condition()
            .into_iter()
            .flat_map(AssetExpr::leaves)
            .filter_map(|leaf| match leaf {
                AssetLeaf::Alias(alias) => Some(alias.name.clone()),
                AssetLeaf::Asset(_) | AssetLeaf::Ref(_) => None,
            });
        Ok(Self {
            id,
            bundle_version: stored.bundle_version.clone(),
            graph: Arc::new(graph),
            schedule,
            problem,
            schedule_print: format!("{:?} {within:?}", dag.timetable),
            within,
            allowed_run_types: dag.allowed_run_types.clone(),
            partitioned: dag.timetable.is_partitioned(),
            custom_weights: dag
                .tasks()
                .map(|task| dag.task(task))
                .filter(|task| matches!(task.weight_rule, dag::TaskWeightRule::Custom(_)))
                .map(|task| task.task_id.clone())
                .collect(),
            aliases: aliases.collect(),
            condition,
            partitions,
            on_success: dag.callbacks.success,
            on_failure: dag.callbacks.failure,
            deadlines: dag.deadlines.clone(),
            extras: extras(&dag),
        })
    }

    /// The row of an instance to make.
    pub(crate) fn new_instance(&self, new: &NewInstance) -> NewTaskInstance {
        let task = self.graph.task(new.task);
        let extras = self.extras.get(&task.task_id);
        NewTaskInstance {
            key: new.key.clone(),
            max_tries: new.max_tries,
            pool: task.pool.clone(),
            pool_slots: i32::try_from(task.pool_slots).unwrap_or(i32::MAX),
            queue: task.queue.clone(),
            priority_weight: task.priority_weight,
            operator: task.operator.clone(),
            custom_operator_name: extras.and_then(|extras| extras.operator_name.clone()),
            display_name: extras.and_then(|extras| extras.display_name.clone()),
            executor: task.executor.clone(),
            executor_config: extras.and_then(|extras| extras.executor_config.clone()),
            dag_version_id: Some(self.id),
        }
    }

    /// Whether the task has something to be told of a failure (`retries`: of one that will be retried).
    pub(crate) fn wants_callback(&self, task_id: &TaskId, retries: bool) -> bool {
        self.extras
            .get(task_id)
            .is_some_and(|extras| if retries { extras.on_retry } else { extras.on_failure })
    }

    /// Whether somebody gets e-mail of the task's failure (`retries`: of one that will be retried).
    pub(crate) fn wants_email(&self, task_id: &TaskId, retries: bool) -> bool {
        self.extras
            .get(task_id)
            .is_some_and(|extras| if retries { extras.email.1 } else { extras.email.0 })
    }

    /// A task's `retries`, 0 where the Dag has no such task.
    pub(crate) fn retries(&self, task_id: &TaskId) -> i32 {
        self.graph.find(task_id).map_or(0, |task| self.graph.task(task).retries)
    }

    /// How a task starts without a worker; none where it starts on one.
    pub(crate) fn deferred_start(&self, task_id: &TaskId) -> Option<&DeferredStartOf> {
        self.extras.get(task_id)?.deferred_start.as_ref()
    }

    /// Whether any task asks about the preceding run.
    pub(crate) fn asks_the_past(&self) -> bool {
        self.graph.past_tasks().next().is_some()
    }
}

fn extras(dag: &SerializedDag) -> HashMap<TaskId, Extras> {
    dag.tasks()
        .map(|index| {
            let task = dag.task(index);
            let extras = Extras {
                display_name: task.custom_display_name.clone(),
                operator_name: (task.operator_name != task.task_type).then(|| task.operator_name.clone()),
                executor_config: dag
                    .task_attribute(index, "executor_config")
                    .filter(|config| !config.is_null())
                    .map(ToString::to_string),
                on_failure: task.callbacks.failure,
                on_retry: task.callbacks.retry,
                email: emails(dag, index),
                deferred_start: DeferredStartOf::read(task),
            };
            (task.task_id.clone(), extras)
        })
        .collect()
}

fn emails(dag: &SerializedDag, index: dag::TaskIdx) -> (bool, bool) {
    let somebody = match dag.task_attribute(index, "email") {
        Some(serde_json::Value::String(to)) => !to.is_empty(),
        Some(serde_json::Value::Array(to)) => !to.is_empty(),
        _ => false,
    };
    let task = dag.task(index);
    (somebody && task.email_on_failure, somebody && task.email_on_retry)
}
