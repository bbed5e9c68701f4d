//! What the Task Execution API reads and writes of task instances that is no change of state.

use isobar_auth::TeamScope;
use isobar_model::{Dispatch, RunKey, TaskKey, TaskState, TiId};
use jiff::Timestamp;
use serde_json::Value;

use crate::db::{Dialect, Val, vals, values_list};
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

/// The part of a task instance by which a caller's token is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The id of the current try.
    pub ti_id: TiId,
    /// The state.
    pub state: Option<TaskState>,
    /// The fencing number.
    pub dispatch: Dispatch,
    /// Until when an ended try may still read its own things.
    pub finishing_until: Option<Timestamp>,
}

/// How a task instance stands; none where there is no such instance.
///
/// With `hold` it stands so until this unit ends: a clear or another hand-out waits, so that nothing of an older dispatch
/// slips in between (SQLite has one writer, there it is so anyway).
///
/// # Errors
/// The database failed.
pub async fn standing(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    hold: bool,
) -> Result<Option<Standing>, StoreError> {
    let lock = match tx.dialect() {
        Dialect::Postgres if hold => " FOR SHARE",
        Dialect::Postgres | Dialect::Sqlite => "",
    };
    let row = tx
        .row(
            &format!(
                "SELECT id, state, dispatch, finishing_until FROM task_instance WHERE team_no = $1 AND dag_id = $2 \
                 AND run_id = $3 AND task_id = $4 AND map_index = $5{lock}"
            ),
            vals![scope.team(), &run.dag_id, &run.run_id, &task.task_id, task.map_index],
        )
        .await?;
    row.map(|row| {
        Ok(Standing {
            ti_id: row.ti_id("id")?,
            state: row.maybe_word("state")?,
            dispatch: Dispatch(row.int("dispatch")?),
            finishing_until: row.maybe_time("finishing_until")?,
        })
    })
    .transpose()
}

/// Which task instances of one Dag are meant. What is none or empty restricts nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstanceFilter {
    /// The Dag.
    pub dag_id: String,
    /// This map index.
    pub map_index: Option<i32>,
    /// These tasks.
    pub task_ids: Vec<String>,
    /// Runs of these logical dates.
    pub logical_dates: Vec<Timestamp>,
    /// These runs.
    pub run_ids: Vec<String>,
    /// These states.
    pub states: Vec<String>,
    /// Instances without a state, beside those of `states`.
    pub without_state: bool,
    /// These pairs of task and map index.
    pub pairs: Option<Vec<(String, i32)>>,
}

impl InstanceFilter {
    /// `FROM … WHERE …` and its values.
    fn text(&self, scope: TeamScope) -> (String, Vec<Val>) {
        let mut text = "FROM task_instance t WHERE t.team_no = $1 AND t.dag_id = $2".to_owned();
        let mut values = vals![scope.team(), &self.dag_id];
        if let Some(index) = self.map_index {
            values.push(index.into());
            text.push_str(&format!(" AND t.map_index = ${}", values.len()));
        }
        if !self.task_ids.is_empty() {
            text.push_str(&format!(" AND t.task_id {}", among(&mut values, &self.task_ids)));
        }
        if !self.run_ids.is_empty() {
            text.push_str(&format!(" AND t.run_id {}", among(&mut values, &self.run_ids)));
        }
        if !self.logical_dates.is_empty() {
            let list = among(&mut values, &self.logical_dates);
            text.push_str(&format!(
                " AND EXISTS (SELECT 1 FROM dag_run r WHERE r.team_no = t.team_no AND r.dag_id = t.dag_id \
                 AND r.run_id = t.run_id AND r.logical_date {list})"
            ));
        }
        match (self.without_state, self.states.is_empty()) {
            (false, true) => {}
            (true, true) => text.push_str(" AND t.state IS NULL"),
            (false, false) => text.push_str(&format!(" AND t.state {}", among(&mut values, &self.states))),
            (true, false) => {
                let list = among(&mut values, &self.states);
                text.push_str(&format!(" AND (t.state IS NULL OR t.state {list})"));
            }
        }
        if let Some(pairs) = &self.pairs {
            let rows = pairs.iter().map(|(task, index)| vals![task, *index]).collect();
            let (list, more) = values_list(values.len() + 1, rows);
            values.extend(more);
            if pairs.is_empty() {
                text.push_str(" AND 1 = 0");
            } else {
                text.push_str(&format!(" AND (t.task_id, t.map_index) IN (VALUES {list})"));
            }
        }
        (text, values)
    }
}

