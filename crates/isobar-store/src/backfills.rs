//! Backfills: the row, what became of each of their dates, and their end.
//!
//! A backfill's runs are ordinary runs that know its id and their place in it. It ends when none of them is queued or
//! running any more: the scheduler asks in the transaction in which one of them ends.

use isobar_auth::{OrgScope, ReadScope, TeamScope};
use isobar_model::{DagId, Reprocess, RunId, RunKey, RunState, RunTrigger, RunType, TeamId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::counters::{Counter, next_ids};
use crate::db::{Row, vals, values_list};
use crate::events::{self, EventKind};
use crate::lists::Slice;
use crate::lists::ordering::{Kind, Ordering, Sortables, sortables};
use crate::lists::select::Select;
use crate::lists::{Page, TextMatch};
use crate::runs::Run;
use crate::transitions::OpenRun;
use crate::{StoreError, Tx};

/// A backfill.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct Backfill {
    pub team: TeamId,
    pub id: i64,
    pub dag_id: DagId,
    pub dag_display_name: String,
    pub from_date: Timestamp,
    pub to_date: Timestamp,
    pub conf: Value,
    pub is_paused: bool,
    pub reprocess: Reprocess,
    pub max_active_runs: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub completed_at: Option<Timestamp>,
}

impl Backfill {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            id: row.int("id")?,
            dag_id: row.text("dag_id")?.into(),
            dag_display_name: row.text("dag_display_name")?,
            from_date: row.time("from_date")?,
            to_date: row.time("to_date")?,
            conf: row.json("conf")?,
            is_paused: row.flag("is_paused")?,
            reprocess: row.word("reprocess")?,
            max_active_runs: row.int("max_active_runs")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
            completed_at: row.maybe_time("completed_at")?,
        })
    }
}

const COLUMNS: &str = "b.*, coalesce(d.display_name, b.dag_id) AS dag_display_name";
const FROM: &str = "backfill b LEFT JOIN dag d ON d.team_no = b.team_no AND d.dag_id = b.dag_id";

/// By what backfills can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! { "id" => "b.id" Int; },
    unique: &[("b.id", Kind::Int)],
    default: "id",
};

/// Which backfills.
#[derive(Clone, Debug, Default)]
pub struct BackfillFilter {
    /// Of this Dag.
    pub dag_id: Option<DagId>,
    /// Of Dags with such ids.
    pub dag_id_match: TextMatch,
    /// Those that have not ended, or those that have.
    pub open: Option<bool>,
}

/// One page of the backfills that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &BackfillFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<Backfill>, StoreError> {
    let mut select = Select::new(tx, scope, "b.team_no", COLUMNS, FROM);
    select.equal_if("b.dag_id", filter.dag_id.as_ref());
    select.matches("b.dag_id", &filter.dag_id_match);
    match filter.open {
        Some(true) => select.and("b.completed_at IS NULL"),
        Some(false) => select.and("b.completed_at IS NOT NULL"),
        None => {}
    }
    select.page(tx, order, page, Backfill::read).await
}

/// One backfill, none where there is none of that id that may be read.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: &ReadScope, id: i64) -> Result<Option<Backfill>, StoreError> {
    let mut select = Select::new(tx, scope, "b.team_no", COLUMNS, FROM);
    select.by_id("b", id);
    select.one(tx).await?.as_ref().map(Backfill::read).transpose()
}

/// The Dag's backfill that has not ended, if any.
///
/// # Errors
/// The database failed.
pub async fn open_of(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Option<i64>, StoreError> {
    let row = tx
        .row(
            "SELECT id FROM backfill WHERE team_no = $1 AND dag_id = $2 AND completed_at IS NULL",
            vals![scope.team(), dag_id],
        )
        .await?;
    row.map(|row| row.int("id")).transpose()
}

/// A backfill to be made.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct NewBackfill {
    pub dag_id: DagId,
    pub from_date: Timestamp,
    pub to_date: Timestamp,
    pub conf: Value,
    pub reprocess: Reprocess,
    pub max_active_runs: i64,
    pub triggering_user: String,
}

