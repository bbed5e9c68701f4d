//! Marking task instances, and writing their notes.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::dag::SerializedDag;
use isobar_model::{RunState, TaskKey, TaskState};
use isobar_store::clearing::{self, Clear, ClearTask};
use isobar_store::lists::runs;
use isobar_store::lists::task_instances::{self as instances, InstanceRow};
use isobar_store::notes;
use jiff::Timestamp;
use serde_json::json;

use super::selection::{Direction, Runs, Tasks, by_run, find, relatives, runs_around};
use super::stored_dag;
use super::task_instances::{missing_text, small, whole};
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};

/// What is asked for.
pub(super) struct Asked {
    state: Option<TaskState>,
    note: Option<String>,
    has_note: bool,
    upstream: bool,
    downstream: bool,
    future: bool,
    past: bool,
}

/// States that a person may give to a task instance.
const GIVEN: [&str; 3] = ["success", "failed", "skipped"];

impl Asked {
    fn read(body: &Bytes, mask: &[String]) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let masked = |name: &str| mask.is_empty() || mask.iter().any(|one| one == name);
        let given = fields.has("new_state");
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
        let asked = Self {
            state: state.filter(|_| given && masked("new_state")),
            note: fields.text("note", Some(1000)),
            has_note: fields.has("note") && masked("note"),
            upstream: fields.flag("include_upstream").unwrap_or(false),
            downstream: fields.flag("include_downstream").unwrap_or(false),
            future: fields.flag("include_future").unwrap_or(false),
            past: fields.flag("include_past").unwrap_or(false),
        };
        fields.done()?;
        Ok(asked)
    }
}

/// The instances that the path names, and the Dag.
struct Named {
    target: Target,
    asked: Asked,
    dag: std::sync::Arc<SerializedDag>,
    rows: Vec<InstanceRow>,
    map_index: Option<i32>,
}

async fn named(ask: &mut Ask, body: &Bytes) -> Result<Named, ApiError> {
    let target = ask.dag(Resource::TaskInstance, Action::Edit)?;
    let map_index = if ask.part("map_index").is_empty() {
        let index = ask.query.int("map_index");
        ask.query.done()?;
        index.map(|index| i32::try_from(index).unwrap_or(i32::MIN))
    } else {
        Some(small(ask, "map_index")?)
    };
    let asked = Asked::read(body, &ask.query.texts("update_mask"))?;
    let mut tx = ask.state.store.read().await?;
    let dag = stored_dag::latest(&ask.state, &mut tx, &target).await?;
    let task_id = ask.task_id();
    if dag.find_task(task_id.as_str()).is_none() {
        return Err(ApiError::not_found(format!(
            "Task '{task_id}' not found in Dag '{}'",
            target.written
        )));
    }
    let rows = instances::of_task(
        &mut tx,
        target.scope,
        &target.dag_id(),
        &ask.run_id(),
        &task_id,
        map_index,
    )
    .await?;
    if rows.is_empty() {
        let shown = map_index.map_or_else(|| "None".to_owned(), |index| index.to_string());
        return Err(ApiError::not_found(json!([missing_text(ask, &target, &shown)])));
    }
    Ok(Named {
        target,
        asked,
        dag,
        rows,
        map_index,
    })
}

/// The instances that marking would change.
async fn to_mark(ask: &Ask, named: &Named, state: TaskState) -> Result<Vec<InstanceRow>, ApiError> {
    let mut tx = ask.state.store.read().await?;
    let run = runs::get(&mut tx, named.target.scope, &named.target.dag_id(), &ask.run_id())
        .await?
        .ok_or_else(|| super::runs::missing(&named.target.written, ask.part("dag_run_id")))?;
    let among = runs_around(
        &mut tx,
        &named.target,
        &named.dag,
        &run,
        named.asked.past,
        named.asked.future,
    )
    .await?;
    let task_id = ask.task_id();
    let mut tasks = Tasks::default();
    match named.map_index {
        Some(index) => {
            tasks.single.insert((task_id.to_string(), i64::from(index)));
        }
        None => {
            tasks.whole.insert(task_id.to_string());
        }
    }
    if let Some(task) = named.dag.find_task(task_id.as_str()) {
        if named.asked.downstream {
            let down = relatives(&named.dag, task, Direction::Down);
            let is_teardown = |id: &String| named.dag.task_by_id(id).is_some_and(|task| task.is_teardown);
            tasks.whole.extend(down.into_iter().filter(|id| !is_teardown(id)));
        }
        if named.asked.upstream {
            tasks.whole.extend(relatives(&named.dag, task, Direction::Up));
        }
    }
    let mut found = find(&mut tx, &named.target, Some(&tasks), &Runs::These(among), Vec::new()).await?;
    found.retain(|row| row.state != Some(state));
    Ok(found)
}

