//! Marking task instances, singly, by task group or in bulk, and writing their notes.

use std::sync::Arc;

use axum::body::Bytes;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunId, RunKey, RunState, TaskId, TaskKey, TaskState};
use isobar_store::Tx;
use isobar_store::clearing::{self, Clear};
use isobar_store::lists::runs;
use isobar_store::lists::task_instances::{self as instances, InstanceRow};
use isobar_store::notes;
use jiff::Timestamp;
use serde_json::json;

use super::clear::{FAILED, to_clear};
use super::selection::{Direction, Runs, Tasks, by_run, find, relatives, runs_around};
use super::stored_dag;
use super::task_instances::{missing_text, small, whole};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) state: Option<TaskState>,
    pub(super) note: Option<String>,
    pub(super) has_note: bool,
    upstream: bool,
    downstream: bool,
    future: bool,
    past: bool,
}

/// States that a person may give to a task instance.
const GIVEN: [&str; 3] = ["success", "failed", "skipped"];

impl Asked {
    /// Reads the fields of a patch.
    pub(super) fn read(fields: &mut Fields) -> Self {
        let mut state = None;
        match fields.any("new_state") {
            Some(serde_json::Value::String(word)) if GIVEN.contains(&word.to_lowercase().as_str()) => {
                state = word.to_lowercase().parse().ok();
            }
            Some(serde_json::Value::Null) => fields.refuse(Some("new_state"), "'new_state' should not be empty"),
            Some(serde_json::Value::String(word)) => {
                let word = word.to_lowercase();
                fields.refuse(
                    Some("new_state"),
                    &format!("'{word}' is not one of ['success', 'failed', 'skipped']"),
                );
            }
            Some(_) => {
                fields.text("new_state", None);
            }
            None => {}
        }
        Self {
            state,
            note: fields.text("note", Some(1000)),
            has_note: fields.has("note"),
            upstream: fields.flag("include_upstream").unwrap_or(false),
            downstream: fields.flag("include_downstream").unwrap_or(false),
            future: fields.flag("include_future").unwrap_or(false),
            past: fields.flag("include_past").unwrap_or(false),
        }
    }

    /// The same without what an update mask leaves out.
    pub(super) fn masked(mut self, mask: &[String]) -> Self {
        let named = |name: &str| mask.is_empty() || mask.iter().any(|one| one == name);
        self.state = self.state.filter(|_| named("new_state"));
        self.has_note &= named("note");
        self
    }

    fn of_body(ask: &Ask, body: &Bytes) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let asked = Self::read(&mut fields);
        fields.done()?;
        Ok(asked.masked(&ask.query.texts("update_mask")))
    }
}

/// The instances that are meant, and where they are.
pub(super) struct Meant {
    pub(super) target: Target,
    pub(super) run_id: RunId,
    dag: Arc<SerializedDag>,
    /// The tasks, or the one instance of a mapped task.
    tasks: Tasks,
    pub(super) rows: Vec<InstanceRow>,
}

/// One task, or one instance of it, in one run.
///
/// # Errors
/// 404 in Airflow's words where there is no such Dag, task or instance.
pub(super) async fn of_task(
    ask: &Ask,
    target: Target,
    run_id: RunId,
    task_id: &TaskId,
    map_index: Option<i32>,
) -> Result<Meant, ApiError> {
    let mut tx = ask.state.store.read().await?;
    let dag = stored_dag::latest(&ask.state, &mut tx, &target).await?;
    if dag.find_task(task_id.as_str()).is_none() {
        return Err(ApiError::not_found(format!(
            "Task '{task_id}' not found in Dag '{}'",
            target.written
        )));
    }
    let rows = instances::of_task(&mut tx, target.scope, &target.dag_id(), &run_id, task_id, map_index).await?;
    if rows.is_empty() {
        let shown = map_index.map_or_else(|| "None".to_owned(), |index| index.to_string());
        let text = missing_text(&target.written, run_id.as_str(), task_id.as_str(), &shown);
        return Err(ApiError::not_found(json!([text])));
    }
    let mut tasks = Tasks::default();
    match map_index {
        Some(index) => {
            tasks.single.insert((task_id.to_string(), i64::from(index)));
        }
        None => {
            tasks.whole.insert(task_id.to_string());
        }
    }
    Ok(Meant {
        target,
        run_id,
        dag,
        tasks,
        rows,
    })
}

