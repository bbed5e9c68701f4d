//! A task of a serialized Dag: everything scheduling and the REST API ask about it.
//!
//! Airflow writes an attribute only where it differs from a default, so each is looked up in layers. For an ordinary
//! task: the task, `client_defaults.tasks`, the schema's default. For a mapped one: `partial_kwargs`, `client_defaults.tasks`,
//! the task, the schema's default.

use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::asset::{AssetExpr, read_lets};
use super::encoding::{bare, plain};
use super::error::{DagError, Problem, Read, excerpt};
use super::expand::{ExpandInput, FindTask};
use super::param::Param;
use super::read::{
    Object, boolean, clipped, instant, object, optional, or, real, required, seconds, small, string, strings, text,
};
use crate::{TaskId, TriggerRule, WeightRule};

/// How a task's own weight becomes its priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskWeightRule {
    /// One of Airflow's three.
    BuiltIn(WeightRule),
    /// A class of the team's plugins, by import path; only the team's helper can evaluate it.
    Custom(String),
}

/// Which callbacks a task or Dag has in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `on_execute_callback`.
    pub execute: bool,
    /// `on_failure_callback`.
    pub failure: bool,
    /// `on_retry_callback`.
    pub retry: bool,
    /// `on_success_callback`.
    pub success: bool,
    /// `on_skipped_callback`.
    pub skipped: bool,
}

/// How to start a task in the triggerer, without a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct StartTriggerArgs {
    /// The import path of the trigger.
    pub trigger_cls: String,
    /// Its arguments, still in Airflow's tagged encoding; null for none.
    pub trigger_kwargs: Value,
    /// The task's method to call with the trigger's event.
    pub next_method: String,
    /// Further arguments of that method, still tagged; null for none.
    pub next_kwargs: Value,
    /// How long to wait for the trigger.
    pub timeout: Option<SignedDuration>,
}