/// `IN ($5, $6)` for values, which are added to those of the statement.
pub(crate) fn among<T>(values: &mut Vec<Val>, all: &[T]) -> String
where
    T: Clone + Into<Val>,
{
    let marks: Vec<String> = all
        .iter()
        .map(|value| {
            values.push(value.clone().into());
            format!("${}", values.len())
        })
        .collect();
    format!("IN ({})", marks.join(", "))
}

/// How many instances are meant.
///
/// # Errors
/// The database failed.
pub async fn count(tx: &mut Tx, scope: TeamScope, filter: &InstanceFilter) -> Result<i64, StoreError> {
    let (text, values) = filter.text(scope);
    let row = tx.row(&format!("SELECT count(*) AS n {text}"), values).await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// An instance and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceState {
    /// The run.
    pub run_id: String,
    /// The task.
    pub task_id: String,
    /// The map index.
    pub map_index: i32,
    /// The state.
    pub state: Option<String>,
}

/// The states of the instances that are meant.
///
/// # Errors
/// The database failed.
pub async fn states(tx: &mut Tx, scope: TeamScope, filter: &InstanceFilter) -> Result<Vec<InstanceState>, StoreError> {
    let (text, values) = filter.text(scope);
    let rows = tx
        .rows(
            &format!(
                "SELECT t.run_id, t.task_id, t.map_index, t.state {text} ORDER BY t.run_id, t.task_id, t.map_index"
            ),
            values,
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(InstanceState {
                run_id: row.text("run_id")?,
                task_id: row.text("task_id")?,
                map_index: row.small("map_index")?,
                state: row.maybe_text("state")?,
            })
        })
        .collect()
}

/// The ended instances of a run, for an overview: `{task_id, map_index, state, operator, duration}` each.
///
/// # Errors
/// The database failed.
pub async fn breadcrumbs(tx: &mut Tx, scope: TeamScope, dag_id: &str, run_id: &str) -> Result<Vec<Value>, StoreError> {
    let rows = tx
        .rows(
            "SELECT task_id, map_index, state, operator, duration FROM task_instance WHERE team_no = $1 AND dag_id = $2 \
             AND run_id = $3 AND state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed') \
             ORDER BY task_id, map_index",
            vals![scope.team(), dag_id, run_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(serde_json::json!({
                "task_id": row.text("task_id")?,
                "map_index": row.int("map_index")?,
                "state": row.maybe_text("state")?,
                "operator": row.maybe_text("operator")?,
                "duration": row.real("duration")?,
            }))
        })
        .collect()
}

/// The instance of a task in the latest run, or in the latest before a logical date; with its run's logical date.
///
/// # Errors
/// The database failed.
pub async fn previous(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    task: &TaskKey,
    before: Option<Timestamp>,
    state: Option<&str>,
) -> Result<Option<(TaskInstance, Option<Timestamp>)>, StoreError> {
    let mut values = vals![scope.team(), dag_id, &task.task_id, task.map_index];
    let mut text = "SELECT t.*, r.logical_date AS run_logical_date FROM task_instance t JOIN dag_run r \
                    ON r.team_no = t.team_no AND r.dag_id = t.dag_id AND r.run_id = t.run_id \
                    WHERE t.team_no = $1 AND t.dag_id = $2 AND t.task_id = $3 AND t.map_index = $4"
        .to_owned();
    if let Some(before) = before {
        values.push(before.into());
        text.push_str(&format!(" AND r.logical_date < ${}", values.len()));
    }
    if let Some(state) = state {
        values.push(state.into());
        text.push_str(&format!(" AND t.state = ${}", values.len()));
    }
    text.push_str(" ORDER BY coalesce(r.logical_date, -9223372036854775807) DESC LIMIT 1");
    let row = tx.row(&text, values).await?;
    row.map(|row| Ok((TaskInstance::from_row(&row)?, row.maybe_time("run_logical_date")?)))
        .transpose()
}
