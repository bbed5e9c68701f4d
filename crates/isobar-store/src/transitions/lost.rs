//! Tasks that nobody works any more, as the scheduler finds them: fenced by the dispatch that held them.

use isobar_auth::OrgScope;
use isobar_model::TaskState;
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

use super::OpenRun;
use super::task::{Ended, EndedTask, TaskWrite, changed, run_key, task_key, write_end};
use crate::db::vals;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

/// A task that nobody works any more (executor lost it, heartbeats stopped, the server was killed): as if its supervisor
/// had said `end`. `Done` only where it is still held by that dispatch.
///
/// # Errors
/// The database failed.
pub async fn lost(
    tx: &mut Tx,
    scope: &OrgScope,
    task: &TaskIdentity,
    end: &Ended,
    now: Timestamp,
) -> Result<TaskWrite<EndedTask>, StoreError> {
    let scope = scope.team(task.team);
    let Some(open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    let before = match crate::task_instances::get(tx, scope, &run_key(task), &task_key(task)).await? {
        // A task that was cleared while it ran has a new id but is of the same dispatch until it is handed out again.
        Some(ti) if ti.dispatch == task.dispatch => ti,
        Some(_) => return Ok(TaskWrite::Archived),
        None => return Ok(TaskWrite::Missing),
    };
    if !matches!(
        before.state,
        Some(TaskState::Running | TaskState::Queued | TaskState::Restarting)
    ) {
        return Ok(TaskWrite::WrongState(Box::new(before)));
    }
    let done = write_end(tx, open, before, end, now, None, now).await?;
    Ok(TaskWrite::Done(done))
}

/// A task that was queued and whose executor is gone before it began: it is `scheduled` again, no try is lost. `Done` only
/// where it is still queued by that dispatch.
///
/// # Errors
/// The database failed.
pub async fn put_back(
    tx: &mut Tx,
    scope: &OrgScope,
    task: &TaskIdentity,
    now: Timestamp,
) -> Result<TaskWrite<()>, StoreError> {
    let scope = scope.team(task.team);
    let Some(mut open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    let row = tx
        .row(
            "UPDATE task_instance SET state = 'scheduled', updated_at = $8 WHERE team_no = $1 AND dag_id = $2 \
             AND run_id = $3 AND task_id = $4 AND map_index = $5 AND id = $6 AND dispatch = $7 AND state = 'queued' \
             RETURNING *",
            vals![
                scope.team(),
                &task.dag_id,
                &task.run_id,
                &task.task_id,
                task.map_index,
                task.ti_id,
                task.dispatch,
                now
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(TaskWrite::Archived) };
    open.change
        .instances
        .push(changed(&TaskInstance::from_row(&row)?, None, false));
    open.close(tx, true).await?;
    Ok(TaskWrite::Done(()))
}

/// A task that was cleared while it ran, whose process is gone now: it starts anew at once, with its `retries` again, as in
/// Airflow. `Done` only where it is `restarting` and held by that dispatch.
///
/// # Errors
/// The database failed.
pub async fn restarted(
    tx: &mut Tx,
    scope: &OrgScope,
    task: &TaskIdentity,
    retries: i32,
    now: Timestamp,
) -> Result<TaskWrite<()>, StoreError> {
    let scope = scope.team(task.team);
    let Some(mut open) = OpenRun::lock(tx, scope, &run_key(task), now).await? else {
        return Ok(TaskWrite::Missing);
    };
    let row = tx
        .row(
            "UPDATE task_instance SET state = NULL, max_tries = try_number + $8, updated_at = $7 WHERE team_no = $1 \
             AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 AND dispatch = $6 \
             AND state = 'restarting' RETURNING *",
            vals![
                scope.team(),
                &task.dag_id,
                &task.run_id,
                &task.task_id,
                task.map_index,
                task.dispatch,
                now,
                retries
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(TaskWrite::Archived) };
    open.change
        .instances
        .push(changed(&TaskInstance::from_row(&row)?, None, false));
    open.close(tx, true).await?;
    Ok(TaskWrite::Done(()))
}
