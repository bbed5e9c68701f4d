//! Clearing: whole runs, and task instances by choice.

use axum::body::Bytes;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunKey, RunState, TaskKey, TaskState, TiId};
use isobar_store::clearing::{self, Clear, ClearTask, Cleared};
use isobar_store::lists::runs::{self, RunRow};
use isobar_store::lists::task_instances::{self as instances, InstanceRow};
use isobar_store::lists::versions;
use isobar_store::{Tx, audit, notes, runs as run_rows};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::clear_partitions::Partitions;
use super::run_json::run as run_json;
use super::runs::{collection, missing, read_row};
use super::selection::{Direction, Runs, Tasks, by_run, find};
use super::stored_dag;
use super::task_instance_json::instance;
use super::task_instances::whole;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};

/// What the bodies for clearing runs share.
struct ClearRuns {
    dry_run: bool,
    only_failed: bool,
    only_new: bool,
    on_latest: Option<bool>,
    note: Option<String>,
}

impl ClearRuns {
    fn read(fields: &mut Fields) -> Self {
        let read = Self {
            dry_run: fields.flag("dry_run").unwrap_or(true),
            only_failed: fields.flag("only_failed").unwrap_or(false),
            only_new: fields.flag("only_new").unwrap_or(false),
            on_latest: fields.flag("run_on_latest_version"),
            note: fields.text("note", Some(1000)),
        };
        if read.only_new && read.only_failed {
            fields.refuse(None, "only_new and only_failed are mutually exclusive");
        }
        read
    }
}

pub(super) const FAILED: [Option<TaskState>; 2] = [Some(TaskState::Failed), Some(TaskState::UpstreamFailed)];

/// `POST /dags/{dag_id}/dagRuns/{dag_run_id}/clear`
pub(super) async fn run(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::Run, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let asked = ClearRuns::read(&mut fields);
    fields.done()?;
    let row = {
        let mut tx = ask.state.store.read().await?;
        read_row(&ask, &mut tx, &target).await?
    };
    if asked.dry_run {
        let (mut shown, new) = affected(&ask, &target, &row, &asked).await?;
        shown.extend(new);
        let total = shown.len();
        return ok(&json!({"task_instances": shown, "total_entries": total}));
    }
    let row = clear_run(&ask, &target, &row, &asked).await?;
    ok(&run_json(&row, &ask.names))
}

/// What clearing would touch: instances, and tasks that are new.
async fn affected(
    ask: &Ask,
    target: &Target,
    row: &RunRow,
    asked: &ClearRuns,
) -> Result<(Vec<Value>, Vec<Value>), ApiError> {
    let mut tx = ask.state.store.read().await?;
    let states = if asked.only_failed { FAILED.to_vec() } else { Vec::new() };
    let mut found = find(&mut tx, target, None, &Runs::One(row.run_id.clone()), states).await?;
    found.sort_by(|a, b| (&a.task_id, a.map_index).cmp(&(&b.task_id, b.map_index)));
    if !asked.only_new {
        return Ok((found.iter().map(|row| instance(row, &ask.names)).collect(), Vec::new()));
    }
    let dag = stored_dag::latest(&ask.state, &mut tx, target).await?;
    let mut new: Vec<&str> = dag
        .tasks()
        .map(|task| dag.graph().id(task).as_str())
        .filter(|id| !found.iter().any(|row| row.task_id.as_str() == *id))
        .collect();
    new.sort_unstable();
    let new = new
        .into_iter()
        .map(|id| json!({"task_id": id, "task_display_name": id}))
        .collect();
    Ok((Vec::new(), new))
}

