//! Asset events as the REST API lists them, with the runs that consumed them.

use std::collections::{BTreeMap, HashMap};

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, RunId, RunState, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use super::matching::{Page, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{Row, vals, values_list};
use crate::scope_sql::predicate;
use crate::{StoreError, Tx};

/// By what events can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "source_task_id" => "e.source_task_id" Text;
        "source_dag_id" => "e.source_dag_id" Text;
        "source_run_id" => "e.source_run_id" Text;
        "source_map_index" => "e.source_map_index" Int;
        "timestamp" => "e.at" Int;
    },
    unique: &[("e.id", Kind::Int)],
    default: "timestamp",
};

const COLUMNS: &str = "e.team_no, e.id, e.asset_id, e.at, e.extra, e.source_dag_id, e.source_run_id, \
    e.source_task_id, coalesce(e.source_map_index, -1) AS source_map_index, e.partition_key, a.name, a.uri, \
    a.asset_group";
const FROM: &str = "asset_event e JOIN asset a ON a.team_no = e.team_no AND a.id = e.asset_id";

/// An event and its asset.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// The producing team.
    pub team: TeamId,
    /// The id that Airflow's API shows.
    pub id: i64,
    /// The asset.
    pub asset_id: i64,
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// Its group.
    pub group: String,
    /// When.
    pub at: Timestamp,
    /// What the producer attached.
    pub extra: Value,
    /// The Dag of the task that produced it.
    pub source_dag_id: Option<DagId>,
    /// The run of that task.
    pub source_run_id: Option<String>,
    /// That task.
    pub source_task_id: Option<String>,
    /// Its map index, -1 where it has none.
    pub source_map_index: i64,
    /// The partition.
    pub partition_key: Option<String>,
    /// The runs that consumed it and may be read.
    pub runs: Vec<ConsumingRun>,
}

/// A run that consumed an event.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct ConsumingRun {
    pub team: TeamId,
    pub dag_id: DagId,
    pub run_id: RunId,
    pub logical_date: Option<Timestamp>,
    pub start_date: Option<Timestamp>,
    pub end_date: Option<Timestamp>,
    pub state: RunState,
    pub interval_start: Option<Timestamp>,
    pub interval_end: Option<Timestamp>,
    pub partition_key: Option<String>,
    /// Whether it was the last one that the run consumed, and so the one that started it.
    pub triggering: bool,
}

fn read(row: &Row) -> Result<EventRow, StoreError> {
    Ok(EventRow {
        team: row.team("team_no")?,
        id: row.int("id")?,
        asset_id: row.int("asset_id")?,
        name: row.text("name")?,
        uri: row.text("uri")?,
        group: row.text("asset_group")?,
        at: row.time("at")?,
        extra: row.json("extra")?,
        source_dag_id: row.maybe_text("source_dag_id")?.map(DagId::from),
        source_run_id: row.maybe_text("source_run_id")?,
        source_task_id: row.maybe_text("source_task_id")?,
        source_map_index: row.int("source_map_index")?,
        partition_key: row.maybe_text("partition_key")?,
        runs: Vec::new(),
    })
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this asset.
    pub asset_id: Option<i64>,
    /// Produced by this Dag.
    pub source_dag: Option<(TeamId, DagId)>,
    /// Produced by this task.
    pub source_task_id: Option<String>,
    /// Produced in this run.
    pub source_run_id: Option<String>,
    /// Produced by this map index.
    pub source_map_index: Option<i64>,
    /// The asset's name.
    pub name: TextMatch,
    /// When.
    pub at: TimeRange,
}

/// One page of the events that may be read; of the runs that consumed them, those that `runs` may read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    runs: &ReadScope,
    filter: &EventFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<EventRow>, StoreError> {
    let mut select = Select::new(tx, scope, "e.team_no", COLUMNS, FROM);
    select.equal_if("e.asset_id", filter.asset_id);
    if let Some((team, dag_id)) = &filter.source_dag {
        select.equal("e.team_no", *team);
        select.equal("e.source_dag_id", dag_id);
    }
    select.equal_if("e.source_task_id", filter.source_task_id.as_deref());
    select.equal_if("e.source_run_id", filter.source_run_id.as_deref());
    select.equal_if("coalesce(e.source_map_index, -1)", filter.source_map_index);
    select.matches("a.name", &filter.name);
    select.within("e.at", &filter.at);
    let mut found = select.page(tx, order, page, read).await?;
    add_runs(tx, runs, &mut found.rows).await?;
    Ok(found)
}

