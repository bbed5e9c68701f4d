//! Dags as the REST API lists them.

use std::collections::HashMap;

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, RunState, TeamId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::matching::{Page, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{Row, Val, vals, values_list};
use crate::{StoreError, Tx};

/// A Dag.
#[derive(Clone, Debug)]
pub struct DagRow {
    /// Whose it is.
    pub team: TeamId,
    /// Its id.
    pub dag_id: DagId,
    /// The name to show, where it is not the id.
    pub display_name: Option<String>,
    /// Whether it starts no runs.
    pub is_paused: bool,
    /// Whether its file no longer holds it.
    pub is_stale: bool,
    /// When its file was last read.
    pub last_parsed: Option<Timestamp>,
    /// How long that took, in seconds.
    pub last_parse_seconds: Option<f64>,
    /// When it was last expired.
    pub last_expired: Option<Timestamp>,
    /// The bundle its file lies in.
    pub bundle: String,
    /// The bundle's version, where bundles have versions.
    pub bundle_version: Option<String>,
    /// The file, inside the bundle.
    pub rel_path: String,
    /// The file.
    pub fileloc: String,
    /// What it says of itself.
    pub description: Option<String>,
    /// Its schedule, short.
    pub timetable_summary: Option<String>,
    /// Its schedule, in words.
    pub timetable_description: Option<String>,
    /// Whether its schedule makes partitions.
    pub timetable_partitioned: bool,
    /// Whether its schedule comes back, so that it can be backfilled.
    pub timetable_periodic: bool,
    /// The condition on assets, null where it has none.
    pub asset_expression: Value,
    /// The most tasks of one run at once.
    pub max_active_tasks: i64,
    /// The most runs at once.
    pub max_active_runs: i64,
    /// After how many failed runs in a row it is paused; zero for never.
    pub max_consecutive_failed_runs: i64,
    /// Whether a task limits its instances.
    pub has_task_concurrency_limits: bool,
    /// Whether its file could not be read the last time.
    pub has_import_errors: bool,
    /// The run types it allows, as JSON list; null for all.
    pub allowed_run_types: Value,
    /// Its owners, joined with `, `.
    pub owners: Option<String>,
    /// The next run's logical date.
    pub next_logical_date: Option<Timestamp>,
    /// The next run's data interval.
    pub next_interval_start: Option<Timestamp>,
    /// The next run's data interval.
    pub next_interval_end: Option<Timestamp>,
    /// When the next run is due.
    pub next_create_after: Option<Timestamp>,
    /// The latest version.
    pub current_version_id: Option<Uuid>,
    /// The latest version's number, zero for none.
    pub current_version_number: i64,
    /// Its tags, in order.
    pub tags: Vec<String>,
}

impl DagRow {
    /// The name to show.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(self.dag_id.as_str())
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            display_name: row.maybe_text("display_name")?,
            is_paused: row.flag("is_paused")?,
            is_stale: row.flag("is_stale")?,
            last_parsed: row.maybe_time("last_parsed")?,
            last_parse_seconds: row.real("last_parse_seconds")?,
            last_expired: row.maybe_time("last_expired")?,
            bundle: row.text("bundle")?,
            bundle_version: row.maybe_text("bundle_version")?,
            rel_path: row.text("rel_path")?,
            fileloc: row.text("fileloc")?,
            description: row.maybe_text("description")?,
            timetable_summary: row.maybe_text("timetable_summary")?,
            timetable_description: row.maybe_text("timetable_description")?,
            timetable_partitioned: row.flag("timetable_partitioned")?,
            timetable_periodic: row.flag("timetable_periodic")?,
            asset_expression: row.json("asset_expression")?,
            max_active_tasks: row.int("max_active_tasks")?,
            max_active_runs: row.int("max_active_runs")?,
            max_consecutive_failed_runs: row.int("max_consecutive_failed_runs")?,
            has_task_concurrency_limits: row.flag("has_task_concurrency_limits")?,
            has_import_errors: row.flag("has_import_errors")?,
            allowed_run_types: row.json("allowed_run_types")?,
            owners: row.maybe_text("owners")?,
            next_logical_date: row.maybe_time("next_logical_date")?,
            next_interval_start: row.maybe_time("next_interval_start")?,
            next_interval_end: row.maybe_time("next_interval_end")?,
            next_create_after: row.maybe_time("next_create_after")?,
            current_version_id: row.maybe_uuid("current_version_id")?,
            current_version_number: row.int("current_version_number")?,
            tags: Vec::new(),
        })
    }
}

