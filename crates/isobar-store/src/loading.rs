//! What the scheduler's memory is filled from: Dags, active runs with their instances, and the few facts of the past that
//! rules need, read by key. Nothing here scans finished runs.

mod asset_queue;
mod past;

use std::collections::HashMap;

pub use asset_queue::{QueuedAsset, alias_assets, asset_queue, consume_assets};
use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, RunId, RunKey, RunState, TaskId, TeamId};
use isobar_wire::wake::Wake;
use jiff::Timestamp;
pub use past::{existed_before, preceding_run, unsuccessful_by_task};
use serde_json::Value;
use uuid::Uuid;

use crate::db::{Dialect, Row, vals, values_list};
use crate::events::{ChangedChoice, ChangedLength};
use crate::runs::Run;
use crate::task_instances::TaskInstance;
use crate::{StoreError, Tx};

// Hot statements. SQLite uses a partial index only where its condition stands word for word, and prefers an index that
// sorts, hence `id + 0`; the test below holds the plans.

/// The longer list is that of the index `task_instance_active`.
const HELD: &str = "SELECT * FROM task_instance WHERE state IN ('scheduled', 'queued', 'running', 'restarting', \
     'up_for_retry', 'up_for_reschedule', 'deferred', 'awaiting_input') AND state IN ('running', 'queued', 'restarting')";
const ACTIVE: &str = "SELECT * FROM dag_run WHERE state IN ('queued', 'running') ORDER BY team_no, id + 0";
const ACTIVE_OF: &str = "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND state IN ('queued', 'running') \
     ORDER BY id + 0";
const RESCHEDULED: &str = "SELECT id, (SELECT max(reschedule_date) FROM task_reschedule AS r WHERE r.team_no = t.team_no \
     AND r.ti_id = t.id) AS due FROM task_instance AS t WHERE t.team_no = $1 AND t.dag_id = $2 AND t.run_id = $3 \
     AND t.state = 'up_for_reschedule'";

/// A Dag's row, as far as scheduling goes.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct ScheduledDag {
    pub team: TeamId,
    pub dag_id: DagId,
    pub bundle: String,
    pub rel_path: String,
    pub is_paused: bool,
    pub is_stale: bool,
    pub has_import_errors: bool,
    pub max_active_tasks: i64,
    pub max_active_runs: i64,
    pub max_consecutive_failed_runs: i64,
    pub allowed_run_types: Option<String>,
    pub next_logical_date: Option<Timestamp>,
    pub next_interval_start: Option<Timestamp>,
    pub next_interval_end: Option<Timestamp>,
    pub next_create_after: Option<Timestamp>,
    pub next_partition_key: Option<String>,
    pub next_partition_date: Option<Timestamp>,
    pub current_version_id: Option<Uuid>,
    pub current_version_number: i64,
}

const DAG_COLUMNS: &str = "team_no, dag_id, bundle, rel_path, is_paused, is_stale, has_import_errors, max_active_tasks, \
     max_active_runs, max_consecutive_failed_runs, allowed_run_types, next_logical_date, next_interval_start, \
     next_interval_end, next_create_after, next_partition_key, next_partition_date, current_version_id, current_version_number";

impl ScheduledDag {
    /// Whether nothing of its runs starts: it is paused, or no file holds it now.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.is_paused || self.is_stale
    }

    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            bundle: row.text("bundle")?,
            rel_path: row.text("rel_path")?,
            is_paused: row.flag("is_paused")?,
            is_stale: row.flag("is_stale")?,
            has_import_errors: row.flag("has_import_errors")?,
            max_active_tasks: row.int("max_active_tasks")?,
            max_active_runs: row.int("max_active_runs")?,
            max_consecutive_failed_runs: row.int("max_consecutive_failed_runs")?,
            allowed_run_types: row.maybe_text("allowed_run_types")?,
            next_logical_date: row.maybe_time("next_logical_date")?,
            next_interval_start: row.maybe_time("next_interval_start")?,
            next_interval_end: row.maybe_time("next_interval_end")?,
            next_create_after: row.maybe_time("next_create_after")?,
            next_partition_key: row.maybe_text("next_partition_key")?,
            next_partition_date: row.maybe_time("next_partition_date")?,
            current_version_id: row.maybe_uuid("current_version_id")?,
            current_version_number: row.int("current_version_number")?,
        })
    }
}

