//! Runs: the row, making, reading and deleting it.

use isobar_auth::TeamScope;
use isobar_model::{DagId, Rev, RunId, RunKey, RunState, RunTrigger, RunType, TeamId};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::counters::{Counter, next_ids};
use crate::db::{Row, vals};
use crate::events::{self, EventKind, RunChange};
use crate::{StoreError, Tx};

/// A row of `dag_run`.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "each field is the column of its name; see the migration for meanings"
)]
pub struct Run {
    pub team: TeamId,
    pub dag_id: DagId,
    pub run_id: RunId,
    pub id: i64,
    pub rev: Rev,
    pub state: RunState,
    pub run_type: RunType,
    pub triggered_by: Option<RunTrigger>,
    pub triggering_user: Option<String>,
    pub conf: Value,
    pub note: Option<String>,
    pub note_user: Option<String>,
    pub logical_date: Option<Timestamp>,
    pub interval_start: Option<Timestamp>,
    pub interval_end: Option<Timestamp>,
    pub run_after: Timestamp,
    pub queued_at: Option<Timestamp>,
    pub start_date: Option<Timestamp>,
    pub end_date: Option<Timestamp>,
    pub last_decision: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub clear_number: i64,
    pub bundle_version: Option<String>,
    pub created_version_id: Option<Uuid>,
    pub partition_key: Option<String>,
    pub partition_date: Option<Timestamp>,
    pub backfill_id: Option<i64>,
    pub backfill_ordinal: Option<i64>,
    pub requested_by_team: Option<TeamId>,
}

impl Run {
    pub(crate) fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            run_id: row.text("run_id")?.into(),
            id: row.int("id")?,
            rev: row.int("rev")?,
            state: row.word("state")?,
            run_type: row.word("run_type")?,
            triggered_by: row.maybe_word("triggered_by")?,
            triggering_user: row.maybe_text("triggering_user")?,
            conf: row.json("conf")?,
            note: row.maybe_text("note")?,
            note_user: row.maybe_text("note_user")?,
            logical_date: row.maybe_time("logical_date")?,
            interval_start: row.maybe_time("interval_start")?,
            interval_end: row.maybe_time("interval_end")?,
            run_after: row.time("run_after")?,
            queued_at: row.maybe_time("queued_at")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
            last_decision: row.maybe_time("last_decision")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            clear_number: row.int("clear_number")?,
            bundle_version: row.maybe_text("bundle_version")?,
            created_version_id: row.maybe_uuid("created_version_id")?,
            partition_key: row.maybe_text("partition_key")?,
            partition_date: row.maybe_time("partition_date")?,
            backfill_id: row.maybe_int("backfill_id")?,
            backfill_ordinal: row.maybe_int("backfill_ordinal")?,
            requested_by_team: row
                .maybe_int("requested_by_team")?
                .and_then(|team| i32::try_from(team).ok())
                .map(TeamId),
        })
    }

    /// Its key inside the team.
    #[must_use]
    pub fn key(&self) -> RunKey {
        RunKey {
            dag_id: self.dag_id.clone(),
            run_id: self.run_id.clone(),
        }
    }
}

/// A run to be made, in state `queued`. Its task instances are made by the scheduler, from the graph, when it sees it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct NewRun {
    pub dag_id: DagId,
    pub run_id: RunId,
    pub run_type: RunType,
    pub triggered_by: Option<RunTrigger>,
    pub triggering_user: Option<String>,
    pub conf: Value,
    pub note: Option<String>,
    pub logical_date: Option<Timestamp>,
    pub interval: Option<(Timestamp, Timestamp)>,
    pub run_after: Timestamp,
    pub bundle_version: Option<String>,
    /// The Dag version it starts on, the Dag's current one.
    pub version_id: Option<Uuid>,
    pub partition_key: Option<String>,
    pub partition_date: Option<Timestamp>,
    pub backfill_id: Option<i64>,
    pub requested_by_team: Option<TeamId>,
}

impl NewRun {
    /// A run with what every run has; the rest is empty.
    #[must_use]
    pub fn new(dag_id: DagId, run_id: RunId, run_type: RunType, run_after: Timestamp) -> Self {
        Self {
            dag_id,
            run_id,
            run_type,
            triggered_by: None,
            triggering_user: None,
            conf: Value::Object(serde_json::Map::new()),
            note: None,
            logical_date: None,
            interval: None,
            run_after,
            bundle_version: None,
            version_id: None,
            partition_key: None,
            partition_date: None,
            backfill_id: None,
            requested_by_team: None,
        }
    }
}

/// Makes a run and tells the scheduler.
///
/// # Errors
/// [`StoreError::Exists`] where the Dag has a run of that id, or one of that logical date; nothing was written then and
/// the unit may go on.
pub async fn create(tx: &mut Tx, scope: TeamScope, new: &NewRun, now: Timestamp) -> Result<Run, StoreError> {
    let run = insert(tx, scope, new, now).await?;
    let change = RunChange {
        reload: true,
        ..RunChange::default()
    };
    let body = serde_json::to_string(&change).expect("a run change is plain data");
    events::add(tx, scope, EventKind::Run, &run.dag_id, &run.run_id, run.rev, &body, now).await?;
    tx.wake(Wake::Events);
    Ok(run)
}

