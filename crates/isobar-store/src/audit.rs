//! The audit log: who changed what. Changes of run and task state are recorded by [`crate::transitions`] itself; this is for
//! everything else.

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunId, TaskId};
use jiff::Timestamp;
use serde_json::Value;

use crate::counters::{Counter, next_ids};
use crate::db::{vals, values_list};
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

    /// What was asked. Never a secret.
    #[must_use]
    pub fn extra(mut self, extra: Value) -> Self {
        self.extra = Some(extra);
        self
    }
}

/// Writes records of one team. Take it late in a unit: on PostgreSQL the counter of ids stays locked until the commit.
///
/// # Errors
/// The database failed.
pub async fn write(tx: &mut Tx, scope: TeamScope, records: &[Record]) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for some in records.chunks(500) {
        let count = u32::try_from(some.len()).expect("a chunk is small");
        let first = next_ids(tx, scope, Counter::Audit, count).await?;
        let rows = some
            .iter()
            .zip(first..)
            .map(|(record, id)| {
                vals![
                    scope.team(),
                    id,
                    now,
                    record.event,
                    record.actor.as_str(),
                    record.dag_id.as_ref().map(|id| id.as_str().to_owned()),
                    record.run_id.as_ref().map(|id| id.as_str().to_owned()),
                    record.task_id.as_ref().map(|id| id.as_str().to_owned()),
                    record.map_index,
                    record.extra.as_ref().map(Value::to_string),
                ]
            })
            .collect();
        let (list, values) = values_list(1, rows);
        tx.run(
            &format!(
                "INSERT INTO audit (team_no, id, at, event, owner, dag_id, run_id, task_id, map_index, extra) VALUES {list}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}
