//! What the first page shows of a team: its Dags, their last runs, what runs and what waits.
//!
//! Reads by index, a bounded number of rows; the cost does not grow with history.

use std::collections::HashMap;
use std::fmt::Write;

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunId, RunState};
use jiff::Timestamp;

use crate::db::{Val, vals};
use crate::{StoreError, Tx};

/// Dags shown of one team; the rest are counted.
const MOST_DAGS: i64 = 50;
/// Runs shown of one Dag.
const MOST_RUNS: usize = 12;

/// One team at a glance.
#[derive(Clone, Debug)]
pub struct TeamOverview {
    /// Dags that are not stale, also those not listed here.
    pub dag_count: i64,
    /// Files that could not be imported.
    pub import_errors: i64,
    /// Task instances that run.
    pub running: i64,
    /// Task instances that an executor holds.
    pub queued: i64,
    /// Task instances whose dependencies are met and that wait for a slot.
    pub scheduled: i64,
    /// Task instances that wait for a retry, a reschedule, a trigger or a person.
    pub waiting: i64,
    /// The first Dags by id, at most 50.
    pub dags: Vec<DagGlance>,
}

/// One Dag at a glance.
#[derive(Clone, Debug)]
pub struct DagGlance {
    /// The Dag.
    pub dag_id: DagId,
    /// Its description.
    pub description: Option<String>,
    /// Whether its schedule is paused.
    pub is_paused: bool,
    /// Its schedule in words, as Airflow shows it.
    pub schedule: Option<String>,
    /// When its next run is due.
    pub next_run: Option<Timestamp>,
    /// Its last runs, newest first, at most 12.
    pub runs: Vec<RunGlance>,
}

/// One run at a glance.
#[derive(Clone, Debug)]
pub struct RunGlance {
    /// The run.
    pub run_id: RunId,
    /// Its state.
    pub state: RunState,
    /// When it started.
    pub start_date: Option<Timestamp>,
    /// When it ended.
    pub end_date: Option<Timestamp>,
}

/// Reads one team's overview.
///
/// # Errors
/// The database cannot be read.
pub async fn of_team(tx: &mut Tx, scope: TeamScope) -> Result<TeamOverview, StoreError> {
    let team = scope.team();
    let mut states: HashMap<String, i64> = HashMap::new();
    let active = "SELECT state, count(*) AS n FROM task_instance WHERE team_no = $1 \
        AND state IN ('scheduled', 'queued', 'running', 'restarting', 'up_for_retry', 'up_for_reschedule', 'deferred', 'awaiting_input') \
        GROUP BY state";
    for row in tx.rows(active, vals![team]).await? {
        states.insert(row.text("state")?, row.int("n")?);
    }
    let count = |names: &[&str]| names.iter().filter_map(|name| states.get(*name)).sum();
    let dag_count = one(
        tx,
        "SELECT count(*) AS n FROM dag WHERE team_no = $1 AND is_stale = FALSE",
        vals![team],
    )
    .await?;
    let import_errors = one(
        tx,
        "SELECT count(*) AS n FROM import_error WHERE team_no = $1",
        vals![team],
    )
    .await?;
    Ok(TeamOverview {
        dag_count,
        import_errors,
        running: count(&["running", "restarting"]),
        queued: count(&["queued"]),
        scheduled: count(&["scheduled"]),
        waiting: count(&["up_for_retry", "up_for_reschedule", "deferred", "awaiting_input"]),
        dags: dags(tx, scope).await?,
    })
}

async fn dags(tx: &mut Tx, scope: TeamScope) -> Result<Vec<DagGlance>, StoreError> {
    let listed = "SELECT dag_id, description, is_paused, timetable_summary, next_create_after FROM dag \
        WHERE team_no = $1 AND is_stale = FALSE ORDER BY dag_id LIMIT $2";
    let mut found = Vec::new();
    for row in tx.rows(listed, vals![scope.team(), MOST_DAGS]).await? {
        found.push(DagGlance {
            dag_id: row.text("dag_id")?.into(),
            description: row.maybe_text("description")?,
            is_paused: row.flag("is_paused")?,
            schedule: row.maybe_text("timetable_summary")?,
            next_run: row.maybe_time("next_create_after")?,
            runs: Vec::new(),
        });
    }
    let mut runs = last_runs(tx, scope, &found).await?;
    for dag in &mut found {
        dag.runs = runs.remove(dag.dag_id.as_str()).unwrap_or_default();
    }
    Ok(found)
}

/// The last runs of each Dag: one statement of one small index range per Dag.
async fn last_runs(
    tx: &mut Tx,
    scope: TeamScope,
    dags: &[DagGlance],
) -> Result<HashMap<String, Vec<RunGlance>>, StoreError> {
    if dags.is_empty() {
        return Ok(HashMap::new());
    }
    let mut sql = String::new();
    let mut values: Vec<Val> = vals![scope.team()];
    for (index, dag) in dags.iter().enumerate() {
        let union = if index == 0 { "" } else { " UNION ALL " };
        let _ = write!(
            sql,
            "{union}SELECT * FROM (SELECT dag_id, run_id, state, start_date, end_date FROM dag_run \
             WHERE team_no = $1 AND dag_id = ${} ORDER BY run_after DESC, id DESC LIMIT {MOST_RUNS}) AS d{index}",
            index + 2
        );
        values.push(Val::from(&dag.dag_id));
    }
    let mut runs: HashMap<String, Vec<RunGlance>> = HashMap::new();
    for row in tx.rows(&sql, values).await? {
        runs.entry(row.text("dag_id")?).or_default().push(RunGlance {
            run_id: row.text("run_id")?.into(),
            state: row.word("state")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
        });
    }
    Ok(runs)
}

async fn one(tx: &mut Tx, sql: &str, values: Vec<Val>) -> Result<i64, StoreError> {
    tx.row(sql, values).await?.map_or(Ok(0), |row| row.int("n"))
}