/// `PATCH …/taskInstances/{task_id}[/{map_index}]/dry_run`
pub(super) async fn dry_run(mut ask: Ask, body: Bytes) -> Answer {
    let named = named(&mut ask, &body).await?;
    match named.asked.state {
        None => ok(&whole(&ask, &named.rows)),
        Some(state) => {
            let found = to_mark(&ask, &named, state).await?;
            ok(&whole(&ask, &found))
        }
    }
}

/// `PATCH …/taskInstances/{task_id}[/{map_index}]`
pub(super) async fn one(mut ask: Ask, body: Bytes) -> Answer {
    let named = named(&mut ask, &body).await?;
    let scope = named.target.scope;
    if named.asked.has_note {
        let ids: Vec<_> = named.rows.iter().map(|row| row.id).collect();
        let note = named.asked.note.as_deref().filter(|note| !note.is_empty());
        let mut tx = ask.state.store.begin().await?;
        notes::set(&mut tx, scope, &ids, note, ask.caller.name()).await?;
        tx.commit().await?;
    }
    if let Some(state) = named.asked.state {
        let found = to_mark(&ask, &named, state).await?;
        if found.is_empty() {
            return Err(ApiError::conflict(format!(
                "Task id {} is already in {state} state",
                ask.task_id()
            )));
        }
        mark(&ask, &named, &found, state).await?;
    }
    let mut tx = ask.state.store.read().await?;
    let rows = instances::of_task(
        &mut tx,
        scope,
        &named.target.dag_id(),
        &ask.run_id(),
        &ask.task_id(),
        named.map_index,
    )
    .await?;
    ok(&whole(&ask, &rows))
}

/// Marks run by run; what failed below is cleared, so that it can go on.
async fn mark(ask: &Ask, named: &Named, found: &[InstanceRow], state: TaskState) -> Result<(), ApiError> {
    let scope = named.target.scope;
    let actor = Some(ask.caller.name());
    let below: Vec<String> = named
        .dag
        .find_task(ask.part("task_id"))
        .map(|task| relatives(&named.dag, task, Direction::Down))
        .unwrap_or_default();
    for (key, rows) in by_run(found) {
        let keys: Vec<TaskKey> = rows
            .iter()
            .map(|row| TaskKey {
                task_id: row.task_id.clone(),
                map_index: row.map_index,
            })
            .collect();
        let now = Timestamp::now();
        let mut tx = ask.state.store.begin().await?;
        clearing::mark(&mut tx, scope, &key, &keys, state, actor, now).await?;
        let tasks = Tasks {
            whole: below.iter().cloned().collect(),
            ..Tasks::default()
        };
        let failed = vec![Some(TaskState::Failed), Some(TaskState::UpstreamFailed)];
        let below = find(
            &mut tx,
            &named.target,
            Some(&tasks),
            &Runs::One(key.run_id.clone()),
            failed,
        )
        .await?;
        let below: Vec<ClearTask> = below
            .iter()
            .map(|row| ClearTask {
                key: TaskKey {
                    task_id: row.task_id.clone(),
                    map_index: row.map_index,
                },
                retries: named.dag.task_by_id(row.task_id.as_str()).map(|task| task.retries),
            })
            .collect();
        if !below.is_empty() {
            let clear = Clear {
                tasks: &below,
                run_state: Some(RunState::Queued),
                prevent_running: false,
                version_id: None,
                actor,
            };
            clearing::clear(&mut tx, scope, &key, &clear, now).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
