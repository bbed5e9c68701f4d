//! Deadlines of runs: made when a scheduler first sees a run, met when it succeeds in time, missed when time passes them.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, RunKey, TeamId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::db::vals;
use crate::{StoreError, Tx};

/// A deadline of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDeadline {
    /// Its place among the deadlines of the Dag.
    pub number: i64,
    /// When the run must have ended.
    pub due_at: Timestamp,
    /// Whether that counts from when the run was queued.
    pub from_queued: bool,
    /// What is called then.
    pub callback: Value,
}

/// A deadline that was missed.
#[derive(Clone, Debug, PartialEq)]
pub struct Missed {
    /// Whose it is.
    pub team: TeamId,
    /// The run that has not ended.
    pub run: RunKey,
    /// The deadline's own id, which its callback is told.
    pub id: Uuid,
    /// When the run should have ended.
    pub due_at: Timestamp,
    /// What is to be called.
    pub callback: Value,
}

/// Whether the deadlines of a run were made already.
///
/// # Errors
/// The database failed.
pub async fn are_made(tx: &mut Tx, scope: TeamScope, run: &RunKey) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS there FROM deadline WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 LIMIT 1",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    Ok(row.is_some())
}

/// Makes deadlines of a run; one that is there stays as it is.
///
/// # Errors
/// The database failed.
pub async fn make(tx: &mut Tx, scope: TeamScope, run: &RunKey, deadlines: &[NewDeadline]) -> Result<(), StoreError> {
    for deadline in deadlines {
        tx.run(
            "INSERT INTO deadline (team_no, dag_id, run_id, number, id, due_at, state, from_queued, callback) \
             VALUES ($1, $2, $3, $4, $5, $6, 'waiting', $7, $8) ON CONFLICT DO NOTHING",
            vals![
                scope.team(),
                &run.dag_id,
                &run.run_id,
                deadline.number,
                Uuid::new_v4(),
                deadline.due_at,
                deadline.from_queued,
                &deadline.callback
            ],
        )
        .await?;
    }
    Ok(())
}

/// The run succeeded: what it was in time for is met.
///
/// # Errors
/// The database failed.
pub async fn meet(tx: &mut Tx, scope: TeamScope, run: &RunKey, ended_at: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "UPDATE deadline SET state = 'met' WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND state = 'waiting' \
         AND due_at >= $4",
        vals![scope.team(), &run.dag_id, &run.run_id, ended_at],
    )
    .await?;
    Ok(())
}

/// The run was cleared and is queued anew: what counts from there and has not passed moves by as much.
///
/// # Errors
/// The database failed.
pub(crate) async fn queued_anew(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    before: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "UPDATE deadline SET due_at = due_at + $4 - $5 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
         AND state = 'waiting' AND from_queued = TRUE",
        vals![scope.team(), &run.dag_id, &run.run_id, now, before],
    )
    .await
    .map(drop)
}

/// When the next deadline of the organisation passes.
///
/// # Errors
/// The database failed.
pub async fn next_due(tx: &mut Tx, _scope: &OrgScope) -> Result<Option<Timestamp>, StoreError> {
    let row = tx
        .row(
            "SELECT due_at FROM deadline WHERE state = 'waiting' ORDER BY due_at LIMIT 1",
            vals![],
        )
        .await?;
    row.map(|row| row.time("due_at")).transpose()
}

/// Takes out the deadlines that have passed; each is given once.
///
/// # Errors
/// The database failed.
pub async fn miss(tx: &mut Tx, _scope: &OrgScope, now: Timestamp) -> Result<Vec<Missed>, StoreError> {
    let rows = tx
        .rows(
            "UPDATE deadline SET state = 'missed' WHERE state = 'waiting' AND due_at < $1 \
             RETURNING team_no, dag_id, run_id, id, due_at, callback",
            vals![now],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Missed {
                team: row.team("team_no")?,
                run: RunKey {
                    dag_id: row.text("dag_id")?.into(),
                    run_id: row.text("run_id")?.into(),
                },
                id: row.uuid("id")?,
                due_at: row.time("due_at")?,
                callback: row.json("callback")?,
            })
        })
        .collect()
}

/// Lengths of the Dag's latest runs that succeeded in microseconds, at most `limit`: without a logical date first, then by it, latest
/// first, as Airflow's PostgreSQL has them.
///
/// # Errors
/// The database failed.
pub async fn latest_lengths(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, limit: i32) -> Result<Vec<i64>, StoreError> {
    let rows = tx
        .rows(
            "SELECT end_date - start_date AS length FROM dag_run WHERE team_no = $1 AND dag_id = $2 \
             AND state = 'success' AND start_date IS NOT NULL AND end_date IS NOT NULL \
             ORDER BY logical_date DESC NULLS FIRST, id DESC LIMIT $3",
            vals![scope.team(), dag_id, limit],
        )
        .await?;
    rows.iter().map(|row| row.int("length")).collect()
}