async fn clear_run(ask: &Ask, target: &Target, row: &RunRow, asked: &ClearRuns) -> Result<RunRow, ApiError> {
    let states = if asked.only_failed { FAILED.to_vec() } else { Vec::new() };
    let scope = target.scope;
    let key = RunKey {
        dag_id: row.dag_id.clone(),
        run_id: row.run_id.clone(),
    };
    let now = Timestamp::now();
    let mut tx = ask.state.store.begin().await?;
    let dag = stored_dag::for_run(ask, &mut tx, target, Some(row)).await?;
    let found = if asked.only_new {
        new_instances(ask, &mut tx, target, &key, now).await?
    } else {
        find(&mut tx, target, None, &Runs::One(row.run_id.clone()), states).await?
    };
    let version = latest_version(ask, &mut tx, target, &dag, asked.on_latest).await?;
    if !found.is_empty() {
        let tasks = to_clear(ask, &mut tx, scope, &key, version, &found.iter().collect::<Vec<_>>()).await?;
        let clear = Clear {
            tasks: &tasks,
            run_state: Some(RunState::Queued),
            prevent_running: false,
            version_id: version,
            actor: Some(ask.caller.name()),
        };
        if matches!(
            clearing::clear(&mut tx, scope, &key, &clear, now).await?,
            Cleared::NoRun
        ) {
            return Err(missing(&target.written, row.run_id.as_str()));
        }
    }
    if let Some(note) = &asked.note {
        let note = Some(note.as_str()).filter(|note| !note.is_empty());
        run_rows::set_note(&mut tx, scope, &key, note, Some(ask.caller.name()), now).await?;
    }
    let record = audit::Record::new("clear_dag_run", ask.caller.name())
        .dag(&key.dag_id)
        .run(&key.run_id)
        .extra(json!({"only_failed": asked.only_failed, "only_new": asked.only_new}));
    audit::write(&mut tx, scope, &[record]);
    let cleared = runs::get(&mut tx, scope, &key.dag_id, &key.run_id).await?;
    tx.commit().await?;
    cleared.ok_or_else(|| missing(&target.written, row.run_id.as_str()))
}

/// Moves a run to the Dag's current version where that has tasks which the run's own version had not, and makes their
/// instances; answers these.
async fn new_instances(
    ask: &Ask,
    tx: &mut Tx,
    target: &Target,
    key: &RunKey,
    now: Timestamp,
) -> Result<Vec<InstanceRow>, ApiError> {
    let scope = target.scope;
    let (Some(run), Some(latest)) = (
        run_rows::get(tx, scope, key).await?,
        versions::get(tx, scope, &key.dag_id, None).await?,
    ) else {
        return Ok(Vec::new());
    };
    let new_runs = ask.state.execution.new_runs();
    let new = new_runs.new_tasks(tx, scope, &run, latest.id).await?;
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let missing = new_runs.missing_instances(tx, scope, &run, latest.id).await?;
    clearing::move_to_version(
        tx,
        scope,
        key,
        latest.id,
        latest.bundle_version.as_deref(),
        &missing,
        now,
    )
    .await?;
    let tasks = Tasks {
        whole: new.iter().map(ToString::to_string).collect(),
        ..Tasks::default()
    };
    find(tx, target, Some(&tasks), &Runs::One(key.run_id.clone()), Vec::new()).await
}

/// The Dag's current version, where cleared tasks move to it.
async fn latest_version(
    ask: &Ask,
    tx: &mut Tx,
    target: &Target,
    dag: &SerializedDag,
    asked: Option<bool>,
) -> Result<Option<Uuid>, ApiError> {
    if !ask.state.execution.settings().runs_again_on_latest(asked, dag, false) {
        return Ok(None);
    }
    let latest = versions::get(tx, target.scope, &target.dag_id(), None).await?;
    Ok(latest.map(|version| version.id))
}

/// Instances of one run to clear, with what the version that they will run on says of their tasks: the one that is named, else
/// the run's own where its bundle has versions, else the current one.
pub(super) async fn to_clear(
    ask: &Ask,
    tx: &mut Tx,
    scope: TeamScope,
    key: &RunKey,
    version: Option<Uuid>,
    rows: &[&InstanceRow],
) -> Result<Vec<ClearTask>, ApiError> {
    let bound = run_rows::get(tx, scope, key)
        .await?
        .filter(|run| run.bundle_version.is_some())
        .and_then(|run| run.created_version_id);
    let version = match version.or(bound) {
        Some(version) => Some(version),
        None => versions::get(tx, scope, &key.dag_id, None)
            .await?
            .map(|latest| latest.id),
    };
    let keys = rows.iter().map(|row| TaskKey {
        task_id: row.task_id.clone(),
        map_index: row.map_index,
    });
    let new_runs = ask.state.execution.new_runs();
    Ok(new_runs.to_clear(tx, scope, &key.dag_id, version, keys).await?)
}

