//! Clearing: whole runs, and task instances by choice.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunKey, RunState, TaskKey, TaskState, TiId};
use isobar_store::clearing::{self, Clear, ClearTask, Cleared};
use isobar_store::lists::runs::{self, RunRow};
use isobar_store::lists::task_instances::{self as instances, InstanceRow};
use isobar_store::lists::versions;
use isobar_store::{audit, notes, runs as run_rows};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

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

const FAILED: [Option<TaskState>; 2] = [Some(TaskState::Failed), Some(TaskState::UpstreamFailed)];

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
    let (found, dag, version) = {
        let mut tx = ask.state.store.read().await?;
        let dag = stored_dag::for_run(ask, &mut tx, target, Some(row)).await?;
        let version = latest_version(
            &mut tx,
            target,
            &dag,
            asked.on_latest.or(asked.only_new.then_some(true)),
        )
        .await?;
        let found = find(&mut tx, target, None, &Runs::One(row.run_id.clone()), states).await?;
        (if asked.only_new { Vec::new() } else { found }, dag, version)
    };
    let key = RunKey {
        dag_id: row.dag_id.clone(),
        run_id: row.run_id.clone(),
    };
    let now = Timestamp::now();
    let mut tx = ask.state.store.begin().await?;
    let tasks = to_clear(found.iter(), &dag);
    let clear = Clear {
        tasks: &tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: version,
        actor: Some(ask.caller.name()),
    };
    if matches!(
        clearing::clear(&mut tx, target.scope, &key, &clear, now).await?,
        Cleared::NoRun
    ) {
        return Err(missing(&target.written, row.run_id.as_str()));
    }
    if asked.only_new {
        // Nothing is cleared; the run wakes up and takes its new tasks from the latest version.
        let nothing = |_: &isobar_model::TaskId| false;
        clearing::set_run_state(
            &mut tx,
            target.scope,
            &key,
            RunState::Queued,
            &nothing,
            Some(ask.caller.name()),
            now,
        )
        .await?;
    }
    if let Some(note) = &asked.note {
        let note = Some(note.as_str()).filter(|note| !note.is_empty());
        run_rows::set_note(&mut tx, target.scope, &key, note, Some(ask.caller.name()), now).await?;
    }
    let record = audit::Record::new("clear_dag_run", ask.caller.name())
        .dag(&key.dag_id)
        .run(&key.run_id)
        .extra(json!({"only_failed": asked.only_failed, "only_new": asked.only_new}));
    audit::write(&mut tx, target.scope, &[record]).await?;
    let cleared = runs::get(&mut tx, target.scope, &key.dag_id, &key.run_id).await?;
    tx.commit().await?;
    cleared.ok_or_else(|| missing(&target.written, row.run_id.as_str()))
}

/// The Dag's current version, where cleared tasks move to it: as asked for, else as the Dag says, else not.
async fn latest_version(
    tx: &mut isobar_store::Tx,
    target: &Target,
    dag: &SerializedDag,
    asked: Option<bool>,
) -> Result<Option<Uuid>, ApiError> {
    if !asked.or(dag.rerun_with_latest_version).unwrap_or(false) {
        return Ok(None);
    }
    let latest = versions::get(tx, target.scope, &target.dag_id(), None).await?;
    Ok(latest.map(|version| version.id))
}

