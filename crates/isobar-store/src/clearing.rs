//! What people and clients do to runs and task instances that exist: clear, mark, set a run's state.
//!
//! Which instances are meant (upstream, failed ones, other runs…) is decided by the caller, from the graph.

use isobar_auth::TeamScope;
use isobar_model::{RunKey, RunState, TaskId, TaskKey, TaskState};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use uuid::Uuid;

use crate::db::vals;
use crate::runs::Run;
use crate::task_instances::{TaskInstance, among, archive_try};
use crate::transitions::{AuditRow, OpenRun};
use crate::{StoreError, Tx};

/// Keys in one statement.
const KEYS_A_STATEMENT: usize = 500;

/// One instance to clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearTask {
    /// Which one.
    pub key: TaskKey,
    /// The task's `retries` in the Dag it will run on; none where the Dag has no such task any more.
    pub retries: Option<i32>,
}

/// How to clear.
#[derive(Clone, Debug, PartialEq)]
pub struct Clear<'a> {
    /// The instances; ones that do not exist are passed over.
    pub tasks: &'a [ClearTask],
    /// What a finished run becomes (`queued` in Airflow); none leaves runs alone.
    pub run_state: Option<RunState>,
    /// Refuse where one of them runs.
    pub prevent_running: bool,
    /// The Dag's current version, where cleared tasks and the run move to it (`run_on_latest_version`).
    pub version_id: Option<Uuid>,
    /// Who asks, for the audit record.
    pub actor: Option<&'a str>,
}

/// What clearing gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Cleared {
    /// Done: the run and the cleared instances as they are now.
    Done(Box<Run>, Vec<TaskInstance>),
    /// There is no such run.
    NoRun,
    /// One of them runs, and that was to be prevented. Drop the unit.
    Running(TaskKey),
}

/// Clears task instances of one run, as Airflow's `clear_task_instances`: the try is archived, a running one becomes
/// `restarting` and is stopped, others lose their state; `max_tries` grows by the task's retries.
///
/// # Errors
/// The database failed.
pub async fn clear(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    clear: &Clear<'_>,
    now: Timestamp,
) -> Result<Cleared, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(Cleared::NoRun);
    };
    let keys: Vec<TaskKey> = clear.tasks.iter().map(|task| task.key.clone()).collect();
    let before = find(tx, scope, run, &keys).await?;
    if clear.prevent_running
        && let Some(running) = before.iter().find(|ti| ti.state == Some(TaskState::Running))
    {
        return Ok(Cleared::Running(running.task_key()));
    }
    wake_triggerer(tx, scope, &before);
    let there: Vec<TaskKey> = before.iter().map(TaskInstance::task_key).collect();
    archive_try(tx, scope, run, &there, now).await?;
    for ti in &before {
        let retries = clear
            .tasks
            .iter()
            .find(|task| task.key.map_index == ti.map_index && task.key.task_id == ti.task_id)
            .and_then(|task| task.retries);
        clear_one(tx, ti, retries, clear.version_id, now).await?;
        let mut record = AuditRow::of_task("clear", ti, None);
        record.owner = clear.actor.map(str::to_owned);
        open.audit.push(record);
    }
    if let Some(state) = clear.run_state.filter(|_| !before.is_empty()) {
        clear_run(tx, &mut open, state, clear.version_id, now).await?;
    }
    let after = find(tx, scope, run, &there).await?;
    open.change.reload = true;
    let row = open.row.clone();
    open.close(tx, true).await?;
    Ok(Cleared::Done(Box::new(row), after))
}

async fn clear_one(
    tx: &mut Tx,
    ti: &TaskInstance,
    retries: Option<i32>,
    version_id: Option<Uuid>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let runs = ti.state == Some(TaskState::Running);
    let max_tries = match retries {
        _ if runs => ti.max_tries,
        Some(retries) => ti.try_number + retries,
        None => ti.max_tries.max(ti.try_number),
    };
    tx.run(
        "UPDATE task_instance SET state = $6, max_tries = $7, updated_at = $8, external_executor_id = NULL, \
         next_method = NULL, next_kwargs = NULL, trigger_id = NULL, trigger_timeout = NULL, next_start = NULL, \
         finishing_until = NULL, dag_version_id = coalesce($9, dag_version_id) \
         WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5",
        vals![
            ti.team,
            &ti.dag_id,
            &ti.run_id,
            &ti.task_id,
            ti.map_index,
            runs.then_some(TaskState::Restarting),
            max_tries,
            now,
            version_id
        ],
    )
    .await?;
    Ok(())
}

async fn clear_run(
    tx: &mut Tx,
    open: &mut OpenRun,
    state: RunState,
    version_id: Option<Uuid>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let finished = open.row.state.is_finished();
    let queued = state == RunState::Queued;
    let row = tx
        .row(
            "UPDATE dag_run SET clear_number = clear_number + 1, queued_at = $4, \
             created_version_id = coalesce($5, created_version_id), \
             state = CASE WHEN $6 THEN $7 ELSE state END, \
             start_date = CASE WHEN $6 THEN $8 ELSE start_date END, \
             end_date = CASE WHEN $6 THEN NULL ELSE end_date END, \
             last_decision = CASE WHEN $6 AND $9 THEN NULL ELSE last_decision END \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 RETURNING *",
            vals![
                open.scope.team(),
                &open.row.dag_id,
                &open.row.run_id,
                now,
                version_id,
                finished,
                state,
                (!queued).then_some(now),
                queued
            ],
        )
        .await?;
    if let Some(row) = row {
        open.row = Run::from_row(&row)?;
    }
    Ok(())
}