/// `POST /dags/{dag_id}/clearDagRuns`
pub(super) async fn many_runs(ask: Ask, body: Bytes) -> Answer {
    let everywhere = ask.part("dag_id") == "~";
    let here = if everywhere {
        ask.read(Resource::Run)?;
        None
    } else {
        Some(ask.dag(Resource::Run, Action::Edit)?)
    };
    let mut fields = Fields::of_body(&body)?;
    let asked = ClearRuns::read(&mut fields);
    let partitions = Partitions::read(&mut fields);
    let listed = match fields.any("dag_runs") {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    if fields.is_sound() {
        partitions.check(&mut fields, "dag_runs (non-empty)", !listed.is_empty());
    }
    // Airflow reads this body twice, for the permissions and for the handler, and says what is wrong twice.
    let problems = fields.problems();
    if !problems.is_empty() {
        let again = problems.clone();
        return Err(ApiError::unprocessable(problems.into_iter().chain(again).collect()));
    }
    let mut meant: Vec<(Target, String)> = Vec::new();
    if listed.is_empty() {
        let Some(target) = here else {
            return Err(ApiError::bad_request(
                "Partition selectors require a concrete dag_id; '~' is not supported.",
            ));
        };
        let dag = {
            let mut tx = ask.state.store.read().await?;
            stored_dag::latest(&ask.state, &mut tx, &target).await?
        };
        let span = partitions.span(&ask, &target, &dag).await?;
        let mut tx = ask.state.store.read().await?;
        for row in partitions.runs(&mut tx, &target, span).await? {
            meant.push((target.clone(), row.run_id.to_string()));
        }
    } else {
        for (index, item) in listed.into_iter().enumerate() {
            let place = vec!["body".into(), "dag_runs".into(), index.into()];
            let mut fields = Fields::of(item, place).map_err(|problem| ApiError::unprocessable(vec![problem]))?;
            let run_id = fields.required_text("dag_run_id", None);
            let dag_id = fields.text("dag_id", None);
            fields.any("state");
            fields.any("note");
            fields.done()?;
            let target = match (&here, dag_id) {
                (None, Some(dag_id)) if dag_id != "~" => ask.target(&dag_id, Resource::Run, Action::Edit)?,
                (None, _) => {
                    return Err(ApiError::bad_request(format!(
                        "When the URL dag_id is '~', every entry must provide a concrete dag_id \
                         (missing on dag_run_id: '{run_id}')."
                    )));
                }
                (Some(here), Some(dag_id)) if dag_id != here.written => {
                    return Err(ApiError::bad_request(format!(
                        "Entry dag_id '{dag_id}' does not match the URL dag_id '{}'.",
                        here.written
                    )));
                }
                (Some(here), _) => here.clone(),
            };
            if !meant
                .iter()
                .any(|(known, id)| known.written == target.written && *id == run_id)
            {
                meant.push((target, run_id));
            }
        }
    }
    let mut rows = Vec::new();
    for (target, run_id) in &meant {
        let mut tx = ask.state.store.read().await?;
        let row = runs::get(&mut tx, target.scope, &target.dag_id(), &run_id.as_str().into())
            .await?
            .ok_or_else(|| missing(&target.written, run_id))?;
        rows.push((target, row));
    }
    if asked.dry_run {
        let mut shown = Vec::new();
        for (target, row) in rows {
            let (known, new) = affected(&ask, target, &row, &asked).await?;
            shown.extend(known);
            shown.extend(new);
        }
        let total = shown.len();
        return ok(&json!({"task_instances": shown, "total_entries": total}));
    }
    let mut cleared = Vec::new();
    for (target, row) in rows {
        cleared.push(clear_run(&ask, target, &row, &asked).await?);
    }
    let total = i64::try_from(cleared.len()).unwrap_or(i64::MAX);
    ok(&collection(&ask, &cleared, total))
}

/// The body of `clearTaskInstances`.
struct ClearTasks {
    dry_run: bool,
    start_date: Option<Timestamp>,
    end_date: Option<Timestamp>,
    only_failed: bool,
    only_running: bool,
    reset_runs: bool,
    tasks: Option<Tasks>,
    run_id: Option<String>,
    upstream: bool,
    downstream: bool,
    future: bool,
    past: bool,
    on_latest: Option<bool>,
    prevent_running: bool,
    note: Option<String>,
}

impl ClearTasks {
    fn read(body: &Bytes) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        // Airflow's own validator looks at the raw body first and stops at its first complaint.
        let raw = |name: &'static str, fields: &mut Fields| fields.any(name).unwrap_or(Value::Null);
        let truth = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        let (failed, running) = (raw("only_failed", &mut fields), raw("only_running", &mut fields));
        let (start, end, run) = (
            raw("start_date", &mut fields),
            raw("end_date", &mut fields),
            raw("dag_run_id", &mut fields),
        );
        let no_tasks = raw("task_ids", &mut fields).as_array().is_some_and(Vec::is_empty);
        let complaint = if truth(&failed) && truth(&running) {
            Some("only_failed and only_running both are set to True")
        } else if truth(&start) && truth(&end) && start.as_str() > end.as_str() {
            Some("end_date is sooner than start_date")
        } else if truth(&start) && truth(&end) && truth(&run) {
            Some("Exactly one of dag_run_id or (start_date and end_date) must be provided")
        } else if truth(&start) && truth(&run) {
            Some("Exactly one of dag_run_id or start_date must be provided")
        } else if truth(&end) && truth(&run) {
            Some("Exactly one of dag_run_id or end_date must be provided")
        } else if no_tasks {
            Some("task_ids list should have at least 1 element.")
        } else {
            None
        };
        if let Some(complaint) = complaint {
            let mut whole = Fields::of_body(body)?;
            whole.refuse(None, complaint);
            return Err(ApiError::unprocessable(vec![whole.problems().remove(0)]));
        }
        let read = Self {
            dry_run: fields.flag("dry_run").unwrap_or(true),
            start_date: fields.time("start_date", true),
            end_date: fields.time("end_date", true),
            only_failed: fields.flag("only_failed").unwrap_or(true),
            only_running: fields.flag("only_running").unwrap_or(false),
            reset_runs: fields.flag("reset_dag_runs").unwrap_or(true),
            tasks: match fields.any("task_ids") {
                Some(Value::Array(items)) => Some(markers(&items)?),
                _ => None,
            },
            run_id: fields.text("dag_run_id", None),
            upstream: fields.flag("include_upstream").unwrap_or(false),
            downstream: fields.flag("include_downstream").unwrap_or(false),
            future: fields.flag("include_future").unwrap_or(false),
            past: fields.flag("include_past").unwrap_or(false),
            on_latest: fields.flag("run_on_latest_version"),
            prevent_running: fields.flag("prevent_running_task").unwrap_or(false),
            note: fields.text("note", Some(1000)),
        };
        fields.done()?;
        Ok(read)
    }
}

