//! What people do to Dags: pause, mark as favourite, delete.

use isobar_auth::TeamScope;
use isobar_model::DagId;
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::json;

use crate::db::vals;
use crate::events::{self, EventKind};
use crate::{StoreError, Tx};

/// Pauses or unpauses Dags, and tells the scheduler of those that changed.
///
/// # Errors
/// The database failed.
pub async fn set_paused(tx: &mut Tx, scope: TeamScope, dags: &[DagId], paused: bool) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for dag_id in dags {
        let changed = tx
            .run(
                "UPDATE dag SET is_paused = $3 WHERE team_no = $1 AND dag_id = $2 AND is_paused <> $3",
                vals![scope.team(), dag_id, paused],
            )
            .await?;
        if changed > 0 {
            // Its watchers watch no more, or again.
            tx.wake(Wake::Triggers(scope.team()));
            events::insert(tx, scope, EventKind::Dag, dag_id, &json!({}), now).await?;
        }
    }
    Ok(())
}

/// Marks a Dag as a person's favourite, or takes the mark away; whether anything changed.
///
/// # Errors
/// The database failed.
pub async fn set_favorite(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    user: &str,
    wanted: bool,
) -> Result<bool, StoreError> {
    let sql = if wanted {
        "INSERT INTO dag_favorite (team_no, dag_id, user_name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM dag_favorite WHERE team_no = $1 AND dag_id = $2 AND user_name = $3"
    };
    Ok(tx.run(sql, vals![scope.team(), dag_id, user]).await? > 0)
}

/// What deleting a Dag gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone with all its history.
    Done,
    /// There is no such Dag.
    Missing,
    /// Tasks of it run; nothing was deleted.
    StillRunning,
}

/// Tables that hold what belongs to a Dag by its id.
const OF_A_DAG: [&str; 27] = [
    "deadline",
    "task_reschedule",
    "hitl_detail",
    "xcom",
    "task_map",
    "rendered_fields",
    "task_store",
    "dag_run_asset_event",
    "task_instance_history",
    "task_instance",
    "dag_run",
    "backfill_run",
    "backfill",
    "asset_queue",
    "asset_partition_arrival",
    "asset_partition_key",
    "asset_partition_run",
    "asset_reference",
    "asset_watcher",
    "dag_tag",
    "dag_owner_link",
    "dag_favorite",
    "dag_warning",
    "dag_moved",
    "team_question",
    "dag_version",
    "dag",
];

/// Deletes a Dag and its history. Where its file still holds it, the next reading brings it back without its history.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Deleted, StoreError> {
    let key = || vals![scope.team(), dag_id];
    let there = tx
        .row(
            "SELECT bundle, rel_path FROM dag WHERE team_no = $1 AND dag_id = $2",
            key(),
        )
        .await?;
    let Some(there) = there else {
        return Ok(Deleted::Missing);
    };
    let running = tx
        .row(
            "SELECT 1 AS one FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND state = 'running' LIMIT 1",
            key(),
        )
        .await?;
    if running.is_some() {
        return Ok(Deleted::StillRunning);
    }
    for table in OF_A_DAG {
        let sql = if matches!(table, "task_reschedule" | "hitl_detail") {
            format!(
                "DELETE FROM {table} WHERE team_no = $1 AND ti_id IN \
                 (SELECT id FROM task_instance WHERE team_no = $1 AND dag_id = $2)"
            )
        } else {
            format!("DELETE FROM {table} WHERE team_no = $1 AND dag_id = $2")
        };
        tx.run(&sql, key()).await?;
    }
    // So that the file is read again although it did not change.
    tx.run(
        "DELETE FROM dag_file WHERE team_no = $1 AND bundle = $2 AND rel_path = $3",
        vals![scope.team(), there.text("bundle")?, there.text("rel_path")?],
    )
    .await?;
    events::insert(tx, scope, EventKind::Dag, dag_id, &json!({}), Timestamp::now()).await?;
    // Triggers of its deferred tasks and its watchers are to be killed.
    tx.wake(Wake::Triggers(scope.team()));
    Ok(Deleted::Done)
}
