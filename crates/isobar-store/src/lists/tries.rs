//! The tries of a task instance: those that are past, and the present one.

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId};

use super::select::Select;
use super::task_instances::{InstanceRow, add_related, read_all, try_columns};
use crate::{StoreError, Tx};

macro_rules! from_run {
    ($table:literal) => {
        concat!(
            $table,
            " t JOIN dag_run r ON r.team_no = t.team_no AND r.dag_id = t.dag_id AND r.run_id = t.run_id \
             LEFT JOIN dag d ON d.team_no = t.team_no AND d.dag_id = t.dag_id"
        )
    };
}

const PAST: &str = concat!(
    try_columns!(),
    ", NULL AS note, NULL AS rendered_fields, CAST(NULL AS BIGINT) AS trigger_id"
);
const PRESENT: &str = concat!(try_columns!(), ", t.note, NULL AS rendered_fields, t.trigger_id");

/// The past tries in order, then the present one; a try that waits for its retry is past already and shown once.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: MapIndex,
) -> Result<Vec<InstanceRow>, StoreError> {
    let scope = ReadScope::from(scope);
    let mut rows = Vec::new();
    for (columns, from, present) in [
        (PAST, from_run!("task_instance_history"), false),
        (PRESENT, from_run!("task_instance"), true),
    ] {
        let mut select = Select::new(tx, &scope, "t.team_no", columns, from);
        select.equal("t.dag_id", dag_id);
        select.equal("t.run_id", run_id);
        select.equal("t.task_id", task_id);
        select.equal("t.map_index", map_index);
        if present {
            select.and("(t.state <> 'up_for_retry' OR t.state IS NULL)");
        }
        rows.extend(read_all(&select.all(tx, " ORDER BY t.try_number").await?)?);
    }
    add_related(tx, &scope, &mut rows).await?;
    Ok(rows)
}

/// One try.
///
/// # Errors
/// The database failed.
pub async fn get(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    run_id: &RunId,
    task_id: &TaskId,
    map_index: MapIndex,
    try_number: i64,
) -> Result<Option<InstanceRow>, StoreError> {
    let scope = ReadScope::from(scope);
    for (columns, from) in [
        (PRESENT, from_run!("task_instance")),
        (PAST, from_run!("task_instance_history")),
    ] {
        let mut select = Select::new(tx, &scope, "t.team_no", columns, from);
        select.equal("t.dag_id", dag_id);
        select.equal("t.run_id", run_id);
        select.equal("t.task_id", task_id);
        select.equal("t.map_index", map_index);
        select.equal("t.try_number", try_number);
        if let Some(row) = select.one(tx).await? {
            let mut rows = [InstanceRow::read(&row)?];
            add_related(tx, &scope, &mut rows).await?;
            let [row] = rows;
            return Ok(Some(row));
        }
    }
    Ok(None)
}
