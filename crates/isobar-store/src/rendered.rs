//! Rendered template fields of task instances.

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunKey, TaskKey};
use serde_json::Value;

use crate::db::vals;
use crate::{StoreError, Tx};

/// Writes the rendered fields of a task instance over what was there.
///
/// # Errors
/// The database failed.
pub async fn set(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    task: &TaskKey,
    fields: &Value,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO rendered_fields (team_no, dag_id, run_id, task_id, map_index, fields) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (team_no, dag_id, run_id, task_id, map_index) DO UPDATE SET fields = excluded.fields",
        vals![
            scope.team(),
            &run.dag_id,
            &run.run_id,
            &task.task_id,
            task.map_index,
            fields
        ],
    )
    .await
    .map(drop)
}

/// The rendered fields of a task instance; none where it has not rendered any.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, run: &RunKey, task: &TaskKey) -> Result<Option<Value>, StoreError> {
    let row = tx
        .row(
            "SELECT fields FROM rendered_fields WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5",
            vals![scope.team(), &run.dag_id, &run.run_id, &task.task_id, task.map_index],
        )
        .await?;
    row.map(|row| row.json("fields")).transpose()
}

/// Forgets the rendered fields of runs that lie just beyond the Dag's latest `keep`: called as each run ends, so that older
/// ones are forgotten already and no history is searched.
///
/// # Errors
/// The database failed.
pub async fn trim(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, keep: u32) -> Result<(), StoreError> {
    tx.run(
        "DELETE FROM rendered_fields WHERE team_no = $1 AND dag_id = $2 AND run_id IN (SELECT run_id FROM dag_run \
         WHERE team_no = $1 AND dag_id = $2 ORDER BY run_after DESC, id DESC LIMIT 20 OFFSET $3)",
        vals![scope.team(), dag_id, keep],
    )
    .await
    .map(drop)
}