/// All Dags of active teams.
///
/// # Errors
/// The database failed.
pub async fn dags(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<ScheduledDag>, StoreError> {
    let rows = tx
        .rows(
            &format!(
                "SELECT {DAG_COLUMNS} FROM dag WHERE team_no IN (SELECT team_no FROM team WHERE state = 'active') \
                 ORDER BY team_no, dag_id"
            ),
            vals![],
        )
        .await?;
    rows.iter().map(ScheduledDag::from_row).collect()
}

/// One Dag.
///
/// # Errors
/// The database failed.
pub async fn dag(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Option<ScheduledDag>, StoreError> {
    let row = tx
        .row(
            &format!("SELECT {DAG_COLUMNS} FROM dag WHERE team_no = $1 AND dag_id = $2"),
            vals![scope.team(), dag_id],
        )
        .await?;
    row.as_ref().map(ScheduledDag::from_row).transpose()
}

/// A version's serialized Dag, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionData {
    /// The Dag.
    pub dag_id: DagId,
    /// The version's number.
    pub number: i64,
    /// `{"__version":3,"dag":{…}}`
    pub data: String,
    /// The bundle's version.
    pub bundle_version: Option<String>,
}

/// The instances of a run that wait for a trigger or a person, and not for ever.
///
/// # Errors
/// The database failed.
pub async fn waiting_of_run(tx: &mut Tx, scope: TeamScope, run: &RunKey) -> Result<Vec<TaskInstance>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM task_instance WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 \
             AND state IN ('deferred', 'awaiting_input') AND trigger_timeout IS NOT NULL",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    rows.iter().map(TaskInstance::from_row).collect()
}

/// A version of a Dag by its id.
///
/// # Errors
/// The database failed.
pub async fn version(tx: &mut Tx, scope: TeamScope, id: Uuid) -> Result<Option<VersionData>, StoreError> {
    let row = tx
        .row(
            "SELECT dag_id, version_number, data, bundle_version FROM dag_version WHERE id = $2 AND team_no = $1",
            vals![scope.team(), id],
        )
        .await?;
    row.map(|row| {
        Ok(VersionData {
            dag_id: row.text("dag_id")?.into(),
            number: row.int("version_number")?,
            data: row.text("data")?,
            bundle_version: row.maybe_text("bundle_version")?,
        })
    })
    .transpose()
}

