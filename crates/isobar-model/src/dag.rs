//! The serialized Dag: what Airflow's Dag processor makes of a Dag file, read into types.
//!
//! The JSON comes from a process that runs a team's code, so nothing in it is trusted: it is bounded before it is walked, every
//! value is checked, and what is wrong is answered with its path ([`DagError`]). The format is Airflow's own, version 3
//! (`airflow/serialization/schema.json`); keys that are not known here are left alone, and the JSON is kept for those who need it.
//!
//! ```
//! # use isobar_model::dag::SerializedDag;
//! let json = serde_json::json!({"__version": 3, "dag": {
//!     "dag_id": "two", "fileloc": "/dags/two.py", "timezone": "UTC",
//!     "timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}},
//!     "tasks": [
//!         {"__type": "operator", "__var": {"task_id": "b", "task_type": "BashOperator"}},
//!         {"__type": "operator", "__var": {"task_id": "a", "task_type": "BashOperator", "downstream_task_ids": ["b"]}},
//!     ]}});
//! let dag = SerializedDag::read(json)?;
//! let order: Vec<_> = dag.tasks().map(|task| dag.task(task).task_id.as_str()).collect();
//! assert_eq!(order, ["a", "b"]);
//! # Ok::<(), isobar_model::dag::DagError>(())
//! ```
//!
//! What stands where: [`Task`] and its layers of defaults in `task`, edges and [`TaskIdx`] in `graph`, groups in `group`, mapping in
//! `expand`, assets in `asset`, the schedule in `timetable` (when it fires is `isobar-engine`'s business), params in `param`.

mod asset;
mod content_hash;
mod custom_timetable;
mod deadline;
mod encoding;
mod error;
mod expand;
mod graph;
mod group;
mod param;
mod read;
mod task;
mod timetable;
mod weight;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use asset::{Asset, AssetAccess, AssetAlias, AssetExpr, AssetLeaf, AssetRef, AssetWatcher};
pub use custom_timetable::CustomFacts;
pub use deadline::{Deadline, DeadlineCallback, DeadlineInterval, DeadlineReference};
pub use encoding::{Delta, RelativeDelta, Zone, plain};
pub use error::{DagError, Problem};
pub use expand::{ExpandArg, ExpandInput, XComArg};
pub use graph::{Graph, TaskIdx};
pub use group::{GroupChild, GroupIdx, Groups, TaskGroup};
pub use param::Param;
pub use task::{Callbacks, Mapping, StartTriggerArgs, Task, TaskWeightRule};
pub use timetable::{
    CronPartition, CronTrigger, Events, MultipleCronTrigger, PartitionedAsset, RunImmediately, Timetable,
};

use crate::{DagId, RunType};
use error::Read;
use read::{
    Object, boolean, each, id, instant, list, object, optional, or, required, seconds, small, string, strings, text,
    within_limits,
};

/// The deepest nesting read; serde_json itself reads no deeper.
pub const MAX_DEPTH: usize = 128;
/// The most JSON values in one serialized Dag.
pub const MAX_VALUES: usize = 5_000_000;
/// The most tasks in one Dag: what can be worked out for all of them stays within a second or so.
pub const MAX_TASKS: usize = 20_000;
/// The most edges in one Dag.
pub const MAX_EDGES: usize = 1_000_000;
/// The most cron expressions in one timetable.
pub const MAX_CRONS: usize = 100;

/// One dependency between Dags, or between a Dag and an asset, as the Dag processor found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DagDependency {
    /// Where it comes from: a Dag id, or a word such as `asset`.
    pub source: String,
    /// Where it goes to: a Dag id, or a word such as `asset`.
    pub target: String,
    /// The name to show.
    pub label: String,
    /// Its kind: `trigger`, `sensor`, `asset`, `asset-alias`…
    pub dependency_type: String,
    /// What makes it one: a task id or an asset's key.
    pub dependency_id: Option<String>,
}

