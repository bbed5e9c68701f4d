//! What people and clients do to runs and task instances that exist: clear, mark, set a run's state.
//!
//! Which instances are meant (upstream, failed ones, other runs…) is decided by the caller, from the graph.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::TeamScope;
use isobar_model::{RunKey, RunState, TaskId, TaskKey, TaskState};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use uuid::Uuid;

use crate::db::vals;
use crate::listeners;
use crate::runs::Run;
use crate::task_instances::{NewTaskInstance, TaskInstance, among, archive_try};
use crate::transitions::{AuditRow, OpenRun};
use crate::{StoreError, Tx};

/// Keys in one statement.
const KEYS_A_STATEMENT: usize = 500;

/// One instance to clear.
#[derive(Clone, Debug, PartialEq)]
pub struct ClearTask {
    /// Which one.
    pub key: TaskKey,
    /// The instance as the Dag that it will run on would make it; none where that has no such task any more.
    pub today: Option<NewTaskInstance>,
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
    end_unfinished(tx, &open.row, &there, now).await?;
    archive_try(tx, scope, run, &there, now).await?;
    let mut by_task: BTreeMap<&TaskId, Vec<TaskKey>> = BTreeMap::new();
    let mut running = Vec::new();
    for ti in &before {
        if ti.state == Some(TaskState::Running) {
            running.push(ti.task_key());
        } else {
            by_task.entry(&ti.task_id).or_default().push(ti.task_key());
        }
        let mut record = AuditRow::of_task("clear", ti, None);
        record.owner = clear.actor.map(str::to_owned);
        open.audit.push(record);
    }
    restart_running(tx, &open.row, &running, now).await?;
    for (task_id, keys) in by_task {
        let today = clear.tasks.iter().find(|task| task.key.task_id == *task_id);
        let today = today.and_then(|task| task.today.as_ref());
        clear_waiting(tx, &open.row, &keys, today, clear.version_id, now).await?;
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

/// One task's instances that lose their state alike.
async fn clear_waiting(
    tx: &mut Tx,
    run: &Run,
    keys: &[TaskKey],
    today: Option<&NewTaskInstance>,
    version_id: Option<Uuid>,
    now: Timestamp,
) -> Result<(), StoreError> {
    const CLEARED: &str = "state = NULL, updated_at = $4, external_executor_id = NULL, next_method = NULL, \
         next_kwargs = NULL, trigger_id = NULL, trigger_timeout = NULL, next_start = NULL, finishing_until = NULL, \
         dag_version_id = coalesce($5, dag_version_id)";
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let mut values = vals![run.team, &run.dag_id, &run.run_id, now, version_id];
        // As Airflow's `refresh_from_task`: the instance runs as the task is written today.
        let sets = match today {
            Some(task) => {
                values.extend(vals![
                    task.max_tries,
                    task.pool.as_str(),
                    task.pool_slots,
                    task.queue.as_str(),
                    task.priority_weight,
                    task.operator.as_str(),
                    task.custom_operator_name.clone(),
                    task.executor.clone(),
                    task.executor_config.clone(),
                ]);
                "max_tries = try_number + $6, pool = $7, pool_slots = $8, queue = $9, priority_weight = $10, \
                 operator = $11, custom_operator_name = $12, executor = $13, executor_config = $14"
            }
            None => "max_tries = CASE WHEN max_tries > try_number THEN max_tries ELSE try_number END",
        };
        let (among, more) = among(values.len() + 1, chunk);
        values.extend(more);
        tx.run(
            &format!(
                "UPDATE task_instance SET {CLEARED}, {sets} WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// A try that is broken off ends now, as its archived form says too.
async fn end_unfinished(tx: &mut Tx, run: &Run, keys: &[TaskKey], now: Timestamp) -> Result<(), StoreError> {
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let mut values = vals![run.team, &run.dag_id, &run.run_id, now];
        let (among, more) = among(5, chunk);
        values.extend(more);
        tx.run(
            &format!(
                "UPDATE task_instance SET end_date = $4, duration = ($4 - start_date) / 1000000.0 \
                 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND end_date IS NULL AND (state IS NULL OR state \
                 NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed')) AND {among} AND NOT EXISTS \
                 (SELECT 1 FROM task_instance_history AS h WHERE h.team_no = task_instance.team_no \
                 AND h.dag_id = task_instance.dag_id AND h.run_id = task_instance.run_id \
                 AND h.task_id = task_instance.task_id AND h.map_index = task_instance.map_index \
                 AND h.try_number = task_instance.try_number)"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// Instances that run are stopped, and start again as what they were; for the rest nothing changes.
async fn restart_running(tx: &mut Tx, run: &Run, keys: &[TaskKey], now: Timestamp) -> Result<(), StoreError> {
    for chunk in keys.chunks(KEYS_A_STATEMENT) {
        let mut values = vals![run.team, &run.dag_id, &run.run_id, now, TaskState::Restarting];
        let (among, more) = among(6, chunk);
        values.extend(more);
        tx.run(
            &format!(
                "UPDATE task_instance SET state = $5, updated_at = $4, finishing_until = NULL \
                 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among}"
            ),
            values,
        )
        .await?;
    }
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
    if let Some(before) = open.row.queued_at {
        crate::deadlines::queued_anew(tx, open.scope, &open.row.key(), before, now).await?;
    }
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

/// Moves a run and all its instances to another version of its Dag, and makes instances that it lacks.
///
/// # Errors
/// The database failed.
pub async fn move_to_version(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    version_id: Uuid,
    bundle_version: Option<&str>,
    missing: &[NewTaskInstance],
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(());
    };
    let key = || vals![scope.team(), &run.dag_id, &run.run_id, version_id];
    let mut values = key();
    values.push(bundle_version.map(str::to_owned).into());
    tx.run(
        "UPDATE dag_run SET created_version_id = $4, bundle_version = $5 \
         WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
        values,
    )
    .await?;
    tx.run(
        "UPDATE task_instance SET dag_version_id = $4 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
        key(),
    )
    .await?;
    crate::task_instances::insert(tx, scope, run, missing, now).await?;
    open.change.reload = true;
    open.close(tx, true).await?;
    Ok(())
}

/// Tables whose rows belong to a task instance by its key.
const OF_AN_INSTANCE: [&str; 6] = [
    "xcom",
    "task_map",
    "rendered_fields",
    "task_store",
    "task_instance_history",
    "task_instance",
];

/// Deletes task instances of one run with all that belongs to them; answers those that there were. What runs is stopped. Where
/// the run goes on, its planner makes the instances anew.
///
/// # Errors
/// The database failed.
pub async fn delete_instances(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
    now: Timestamp,
) -> Result<Vec<TaskKey>, StoreError> {
    let Some(mut open) = OpenRun::lock(tx, scope, run, now).await? else {
        return Ok(Vec::new());
    };
    let there: Vec<TaskKey> = find(tx, scope, run, keys)
        .await?
        .iter()
        .map(TaskInstance::task_key)
        .collect();
    for chunk in there.chunks(KEYS_A_STATEMENT) {
        let (among, more) = among(4, chunk);
        let mut values = vals![scope.team(), &run.dag_id, &run.run_id];
        values.extend(more);
        let condition = format!("team_no = $1 AND dag_id = $2 AND run_id = $3 AND {among}");
        for table in ["task_reschedule", "hitl_detail"] {
            tx.run(
                &format!(
                    "DELETE FROM {table} WHERE team_no = $1 AND ti_id IN (SELECT id FROM task_instance WHERE {condition})"
                ),
                values.clone(),
            )
            .await?;
        }
        for table in OF_AN_INSTANCE {
            tx.run(&format!("DELETE FROM {table} WHERE {condition}"), values.clone())
                .await?;
        }
    }
    open.change.reload = true;
    open.close(tx, true).await?;
    Ok(there)
}

/// Takes the partition away from a run; no state changes.
///
/// # Errors
/// The database failed.
pub async fn forget_partition(tx: &mut Tx, scope: TeamScope, run: &RunKey, now: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "UPDATE dag_run SET partition_key = NULL, partition_date = NULL, updated_at = $4 \
         WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
        vals![scope.team(), &run.dag_id, &run.run_id, now],
    )
    .await?;
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
    let row = open.row.clone();
    open.close(tx, true).await?;
    let marked = find(tx, scope, run, &keys).await?;
    listeners::instances_marked(tx, scope, &row, &marked, state, now).await?;
    Ok(marked)
}

/// Sets the state of a run. `success` and `failed` also end its tasks, as in Airflow: what runs takes that state (all indices
/// of a mapped task of which one runs), what waits is skipped, teardowns go on. `queued` and `running` change the run alone. None where there is no such run.
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
    // Instances that were at work, of which listeners are told.
    let mut ended = Vec::new();
    if state.is_finished() {
        let instances = crate::task_instances::of_run(tx, scope, run).await?;
        wake_triggerer(tx, scope, &instances);
        let (mut stopped, mut skipped) = (BTreeSet::new(), Vec::new());
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
                        stopped.insert(&ti.task_id);
                        ended.push(ti.task_key());
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
        skipped.retain(|key| !stopped.contains(&key.task_id));
        let stopped: Vec<TaskKey> = instances
            .iter()
            .filter(|ti| stopped.contains(&ti.task_id) && ti.state != Some(word))
            .map(TaskInstance::task_key)
            .collect();
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
    listeners::run_marked(tx, scope, &row, &ended, state, now).await?;
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

/// Instances of a run as they are now.
pub(crate) async fn find(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    keys: &[TaskKey],
) -> Result<Vec<TaskInstance>, StoreError> {
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