fn to_clear<'r>(rows: impl Iterator<Item = &'r InstanceRow>, dag: &SerializedDag) -> Vec<ClearTask> {
    rows.map(|row| ClearTask {
        key: TaskKey {
            task_id: row.task_id.clone(),
            map_index: row.map_index,
        },
        retries: dag.task_by_id(row.task_id.as_str()).map(|task| task.retries),
    })
    .collect()
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
    let partition_key = fields.text("partition_key", None);
    let from = fields.time("partition_date_start", false);
    let to = fields.time("partition_date_end", false);
    let listed = match fields.any("dag_runs") {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let by_date = from.is_some() || to.is_some();
    let modes = [!listed.is_empty(), partition_key.is_some(), by_date];
    if fields.is_sound() && modes.iter().filter(|given| **given).count() != 1 {
        fields.refuse(
            None,
            "Exactly one of dag_runs (non-empty), partition_key, or a partition date window \
             (partition_date_start / partition_date_end) must be provided.",
        );
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
        for run_id in of_partition(&ask, &target, partition_key, from, to).await? {
            meant.push((target.clone(), run_id));
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

async fn of_partition(
    ask: &Ask,
    target: &Target,
    key: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<String>, ApiError> {
    let mut tx = ask.state.store.read().await?;
    stored_dag::latest(&ask.state, &mut tx, target).await?;
    let filter = runs::RunFilter {
        dag_id: Some(target.dag_id()),
        partition_date: isobar_store::lists::TimeRange {
            gte: from,
            lte: to,
            ..Default::default()
        },
        ..runs::RunFilter::default()
    };
    let order = runs::ORDER.order(&["partition_date".into(), "run_id".into()])?;
    let page = isobar_store::lists::Page {
        limit: u32::MAX,
        offset: 0,
    };
    let found = runs::list(&mut tx, &target.scope.into(), &filter, &order, page).await?;
    Ok(found
        .rows
        .into_iter()
        .filter(|row| match &key {
            Some(key) => row.partition_key.as_ref() == Some(key),
            None => row.partition_date.is_some(),
        })
        .map(|row| row.run_id.to_string())
        .collect())
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
    let (found, dag, version) = {
        let mut tx = ask.state.store.read().await?;
        let mut dag = stored_dag::latest(&ask.state, &mut tx, &target).await?;
        let version = latest_version(&mut tx, &target, &dag, asked.on_latest).await?;
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
            let named = tasks.clone();
            if asked.upstream {
                tasks.add_relatives(&dag, Direction::Up);
            }
            if asked.downstream {
                let mut down = named;
                down.add_relatives(&dag, Direction::Down);
                tasks.whole.extend(down.whole);
                tasks.single.extend(down.single);
                let whole = tasks.whole.clone();
                tasks.single.retain(|(id, _)| !whole.contains(id));
            }
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
        (found, dag, version)
    };
    if asked.dry_run {
        return ok(&whole(&ask, &found));
    }
    if asked.prevent_running && found.iter().any(|row| row.state == Some(TaskState::Running)) {
        return Err(running());
    }
    let mut ids: Vec<TiId> = Vec::new();
    for (key, rows) in by_run(&found) {
        let tasks = to_clear(rows.into_iter(), &dag);
        let clear = Clear {
            tasks: &tasks,
            run_state: asked.reset_runs.then_some(RunState::Queued),
            prevent_running: asked.prevent_running,
            version_id: version,
            actor: Some(ask.caller.name()),
        };
        let mut tx = ask.state.store.begin().await?;
        match clearing::clear(&mut tx, target.scope, &key, &clear, Timestamp::now()).await? {
            Cleared::Done(_, cleared) => {
                let cleared: Vec<TiId> = cleared.iter().map(|ti| ti.id).collect();
                if let Some(note) = &asked.note {
                    let note = Some(note.as_str()).filter(|note| !note.is_empty());
                    notes::set(&mut tx, target.scope, &cleared, note, ask.caller.name()).await?;
                }
                ids.extend(cleared);
            }
            Cleared::NoRun => continue,
            Cleared::Running(_) => return Err(running()),
        }
        tx.commit().await?;
    }
    let mut tx = ask.state.store.read().await?;
    let rows = instances::by_ids(&mut tx, target.scope, &ids).await?;
    ok(&whole(&ask, &rows))
}

fn running() -> ApiError {
    ApiError::conflict(
        "AirflowClearRunningTaskException: Disable 'prevent_running_task' to proceed, or wait until the task is not \
         running, queued, or scheduled state.",
    )
}