/// A Dag as serialized by Airflow. Cheap to share: [`SerializedDag::read`] gives it inside an `Arc`.
#[derive(Debug)]
pub struct SerializedDag {
    /// Its id.
    pub dag_id: DagId,
    /// The name to show, where it is not the id.
    pub custom_display_name: Option<String>,
    /// The file on the Dag processor's machine.
    pub fileloc: String,
    /// The file inside its bundle.
    pub relative_fileloc: Option<String>,
    /// The zone its dates are meant in.
    pub timezone: Zone,
    /// Its schedule.
    pub timetable: Timetable,
    /// Whether missed runs are made up for.
    pub catchup: bool,
    /// No run before this.
    pub start_date: Option<Timestamp>,
    /// No run after this.
    pub end_date: Option<Timestamp>,
    /// How many runs may be active at once.
    pub max_active_runs: i32,
    /// How many task instances may be active at once.
    pub max_active_tasks: i32,
    /// After how many failed runs in a row it is paused; 0 for never.
    pub max_consecutive_failed_dag_runs: i32,
    /// How long a run may take.
    pub dagrun_timeout: Option<SignedDuration>,
    /// Whether the first failed task ends the run.
    pub fail_fast: bool,
    /// Whether it starts out paused; the deployment's choice where none is given.
    pub is_paused_upon_creation: Option<bool>,
    /// Which kinds of runs it allows; all where none are given.
    pub allowed_run_types: Option<Vec<RunType>>,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Links of owners.
    pub owner_links: IndexMap<String, String>,
    /// A description in one line.
    pub description: Option<String>,
    /// Documentation in Markdown.
    pub doc_md: Option<String>,
    /// The default arguments of tasks, in plain JSON.
    pub default_args: Value,
    /// Its params.
    pub params: Vec<Param>,
    /// Permissions by role and resource, in plain JSON. `{}` is not the same as none.
    pub access_control: Option<Value>,
    /// Labels of edges: upstream to downstream to label.
    pub edge_info: IndexMap<String, IndexMap<String, Option<String>>>,
    /// Its dependencies on other Dags and on assets.
    pub dag_dependencies: Vec<DagDependency>,
    /// Its deadlines.
    pub deadlines: Vec<Deadline>,
    /// `on_success_callback` and `on_failure_callback`; the others are always off.
    pub callbacks: Callbacks,
    /// Whether templates give Python objects.
    pub render_template_as_native_obj: bool,
    /// Whether its runs use the newest files rather than those of their bundle version.
    pub disable_bundle_versioning: bool,
    /// Whether a cleared run takes the newest version of the Dag; the deployment's choice where none is given.
    pub rerun_with_latest_version: Option<bool>,

    graph: Graph,
    tasks: Vec<Task>,
    written_at: Vec<usize>,
    groups: Groups,
    priorities: OnceLock<Vec<i32>>,
    content_hash: OnceLock<String>,
    json: Value,
}

impl SerializedDag {
    /// Reads a serialized Dag and keeps the JSON.
    ///
    /// # Errors
    /// Whatever is not as Airflow writes it, with its path. Versions 2 and 3 of the format are read, which differ in defaults only.
    pub fn read(json: Value) -> Result<Arc<Self>, DagError> {
        within_limits(&json, MAX_DEPTH, MAX_VALUES)?;
        let root = object(&json)?;
        required(root, "__version", |version| match version.as_i64() {
            Some(2 | 3) => Ok(()),
            _ => Err(DagError::here(Problem::UnsupportedVersion(error::excerpt(
                &version.to_string(),
            )))),
        })?;
        let client = optional(root, "client_defaults", |defaults| {
            optional(object(defaults)?, "tasks", object)
        })?
        .flatten();
        let mut dag = required(root, "dag", |dag| Self::read_dag(object(dag)?, client))?;
        dag.json = json;
        Ok(Arc::new(dag))
    }