/// Every team's runs that are queued or running, in the order they were made.
///
/// # Errors
/// The database failed.
pub async fn active_runs(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<Run>, StoreError> {
    let rows = tx.rows(ACTIVE, vals![]).await?;
    rows.iter().map(Run::from_row).collect()
}

/// Locks runs until this unit ends, so that nothing happens to them meanwhile; waits for those who hold them. On SQLite the
/// unit is alone anyway. Where the database refuses (a deadlock), they are not locked, and a plan may find that its run moved.
///
/// To be asked first: a unit that holds rows already would have them wait for each other.
///
/// # Errors
/// The database failed.
pub async fn hold_runs(tx: &mut Tx, _scope: &OrgScope, runs: &[(TeamId, RunKey)]) -> Result<(), StoreError> {
    if tx.dialect() == Dialect::Sqlite || runs.is_empty() {
        return Ok(());
    }
    tx.mark().await?;
    match lock_runs(tx, runs, "FOR UPDATE").await {
        Ok(()) => tx.keep_mark().await,
        Err(error) => {
            tracing::debug!(%error, "runs could not be locked");
            tx.back_to_mark().await
        }
    }
}

/// As [`hold_runs`], but for those that nobody holds, without waiting: may be asked at any time.
///
/// # Errors
/// The database failed.
pub async fn try_to_hold_runs(tx: &mut Tx, _scope: &OrgScope, runs: &[(TeamId, RunKey)]) -> Result<(), StoreError> {
    if tx.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    lock_runs(tx, runs, Dialect::Postgres.skip_locked()).await
}

async fn lock_runs(tx: &mut Tx, runs: &[(TeamId, RunKey)], how: &str) -> Result<(), StoreError> {
    let mut ordered = runs.to_vec();
    ordered.sort();
    for chunk in ordered.chunks(500) {
        let rows = chunk
            .iter()
            .map(|(team, run)| vals![*team, &run.dag_id, &run.run_id])
            .collect();
        let (list, values) = values_list(1, rows);
        // In the order of bytes, as everybody who takes several.
        tx.rows(
            &format!(
                "SELECT 1 AS one FROM dag_run WHERE (team_no, dag_id, run_id) IN (VALUES {list}) \
                 ORDER BY team_no, dag_id COLLATE \"C\", run_id COLLATE \"C\" {how}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

/// One Dag's runs that are queued or running.
///
/// # Errors
/// The database failed.
pub async fn active_runs_of(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<Run>, StoreError> {
    let rows = tx.rows(ACTIVE_OF, vals![scope.team(), dag_id]).await?;
    rows.iter().map(Run::from_row).collect()
}

/// What a planner starts from, beside the run's own row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunContents {
    /// All instances.
    pub instances: Vec<TaskInstance>,
    /// The latest reschedule date of those in `up_for_reschedule`.
    pub reschedules: HashMap<Uuid, Timestamp>,
    /// `task_map`, unmapped tasks only.
    pub lengths: Vec<ChangedLength>,
    /// The `skipmixin_key` XComs.
    pub choices: Vec<ChangedChoice>,
    /// Instances that have a `return_value` XCom.
    pub results: Vec<(TaskId, i32)>,
}

/// All of a run that planning needs.
///
/// # Errors
/// The database failed.
pub async fn run_contents(tx: &mut Tx, scope: TeamScope, run: &RunKey) -> Result<RunContents, StoreError> {
    let instances = crate::task_instances::of_run(tx, scope, run).await?;
    let key = || vals![scope.team(), &run.dag_id, &run.run_id];
    let mut reschedules = HashMap::new();
    for row in tx.rows(RESCHEDULED, key()).await? {
        if let Some(due) = row.maybe_time("due")? {
            reschedules.insert(row.uuid("id")?, due);
        }
    }
    let lengths = tx
        .rows(
            "SELECT task_id, length FROM task_map WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND map_index = -1",
            key(),
        )
        .await?
        .iter()
        .map(|row| {
            Ok(ChangedLength {
                task_id: row.text("task_id")?.into(),
                length: row.maybe_int("length")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    let (mut choices, mut results) = (Vec::new(), Vec::new());
    for row in tx
        .rows(
            "SELECT task_id, map_index, key, CASE WHEN key = 'skipmixin_key' THEN value END AS choice FROM xcom \
             WHERE team_no = $1 AND dag_id = $2 AND run_id = $3 AND key IN ('skipmixin_key', 'return_value')",
            key(),
        )
        .await?
    {
        if row.text("key")? == "return_value" {
            results.push((row.text("task_id")?.into(), row.small("map_index")?));
        } else {
            choices.push(ChangedChoice {
                task_id: row.text("task_id")?.into(),
                map_index: row.small("map_index")?,
                value: row.json("choice")?,
            });
        }
    }
    Ok(RunContents {
        instances,
        reschedules,
        lengths,
        choices,
        results,
    })
}

/// The run that the timetable or a backfill made last: the one with the greatest logical date; of a partitioned timetable,
/// whose runs have none, that of the latest partition.
///
/// # Errors
/// The database failed.
pub async fn last_automated(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    partitioned: bool,
) -> Result<Option<Run>, StoreError> {
    let wanted: &[&str] = if partitioned {
        // Keys without a date come last, which the two databases would not agree on in one statement.
        &[
            "partition_key IS NOT NULL AND partition_date IS NOT NULL ORDER BY partition_date DESC, run_after DESC",
            "partition_key IS NOT NULL AND partition_date IS NULL ORDER BY run_after DESC",
        ]
    } else {
        &["logical_date IS NOT NULL ORDER BY logical_date DESC"]
    };
    let mut row = None;
    for wanted in wanted {
        let sql = format!(
            "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_type IN ('scheduled', 'backfill') \
             AND {wanted} LIMIT 1"
        );
        row = tx.row(&sql, vals![scope.team(), dag_id]).await?;
        if row.is_some() {
            break;
        }
    }
    row.as_ref().map(Run::from_row).transpose()
}

/// The states of the Dag's latest runs, newest first.
///
/// # Errors
/// The database failed.
pub async fn latest_states(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    count: u32,
) -> Result<Vec<(RunId, RunState)>, StoreError> {
    let rows = tx
        .rows(
            "SELECT run_id, state FROM dag_run WHERE team_no = $1 AND dag_id = $2 ORDER BY run_after DESC, id DESC LIMIT $3",
            vals![scope.team(), dag_id, count],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("run_id")?.into(), row.word("state")?)))
        .collect()
}

/// Notes, or with none takes back, why a Dag gets no runs of its own: a stored warning of this kind.
///
/// # Errors
/// The database failed.
pub async fn set_dag_problem(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    kind: &str,
    problem: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    match problem {
        Some(problem) => {
            tx.run(
                "INSERT INTO dag_warning (team_no, dag_id, warning_type, message, at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (team_no, dag_id, warning_type) DO UPDATE SET message = $4, at = $5",
                vals![scope.team(), dag_id, kind, problem, now],
            )
            .await?;
        }
        None => {
            tx.run(
                "DELETE FROM dag_warning WHERE team_no = $1 AND dag_id = $2 AND warning_type = $3",
                vals![scope.team(), dag_id, kind],
            )
            .await?;
        }
    }
    Ok(())
}

/// The next run of a Dag, as its row shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct NextColumns {
    pub logical_date: Option<Timestamp>,
    pub interval: Option<(Timestamp, Timestamp)>,
    pub create_after: Option<Timestamp>,
    pub partition_key: Option<String>,
    pub partition_date: Option<Timestamp>,
    pub exceeds_max_runs: bool,
}

/// Writes where a Dag's timetable stands.
///
/// # Errors
/// The database failed.
pub async fn set_next(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, next: &NextColumns) -> Result<(), StoreError> {
    tx.run(
        "UPDATE dag SET next_logical_date = $3, next_interval_start = $4, next_interval_end = $5, next_create_after = $6, \
         exceeds_max_runs = $7, next_partition_key = $8, next_partition_date = $9 WHERE team_no = $1 AND dag_id = $2",
        vals![
            scope.team(),
            dag_id,
            next.logical_date,
            next.interval.map(|(start, _)| start),
            next.interval.map(|(_, end)| end),
            next.create_after,
            next.exceeds_max_runs,
            next.partition_key.as_ref(),
            next.partition_date
        ],
    )
    .await?;
    Ok(())
}

/// Pauses a Dag on the scheduler's own account (too many failures in a row).
///
/// # Errors
/// The database failed.
pub async fn pause(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<(), StoreError> {
    tx.run(
        "UPDATE dag SET is_paused = TRUE WHERE team_no = $1 AND dag_id = $2",
        vals![scope.team(), dag_id],
    )
    .await?;
    Ok(())
}

/// Instances that an executor should be working on, or that were asked to stop: running, queued, restarting.
///
/// # Errors
/// The database failed.
pub async fn held_instances(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<TaskInstance>, StoreError> {
    let rows = tx.rows(HELD, vals![]).await?;
    rows.iter().map(TaskInstance::from_row).collect()
}

/// A request of one team to another (rule 20).
#[derive(Clone, Debug, PartialEq)]
pub struct CrossTeamRequest {
    /// Its id.
    pub id: Uuid,
    /// Who asks.
    pub team: TeamId,
    /// Who is asked.
    pub target: TeamId,
    /// What is asked, for example `trigger`.
    pub kind: String,
    /// The particulars.
    pub body: Value,
}

/// A request that has no answer yet.
///
/// # Errors
/// The database failed.
pub async fn open_request(tx: &mut Tx, _scope: &OrgScope, id: Uuid) -> Result<Option<CrossTeamRequest>, StoreError> {
    let row = tx
        .row(
            "SELECT id, team_no, target_no, kind, body FROM cross_team_request WHERE id = $1 AND answer IS NULL",
            vals![id],
        )
        .await?;
    row.map(|row| {
        Ok(CrossTeamRequest {
            id: row.uuid("id")?,
            team: row.team("team_no")?,
            target: row.team("target_no")?,
            kind: row.text("kind")?,
            body: row.json("body")?,
        })
    })
    .transpose()
}

/// Answers a request; who waits for it hears of `Definitions`.
///
/// # Errors
/// The database failed.
pub async fn answer_request(tx: &mut Tx, _scope: &OrgScope, id: Uuid, answer: &Value) -> Result<(), StoreError> {
    tx.run(
        "UPDATE cross_team_request SET answer = $2 WHERE id = $1",
        vals![id, answer],
    )
    .await?;
    tx.wake(Wake::Definitions);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, migrate};

    #[tokio::test]
    async fn no_hot_statement_scans_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("isobar.db").display());
        let store = Store::open(&url).await.unwrap();
        migrate::migrate(&store, &OrgScope::at_process_start()).await.unwrap();
        let mut tx = store.read().await.unwrap();
        for (statement, index) in [
            (HELD, "task_instance_active"),
            (ACTIVE, "dag_run_active"),
            (ACTIVE_OF, "dag_run_active"),
            (
                RESCHEDULED,
                "sqlite_autoindex_task_instance_1 (team_no=? AND dag_id=? AND run_id=?)",
            ),
        ] {
            let values = vals!["x", "x", "x"];
            let used = values.into_iter().take(statement.matches('$').count()).collect();
            let plan = tx.rows(&format!("EXPLAIN QUERY PLAN {statement}"), used).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.text("detail").unwrap()).collect();
            assert!(plan[0].contains(index), "{statement}: {plan:?}");
        }
    }
}