/// What a mapped task is mapped over.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// The arguments of `expand()` or `expand_kwargs()`.
    pub input: ExpandInput,
    /// The key under which the Dag file's JSON holds them.
    pub attribute: String,
    /// Whether an argument both partial and expanded is an error.
    pub disallow_kwargs_override: bool,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id, groups included.
    pub task_id: TaskId,
    /// The name to show, where it is not the id.
    pub custom_display_name: Option<String>,
    /// The operator's class.
    pub task_type: String,
    /// The operator's module.
    pub task_module: String,
    /// The operator's name for people: the class, or `@task` and its like.
    pub operator_name: String,
    /// Its owner.
    pub owner: String,

    /// When it may start, given how those before it ended.
    pub trigger_rule: TriggerRule,
    /// Waits for its own success in the run before.
    pub depends_on_past: bool,
    /// Waits for the success of what follows it directly in the run before.
    pub wait_for_downstream: bool,
    /// Waits for `depends_on_past` even when it would be skipped.
    pub wait_for_past_depends_before_skipping: bool,
    /// `depends_on_past` does not hold up its first run.
    pub ignore_first_depends_on_past: bool,
    /// Not before this; the Dag's where the task has none.
    pub start_date: Option<Timestamp>,
    /// Not after this; the Dag's where the task has none.
    pub end_date: Option<Timestamp>,
    /// How many instances may run at once in all runs.
    pub max_active_tis_per_dag: Option<i32>,
    /// How many instances may run at once in one run.
    pub max_active_tis_per_dagrun: Option<i32>,

    /// The pool it takes slots from.
    pub pool: String,
    /// How many slots it takes.
    pub pool_slots: i32,
    /// Its own weight.
    pub priority_weight: i32,
    /// How weights add up.
    pub weight_rule: TaskWeightRule,
    /// The executor's queue.
    pub queue: String,
    /// The executor's name; the default one where none is given.
    pub executor: Option<String>,
    /// The OS user to run as.
    pub run_as_user: Option<String>,

    /// How often it is tried again.
    pub retries: i32,
    /// How long to wait before trying again.
    pub retry_delay: SignedDuration,
    /// By what the delay grows each time; 0 for not at all.
    pub retry_exponential_backoff: f64,
    /// The longest delay.
    pub max_retry_delay: Option<SignedDuration>,
    /// Whether the task's own code decides on retries.
    pub has_retry_policy: bool,
    /// How long one try may take.
    pub execution_timeout: Option<SignedDuration>,

    /// A set-up task (AIP-52).
    pub is_setup: bool,
    /// A teardown task (AIP-52).
    pub is_teardown: bool,
    /// Whether a teardown's failure fails the run.
    pub on_failure_fail_dagrun: bool,
    /// Does nothing: an `EmptyOperator`.
    pub is_empty: bool,
    /// May skip what follows: branches and short circuits.
    pub can_skip_downstream: bool,
    /// A sensor.
    pub is_sensor: bool,
    /// A sensor that gives up its slot between pokes. Not known for mapped sensors, whose mode may be mapped.
    pub reschedule: bool,
    /// Mapped, or inside a mapped group.
    pub needs_expansion: bool,
    /// What it is mapped over, if it is mapped itself.
    pub mapping: Option<Mapping>,
    /// The template of the name shown for each mapped instance.
    pub map_index_template: Option<String>,
    /// Starts in the triggerer.
    pub start_from_trigger: bool,
    /// How it does.
    pub start_trigger_args: Option<StartTriggerArgs>,

    /// The callbacks it has.
    pub callbacks: Callbacks,
    /// E-mail when it fails, if the JSON also has `email`.
    pub email_on_failure: bool,
    /// E-mail when it is retried, if the JSON also has `email`.
    pub email_on_retry: bool,
    /// Whether its result becomes an XCom.
    pub do_xcom_push: bool,
    /// Whether a dict result becomes an XCom for each key.
    pub multiple_outputs: bool,
    /// The assets it reads.
    pub inlets: Vec<AssetExpr>,
    /// The assets it changes.
    pub outlets: Vec<AssetExpr>,
    /// Its params, which go over the Dag's.
    pub params: Vec<Param>,

    /// The attributes that are templates; their values are in the JSON (`SerializedDag::task_json`).
    pub template_fields: Vec<String>,
    /// How to show some of them.
    pub template_fields_renderers: IndexMap<String, String>,
    /// Links to show: name to XCom key.
    pub extra_links: IndexMap<String, String>,
    /// Whether templates give Python objects; the Dag's choice where none is given.
    pub render_template_as_native_obj: Option<bool>,
    /// Documentation in Markdown.
    pub doc_md: Option<String>,
    /// The colour of its box.
    pub ui_color: String,
    /// The colour of its label.
    pub ui_fgcolor: String,
}

impl Task {
    /// The name to show.
    #[must_use]
    pub fn display_name(&self) -> &str {
        self.custom_display_name.as_deref().unwrap_or(self.task_id.as_str())
    }

    /// The id without the groups' part.
    #[must_use]
    pub fn label<'a>(&'a self, group_id: Option<&str>) -> &'a str {
        let id = self.task_id.as_str();
        group_id
            .and_then(|group| id.strip_prefix(group)?.strip_prefix('.'))
            .unwrap_or(id)
    }

    /// Whether the task itself is mapped.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.mapping.is_some()
    }
}

/// What a task takes from its Dag.
#[derive(Clone, Copy)]
pub(crate) struct TaskDefaults<'v> {
    /// `client_defaults.tasks`.
    pub(crate) client: Option<&'v Object>,
    pub(crate) start_date: Option<Timestamp>,
    pub(crate) end_date: Option<Timestamp>,
}

/// The layers in which a task's attributes are looked up.
struct Layers<'v> {
    own: &'v Object,
    partial: Option<&'v Object>,
    client: Option<&'v Object>,
}

impl<'v> Layers<'v> {
    fn layer_with(&self, key: &str) -> Option<(&'static str, &'v Object)> {
        let order = if self.partial.is_some() {
            [
                ("partial_kwargs", self.partial),
                ("client_defaults", self.client),
                ("", Some(self.own)),
            ]
        } else {
            [("", Some(self.own)), ("client_defaults", self.client), ("", None)]
        };
        order
            .into_iter()
            .filter_map(|(name, layer)| Some((name, layer?)))
            .find(|(_, layer)| layer.contains_key(key))
    }