/// The tasks of a group in one run.
async fn of_group(ask: &Ask) -> Result<Meant, ApiError> {
    let target = ask.dag(Resource::TaskInstance, Action::Edit)?;
    let (group_id, run_id) = (ask.part("group_id"), ask.run_id());
    let mut tx = ask.state.store.read().await?;
    let dag = stored_dag::latest(&ask.state, &mut tx, &target).await?;
    let group = dag
        .groups()
        .find(group_id)
        .ok_or_else(|| ApiError::not_found(format!("Task group '{group_id}' not found in DAG '{}'", target.written)))?;
    let tasks = Tasks {
        whole: dag
            .groups()
            .tasks_inside(group)
            .into_iter()
            .map(|task| dag.graph().id(task).to_string())
            .collect(),
        ..Tasks::default()
    };
    let mut rows = find(&mut tx, &target, Some(&tasks), &Runs::One(run_id.clone()), Vec::new()).await?;
    rows.sort_by(|a, b| (&a.task_id, a.map_index).cmp(&(&b.task_id, b.map_index)));
    if rows.is_empty() {
        return Err(ApiError::not_found(format!(
            "No task instances found for task group '{group_id}' in dag run '{run_id}'"
        )));
    }
    Ok(Meant {
        target,
        run_id,
        dag,
        tasks,
        rows,
    })
}

/// The instances that marking would change.
async fn to_mark(ask: &Ask, meant: &Meant, asked: &Asked, state: TaskState) -> Result<Vec<InstanceRow>, ApiError> {
    let run = {
        let mut tx = ask.state.store.read().await?;
        runs::get(&mut tx, meant.target.scope, &meant.target.dag_id(), &meant.run_id).await?
    };
    let run = run.ok_or_else(|| super::runs::missing(&meant.target.written, meant.run_id.as_str()))?;
    let among = runs_around(ask, &meant.target, &meant.dag, &run, asked.past, asked.future).await?;
    let mut tasks = meant.tasks.clone();
    for id in meant.tasks.ids() {
        let Some(task) = meant.dag.find_task(&id) else { continue };
        if asked.downstream {
            let is_teardown = |id: &String| meant.dag.task_by_id(id).is_some_and(|task| task.is_teardown);
            let down = relatives(&meant.dag, task, Direction::Down);
            tasks.whole.extend(down.into_iter().filter(|id| !is_teardown(id)));
        }
        if asked.upstream {
            tasks.whole.extend(relatives(&meant.dag, task, Direction::Up));
        }
    }
    let mut tx = ask.state.store.read().await?;
    let mut found = find(&mut tx, &meant.target, Some(&tasks), &Runs::These(among), Vec::new()).await?;
    found.retain(|row| row.state != Some(state));
    Ok(found)
}

/// Writes the note, then the state; answers what was marked.
///
/// # Errors
/// 409 with the words of `already` where everything is in that state.
pub(super) async fn apply(
    ask: &Ask,
    meant: &Meant,
    asked: &Asked,
    already: &(dyn Fn(TaskState) -> String + Sync),
) -> Result<Vec<InstanceRow>, ApiError> {
    let scope = meant.target.scope;
    if asked.has_note {
        let ids: Vec<_> = meant.rows.iter().map(|row| row.id).collect();
        let note = asked.note.as_deref().filter(|note| !note.is_empty());
        let mut tx = ask.state.store.begin().await?;
        notes::set(&mut tx, scope, &ids, note, ask.caller.name()).await?;
        tx.commit().await?;
    }
    let Some(state) = asked.state else {
        return Ok(Vec::new());
    };
    let found = to_mark(ask, meant, asked, state).await?;
    if found.is_empty() {
        return Err(ApiError::conflict(already(state)));
    }
    mark(ask, meant, asked, &found, state).await?;
    Ok(found)
}

