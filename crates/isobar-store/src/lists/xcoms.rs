//! XComs as the REST API lists them.

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use super::matching::{Page, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{Row, vals};
use crate::{StoreError, Tx};

/// An XCom.
#[derive(Clone, Debug)]
pub struct XComRow {
    /// Whose it is.
    pub team: TeamId,
    /// The Dag.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The place among mapped instances.
    pub map_index: MapIndex,
    /// Its key.
    pub key: String,
    /// When it was written.
    pub at: Timestamp,
    /// The run's logical date.
    pub logical_date: Option<Timestamp>,
    /// The run's `run_after`.
    pub run_after: Timestamp,
    /// The Dag's name to show.
    pub dag_display_name: String,
    /// The task's name to show.
    pub task_display_name: String,
    /// The value; null in lists, which do not read it.
    pub value: Value,
}

impl XComRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            run_id: row.text("run_id")?.into(),
            task_id: row.text("task_id")?.into(),
            map_index: row.small("map_index")?,
            key: row.text("key")?,
            at: row.time("at")?,
            logical_date: row.maybe_time("logical_date")?,
            run_after: row.time("run_after")?,
            dag_display_name: row.text("dag_display_name")?,
            task_display_name: row.text("task_display_name")?,
            value: row.json("value")?,
        })
    }
}

macro_rules! columns {
    ($value:literal) => {
        concat!(
            "x.team_no, x.dag_id, x.run_id, x.task_id, x.map_index, x.key, x.at, r.logical_date, r.run_after, \
             coalesce(d.display_name, x.dag_id) AS dag_display_name, \
             coalesce(t.display_name, x.task_id) AS task_display_name, ",
            $value,
            " AS value"
        )
    };
}
const FROM: &str = "xcom x JOIN dag_run r ON r.team_no = x.team_no AND r.dag_id = x.dag_id AND r.run_id = x.run_id \
    JOIN dag d ON d.team_no = x.team_no AND d.dag_id = x.dag_id \
    LEFT JOIN task_instance t ON t.team_no = x.team_no AND t.dag_id = x.dag_id AND t.run_id = x.run_id \
    AND t.task_id = x.task_id AND t.map_index = x.map_index";

/// By what XComs can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "key" => "x.key" Text;
        "dag_id" => "x.dag_id" Text;
        "run_id" => "x.run_id" Text;
        "task_id" => "x.task_id" Text;
        "map_index" => "x.map_index" Int;
        "timestamp" => "x.at" Int;
        "run_after" => "r.run_after" Int;
    },
    unique: &[
        ("x.dag_id", Kind::Text),
        ("x.task_id", Kind::Text),
        ("x.run_id", Kind::Text),
        ("x.map_index", Kind::Int),
        ("x.key", Kind::Text),
        ("x.team_no", Kind::Int),
    ],
    default: "dag_id",
};

/// Which XComs.
#[derive(Clone, Debug, Default)]
pub struct XComFilter {
    /// Of this Dag.
    pub dag_id: Option<DagId>,
    /// Of this run.
    pub run_id: Option<RunId>,
    /// Of this task.
    pub task_id: Option<TaskId>,
    /// Of this map index.
    pub map_index: Option<i64>,
    /// With this key.
    pub key: Option<String>,
    /// The key.
    pub key_match: TextMatch,
    /// The Dag's name to show.
    pub dag_display_name: TextMatch,
    /// The run's id.
    pub run_id_match: TextMatch,
    /// The task's id.
    pub task_id_match: TextMatch,
    /// Of this map index, too.
    pub map_index_filter: Option<i64>,
    /// The run's logical date.
    pub logical_date: TimeRange,
    /// The run's `run_after`.
    pub run_after: TimeRange,
}

/// Lists XComs without their values.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &XComFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<XComRow>, StoreError> {
    let mut select = Select::new(tx, scope, "x.team_no", columns!("NULL"), FROM);
    select.equal_if("x.dag_id", filter.dag_id.as_ref());
    select.equal_if("x.run_id", filter.run_id.as_ref());
    select.equal_if("x.task_id", filter.task_id.as_ref());
    select.equal_if("x.map_index", filter.map_index);
    select.equal_if("x.key", filter.key.as_ref());
    select.matches("x.key", &filter.key_match);
    select.matches("coalesce(d.display_name, d.dag_id)", &filter.dag_display_name);
    select.matches("x.run_id", &filter.run_id_match);
    select.matches("x.task_id", &filter.task_id_match);
    select.equal_if("x.map_index", filter.map_index_filter);
    select.within("r.logical_date", &filter.logical_date);
    select.within("r.run_after", &filter.run_after);
    select.page(tx, order, page, XComRow::read).await
}

/// One XCom with its value.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: i64,
    key: &str,
) -> Result<Option<XComRow>, StoreError> {
    let mut select = Select::new(tx, &scope.into(), "x.team_no", columns!("x.value"), FROM);
    select.equal("x.dag_id", dag_id);
    select.equal("x.run_id", run_id);
    select.equal("x.task_id", task_id);
    select.equal("x.map_index", map_index);
    select.equal("x.key", key);
    select.one(tx).await?.as_ref().map(XComRow::read).transpose()
}

/// The results of a finished run: those that the Dag marks as its result, or those of some tasks; by task, then map index.
///
/// # Errors
/// The database failed.
pub async fn results(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    tasks: Option<&[String]>,
) -> Result<Vec<(TaskId, MapIndex, Value)>, StoreError> {
    let rows = tx
        .rows(
            "SELECT task_id, map_index, value, dag_result FROM xcom \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND key = 'return_value' ORDER BY task_id, map_index",
            vals![scope.team(), dag_id, run_id],
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let task_id = row.text("task_id")?;
        let wanted = match tasks {
            Some(tasks) => tasks.contains(&task_id),
            None => row.flag("dag_result")?,
        };
        if wanted {
            found.push((task_id.into(), row.small("map_index")?, row.json("value")?));
        }
    }
    Ok(found)
}
