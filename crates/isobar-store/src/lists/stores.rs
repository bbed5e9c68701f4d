//! What the task state store and the asset state store hold, as the REST API lists it.

use isobar_auth::TeamScope;
use isobar_model::{RunKey, TaskKey};
use jiff::Timestamp;
use serde_json::Value;

use super::matching::{Page, Slice};
use crate::db::{Row, Val, vals};
use crate::{StoreError, Tx};

/// A value and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredValue {
    /// Its key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// When it was written.
    pub updated_at: Timestamp,
    /// From when on tasks find it missing; of tasks only.
    pub expires_at: Option<Timestamp>,
    /// Who wrote it; of assets only.
    pub writer: Option<WrittenBy>,
}

/// Who wrote a value of an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenBy {
    /// `task`, `watcher` or `api`.
    pub kind: String,
    /// The Dag of the task.
    pub dag_id: Option<String>,
    /// Its run.
    pub run_id: Option<String>,
    /// The task.
    pub task_id: Option<String>,
    /// Its map index.
    pub map_index: Option<i64>,
}

const OF_TASK: &str = "key, value, updated_at, expires_at FROM task_store WHERE team_no = $1 AND dag_id = $2 \
     AND run_id = $3 AND task_id = $4 AND map_index = $5";
const OF_ASSET: &str = "key, value, updated_at, writer_kind, writer_dag_id, writer_run_id, writer_task_id, \
     writer_map_index FROM asset_store WHERE team_no = $1 AND asset_id = $2";

fn of_task(row: &Row) -> Result<StoredValue, StoreError> {
    Ok(StoredValue {
        key: row.text("key")?,
        value: row.json("value")?,
        updated_at: row.time("updated_at")?,
        expires_at: row.maybe_time("expires_at")?,
        writer: None,
    })
}

fn of_asset(row: &Row) -> Result<StoredValue, StoreError> {
    let writer = match row.maybe_text("writer_kind")? {
        None => None,
        Some(kind) => Some(WrittenBy {
            kind,
            dag_id: row.maybe_text("writer_dag_id")?,
            run_id: row.maybe_text("writer_run_id")?,
            task_id: row.maybe_text("writer_task_id")?,
            map_index: row.maybe_int("writer_map_index")?,
        }),
    };
    Ok(StoredValue {
        key: row.text("key")?,
        value: row.json("value")?,
        updated_at: row.time("updated_at")?,
        expires_at: None,
        writer,
    })
}

async fn page(
    tx: &mut Tx,
    what: &str,
    values: Vec<Val>,
    page: Page,
    read: fn(&Row) -> Result<StoredValue, StoreError>,
) -> Result<Slice<StoredValue>, StoreError> {
    let from = what.split_once(" FROM ").map_or(what, |(_, from)| from);
    let count = tx
        .row(&format!("SELECT count(*) AS n FROM {from}"), values.clone())
        .await?;
    let total = count.map_or(Ok(0), |row| row.int("n"))?;
    let (limit, offset) = (page.limit, page.offset);
    let text = format!("SELECT {what} ORDER BY key LIMIT {limit} OFFSET {offset}");
    let rows = tx.rows(&text, values).await?;
    Ok(Slice {
        rows: rows.iter().map(read).collect::<Result<_, _>>()?,
        total,
    })
}

fn task_values(scope: TeamScope, run: &RunKey, of: &TaskKey) -> Vec<Val> {
    vals![scope.team(), &run.dag_id, &run.run_id, &of.task_id, of.map_index]
}

/// One page of the values of a task instance, by key; what is expired stays until it is cleaned away.
///
/// # Errors
/// The database failed.
pub async fn of_task_instance(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    asked: Page,
) -> Result<Slice<StoredValue>, StoreError> {
    page(tx, OF_TASK, task_values(scope, run, of), asked, of_task).await
}

/// One value of a task instance.
///
/// # Errors
/// The database failed.
pub async fn task_value(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    of: &TaskKey,
    key: &str,
) -> Result<Option<StoredValue>, StoreError> {
    let mut values = task_values(scope, run, of);
    values.push(key.into());
    let row = tx.row(&format!("SELECT {OF_TASK} AND key = $6"), values).await?;
    row.as_ref().map(of_task).transpose()
}

/// One page of the values of an asset, by key.
///
/// # Errors
/// The database failed.
pub async fn of_asset_id(
    tx: &mut Tx,
    scope: TeamScope,
    asset_id: i64,
    asked: Page,
) -> Result<Slice<StoredValue>, StoreError> {
    page(tx, OF_ASSET, vals![scope.team(), asset_id], asked, of_asset).await
}

/// One value of an asset.
///
/// # Errors
/// The database failed.
pub async fn asset_value(
    tx: &mut Tx,
    scope: TeamScope,
    asset_id: i64,
    key: &str,
) -> Result<Option<StoredValue>, StoreError> {
    let row = tx
        .row(
            &format!("SELECT {OF_ASSET} AND key = $3"),
            vals![scope.team(), asset_id, key],
        )
        .await?;
    row.as_ref().map(of_asset).transpose()
}

/// Whether there is such a task instance; without a map index: any of the task.
///
/// # Errors
/// The database failed.
pub async fn has_instance(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task_id: &isobar_model::TaskId,
    map_index: Option<i64>,
) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND ($5 IS NULL OR map_index = $5) LIMIT 1",
            vals![scope.team(), &run.dag_id, &run.run_id, task_id, map_index],
        )
        .await?;
    Ok(row.is_some())
}