const COLUMNS: &str = "d.team_no, d.dag_id, d.display_name, d.is_paused, d.is_stale, d.last_parsed, \
    d.last_parse_seconds, d.last_expired, d.bundle, v.bundle_version, d.rel_path, d.fileloc, d.description, \
    d.timetable_summary, d.timetable_description, d.timetable_partitioned, d.timetable_periodic, d.asset_expression, \
    d.max_active_tasks, d.max_active_runs, d.max_consecutive_failed_runs, d.has_task_concurrency_limits, \
    d.has_import_errors, d.allowed_run_types, d.owners, d.next_logical_date, d.next_interval_start, \
    d.next_interval_end, d.next_create_after, d.current_version_id, d.current_version_number";
const FROM: &str = "dag d LEFT JOIN dag_version v ON v.team_no = d.team_no AND v.dag_id = d.dag_id \
    AND v.version_number = d.current_version_number";
/// The run that was made last, found by the index on (team, Dag, number).
const LAST_RUN: &str = "LEFT JOIN dag_run last ON last.team_no = d.team_no AND last.dag_id = d.dag_id AND last.id = \
    (SELECT max(m.id) FROM dag_run m WHERE m.team_no = d.team_no AND m.dag_id = d.dag_id)";

/// By what Dags can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "dag_id" => "d.dag_id" Text;
        "dag_display_name" => "coalesce(d.display_name, d.dag_id)" Text;
        "next_dagrun" => "d.next_logical_date" Int;
        "last_run_state" => "last.state" Text;
        "last_run_start_date" => "last.start_date" Int;
    },
    unique: &[("d.dag_id", Kind::Text), ("d.team_no", Kind::Int)],
    default: "dag_id",
};

/// Which Dags.
#[derive(Clone, Debug, Default)]
pub struct DagFilter {
    /// Leaves out those whose file no longer holds them.
    pub exclude_stale: bool,
    /// Paused or not.
    pub paused: Option<bool>,
    /// With import errors or not.
    pub has_import_errors: Option<bool>,
    /// The id.
    pub dag_id: TextMatch,
    /// The name shown.
    pub display_name: TextMatch,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether all of them must be there; else any.
    pub all_tags: bool,
    /// Owners, any of them, as parts of the text.
    pub owners: Vec<String>,
    /// The bundle.
    pub bundle: Option<String>,
    /// The bundle's version.
    pub bundle_version: Option<String>,
    /// Timetable types, any of them.
    pub timetable_types: Vec<String>,
    /// Scheduled by assets or not.
    pub has_asset_schedule: Option<bool>,
    /// A part of the name or URI of an asset that schedules it.
    pub asset_dependency: Option<String>,
    /// The state of the run that was made last.
    pub last_run_state: Option<RunState>,
    /// The states of the run that was made last, any of them; `None` for a run without one.
    pub run_states: Vec<Option<RunState>>,
    /// When that run started.
    pub run_start: TimeRange,
    /// When that run ended.
    pub run_end: TimeRange,
    /// Those that this person marked as favourites, or those not.
    pub favorite_of: Option<(String, bool)>,
}

fn narrow(select: &mut Select, filter: &DagFilter) {
    if filter.exclude_stale {
        select.and("d.is_stale = FALSE");
    }
    select.equal_if("d.is_paused", filter.paused);
    select.equal_if("d.has_import_errors", filter.has_import_errors);
    select.matches("d.dag_id", &filter.dag_id);
    select.matches("coalesce(d.display_name, d.dag_id)", &filter.display_name);
    let tags: Vec<String> = filter
        .tags
        .iter()
        .map(|tag| {
            let tag = select.bind(tag);
            format!(
                "EXISTS (SELECT 1 FROM dag_tag t WHERE t.team_no = d.team_no AND t.dag_id = d.dag_id AND t.tag = {tag})"
            )
        })
        .collect();
    if !tags.is_empty() {
        select.and(format!(
            "({})",
            tags.join(if filter.all_tags { " AND " } else { " OR " })
        ));
    }
    let owners: Vec<String> = filter
        .owners
        .iter()
        .map(|owner| select.holds("d.owners", owner))
        .collect();
    if !owners.is_empty() {
        select.and(format!("({})", owners.join(" OR ")));
    }
    select.equal_if("d.bundle", filter.bundle.as_ref());
    select.equal_if("v.bundle_version", filter.bundle_version.as_ref());
    select.one_of("d.timetable_type", filter.timetable_types.iter().map(Some));
    const SCHEDULED: &str = "(SELECT 1 FROM asset_reference a WHERE a.team_no = d.team_no AND a.dag_id = d.dag_id \
        AND a.task_id = '' AND a.role = 'schedule' AND a.kind = 'asset'";
    if let Some(has) = filter.has_asset_schedule {
        select.and(format!("{}EXISTS {SCHEDULED})", if has { "" } else { "NOT " }));
    }
    if let Some(text) = &filter.asset_dependency {
        let (name, uri) = (select.holds("a.name", text), select.holds("a.uri", text));
        select.and(format!("EXISTS {SCHEDULED} AND ({name} OR {uri}))"));
    }
    select.equal_if("last.state", filter.last_run_state);
    select.one_of("last.state", filter.run_states.iter().copied());
    select.within("last.start_date", &filter.run_start);
    select.within("last.end_date", &filter.run_end);
    if let Some((user, wanted)) = &filter.favorite_of {
        let user = select.bind(user);
        let not = if *wanted { "" } else { "NOT " };
        select.and(format!(
            "{not}EXISTS (SELECT 1 FROM dag_favorite f WHERE f.team_no = d.team_no AND f.dag_id = d.dag_id AND f.user_name = {user})"
        ));
    }
}