/// `"task"` or `["task", 3]`.
fn markers(items: &[Value]) -> Result<Tasks, ApiError> {
    let mut tasks = Tasks::default();
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match item {
            Value::String(id) => {
                tasks.whole.insert(id.clone());
            }
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(id), Value::Number(at)] if at.is_i64() => {
                    tasks.single.insert((id.clone(), at.as_i64().unwrap_or(-1)));
                }
                _ => problems.push(marker_problem(index, item)),
            },
            _ => problems.push(marker_problem(index, item)),
        }
    }
    if problems.is_empty() {
        tasks.single.retain(|(id, _)| !tasks.whole.contains(id));
        Ok(tasks)
    } else {
        Err(ApiError::unprocessable(problems))
    }
}

fn marker_problem(index: usize, item: &Value) -> Value {
    json!({
        "type": "string_type",
        "loc": ["body", "task_ids", index, "str"],
        "msg": "Input should be a valid string",
        "input": item,
    })
}

/// `POST /dags/{dag_id}/clearTaskInstances`
pub(super) async fn task_instances(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::TaskInstance, Action::Edit)?;
    let asked = ClearTasks::read(&body)?;
    let (found, version) = {
        let mut tx = ask.state.store.read().await?;
        let mut dag = stored_dag::latest(&ask.state, &mut tx, &target).await?;
        let version = latest_version(&ask, &mut tx, &target, &dag, asked.on_latest).await?;
        let (mut start, mut end) = (asked.start_date, asked.end_date);
        if let Some(run_id) = &asked.run_id {
            let run = runs::get(&mut tx, target.scope, &target.dag_id(), &run_id.as_str().into())
                .await?
                .ok_or_else(|| {
                    ApiError::not_found(format!("Dag Run id {run_id} not found in dag {}", target.written))
                })?;
            dag = stored_dag::for_run(&ask, &mut tx, &target, Some(&run)).await?;
            if (asked.past || asked.future) && run.logical_date.is_none() {
                return Err(ApiError::bad_request(
                    "Cannot use include_past or include_future with no logical_date(e.g. manually or asset-triggered).",
                ));
            }
            (start, end) = (run.logical_date, run.logical_date);
        }
        if asked.past {
            start = None;
        }
        if asked.future {
            end = None;
        }
        let mut tasks = asked.tasks.clone();
        if let Some(tasks) = &mut tasks {
            if asked.run_id.is_none() && (asked.upstream || asked.downstream) {
                // Without a run nobody knows which indices belong together.
                tasks
                    .whole
                    .extend(subset_of(&dag, tasks, asked.upstream, asked.downstream));
            } else {
                if asked.upstream {
                    tasks.add_relatives(&dag, Direction::Up);
                }
                if asked.downstream {
                    tasks.add_relatives(&dag, Direction::Down);
                }
            }
            tasks.add_fixtures(&dag);
        }
        let among = match &asked.run_id {
            Some(run_id) if !asked.past && !asked.future => Runs::One(run_id.as_str().into()),
            _ => Runs::Between(start, end),
        };
        let mut states = if asked.only_failed { FAILED.to_vec() } else { Vec::new() };
        if asked.only_running {
            states.push(Some(TaskState::Running));
        }
        let found = find(&mut tx, &target, tasks.as_ref(), &among, states).await?;
        (found, version)
    };
    if asked.dry_run {
        return ok(&whole(&ask, &found));
    }
    if asked.prevent_running && found.iter().any(|row| row.state == Some(TaskState::Running)) {
        return Err(running());
    }
    let mut ids: Vec<TiId> = Vec::new();
    let mut tx = ask.state.store.begin().await?;
    for (key, rows) in by_run(&found) {
        let tasks = to_clear(&ask, &mut tx, target.scope, &key, version, &rows).await?;
        let clear = Clear {
            tasks: &tasks,
            run_state: asked.reset_runs.then_some(RunState::Queued),
            prevent_running: asked.prevent_running,
            version_id: version,
            actor: Some(ask.caller.name()),
        };
        match clearing::clear(&mut tx, target.scope, &key, &clear, Timestamp::now()).await? {
            Cleared::Done(_, cleared) => ids.extend(cleared.iter().map(|ti| ti.id)),
            Cleared::NoRun => {}
            Cleared::Running(_) => return Err(running()),
        }
    }
    if let Some(note) = &asked.note {
        let note = Some(note.as_str()).filter(|note| !note.is_empty());
        notes::set(&mut tx, target.scope, &ids, note, ask.caller.name()).await?;
    }
    tx.commit().await?;
    let mut tx = ask.state.store.read().await?;
    let rows = instances::by_ids(&mut tx, target.scope, &ids).await?;
    ok(&whole(&ask, &rows))
}

/// The relatives of tasks in both directions, whatever the indices.
fn subset_of(dag: &SerializedDag, tasks: &Tasks, upstream: bool, downstream: bool) -> Vec<String> {
    let mut all = Tasks {
        whole: tasks.ids().into_iter().collect(),
        ..Tasks::default()
    };
    let named = all.whole.clone();
    if upstream {
        all.add_relatives(dag, Direction::Up);
    }
    if downstream {
        let mut down = Tasks {
            whole: named.clone(),
            ..Tasks::default()
        };
        down.add_relatives(dag, Direction::Down);
        all.whole.extend(down.whole);
    }
    all.whole.difference(&named).cloned().collect()
}

fn running() -> ApiError {
    ApiError::conflict(
        "AirflowClearRunningTaskException: Disable 'prevent_running_task' to proceed, or wait until the task is not \
         running, queued, or scheduled state.",
    )
}