/// Makes a run without an event: for the scheduler itself.
///
/// # Errors
/// As [`create`].
pub async fn insert(tx: &mut Tx, scope: TeamScope, new: &NewRun, now: Timestamp) -> Result<Run, StoreError> {
    let id = next_ids(tx, scope, Counter::Run, 1).await?;
    let row = tx
        .row(
            "INSERT INTO dag_run (team_no, dag_id, run_id, id, rev, state, run_type, triggered_by, triggering_user, conf, \
             note, note_user, logical_date, interval_start, interval_end, run_after, queued_at, created_at, updated_at, \
             bundle_version, created_version_id, partition_key, partition_date, backfill_id, requested_by_team) \
             VALUES ($1, $2, $3, $4, 0, 'queued', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $15, $16, $17, \
             $18, $19, $20, $21) ON CONFLICT DO NOTHING RETURNING *",
            vals![
                scope.team(),
                &new.dag_id,
                &new.run_id,
                id,
                new.run_type,
                new.triggered_by,
                new.triggering_user.clone(),
                &new.conf,
                new.note.clone(),
                new.note.as_ref().and(new.triggering_user.clone()),
                new.logical_date,
                new.interval.map(|(start, _)| start),
                new.interval.map(|(_, end)| end),
                new.run_after,
                now,
                new.bundle_version.clone(),
                new.version_id,
                new.partition_key.clone(),
                new.partition_date,
                new.backfill_id,
                new.requested_by_team,
            ],
        )
        .await?;
    row.as_ref()
        .map(Run::from_row)
        .transpose()?
        .ok_or_else(|| StoreError::Exists {
            what: format!(
                "a run `{}` of Dag `{}`, or one of its logical date,",
                new.run_id, new.dag_id
            ),
        })
}

/// One run, none where there is none.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, key: &RunKey) -> Result<Option<Run>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
            vals![scope.team(), &key.dag_id, &key.run_id],
        )
        .await?;
    row.as_ref().map(Run::from_row).transpose()
}

/// The Dag's run of a logical date.
///
/// # Errors
/// The database failed.
pub async fn of_logical_date(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    at: Timestamp,
) -> Result<Option<Run>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND logical_date = $3",
            vals![scope.team(), dag_id, at],
        )
        .await?;
    row.as_ref().map(Run::from_row).transpose()
}

/// Writes the note of a run (no change of state; the scheduler need not know).
///
/// # Errors
/// The database failed.
pub async fn set_note(
    tx: &mut Tx,
    scope: TeamScope,
    key: &RunKey,
    note: Option<&str>,
    user: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE dag_run SET note = $4, note_user = $5, updated_at = $6 \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
            vals![scope.team(), &key.dag_id, &key.run_id, note, user, now],
        )
        .await?;
    Ok(touched > 0)
}

/// Tables whose rows belong to a run by its key.
const OF_A_RUN: [&str; 8] = [
    "deadline",
    "xcom",
    "task_map",
    "rendered_fields",
    "task_store",
    "dag_run_asset_event",
    "task_instance_history",
    "task_instance",
];

/// Deletes a run and all that belongs to it. Its tasks that run are stopped by the scheduler, and can write nothing more.
/// Answers whether there was one.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, key: &RunKey, now: Timestamp) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "DELETE FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 RETURNING rev",
            vals![scope.team(), &key.dag_id, &key.run_id],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let rev = row.int("rev")? + 1;
    for table in ["task_reschedule", "hitl_detail"] {
        tx.run(
            &format!(
                "DELETE FROM {table} WHERE team_no = $1 AND ti_id IN (SELECT id FROM task_instance \
                 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3)"
            ),
            vals![scope.team(), &key.dag_id, &key.run_id],
        )
        .await?;
    }
    for table in OF_A_RUN {
        tx.run(
            &format!("DELETE FROM {table} WHERE team_no = $1 AND dag_id = $2 AND run_id = $3"),
            vals![scope.team(), &key.dag_id, &key.run_id],
        )
        .await?;
    }
    tx.run(
        "UPDATE backfill_run SET run_id = NULL WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
        vals![scope.team(), &key.dag_id, &key.run_id],
    )
    .await?;
    let change = RunChange {
        reload: true,
        ..RunChange::default()
    };
    let body = serde_json::to_string(&change).expect("a run change is plain data");
    events::add(tx, scope, EventKind::Run, &key.dag_id, &key.run_id, rev, &body, now).await?;
    tx.wake(Wake::Events);
    // Triggers of its deferred tasks are to be killed.
    tx.wake(Wake::Triggers(scope.team()));
    Ok(true)
}