    fn read_dag(map: &Object, client: Option<&Object>) -> Read<Self> {
        let start_date = optional(map, "start_date", instant)?;
        let end_date = optional(map, "end_date", instant)?;
        let defaults = task::TaskDefaults {
            client,
            start_date,
            end_date,
        };
        let (graph, tasks, written_at) = required(map, "tasks", |value| read_tasks(value, defaults))?;
        let mut tags = or(map, "tags", Vec::new(), |v| strings(encoding::bare(v)))?;
        tags.sort_unstable();
        tags.dedup();
        Ok(Self {
            dag_id: DagId::from(required(map, "dag_id", id)?),
            custom_display_name: optional(map, "dag_display_name", string)?,
            fileloc: required(map, "fileloc", string)?,
            relative_fileloc: optional(map, "relative_fileloc", string)?,
            timezone: optional(map, "timezone", Zone::read)?.unwrap_or_else(Zone::utc),
            timetable: required(map, "timetable", Timetable::read)?,
            catchup: or(map, "catchup", false, boolean)?,
            start_date,
            end_date,
            max_active_runs: or(map, "max_active_runs", 16, small)?,
            max_active_tasks: or(map, "max_active_tasks", 16, small)?,
            max_consecutive_failed_dag_runs: or(map, "max_consecutive_failed_dag_runs", 0, small)?,
            dagrun_timeout: optional(map, "dagrun_timeout", seconds)?,
            fail_fast: or(map, "fail_fast", false, boolean)?,
            is_paused_upon_creation: optional(map, "is_paused_upon_creation", boolean)?,
            allowed_run_types: optional(map, "allowed_run_types", |v| {
                each(v, |name| {
                    text(name)?.parse().map_err(|e: crate::UnknownName| DagError::here(e))
                })
            })?
            .filter(|kinds: &Vec<RunType>| !kinds.is_empty()),
            tags,
            owner_links: or(map, "owner_links", IndexMap::new(), |v| {
                object(encoding::bare(v))?
                    .iter()
                    .map(|(owner, link)| Ok((owner.clone(), string(link).map_err(|e| e.under(owner))?)))
                    .collect()
            })?,
            description: optional(map, "description", string)?,
            doc_md: optional(map, "doc_md", string)?,
            default_args: map
                .get("default_args")
                .map_or_else(|| Value::Object(Object::new()), plain),
            params: or(map, "params", Vec::new(), Param::read_all)?,
            access_control: optional(map, "access_control", |v| Ok(plain(v)))?,
            edge_info: or(map, "edge_info", IndexMap::new(), read_edge_info)?,
            dag_dependencies: or(map, "dag_dependencies", Vec::new(), |v| each(v, DagDependency::read))?,
            deadlines: optional(map, "deadline", Deadline::read_all)?.unwrap_or_default(),
            callbacks: Callbacks {
                success: or(map, "has_on_success_callback", false, boolean)?,
                failure: or(map, "has_on_failure_callback", false, boolean)?,
                ..Callbacks::default()
            },
            render_template_as_native_obj: or(map, "render_template_as_native_obj", false, boolean)?,
            disable_bundle_versioning: or(map, "disable_bundle_versioning", false, boolean)?,
            rerun_with_latest_version: optional(map, "rerun_with_latest_version", boolean)?,
            groups: Groups::read(map.get("task_group").filter(|v| !v.is_null()), &graph)
                .map_err(|e| e.under("task_group"))?,
            graph,
            tasks,
            written_at,
            priorities: OnceLock::new(),
            content_hash: OnceLock::new(),
            json: Value::Null,
        })
    }