/// One event.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: &ReadScope, runs: &ReadScope, id: i64) -> Result<Option<EventRow>, StoreError> {
    let mut select = Select::new(tx, scope, "e.team_no", COLUMNS, FROM);
    select.by_id("e", id);
    let Some(row) = select.one(tx).await? else {
        return Ok(None);
    };
    let mut rows = vec![read(&row)?];
    add_runs(tx, runs, &mut rows).await?;
    Ok(rows.pop())
}

/// The events that one run consumed, oldest first; those of other teams too, since the consumer was let see them.
///
/// # Errors
/// The database failed.
pub async fn of_run(
    tx: &mut Tx,
    scope: TeamScope,
    runs: &ReadScope,
    dag_id: &DagId,
    run_id: &RunId,
) -> Result<Vec<EventRow>, StoreError> {
    let found = tx
        .rows(
            &format!(
                "SELECT {COLUMNS} FROM {FROM} JOIN dag_run_asset_event x ON x.producer_no = e.team_no \
                 AND x.event_id = e.id WHERE x.team_no = $1 AND x.dag_id = $2 AND x.run_id = $3 ORDER BY e.at, e.id"
            ),
            vals![scope.team(), dag_id, run_id],
        )
        .await?;
    let mut rows = found.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    add_runs(tx, runs, &mut rows).await?;
    Ok(rows)
}

/// Fills in who consumed these events.
async fn add_runs(tx: &mut Tx, scope: &ReadScope, events: &mut [EventRow]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let (list, values) = values_list(1, events.iter().map(|event| vals![event.team, event.id]).collect());
    let found = tx
        .rows(
            &format!(
                "SELECT x.producer_no, x.event_id, r.team_no, r.dag_id, r.run_id, r.logical_date, r.start_date, \
                 r.end_date, r.state, r.interval_start, r.interval_end, r.partition_key FROM dag_run_asset_event x \
                 JOIN dag_run r ON r.team_no = x.team_no AND r.dag_id = x.dag_id AND r.run_id = x.run_id \
                 WHERE {} AND (x.producer_no, x.event_id) IN (VALUES {list}) ORDER BY r.id",
                predicate(scope, "x.team_no")
            ),
            values,
        )
        .await?;
    if found.is_empty() {
        return Ok(());
    }
    let last = last_events(tx, &found).await?;
    let places: HashMap<(TeamId, i64), usize> = events
        .iter()
        .enumerate()
        .map(|(at, event)| ((event.team, event.id), at))
        .collect();
    for row in &found {
        let event = (row.team("producer_no")?, row.int("event_id")?);
        let Some(at) = places.get(&event) else { continue };
        let (team, dag_id, run_id) = run_key(row)?;
        let triggering = last.get(&(team, dag_id.clone(), run_id.clone())) == Some(&event);
        events[*at].runs.push(ConsumingRun {
            team,
            dag_id: dag_id.into(),
            run_id: run_id.into(),
            logical_date: row.maybe_time("logical_date")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
            state: row.word("state")?,
            interval_start: row.maybe_time("interval_start")?,
            interval_end: row.maybe_time("interval_end")?,
            partition_key: row.maybe_text("partition_key")?,
            triggering,
        });
    }
    Ok(())
}

type Run = (TeamId, String, String);

fn run_key(row: &Row) -> Result<Run, StoreError> {
    Ok((row.team("team_no")?, row.text("dag_id")?, row.text("run_id")?))
}

/// The last event that each of these runs consumed.
async fn last_events(tx: &mut Tx, runs: &[Row]) -> Result<BTreeMap<Run, (TeamId, i64)>, StoreError> {
    let mut keys = runs.iter().map(run_key).collect::<Result<Vec<_>, _>>()?;
    keys.sort();
    keys.dedup();
    let mut last = BTreeMap::new();
    for chunk in keys.chunks(200) {
        let rows = chunk.iter().map(|(team, dag, run)| vals![*team, dag, run]).collect();
        let (list, values) = values_list(1, rows);
        let found = tx
            .rows(
                &format!(
                    "SELECT x.team_no, x.dag_id, x.run_id, x.producer_no, x.event_id FROM dag_run_asset_event x \
                     JOIN asset_event e ON e.team_no = x.producer_no AND e.id = x.event_id \
                     WHERE (x.team_no, x.dag_id, x.run_id) IN (VALUES {list}) ORDER BY e.at, e.id"
                ),
                values,
            )
            .await?;
        for row in &found {
            last.insert(run_key(row)?, (row.team("producer_no")?, row.int("event_id")?));
        }
    }
    Ok(last)
}
