//! The audit log: who changed what. Changes of run and task state are recorded by [`crate::transitions`] itself; this is for
//! everything else.

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunId, TaskId};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;
use serde_json::Value;

use crate::db::vals;
use crate::late::{LateRow, Table};
use crate::{StoreError, Tx};

/// One record to be written.
#[derive(Clone, Debug)]
pub struct Record {
    event: &'static str,
    actor: String,
    dag_id: Option<DagId>,
    run_id: Option<RunId>,
    task_id: Option<TaskId>,
    map_index: Option<i32>,
    try_number: Option<i32>,
    extra: Option<Value>,
}

impl Record {
    /// An event, named as Airflow names it (`patch_dag`, `delete_variable`), and who caused it.
    #[must_use]
    pub fn new(event: &'static str, actor: &str) -> Self {
        Self {
            event,
            actor: actor.to_owned(),
            dag_id: None,
            run_id: None,
            task_id: None,
            map_index: None,
            try_number: None,
            extra: None,
        }
    }

    /// The Dag it is about.
    #[must_use]
    pub fn dag(mut self, dag_id: &DagId) -> Self {
        self.dag_id = Some(dag_id.clone());
        self
    }

    /// The run it is about.
    #[must_use]
    pub fn run(mut self, run_id: &RunId) -> Self {
        self.run_id = Some(run_id.clone());
        self
    }

    /// The task instance it is about.
    #[must_use]
    pub fn task(mut self, task_id: &TaskId, map_index: Option<i32>) -> Self {
        self.task_id = Some(task_id.clone());
        self.map_index = map_index;
        self
    }

    /// The try it is about.
    #[must_use]
    pub fn of_try(mut self, try_number: i32) -> Self {
        self.try_number = Some(try_number);
        self
    }

    /// What was asked. Never a secret.
    #[must_use]
    pub fn extra(mut self, extra: Value) -> Self {
        self.extra = Some(extra);
        self
    }
}

/// Plain text as it is, all else as JSON.
fn said(extra: &Value) -> String {
    extra.as_str().map_or_else(|| extra.to_string(), str::to_owned)
}

/// How often an event was recorded of one try of a task, since the last record of `since`.
///
/// # Errors
/// The database failed.
pub async fn times(
    tx: &mut Tx,
    scope: TeamScope,
    event: &str,
    task: &TaskIdentity,
    since: &str,
) -> Result<u32, StoreError> {
    let row = tx
        .row(
            "WITH said AS (SELECT event, at FROM audit WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND task_id = $4 \
             AND map_index = $5 AND try_number = $6 AND event IN ($7, $8)) \
             SELECT COUNT(*) AS times FROM said WHERE event = $7 \
             AND at > COALESCE((SELECT MAX(at) FROM said WHERE event = $8), 0)",
            vals![
                scope.team(),
                &task.dag_id,
                &task.run_id,
                &task.task_id,
                task.map_index,
                task.try_number,
                event,
                since
            ],
        )
        .await?;
    Ok(row
        .map_or(Ok(0), |row| row.int("times"))?
        .try_into()
        .unwrap_or(u32::MAX))
}

/// Writes records of one team, with the commit.
pub fn write(tx: &mut Tx, scope: TeamScope, records: &[Record]) {
    let now = Timestamp::now();
    for record in records {
        tx.write_late(LateRow {
            scope,
            table: Table::Audit,
            values: vals![
                now,
                record.event,
                record.actor.as_str(),
                record.dag_id.as_ref(),
                record.run_id.as_ref(),
                record.task_id.as_ref(),
                record.map_index,
                record.try_number,
                None::<Timestamp>,
                record.extra.as_ref().map(said),
            ],
        });
    }
}