    fn get<T>(&self, key: &str, item: impl FnOnce(&'v Value) -> Read<T>) -> Read<Option<T>> {
        match self.layer_with(key) {
            None => Ok(None),
            Some((name, layer)) => {
                optional(layer, key, |v| item(bare(v))).map_err(|e| if name.is_empty() { e } else { e.under(name) })
            }
        }
    }

    fn or<T>(&self, key: &str, default: T, item: impl FnOnce(&'v Value) -> Read<T>) -> Read<T> {
        self.get(key, item).map(|found| found.unwrap_or(default))
    }

    fn flag(&self, key: &str) -> Read<bool> {
        self.or(key, false, boolean)
    }

    /// `has_on_x_callback`, or the older `on_x_callback` with something in it.
    fn callback(&self, name: &str) -> Read<bool> {
        let older = |v: &Value| Ok(!matches!(v, Value::Null | Value::Bool(false)));
        Ok(self.flag(&format!("has_on_{name}_callback"))? || self.or(&format!("on_{name}_callback"), false, older)?)
    }
}

impl Task {
    pub(crate) fn read(own: &Object, defaults: TaskDefaults<'_>, find: FindTask<'_>) -> Read<Self> {
        let is_mapped = or(own, "_is_mapped", false, boolean)?;
        let partial = if is_mapped {
            Some(required(own, "partial_kwargs", object)?)
        } else {
            None
        };
        let at = Layers {
            own,
            partial,
            client: defaults.client,
        };
        let word = |key: &str, default: &str| at.or(key, default.to_owned(), string);
        let task_type = required(own, "task_type", string)?;
        let date = |key: &str| match optional(own, key, |v| instant(bare(v)))? {
            Some(own) => Ok(Some(own)),
            None => at.get(key, instant),
        };
        let shown_name = if is_mapped {
            "task_display_name"
        } else {
            "_task_display_name"
        };
        Ok(Self {
            task_id: TaskId::from(required(own, "task_id", text)?),
            custom_display_name: at.get(shown_name, string)?.filter(|name| !name.is_empty()),
            task_module: or(own, "_task_module", String::new(), string)?,
            operator_name: or(own, "_operator_name", task_type.clone(), string)?,
            task_type,
            owner: word("owner", "airflow")?,

            trigger_rule: at.or("trigger_rule", TriggerRule::AllSuccess, |v| {
                text(v)?.parse().map_err(|e: crate::UnknownName| DagError::here(e))
            })?,
            depends_on_past: at.flag("depends_on_past")?,
            wait_for_downstream: at.flag("wait_for_downstream")?,
            wait_for_past_depends_before_skipping: at.flag("wait_for_past_depends_before_skipping")?,
            ignore_first_depends_on_past: at.flag("ignore_first_depends_on_past")?,
            start_date: date("start_date")?.or(defaults.start_date),
            end_date: date("end_date")?.or(defaults.end_date),
            max_active_tis_per_dag: at.get("max_active_tis_per_dag", small)?,
            max_active_tis_per_dagrun: at.get("max_active_tis_per_dagrun", small)?,

            pool: word("pool", "default_pool")?,
            pool_slots: at.or("pool_slots", 1, small)?,
            priority_weight: at.or("priority_weight", 1, clipped)?,
            weight_rule: at.or(
                "weight_rule",
                TaskWeightRule::BuiltIn(WeightRule::Downstream),
                weight_rule,
            )?,
            queue: word("queue", "default")?,
            executor: at.get("executor", string)?,
            run_as_user: at.get("run_as_user", string)?,

            retries: at.or("retries", 0, small)?,
            retry_delay: at.or("retry_delay", SignedDuration::from_secs(300), seconds)?,
            retry_exponential_backoff: at.or("retry_exponential_backoff", 0.0, backoff)?,
            max_retry_delay: at.get("max_retry_delay", seconds)?,
            has_retry_policy: at.flag("has_retry_policy")?,
            execution_timeout: at.get("execution_timeout", seconds)?,

            is_setup: at.flag("is_setup")?,
            is_teardown: at.flag("is_teardown")?,
            on_failure_fail_dagrun: at.flag("on_failure_fail_dagrun")? || at.flag("_on_failure_fail_dagrun")?,
            is_empty: or(own, "_is_empty", false, boolean)?,
            can_skip_downstream: or(own, "_can_skip_downstream", false, boolean)?,
            is_sensor: or(own, "_is_sensor", false, boolean)?,
            reschedule: or(own, "reschedule", false, boolean)?,
            needs_expansion: or(own, "_needs_expansion", is_mapped, boolean)?,
            mapping: if is_mapped {
                Some(Mapping::read(own, find)?)
            } else {
                None
            },
            map_index_template: at.get("map_index_template", string)?,
            start_from_trigger: at.flag("start_from_trigger")?,
            start_trigger_args: optional(own, "start_trigger_args", StartTriggerArgs::read)?,

            callbacks: Callbacks {
                execute: at.callback("execute")?,
                failure: at.callback("failure")?,
                retry: at.callback("retry")?,
                success: at.callback("success")?,
                skipped: at.callback("skipped")?,
            },
            email_on_failure: at.or("email_on_failure", true, boolean)?,
            email_on_retry: at.or("email_on_retry", true, boolean)?,
            do_xcom_push: at.or("do_xcom_push", true, boolean)?,
            multiple_outputs: at.flag("multiple_outputs")?,
            inlets: at.or("inlets", Vec::new(), read_lets)?,
            outlets: at.or("outlets", Vec::new(), read_lets)?,
            params: or(own, "params", Vec::new(), Param::read_all)?,

            template_fields: or(own, "template_fields", Vec::new(), strings)?,
            template_fields_renderers: or(own, "template_fields_renderers", IndexMap::new(), words)?,
            extra_links: or(own, "_operator_extra_links", IndexMap::new(), words)?,
            render_template_as_native_obj: at.get("render_template_as_native_obj", boolean)?,
            doc_md: at.get("doc_md", string)?,
            ui_color: or(own, "ui_color", "#fff".to_owned(), string)?,
            ui_fgcolor: or(own, "ui_fgcolor", "#000".to_owned(), string)?,
        })
    }
}

impl Mapping {
    fn read(own: &Object, find: FindTask<'_>) -> Read<Self> {
        let attribute = or(own, "_expand_input_attr", "expand_input".to_owned(), string)?;
        Ok(Self {
            input: required(own, &attribute, |v| ExpandInput::read(v, find))?,
            attribute,
            disallow_kwargs_override: or(own, "_disallow_kwargs_override", false, boolean)?,
        })
    }
}

impl StartTriggerArgs {
    fn read(value: &Value) -> Read<Self> {
        let args = object(bare(value))?;
        Ok(Self {
            trigger_cls: required(args, "trigger_cls", string)?,
            trigger_kwargs: args.get("trigger_kwargs").cloned().unwrap_or(Value::Null),
            next_method: required(args, "next_method", string)?,
            next_kwargs: args.get("next_kwargs").cloned().unwrap_or(Value::Null),
            timeout: optional(args, "timeout", |v| seconds(bare(v)))?,
        })
    }
}

fn weight_rule(value: &Value) -> Read<TaskWeightRule> {
    let name = text(value)?;
    let short = name
        .strip_prefix("airflow.task.priority_strategy._")
        .and_then(|rest| rest.strip_suffix("PriorityWeightStrategy"))
        .map_or_else(|| name.to_owned(), str::to_lowercase);
    match short.parse() {
        Ok(rule) => Ok(TaskWeightRule::BuiltIn(rule)),
        Err(_) if name.contains('.') => Ok(TaskWeightRule::Custom(name.to_owned())),
        Err(unknown) => Err(DagError::here(Problem::from(crate::UnknownName {
            word: excerpt(&unknown.word),
            ..unknown
        }))),
    }
}

/// The factor by which a retry delay grows; `true` is the older way to say 2.
fn backoff(value: &Value) -> Read<f64> {
    match value {
        Value::Bool(grows) => Ok(if *grows { 2.0 } else { 0.0 }),
        number => real(number),
    }
}

/// A map of texts. Renderers may be written with other values, which say nothing.
fn words(value: &Value) -> Read<IndexMap<String, String>> {
    Ok(object(value)?
        .iter()
        .filter_map(|(key, item)| Some((key.clone(), plain(item).as_str()?.to_owned())))
        .collect())
}