/// Marks run by run; what failed below is cleared, so that it can go on.
async fn mark(
    ask: &Ask,
    meant: &Meant,
    asked: &Asked,
    found: &[InstanceRow],
    state: TaskState,
) -> Result<(), ApiError> {
    let scope = meant.target.scope;
    let actor = Some(ask.caller.name());
    let now = Timestamp::now();
    let mut tx = ask.state.store.begin().await?;
    for (key, rows) in by_run(found) {
        let keys: Vec<TaskKey> = rows.iter().map(|row| key_of(row)).collect();
        clearing::mark(&mut tx, scope, &key, &keys, state, actor, now).await?;
    }
    let run = runs::get(&mut tx, scope, &meant.target.dag_id(), &meant.run_id).await?;
    let date = run.and_then(|run| run.logical_date);
    let among = match (asked.past, asked.future) {
        (true, true) => Runs::Between(None, None),
        (true, false) if date.is_some() => Runs::Between(None, date),
        (false, true) if date.is_some() => Runs::Between(date, None),
        _ => Runs::One(meant.run_id.clone()),
    };
    let own = meant.tasks.ids().into_iter().collect();
    let below = Tasks::below(&meant.dag, &own);
    if !below.whole.is_empty() {
        let blocked = find(&mut tx, &meant.target, Some(&below), &among, FAILED.to_vec()).await?;
        for (key, rows) in by_run(&blocked) {
            clear_in(ask, &mut tx, scope, &key, rows, now).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Clears instances of one run, on the version that the run follows.
async fn clear_in(
    ask: &Ask,
    tx: &mut Tx,
    scope: TeamScope,
    key: &RunKey,
    rows: Vec<&InstanceRow>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let tasks = to_clear(ask, tx, scope, key, None, &rows).await?;
    let clear = Clear {
        tasks: &tasks,
        run_state: Some(RunState::Queued),
        prevent_running: false,
        version_id: None,
        actor: Some(ask.caller.name()),
    };
    clearing::clear(tx, scope, key, &clear, now).await?;
    Ok(())
}

fn key_of(row: &InstanceRow) -> TaskKey {
    TaskKey {
        task_id: row.task_id.clone(),
        map_index: row.map_index,
    }
}

/// What the path names.
async fn of_path(ask: &mut Ask) -> Result<Meant, ApiError> {
    let target = ask.dag(Resource::TaskInstance, Action::Edit)?;
    let map_index = if ask.part("map_index").is_empty() {
        let index = ask.query.int("map_index");
        ask.query.done()?;
        index.map(|index| i32::try_from(index).unwrap_or(i32::MIN))
    } else {
        Some(small(ask, "map_index")?)
    };
    of_task(ask, target, ask.run_id(), &ask.task_id(), map_index).await
}

/// The refusal to mark what is marked so already.
pub(super) fn already(task_id: &TaskId, state: TaskState) -> String {
    format!("Task id {task_id} is already in {state} state")
}

/// The rows as they are now, in the same order.
async fn again(ask: &Ask, meant: &Meant, rows: &[InstanceRow]) -> Result<Vec<InstanceRow>, ApiError> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut tx = ask.state.store.read().await?;
    Ok(instances::by_ids(&mut tx, meant.target.scope, &ids).await?)
}

/// `PATCH …/taskInstances/{task_id}[/{map_index}]/dry_run`
pub(super) async fn dry_run(mut ask: Ask, body: Bytes) -> Answer {
    ask.dag(Resource::TaskInstance, Action::Edit)?;
    let asked = Asked::of_body(&ask, &body)?;
    let meant = of_path(&mut ask).await?;
    match asked.state {
        None => ok(&whole(&ask, &meant.rows)),
        Some(state) => ok(&whole(&ask, &to_mark(&ask, &meant, &asked, state).await?)),
    }
}

/// `PATCH …/taskInstances/{task_id}[/{map_index}]`
pub(super) async fn one(mut ask: Ask, body: Bytes) -> Answer {
    ask.dag(Resource::TaskInstance, Action::Edit)?;
    let asked = Asked::of_body(&ask, &body)?;
    let meant = of_path(&mut ask).await?;
    apply(&ask, &meant, &asked, &|state| already(&ask.task_id(), state)).await?;
    let rows = again(&ask, &meant, &meant.rows).await?;
    ok(&whole(&ask, &rows))
}

/// `PATCH …/taskGroupInstances/{group_id}/dry_run`
pub(super) async fn group_dry_run(ask: Ask, body: Bytes) -> Answer {
    ask.dag(Resource::TaskInstance, Action::Edit)?;
    let asked = Asked::of_body(&ask, &body)?;
    let meant = of_group(&ask).await?;
    match asked.state {
        None => ok(&whole(&ask, &meant.rows)),
        Some(state) => ok(&whole(&ask, &to_mark(&ask, &meant, &asked, state).await?)),
    }
}

/// `PATCH …/taskGroupInstances/{group_id}`
pub(super) async fn group(ask: Ask, body: Bytes) -> Answer {
    ask.dag(Resource::TaskInstance, Action::Edit)?;
    let asked = Asked::of_body(&ask, &body)?;
    let meant = of_group(&ask).await?;
    let already = |state| format!("All task instances in the group are already in {state} state");
    let marked = apply(&ask, &meant, &asked, &already).await?;
    let shown = if asked.state.is_some() { &marked } else { &meant.rows };
    let rows = again(&ask, &meant, shown).await?;
    ok(&whole(&ask, &rows))
}
