//! Making a run together with its first task instances, in one unit: nobody ever sees a run without its tasks. And what a
//! cleared instance takes from the Dag, which is the same.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use isobar_auth::TeamScope;
use isobar_engine::graph::{RunGraph, SharedGraph};
use isobar_engine::planner::{NewInstance, initial_instances};
use isobar_model::dag::SerializedDag;
use isobar_model::{DagId, TaskId, TaskKey};
use isobar_store::clearing::ClearTask;
use isobar_store::runs::{self, NewRun, Run};
use isobar_store::task_instances::{self, NewTaskInstance};
use isobar_store::{StoreError, Tx, dags};
use jiff::Timestamp;
use uuid::Uuid;

/// Versions kept; then the cache starts anew.
const MOST_VERSIONS: usize = 1024;

/// Makes runs. Keeps the graphs of the versions it has seen; cheap to clone, clones share them.
#[derive(Clone, Debug, Default)]
pub struct NewRuns {
    versions: Arc<Mutex<HashMap<Uuid, Arc<Version>>>>,
}

/// One version of a Dag, as far as new task instances need it.
#[derive(Debug)]
struct Version {
    graph: SharedGraph,
    extras: HashMap<TaskId, Extras>,
}

/// What a task instance's row takes from the task beside what the graph has.
#[derive(Clone, Debug)]
struct Extras {
    display_name: Option<String>,
    operator_name: Option<String>,
    executor_config: Option<String>,
}

impl NewRuns {
    /// With nothing kept yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a run in state `queued`, its task instances, and the event that tells the scheduler.
    ///
    /// Where the run's version cannot be read, the run is made without instances, and the scheduler says what is wrong.
    ///
    /// # Errors
    /// [`StoreError::Exists`] as of [`runs::create`]; then nothing was written and the unit may go on.
    pub async fn create(&self, tx: &mut Tx, scope: TeamScope, new: &NewRun, now: Timestamp) -> Result<Run, StoreError> {
        let run = runs::create(tx, scope, new, now).await?;
        let Some(id) = new.version_id else { return Ok(run) };
        let Some(version) = self.version(tx, scope, &new.dag_id, id).await? else {
            return Ok(run);
        };
        let instances: Vec<NewTaskInstance> = initial_instances(&version.graph, run.run_type, run.logical_date)
            .iter()
            .map(|instance| version.row(instance, id))
            .collect();
        task_instances::insert(tx, scope, &run.key(), &instances, now).await?;
        Ok(run)
    }

    /// Instances to clear, each with what a version of the Dag says of its task.
    ///
    /// # Errors
    /// The database failed.
    pub async fn to_clear(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        dag_id: &DagId,
        version_id: Option<Uuid>,
        keys: impl IntoIterator<Item = TaskKey>,
    ) -> Result<Vec<ClearTask>, StoreError> {
        let version = match version_id {
            Some(id) => self.version(tx, scope, dag_id, id).await?.map(|version| (version, id)),
            None => None,
        };
        let today = |key: &TaskKey| {
            let (version, id) = version.as_ref()?;
            let task = version.graph.find(&key.task_id)?;
            let instance = NewInstance {
                key: key.clone(),
                task,
                max_tries: version.graph.task(task).retries,
            };
            Some(version.row(&instance, *id))
        };
        Ok(keys
            .into_iter()
            .map(|key| ClearTask {
                today: today(&key),
                key,
            })
            .collect())
    }

    /// The tasks of a version that the version a run was made of had not.
    ///
    /// # Errors
    /// The database failed.
    pub async fn new_tasks(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        run: &Run,
        version_id: Uuid,
    ) -> Result<Vec<TaskId>, StoreError> {
        let Some(created) = run.created_version_id else {
            return Ok(Vec::new());
        };
        let (Some(old), Some(new)) = (
            self.version(tx, scope, &run.dag_id, created).await?,
            self.version(tx, scope, &run.dag_id, version_id).await?,
        ) else {
            return Ok(Vec::new());
        };
        let tasks = new.graph.numbers().map(|task| &new.graph.task(task).task_id);
        Ok(tasks.filter(|id| old.graph.find(id).is_none()).cloned().collect())
    }

    /// The instances of a version's tasks of which a run has none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn missing_instances(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        run: &Run,
        version_id: Uuid,
    ) -> Result<Vec<NewTaskInstance>, StoreError> {
        let Some(version) = self.version(tx, scope, &run.dag_id, version_id).await? else {
            return Ok(Vec::new());
        };
        let there: HashSet<TaskId> = task_instances::of_run(tx, scope, &run.key())
            .await?
            .into_iter()
            .map(|ti| ti.task_id)
            .collect();
        Ok(initial_instances(&version.graph, run.run_type, run.logical_date)
            .iter()
            .filter(|new| !there.contains(&new.key.task_id))
            .map(|new| version.row(new, version_id))
            .collect())
    }

    /// Whether a task of a version starts in the triggerer. Versions are read once.
    pub(crate) async fn starts_deferred(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        dag_id: &DagId,
        id: Uuid,
        task: &TaskId,
    ) -> Result<bool, StoreError> {
        let version = self.version(tx, scope, dag_id, id).await?;
        Ok(version.is_some_and(|version| {
            let found = version.graph.find(task);
            found.is_some_and(|task| version.graph.task(task).starts_deferred)
        }))
    }

    async fn version(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        dag_id: &DagId,
        id: Uuid,
    ) -> Result<Option<Arc<Version>>, StoreError> {
        if let Some(version) = self.lock().get(&id) {
            return Ok(Some(Arc::clone(version)));
        }
        let Some(json) = dags::version_json(tx, scope, dag_id.as_str(), Some(id)).await? else {
            return Ok(None);
        };
        let read = SerializedDag::read(json)
            .map_err(|error| error.to_string())
            .and_then(|dag| {
                let graph = RunGraph::from_dag(&dag).map_err(|error| error.to_string())?;
                Ok(Version {
                    graph: Arc::new(graph),
                    extras: extras(&dag),
                })
            });
        let version = match read {
            Ok(version) => Arc::new(version),
            Err(error) => {
                tracing::warn!(%dag_id, %error, "a version of a Dag cannot be read");
                return Ok(None);
            }
        };
        let mut versions = self.lock();
        if versions.len() >= MOST_VERSIONS {
            versions.clear();
        }
        versions.insert(id, Arc::clone(&version));
        Ok(Some(version))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Version>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Version {
    fn row(&self, instance: &NewInstance, id: Uuid) -> NewTaskInstance {
        let task = self.graph.task(instance.task);
        let extras = self.extras.get(&task.task_id);
        NewTaskInstance {
            key: instance.key.clone(),
            max_tries: instance.max_tries,
            pool: task.pool.clone(),
            pool_slots: i32::try_from(task.pool_slots).unwrap_or(i32::MAX),
            queue: task.queue.clone(),
            priority_weight: task.priority_weight,
            operator: task.operator.clone(),
            custom_operator_name: extras.and_then(|extras| extras.operator_name.clone()),
            display_name: extras.and_then(|extras| extras.display_name.clone()),
            executor: task.executor.clone(),
            executor_config: extras.and_then(|extras| extras.executor_config.clone()),
            dag_version_id: Some(id),
        }
    }
}

/// Eight letters and digits, for ids of runs without a logical date.
#[must_use]
pub fn random_tail() -> String {
    let text = Uuid::new_v4().simple().to_string();
    text[..8].to_owned()
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
            };
            (task.task_id.clone(), extras)
        })
        .collect()
}
