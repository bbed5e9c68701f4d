//! The few facts of preceding runs that rules ask for, read by key.

use std::collections::HashMap;

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunKey, TaskId};
use jiff::Timestamp;

use crate::db::vals;
use crate::runs::Run;
use crate::{StoreError, Tx};

/// The run before one with a logical date: the greatest earlier date; in a Dag that catches up, manual runs do not count.
///
/// # Errors
/// The database failed.
pub async fn preceding_run(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    before: Timestamp,
    manual_counts: bool,
) -> Result<Option<Run>, StoreError> {
    let manual = if manual_counts { "" } else { " AND run_type != 'manual'" };
    let row = tx
        .row(
            &format!(
                "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND logical_date < $3{manual} \
                 ORDER BY logical_date DESC LIMIT 1"
            ),
            vals![scope.team(), dag_id, before],
        )
        .await?;
    row.as_ref().map(Run::from_row).transpose()
}

/// For each task of a run: how many of its instances are neither successful nor skipped.
///
/// # Errors
/// The database failed.
pub async fn unsuccessful_by_task(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
) -> Result<HashMap<TaskId, u32>, StoreError> {
    let rows = tx
        .rows(
            "SELECT task_id, count(CASE WHEN state IN ('success', 'skipped') THEN NULL ELSE 1 END) AS n FROM task_instance \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 GROUP BY task_id",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("task_id")?.into(), u32::try_from(row.int("n")?).unwrap_or(0))))
        .collect()
}

/// Whether a task had an instance in any run of an earlier logical date.
///
/// # Errors
/// The database failed.
pub async fn existed_before(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    task_id: &TaskId,
    before: Timestamp,
) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one FROM dag_run r JOIN task_instance t ON t.team_no = r.team_no AND t.dag_id = r.dag_id \
             AND t.run_id = r.run_id WHERE r.team_no = $1 AND r.dag_id = $2 AND r.logical_date < $3 AND t.task_id = $4 \
             LIMIT 1",
            vals![scope.team(), dag_id, before, task_id],
        )
        .await?;
    Ok(row.is_some())
}