/// Makes a backfill without runs; none where the Dag has one that has not ended.
///
/// # Errors
/// The database failed.
pub async fn create(
    tx: &mut Tx,
    scope: TeamScope,
    new: &NewBackfill,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let id = next_ids(tx, scope, Counter::Backfill, 1).await?;
    let conf = (!new.conf.is_null()).then(|| new.conf.to_string());
    let row = tx
        .row(
            "INSERT INTO backfill (team_no, id, dag_id, from_date, to_date, conf, reprocess, max_active_runs, \
             triggering_user, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) \
             ON CONFLICT DO NOTHING RETURNING id",
            vals![
                scope.team(),
                id,
                &new.dag_id,
                new.from_date,
                new.to_date,
                conf,
                new.reprocess.as_str(),
                new.max_active_runs,
                new.triggering_user.as_str(),
                now
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    tell(tx, scope, &new.dag_id, id, now).await?;
    row.int("id").map(Some)
}

/// Tells the scheduler that a backfill appeared or changed.
async fn tell(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, id: i64, now: Timestamp) -> Result<(), StoreError> {
    events::insert(tx, scope, EventKind::Dag, dag_id, &json!({"backfill": id}), now).await
}

/// Why a date of a backfill got no run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRun {
    /// Its run is queued or running, or was made meanwhile.
    InFlight,
    /// Its run has ended, and such runs are not to run again.
    AlreadyExists,
}

/// What became of one date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1, in the order in which runs start.
    pub ordinal: i64,
    /// Its logical date.
    pub logical_date: Option<Timestamp>,
    /// Its partition.
    pub partition_key: Option<String>,
    /// The run, or why there is none.
    pub run: Result<RunId, NoRun>,
}

