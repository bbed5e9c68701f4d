//! All changes of task and run state, by whomever.
//!
//! Every change locks its run first (`rev + 1`), compares and sets the task instance, writes the event that the change
//! causes and the audit record, in the caller's unit. Who may call what is decided above the store.

mod lost;
mod plan;
mod resumed;
mod task;

use isobar_auth::TeamScope;
use isobar_model::{Rev, RunKey};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
pub use lost::{lost, put_back, restarted};
pub use plan::{
    Dates, Decided, NewCallback, Placeholder, PlanOutcome, PlannedRun, QueueTask, QueuedTask, ReadyTask, RunUpdate,
    commit_plans,
};
pub use resumed::{Answered, Resume, WaitsFor, answered, ended_by_trigger, resumed, timed_out};
pub use task::{
    Ended, EndedTask, StartedTask, TaskWrite, ended, fenced, heartbeat, set_rendered_map_index, skip_downstream,
    started,
};

use crate::db::vals;
use crate::events::{self, EventKind, RunChange};
use crate::late::{LateRow, Table};
use crate::runs::Run;
use crate::task_instances::TaskInstance;
use crate::{Dialect, StoreError, Tx};

/// An audit record of a change of state, as Airflow's `Log` rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditRow {
    pub event: String,
    pub owner: Option<String>,
    pub task: Option<(String, i32, i32)>,
    pub extra: Option<String>,
}

impl AuditRow {
    /// The record of a task instance that went to a state.
    pub(crate) fn of_task(event: &str, ti: &TaskInstance, extra: Option<String>) -> Self {
        Self {
            event: event.to_owned(),
            owner: None,
            task: Some((ti.task_id.to_string(), ti.map_index, ti.try_number)),
            extra,
        }
    }
}

/// A run that this unit has locked and is changing.
#[must_use = "close it, or its event is never written"]
pub(crate) struct OpenRun {
    pub scope: TeamScope,
    /// The row, with the new revision.
    pub row: Run,
    pub change: RunChange,
    pub audit: Vec<AuditRow>,
    now: Timestamp,
}

impl OpenRun {
    /// Locks a run and moves its revision; none where there is no such run.
    pub(crate) async fn lock(
        tx: &mut Tx,
        scope: TeamScope,
        key: &RunKey,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let row = tx
            .row(
                "UPDATE dag_run SET rev = rev + 1, updated_at = $4 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
                 RETURNING *",
                vals![scope.team(), &key.dag_id, &key.run_id, now],
            )
            .await?;
        Self::opened(row.as_ref(), scope, now)
    }

    /// Locks a run that is still at the revision a plan was made from; none where it moved or is gone. A run that only gets its
    /// instances and waits on, queued, was not decided on yet: that keeps its place among those that wait.
    ///
    /// Who holds the run is about to move it. That is not waited for: a pass, which writes many runs, is in nobody's way then.
    pub(crate) async fn lock_at(
        tx: &mut Tx,
        scope: TeamScope,
        key: &RunKey,
        rev: Rev,
        starts: bool,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let free = match tx.dialect() {
            Dialect::Sqlite => "$3".to_owned(),
            Dialect::Postgres => format!(
                "(SELECT run_id FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 {})",
                Dialect::Postgres.skip_locked()
            ),
        };
        let row = tx
            .row(
                &format!(
                    "UPDATE dag_run SET rev = rev + 1, updated_at = $4, \
                     last_decision = CASE WHEN state = 'queued' AND NOT $6 THEN last_decision ELSE $4 END \
                     WHERE team_no = $1 AND dag_id = $2 AND run_id = {free} AND rev = $5 RETURNING *"
                ),
                vals![scope.team(), &key.dag_id, &key.run_id, now, rev, starts],
            )
            .await?;
        Self::opened(row.as_ref(), scope, now)
    }

    fn opened(row: Option<&crate::db::Row>, scope: TeamScope, now: Timestamp) -> Result<Option<Self>, StoreError> {
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Self {
            scope,
            row: Run::from_row(row)?,
            change: RunChange::default(),
            audit: Vec::new(),
            now,
        }))
    }

    /// The run's key.
    pub(crate) fn key(&self) -> RunKey {
        self.row.key()
    }

    /// Writes the event and the audit records, and wakes the scheduler after the commit where `wake` says so.
    pub(crate) async fn close(mut self, tx: &mut Tx, wake: bool) -> Result<Rev, StoreError> {
        let change = std::mem::take(&mut self.change);
        let body = serde_json::to_string(&change).expect("a run change is plain data");
        events::add(
            tx,
            self.scope,
            EventKind::Run,
            &self.row.dag_id,
            &self.row.run_id,
            self.row.rev,
            &body,
            self.now,
        )
        .await?;
        if wake {
            tx.wake(Wake::Events);
        }
        Ok(self.close_silently(tx))
    }

    /// Writes the audit records, and no event: for the scheduler, which knows what it did.
    pub(crate) fn close_silently(self, tx: &mut Tx) -> Rev {
        write_audit(tx, self.scope, &self.row, &self.audit, self.now);
        self.row.rev
    }
}

/// Appends audit records about one run, with the commit.
pub(crate) fn write_audit(tx: &mut Tx, scope: TeamScope, run: &Run, records: &[AuditRow], now: Timestamp) {
    for record in records {
        let task = record.task.as_ref();
        tx.write_late(LateRow {
            scope,
            table: Table::Audit,
            values: vals![
                now,
                record.event.as_str(),
                record.owner.clone(),
                &run.dag_id,
                &run.run_id,
                task.map(|(task_id, ..)| task_id.clone()),
                task.map(|(_, map_index, _)| *map_index),
                task.map(|(.., try_number)| *try_number),
                run.logical_date,
                record.extra.clone(),
            ],
        });
    }
}