fn needs_last_run(filter: &DagFilter) -> bool {
    filter.last_run_state.is_some()
        || !filter.run_states.is_empty()
        || filter.run_start.is_active()
        || filter.run_end.is_active()
}

/// Lists Dags.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &DagFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<DagRow>, StoreError> {
    let mut select = Select::new(tx, scope, "d.team_no", COLUMNS, FROM);
    if needs_last_run(filter) || order.mentions("last.") {
        select.join(LAST_RUN);
    }
    narrow(&mut select, filter);
    let mut slice = select.page(tx, order, page, DagRow::read).await?;
    add_tags(tx, &mut slice.rows).await?;
    Ok(slice)
}

/// One Dag; also one whose file no longer holds it.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Option<DagRow>, StoreError> {
    let mut select = Select::new(tx, &scope.into(), "d.team_no", COLUMNS, FROM);
    select.equal("d.dag_id", dag_id);
    let Some(row) = select.one(tx).await? else {
        return Ok(None);
    };
    let mut rows = [DagRow::read(&row)?];
    add_tags(tx, &mut rows).await?;
    let [row] = rows;
    Ok(Some(row))
}

async fn add_tags(tx: &mut Tx, rows: &mut [DagRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let keys: Vec<Vec<Val>> = rows.iter().map(|row| vals![row.team, &row.dag_id]).collect();
    let (list, values) = values_list(1, keys);
    let sql = format!(
        "SELECT team_no, dag_id, tag FROM dag_tag WHERE (team_no, dag_id) IN (VALUES {list}) ORDER BY team_no, dag_id, tag"
    );
    let mut tags: HashMap<(TeamId, DagId), Vec<String>> = HashMap::new();
    for row in tx.rows(&sql, values).await? {
        tags.entry((row.team("team_no")?, row.text("dag_id")?.into()))
            .or_default()
            .push(row.text("tag")?);
    }
    for row in rows {
        if let Some(found) = tags.remove(&(row.team, row.dag_id.clone())) {
            row.tags = found;
        }
    }
    Ok(())
}

/// How many runs of a Dag are running.
///
/// # Errors
/// The database failed.
pub async fn running_runs(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<i64, StoreError> {
    tx.row(
        "SELECT count(*) AS n FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND state = 'running'",
        vals![scope.team(), dag_id],
    )
    .await?
    .map_or(Ok(0), |row| row.int("n"))
}

/// The links of a Dag's owners: owner and link.
///
/// # Errors
/// The database failed.
pub async fn owner_links(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<(String, String)>, StoreError> {
    tx.rows(
        "SELECT owner, link FROM dag_owner_link WHERE team_no = $1 AND dag_id = $2 ORDER BY owner",
        vals![scope.team(), dag_id],
    )
    .await?
    .iter()
    .map(|row| Ok((row.text("owner")?, row.text("link")?)))
    .collect()
}

/// Whether a person marked a Dag as a favourite.
///
/// # Errors
/// The database failed.
pub async fn is_favorite(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, user: &str) -> Result<bool, StoreError> {
    Ok(tx
        .row(
            "SELECT 1 AS one FROM dag_favorite WHERE team_no = $1 AND dag_id = $2 AND user_name = $3",
            vals![scope.team(), dag_id, user],
        )
        .await?
        .is_some())
}