/// Writes what became of the dates of a backfill.
///
/// # Errors
/// The database failed.
pub async fn add_places(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    backfill: i64,
    places: &[Place],
) -> Result<(), StoreError> {
    for chunk in places.chunks(500) {
        let rows = chunk
            .iter()
            .map(|place| {
                let reason = place.run.as_ref().err().map(|why| match why {
                    NoRun::InFlight => "in flight",
                    NoRun::AlreadyExists => "already exists",
                });
                vals![
                    scope.team(),
                    backfill,
                    place.ordinal,
                    dag_id,
                    place.run.as_ref().ok().map(RunId::to_string),
                    place.logical_date,
                    place.partition_key.clone(),
                    reason
                ]
            })
            .collect();
        let (list, values) = values_list(1, rows);
        tx.run(
            &format!(
                "INSERT INTO backfill_run (team_no, backfill_id, ordinal, dag_id, run_id, logical_date, partition_key, \
                 reason) VALUES {list}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// A run's place in a backfill.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption<'a> {
    /// The backfill.
    pub backfill: i64,
    /// The place, from 1.
    pub ordinal: i64,
    /// The conf it gets, where the backfill has one; a new run has it already.
    pub conf: Option<&'a Value>,
    /// The partition's date, of a new run.
    pub partition_date: Option<Timestamp>,
}

/// Makes a run, new or cleared, part of a backfill. In the unit that made or cleared it: that tells the scheduler.
///
/// # Errors
/// The database failed.
pub async fn adopt(tx: &mut Tx, scope: TeamScope, run: &RunKey, adoption: &Adoption<'_>) -> Result<(), StoreError> {
    tx.run(
        "UPDATE dag_run SET backfill_id = $4, backfill_ordinal = $5, run_type = $6, triggered_by = $7, \
         conf = coalesce($8, conf), partition_date = coalesce($9, partition_date) WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
        vals![
            scope.team(),
            &run.dag_id,
            &run.run_id,
            adoption.backfill,
            adoption.ordinal,
            RunType::Backfill,
            RunTrigger::Backfill,
            adoption.conf.map(Value::to_string),
            adoption.partition_date
        ],
    )
    .await?;
    Ok(())
}

/// The run of one date, the one that started last where a partition has several.
///
/// # Errors
/// The database failed.
pub async fn run_of(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    logical_date: Option<Timestamp>,
    partition_date: Option<Timestamp>,
) -> Result<Option<Run>, StoreError> {
    let (column, at) = match (logical_date, partition_date) {
        (Some(at), _) => ("logical_date", at),
        (None, Some(at)) => ("partition_date", at),
        (None, None) => return Ok(None),
    };
    let row = tx
        .row(
            &format!(
                "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND {column} = $3 \
                 ORDER BY CASE WHEN start_date IS NULL THEN 1 ELSE 0 END, start_date DESC LIMIT 1"
            ),
            vals![scope.team(), dag_id, at],
        )
        .await?;
    row.as_ref().map(Run::from_row).transpose()
}

/// Pauses a backfill or lets it go on; one that has ended stays as it is.
///
/// # Errors
/// The database failed.
pub async fn set_paused(
    tx: &mut Tx,
    scope: TeamScope,
    backfill: &Backfill,
    paused: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let changed = tx
        .run(
            "UPDATE backfill SET is_paused = $3, updated_at = $4 WHERE team_no = $1 AND id = $2 \
             AND completed_at IS NULL AND is_paused <> $3",
            vals![scope.team(), backfill.id, paused, now],
        )
        .await?;
    if changed > 0 {
        tell(tx, scope, &backfill.dag_id, backfill.id, now).await?;
    }
    Ok(())
}

/// Cancels a backfill: its queued runs have failed, those that run go on, and it has ended. False where it had ended before.
///
/// # Errors
/// The database failed.
pub async fn cancel(tx: &mut Tx, scope: TeamScope, backfill: &Backfill, now: Timestamp) -> Result<bool, StoreError> {
    let changed = tx
        .run(
            "UPDATE backfill SET is_paused = TRUE, completed_at = $3, updated_at = $3 WHERE team_no = $1 AND id = $2 \
             AND completed_at IS NULL",
            vals![scope.team(), backfill.id, now],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    let queued = tx
        .rows(
            "SELECT run_id FROM dag_run WHERE team_no = $1 AND backfill_id = $2 AND state = 'queued' ORDER BY run_id",
            vals![scope.team(), backfill.id],
        )
        .await?;
    for row in queued {
        let key = RunKey {
            dag_id: backfill.dag_id.clone(),
            run_id: row.text("run_id")?.into(),
        };
        let Some(mut open) = OpenRun::lock(tx, scope, &key, now).await? else {
            continue;
        };
        // Meanwhile a scheduler may have started it: then it goes on.
        if open.row.state == RunState::Queued {
            tx.run(
                "UPDATE dag_run SET state = $4 WHERE team_no = $1 AND dag_id = $2 AND run_id = $3",
                vals![scope.team(), &key.dag_id, &key.run_id, RunState::Failed],
            )
            .await?;
            open.change.reload = true;
        }
        open.close(tx, true).await?;
    }
    tell(tx, scope, &backfill.dag_id, backfill.id, now).await?;
    Ok(true)
}

/// What a backfill allows its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many of them run at a time.
    pub max_active_runs: i64,
    /// None starts.
    pub paused: bool,
}

/// What a backfill allows its runs. One that has ended holds up none of them: a run of it that is cleared later runs.
///
/// # Errors
/// The database failed.
pub async fn limits(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<Option<Limits>, StoreError> {
    let row = tx
        .row(
            "SELECT max_active_runs, is_paused, completed_at FROM backfill WHERE team_no = $1 AND id = $2",
            vals![scope.team(), id],
        )
        .await?;
    row.map(|row| {
        Ok(Limits {
            max_active_runs: row.int("max_active_runs")?,
            paused: row.flag("is_paused")? && row.maybe_time("completed_at")?.is_none(),
        })
    })
    .transpose()
}

/// All teams' backfills that have not ended.
///
/// # Errors
/// The database failed.
pub async fn open(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<(TeamId, i64)>, StoreError> {
    let rows = tx
        .rows(
            "SELECT team_no, id FROM backfill WHERE completed_at IS NULL ORDER BY team_no, id",
            vals![],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.team("team_no")?, row.int("id")?)))
        .collect()
}

/// Ends a backfill of which no run is queued or running; whether it ended now.
///
/// # Errors
/// The database failed.
pub async fn end_if_done(tx: &mut Tx, scope: TeamScope, id: i64, now: Timestamp) -> Result<bool, StoreError> {
    let ended = tx
        .run(
            "UPDATE backfill SET completed_at = $3, updated_at = $3 WHERE team_no = $1 AND id = $2 \
             AND completed_at IS NULL AND NOT EXISTS (SELECT 1 FROM dag_run AS r WHERE r.team_no = $1 \
             AND r.backfill_id = $2 AND r.state IN ('queued', 'running'))",
            vals![scope.team(), id, now],
        )
        .await?;
    Ok(ended > 0)
}
