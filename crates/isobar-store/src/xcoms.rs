//! XComs: what tasks leave for one another, and how many values they offer for mapping.

use isobar_auth::TeamScope;
use isobar_model::MapIndex;
use serde_json::Value;

use crate::db::{Val, vals};
use crate::{StoreError, Tx};

/// Where an XCom lies inside its team, its map index aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XComPlace<'a> {
    /// The Dag.
    pub dag_id: &'a str,
    /// The run.
    pub run_id: &'a str,
    /// The task.
    pub task_id: &'a str,
    /// The key.
    pub key: &'a str,
}

/// Which of the values of a mapped task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// That of one map index.
    Index(MapIndex),
    /// The nth, counted by map index; negative counts from the end.
    Offset(i64),
}

/// A part of the values of a mapped task, in the order of map indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From the end backwards.
    pub descending: bool,
    /// How many to pass over.
    pub offset: i64,
    /// How many at most; none for all.
    pub limit: Option<i64>,
}

/// `FROM … WHERE …` for one place, in one run or in this and all earlier ones, and its values ($1 to $5).
fn source(scope: TeamScope, place: XComPlace<'_>, prior: bool) -> (&'static str, Vec<Val>) {
    let text = if prior {
        "FROM xcom x JOIN dag_run r ON r.team_no = x.team_no AND r.dag_id = x.dag_id AND r.run_id = x.run_id \
         WHERE x.team_no = $1 AND x.dag_id = $2 AND x.task_id = $4 AND x.key = $5 \
         AND coalesce(r.logical_date, r.run_after) <= (SELECT coalesce(o.logical_date, o.run_after) FROM dag_run o \
         WHERE o.team_no = $1 AND o.dag_id = $2 AND o.run_id = $3)"
    } else {
        "FROM xcom x WHERE x.team_no = $1 AND x.dag_id = $2 AND x.run_id = $3 AND x.task_id = $4 AND x.key = $5"
    };
    let values = vals![scope.team(), place.dag_id, place.run_id, place.task_id, place.key];
    (text, values)
}

/// One value; none where there is none.
///
/// # Errors
/// The database failed.
pub async fn find(
    tx: &mut Tx,
    scope: TeamScope,
    place: XComPlace<'_>,
    which: Which,
    prior: bool,
) -> Result<Option<Value>, StoreError> {
    let (from, mut values) = source(scope, place, prior);
    let newest = if prior {
        "ORDER BY coalesce(r.logical_date, r.run_after) DESC, x.at DESC"
    } else {
        ""
    };
    let rest = match which {
        Which::Index(index) => {
            values.push(index.into());
            format!("AND x.map_index = $6 {newest} LIMIT 1")
        }
        Which::Offset(offset) if offset >= 0 => {
            values.push(offset.into());
            "ORDER BY x.map_index ASC LIMIT 1 OFFSET $6".to_owned()
        }
        Which::Offset(offset) => {
            values.push((-1 - offset).into());
            "ORDER BY x.map_index DESC LIMIT 1 OFFSET $6".to_owned()
        }
    };
    let row = tx.row(&format!("SELECT x.value {from} {rest}"), values).await?;
    row.map(|row| row.json("value")).transpose()
}

/// How many values there are in the run, or in this and all earlier ones.
///
/// # Errors
/// The database failed.
pub async fn count(tx: &mut Tx, scope: TeamScope, place: XComPlace<'_>, prior: bool) -> Result<i64, StoreError> {
    let (from, values) = source(scope, place, prior);
    let row = tx.row(&format!("SELECT count(*) AS n {from}"), values).await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// A part of the values.
///
/// # Errors
/// The database failed.
pub async fn span(
    tx: &mut Tx,
    scope: TeamScope,
    place: XComPlace<'_>,
    prior: bool,
    span: Span,
) -> Result<Vec<Value>, StoreError> {
    let (from, mut values) = source(scope, place, prior);
    let order = if span.descending { "DESC" } else { "ASC" };
    values.push(span.limit.unwrap_or(i64::MAX).max(0).into());
    values.push(span.offset.max(0).into());
    let rows = tx
        .rows(
            &format!("SELECT x.value {from} ORDER BY x.map_index {order} LIMIT $6 OFFSET $7"),
            values,
        )
        .await?;
    rows.iter().map(|row| row.json("value")).collect()
}

/// Writes a value over what was there. False where the run does not exist; then nothing is written.
///
/// # Errors
/// The database failed.
pub async fn set(
    tx: &mut Tx,
    scope: TeamScope,
    place: XComPlace<'_>,
    map_index: MapIndex,
    value: &Value,
    dag_result: bool,
    at: jiff::Timestamp,
) -> Result<bool, StoreError> {
    if !run_exists(tx, scope, place).await? {
        return Ok(false);
    }
    tx.run(
        "INSERT INTO xcom (team_no, dag_id, run_id, task_id, map_index, key, value, at, dag_result) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (team_no, dag_id, run_id, task_id, map_index, key) DO UPDATE SET value = excluded.value, \
         at = excluded.at, dag_result = excluded.dag_result",
        vals![
            scope.team(),
            place.dag_id,
            place.run_id,
            place.task_id,
            map_index,
            place.key,
            value,
            at,
            dag_result,
        ],
    )
    .await
    .map(|_| true)
}

/// Deletes a value; it may be missing.
///
/// # Errors
/// The database failed.
pub async fn delete(
    tx: &mut Tx,
    scope: TeamScope,
    place: XComPlace<'_>,
    map_index: MapIndex,
) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM xcom WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 AND map_index = $5 \
         AND key = $6",
        vals![
            scope.team(),
            place.dag_id,
            place.run_id,
            place.task_id,
            map_index,
            place.key
        ],
    )
    .await
    .map(drop)
}

/// The keys that a task instance left; of all its map indices where none is given.
///
/// # Errors
/// The database failed.
pub async fn keys(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    run_id: &str,
    task_id: &str,
    map_index: Option<MapIndex>,
) -> Result<Vec<String>, StoreError> {
    let mut values = vals![scope.team(), dag_id, run_id, task_id];
    let mut text =
        "SELECT key FROM xcom WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4".to_owned();
    if let Some(index) = map_index {
        text.push_str(" AND map_index = $5");
        values.push(index.into());
    }
    text.push_str(" ORDER BY map_index, key");
    let rows = tx.rows(&text, values).await?;
    rows.iter().map(|row| row.text("key")).collect()
}

/// Notes how many values a task returned for its mapped downstream. False where the run does not exist.
///
/// # Errors
/// The database failed.
pub async fn set_mapped_length(
    tx: &mut Tx,
    scope: TeamScope,
    place: XComPlace<'_>,
    map_index: MapIndex,
    length: i64,
) -> Result<bool, StoreError> {
    if !run_exists(tx, scope, place).await? {
        return Ok(false);
    }
    tx.run(
        "INSERT INTO task_map (team_no, dag_id, run_id, task_id, map_index, length) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (team_no, dag_id, run_id, task_id, map_index) DO UPDATE SET length = excluded.length",
        vals![
            scope.team(),
            place.dag_id,
            place.run_id,
            place.task_id,
            map_index,
            length
        ],
    )
    .await
    .map(|_| true)
}

async fn run_exists(tx: &mut Tx, scope: TeamScope, place: XComPlace<'_>) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
            vals![scope.team(), place.dag_id, place.run_id],
        )
        .await?;
    Ok(row.is_some())
}