    /// The name to show.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.custom_display_name.as_deref().unwrap_or(self.dag_id.as_str())
    }

    /// The owners of its tasks, sorted, as `a, b`.
    #[must_use]
    pub fn owner(&self) -> String {
        let owners: BTreeSet<&str> = self.tasks.iter().map(|task| task.owner.as_str()).collect();
        owners.into_iter().collect::<Vec<_>>().join(", ")
    }

    /// The edges between tasks.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The task groups.
    #[must_use]
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Every task, each after all that it depends on.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskIdx> + ExactSizeIterator {
        self.graph.tasks()
    }

    /// A task. The index must be this Dag's own.
    #[must_use]
    pub fn task(&self, task: TaskIdx) -> &Task {
        &self.tasks[task.index()]
    }

    /// The place of the task with this id.
    #[must_use]
    pub fn find_task(&self, task_id: &str) -> Option<TaskIdx> {
        self.graph.find(task_id)
    }

    /// The task with this id.
    #[must_use]
    pub fn task_by_id(&self, task_id: &str) -> Option<&Task> {
        self.find_task(task_id).map(|task| self.task(task))
    }

    /// A task's attributes as serialized: the values of template fields, `executor_config`, `partial_kwargs`…
    #[must_use]
    pub fn task_json(&self, task: TaskIdx) -> &Value {
        let written = self.written_at[task.index()];
        self.json
            .get("dag")
            .and_then(|dag| dag.get("tasks")?.get(written)?.get("__var"))
            .unwrap_or(&Value::Null)
    }

    /// A task's attribute as serialized, looked up in `partial_kwargs` for a mapped task.
    #[must_use]
    pub fn task_attribute(&self, task: TaskIdx, key: &str) -> Option<&Value> {
        let own = self.task_json(task);
        let partial = own.get("partial_kwargs").filter(|_| self.task(task).is_mapped());
        partial.and_then(|partial| partial.get(key)).or_else(|| own.get(key))
    }

    /// The JSON as it was read, `client_defaults` included.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// A fingerprint by which a changed Dag is told from one merely parsed again; 64 hex digits.
    #[must_use]
    pub fn content_hash(&self) -> &str {
        self.content_hash.get_or_init(|| content_hash::of(&self.json))
    }

    /// A task's priority in a run, by its weight rule. For a custom rule it is the task's own weight until the
    /// team's helper has answered ([`TaskWeightRule::Custom`]).
    #[must_use]
    pub fn priority(&self, task: TaskIdx) -> i32 {
        self.priorities
            .get_or_init(|| weight::priorities(&self.graph, &self.tasks))[task.index()]
    }

    /// The tasks that wait for none.
    #[must_use]
    pub fn roots(&self) -> Vec<TaskIdx> {
        self.tasks()
            .filter(|task| self.graph.upstream(*task).is_empty())
            .collect()
    }

    /// The tasks that none waits for.
    #[must_use]
    pub fn leaves(&self) -> Vec<TaskIdx> {
        self.tasks()
            .filter(|task| self.graph.downstream(*task).is_empty())
            .collect()
    }

    /// The tasks whose states decide how a run ended.
    ///
    /// These are the leaves once teardowns are taken away that may fail without failing the run. In a Dag of such teardowns
    /// alone they are its leaves.
    #[must_use]
    pub fn deciding_tasks(&self) -> Vec<TaskIdx> {
        let ignorable = |task: TaskIdx| {
            let task = self.task(task);
            task.is_teardown && !task.on_failure_fail_dagrun
        };
        let deciding: Vec<TaskIdx> = self
            .tasks()
            .filter(|task| !ignorable(*task) && self.graph.downstream(*task).iter().all(|next| ignorable(*next)))
            .collect();
        if deciding.is_empty() { self.leaves() } else { deciding }
    }

    /// The label of the edge between two tasks or groups.
    #[must_use]
    pub fn edge_label(&self, upstream: &str, downstream: &str) -> Option<&str> {
        self.edge_info.get(upstream)?.get(downstream)?.as_deref()
    }
}

fn read_tasks(value: &Value, defaults: task::TaskDefaults<'_>) -> Read<(Graph, Vec<Task>, Vec<usize>)> {
    let count = list(value)?.len();
    if count > MAX_TASKS {
        return Err(DagError::here(Problem::TooMany {
            what: "tasks",
            found: count,
            limit: MAX_TASKS,
        }));
    }
    let written = graph::read_task_objects(value)?;
    let (graph, written_at) = Graph::read(&written)?;
    let find = |name: &str| graph.find(name);
    let tasks = written_at
        .iter()
        .map(|&index| Task::read(written[index], defaults, &find).map_err(|e| e.under("__var").at(index)))
        .collect::<Read<_>>()?;
    Ok((graph, tasks, written_at))
}

fn read_edge_info(value: &Value) -> Read<IndexMap<String, IndexMap<String, Option<String>>>> {
    let targets = |value: &Value| -> Read<IndexMap<String, Option<String>>> {
        object(value)?
            .iter()
            .map(|(down, info)| {
                let label = object(info).and_then(|info| optional(info, "label", string));
                Ok((down.clone(), label.map_err(|e| e.under(down))?))
            })
            .collect()
    };
    object(value)?
        .iter()
        .map(|(up, downs)| Ok((up.clone(), targets(downs).map_err(|e| e.under(up))?)))
        .collect()
}

impl DagDependency {
    fn read(value: &Value) -> Read<Self> {
        let map = object(value)?;
        Ok(Self {
            source: required(map, "source", string)?,
            target: required(map, "target", string)?,
            label: or(map, "label", String::new(), string)?,
            dependency_type: required(map, "dependency_type", string)?,
            dependency_id: optional(map, "dependency_id", string)?,
        })
    }
}