/// Marks task instances of one run `success`, `failed` or `skipped` (Airflow's `set_state`). What runs is stopped. Those in
/// that state already are passed over; answers those that changed, as they are now.
///
/// # Errors
/// The database failed.
pub async fn mark(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
    state: TaskState,
    actor: Option<&str>,
    now: Timestamp,
) -> Result<Vec<TaskInstance>, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(Vec::new());
    };
    let mut changed = find(tx, scope, run, keys).await?;
    changed.retain(|ti| ti.state != Some(state));
    wake_triggerer(tx, scope, &changed);
    let keys: Vec<TaskKey> = changed.iter().map(TaskInstance::task_key).collect();
    set_finished(tx, scope, run, &keys, state, now).await?;
    for ti in &changed {
        let mut record = AuditRow::of_task(state.as_str(), ti, None);
        record.owner = actor.map(str::to_owned);
        open.audit.push(record);
    }
    open.change.reload = true;
    open.close(tx, true).await?;
    find(tx, scope, run, &keys).await
}

/// Sets the state of a run. `success` and `failed` also end its tasks, as in Airflow: what runs takes that state, what waits is
/// skipped, teardowns that run go on. `queued` and `running` change the run alone. None where there is no such run.
///
/// # Errors
/// The database failed.
pub async fn set_run_state(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    state: RunState,
    is_teardown: &(dyn Fn(&TaskId) -> bool + Sync),
    actor: Option<&str>,
    now: Timestamp,
) -> Result<Option<Run>, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(None);
    };
    if state.is_finished() {
        let instances = crate::task_instances::of_run(tx, scope, run).await?;
        wake_triggerer(tx, scope, &instances);
        let (mut stopped, mut skipped) = (Vec::new(), Vec::new());
        let mut teardown_waits = false;
        for ti in &instances {
            match ti.state {
                Some(ended) if ended.is_finished() => {}
                Some(
                    TaskState::Running | TaskState::Deferred | TaskState::UpForReschedule | TaskState::AwaitingInput,
                ) => {
                    if is_teardown(&ti.task_id) {
                        teardown_waits = true;
                    } else {
                        stopped.push(ti.task_key());
                    }
                }
                _ if is_teardown(&ti.task_id) => teardown_waits = true,
                _ => skipped.push(ti.task_key()),
            }
        }
        let word = match state {
            RunState::Success => TaskState::Success,
            _ => TaskState::Failed,
        };
        set_finished(tx, scope, run, &stopped, word, now).await?;
        set_finished(tx, scope, run, &skipped, TaskState::Skipped, now).await?;
        // A run whose teardowns still have to work ends with them.
        if !teardown_waits {
            set_run_row(tx, &mut open, state, now).await?;
        }
    } else {
        set_run_row(tx, &mut open, state, now).await?;
    }
    open.audit.push(AuditRow {
        event: format!("dagrun_{state}"),
        owner: actor.map(str::to_owned),
        task: None,
        extra: None,
    });
    open.change.reload = true;
    let row = open.row.clone();
    open.close(tx, true).await?;
    Ok(Some(row))
}

async fn set_run_row(tx: &mut Tx, open: &mut OpenRun, state: RunState, now: Timestamp) -> Result<(), StoreError> {
    // As Airflow's DagRun.set_state: queued forgets start and end, running starts anew after an end, finished ends.
    let (sets, value) = match state {
        RunState::Queued => ("queued_at = $5, start_date = NULL, end_date = NULL", now),
        RunState::Running => (
            "start_date = CASE WHEN start_date IS NULL OR state IN ('success', 'failed') THEN $5 ELSE start_date END, \
             end_date = NULL",
            now,
        ),
        RunState::Success | RunState::Failed => (
            "end_date = CASE WHEN state IN ('success', 'failed') AND end_date IS NOT NULL THEN end_date ELSE $5 END",
            now,
        ),
    };
    let row = tx
        .row(
            &format!(
                "UPDATE dag_run SET state = $4, {sets} WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 RETURNING *"
            ),
            vals![open.scope.team(), &open.row.dag_id, &open.row.run_id, state, value],
        )
        .await?;
    if let Some(row) = row {
        open.row = Run::from_row(&row)?;
    }
    Ok(())
}

async fn set_finished(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
    state: TaskState,
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let (among, more) = among(6, chunk);
        let mut values = vals![scope.team(), &run.dag_id, &run.run_id, now, state];
        values.extend(more);
        tx.run(
            &format!(
                "UPDATE task_instance SET state = $5, updated_at = $4, start_date = coalesce(start_date, $4), \
                 end_date = coalesce(end_date, $4), \
                 duration = (coalesce(end_date, $4) - coalesce(start_date, $4)) / 1000000.0 \
                 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// Triggers of tasks that no longer wait for them are to be killed.
fn wake_triggerer(tx: &mut Tx, scope: TeamScope, instances: &[TaskInstance]) {
    if instances.iter().any(|ti| ti.trigger_id.is_some()) {
        tx.wake(Wake::Triggers(scope.team()));
    }
}

async fn find(tx: &mut Tx, scope: TeamScope, run: &RunKey, keys: &[TaskKey]) -> Result<Vec<TaskInstance>, StoreError> {
    let mut found = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let (among, more) = among(4, chunk);
        let mut values = vals![scope.team(), &run.dag_id, &run.run_id];
        values.extend(more);
        let rows = tx
            .rows(
                &format!(
                    "SELECT * FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among} \
                     ORDER BY task_id, map_index"
                ),
                values,
            )
            .await?;
        for row in &rows {
            found.push(TaskInstance::from_row(row)?);
        }
    }
    Ok(found)
}
