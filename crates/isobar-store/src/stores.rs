//! The task state store and the asset state store: small values that outlive a try, by key. Lists of them stand in
//! [`crate::lists::stores`].

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunId, RunKey, TaskId, TaskKey};
use jiff::Timestamp;
use serde_json::Value;

use crate::db::{Val, vals};
use crate::{StoreError, Tx};

fn task(scope: TeamScope, run: &RunKey, task: &TaskKey) -> Vec<Val> {
    vals![scope.team(), &run.dag_id, &run.run_id, &task.task_id, task.map_index]
}

const TASK: &str = "team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5";

/// A value of a task instance; expired ones count as missing.
///
/// # Errors
/// The database failed.
pub async fn get_task_value(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    key: &str,
    now: Timestamp,
) -> Result<Option<Value>, StoreError> {
    let mut values = task(scope, run, of);
    values.extend(vals![key, now]);
    let row = tx
        .row(
            &format!(
                "SELECT value FROM task_store WHERE {TASK} AND key = $6 AND (expires_at IS NULL OR expires_at > $7)"
            ),
            values,
        )
        .await?;
    row.map(|row| row.json("value")).transpose()
}

/// A value of a task instance to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskValue<'a> {
    /// Its key.
    pub key: &'a str,
    /// The value, any JSON but null.
    pub value: &'a Value,
    /// From when on it counts as missing.
    pub expires_at: Option<Timestamp>,
}

/// Writes a value of a task instance.
///
/// # Errors
/// The database failed.
pub async fn set_task_value(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    item: TaskValue<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut values = task(scope, run, of);
    values.extend(vals![item.key, item.value, now, item.expires_at]);
    tx.run(
        "INSERT INTO task_store (team_no, dag_id, run_id, task_id, map_index, key, value, updated_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (team_no, dag_id, run_id, task_id, map_index, key) DO UPDATE SET value = excluded.value, \
         updated_at = excluded.updated_at, expires_at = excluded.expires_at",
        values,
    )
    .await
    .map(drop)
}

/// Changes a value of a task instance that is there, and leaves when it expires. Answers whether there was one.
///
/// # Errors
/// The database failed.
pub async fn replace_task_value(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    key: &str,
    value: &Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut values = task(scope, run, of);
    values.extend(vals![key, value, now]);
    let touched = tx
        .run(
            &format!("UPDATE task_store SET value = $7, updated_at = $8 WHERE {TASK} AND key = $6"),
            values,
        )
        .await?;
    Ok(touched > 0)
}

/// Deletes all values of a task, of every map index.
///
/// # Errors
/// The database failed.
pub async fn clear_task(tx: &mut Tx, scope: TeamScope, run: &RunKey, task_id: &TaskId) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM task_store WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4",
        vals![scope.team(), &run.dag_id, &run.run_id, task_id],
    )
    .await
    .map(drop)
}

/// Deletes one value of a task instance, or all where no key is given.
///
/// # Errors
/// The database failed.
pub async fn delete_task_values(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    key: Option<&str>,
) -> Result<(), StoreError> {
    let mut values = task(scope, run, of);
    let mut text = format!("DELETE FROM task_store WHERE {TASK}");
    if let Some(key) = key {
        text.push_str(" AND key = $6");
        values.push(key.into());
    }
    tx.run(&text, values).await.map(drop)
}

/// A value of an asset of the team (rule 19: asset state is per team).
///
/// # Errors
/// The database failed.
pub async fn get_asset_value(
    tx: &mut Tx,
    scope: TeamScope,
    asset_id: i64,
    key: &str,
) -> Result<Option<Value>, StoreError> {
    let row = tx
        .row(
            "SELECT value FROM asset_store WHERE team_no = $1 AND asset_id = $2 AND key = $3",
            vals![scope.team(), asset_id, key],
        )
        .await?;
    row.map(|row| row.json("value")).transpose()
}

/// Who writes a value of an asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer<'a> {
    /// A task instance.
    Task {
        /// Its Dag.
        dag_id: &'a DagId,
        /// Its run.
        run_id: &'a RunId,
        /// The task.
        task_id: &'a TaskId,
        /// Its map index.
        map_index: i32,
    },
    /// A trigger that watches the asset.
    Watcher,
    /// A person, by the API.
    Api,
}

impl Writer<'_> {
    fn values(self) -> Vec<Val> {
        match self {
            Self::Task {
                dag_id,
                run_id,
                task_id,
                map_index,
            } => vals!["task", dag_id, run_id, task_id, map_index],
            Self::Watcher => vals!["watcher", None::<String>, None::<String>, None::<String>, None::<i64>],
            Self::Api => vals!["api", None::<String>, None::<String>, None::<String>, None::<i64>],
        }
    }
}

/// Writes a value of an asset of the team.
///
/// # Errors
/// The database failed.
pub async fn set_asset_value(
    tx: &mut Tx,
    scope: TeamScope,
    asset_id: i64,
    key: &str,
    value: &Value,
    writer: Writer<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut values = vals![scope.team(), asset_id, key, value, now];
    values.extend(writer.values());
    tx.run(
        "INSERT INTO asset_store (team_no, asset_id, key, value, updated_at, writer_kind, writer_dag_id, writer_run_id, \
         writer_task_id, writer_map_index) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (team_no, asset_id, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at, \
         writer_kind = excluded.writer_kind, writer_dag_id = excluded.writer_dag_id, \
         writer_run_id = excluded.writer_run_id, writer_task_id = excluded.writer_task_id, \
         writer_map_index = excluded.writer_map_index",
        values,
    )
    .await
    .map(drop)
}

/// Deletes one value of an asset of the team, or all where no key is given.
///
/// # Errors
/// The database failed.
pub async fn delete_asset_values(
    tx: &mut Tx,
    scope: TeamScope,
    asset_id: i64,
    key: Option<&str>,
) -> Result<(), StoreError> {
    let mut values = vals![scope.team(), asset_id];
    let mut text = "DELETE FROM asset_store WHERE team_no = $1 AND asset_id = $2".to_owned();
    if let Some(key) = key {
        text.push_str(" AND key = $3");
        values.push(key.into());
    }
    tx.run(&text, values).await.map(drop)
}
