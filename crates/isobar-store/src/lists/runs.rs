//! Runs as the REST API lists them.

use std::collections::HashMap;

use isobar_auth::{ReadScope, TeamScope};
use isobar_model::{DagId, RunId, RunState, RunTrigger, RunType, TeamId};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::cursor::{Cursor, CursorPage};
use super::matching::{Page, RealRange, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use super::versions::{self, VersionRow};
use crate::db::{Row, vals};
use crate::{StoreError, Tx};

/// A run.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Whose it is.
    pub team: TeamId,
    /// The Dag.
    pub dag_id: DagId,
    /// Its id.
    pub run_id: RunId,
    /// Its number inside the team.
    pub id: i64,
    /// Its revision.
    pub rev: i64,
    /// Its state.
    pub state: RunState,
    /// Why it exists.
    pub run_type: RunType,
    /// Who asked for it.
    pub triggered_by: Option<RunTrigger>,
    /// The person's name.
    pub triggering_user: Option<String>,
    /// What it was given, null for nothing.
    pub conf: Value,
    /// A person's note.
    pub note: Option<String>,
    /// The instant it stands for.
    pub logical_date: Option<Timestamp>,
    /// The data interval's start.
    pub interval_start: Option<Timestamp>,
    /// The data interval's end.
    pub interval_end: Option<Timestamp>,
    /// Not before this.
    pub run_after: Timestamp,
    /// When it was queued.
    pub queued_at: Option<Timestamp>,
    /// When it started.
    pub start_date: Option<Timestamp>,
    /// When it ended.
    pub end_date: Option<Timestamp>,
    /// When the scheduler last looked at it.
    pub last_decision: Option<Timestamp>,
    /// The bundle's version that it is bound to.
    pub bundle_version: Option<String>,
    /// The version it was made under.
    pub created_version_id: Option<Uuid>,
    /// The partition.
    pub partition_key: Option<String>,
    /// The partition's date.
    pub partition_date: Option<Timestamp>,
    /// The Dag's name to show.
    pub dag_display_name: String,
    /// The versions its instances were made under, in order of their ids.
    pub versions: Vec<VersionRow>,
}

impl RunRow {
    /// How long it ran, in seconds.
    #[must_use]
    pub fn duration(&self) -> Option<f64> {
        let (start, end) = (self.start_date?, self.end_date?);
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of a run fit 53 bits for 285 years"
        )]
        Some((end.as_microsecond() - start.as_microsecond()) as f64 / 1e6)
    }

    fn read(row: &Row) -> Result<Self, StoreError> {
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
            logical_date: row.maybe_time("logical_date")?,
            interval_start: row.maybe_time("interval_start")?,
            interval_end: row.maybe_time("interval_end")?,
            run_after: row.time("run_after")?,
            queued_at: row.maybe_time("queued_at")?,
            start_date: row.maybe_time("start_date")?,
            end_date: row.maybe_time("end_date")?,
            last_decision: row.maybe_time("last_decision")?,
            bundle_version: row.maybe_text("bundle_version")?,
            created_version_id: row.maybe_uuid("created_version_id")?,
            partition_key: row.maybe_text("partition_key")?,
            partition_date: row.maybe_time("partition_date")?,
            dag_display_name: row.text("dag_display_name")?,
            versions: Vec::new(),
        })
    }
}

const COLUMNS: &str = "r.team_no, r.dag_id, r.run_id, r.id, r.rev, r.state, r.run_type, r.triggered_by, \
    r.triggering_user, r.conf, r.note, r.logical_date, r.interval_start, r.interval_end, r.run_after, r.queued_at, \
    r.start_date, r.end_date, r.last_decision, r.bundle_version, r.created_version_id, r.partition_key, \
    r.partition_date, coalesce(d.display_name, r.dag_id) AS dag_display_name";
const FROM: &str = "dag_run r LEFT JOIN dag d ON d.team_no = r.team_no AND d.dag_id = r.dag_id";
/// Seconds that a run took, null while it runs.
const DURATION: &str = "((r.end_date - r.start_date) / 1000000.0)";

/// By what runs can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "r.id" Int;
        "state" => "r.state" Text;
        "dag_id" => "r.dag_id" Text;
        "run_id" => "r.run_id" Text;
        "dag_run_id" => "r.run_id" Text;
        "logical_date" => "r.logical_date" Int;
        "partition_date" => "r.partition_date" Int;
        "run_after" => "r.run_after" Int;
        "start_date" => "r.start_date" Int;
        "end_date" => "r.end_date" Int;
        "updated_at" => "r.updated_at" Int;
        "conf" => "r.conf" Text;
        "duration" => "((r.end_date - r.start_date) / 1000000.0)" Real;
    },
    unique: &[("r.id", Kind::Int), ("r.team_no", Kind::Int)],
    default: "id",
};

/// By what the batch list can be ordered.
pub const BATCH_ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "r.id" Int;
        "state" => "r.state" Text;
        "dag_id" => "r.dag_id" Text;
        "run_after" => "r.run_after" Int;
        "logical_date" => "r.logical_date" Int;
        "run_id" => "r.run_id" Text;
        "dag_run_id" => "r.run_id" Text;
        "start_date" => "r.start_date" Int;
        "end_date" => "r.end_date" Int;
        "updated_at" => "r.updated_at" Int;
        "conf" => "r.conf" Text;
    },
    unique: ORDER.unique,
    default: "id",
};

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this Dag; of all where none.
    pub dag_id: Option<DagId>,
    /// Of these Dags (team and id); an empty list finds nothing.
    pub dags: Option<Vec<(TeamId, DagId)>>,
    /// The run's `run_after`.
    pub run_after: TimeRange,
    /// The logical date.
    pub logical_date: TimeRange,
    /// The start, now where it has not started.
    pub start_date: TimeRange,
    /// The end, now where it has not ended.
    pub end_date: TimeRange,
    /// The last change.
    pub updated_at: TimeRange,
    /// Seconds that it took.
    pub duration: RealRange,
    /// The partition's date.
    pub partition_date: TimeRange,
    /// A part of the conf's text.
    pub conf_contains: Option<String>,
    /// Types, any of them.
    pub run_types: Vec<Option<RunType>>,
    /// States, any of them.
    pub states: Vec<Option<RunState>>,
    /// Numbers of the version it was made under, any of them.
    pub versions: Vec<i64>,
    /// The bundle's version.
    pub bundle_version: Option<String>,
    /// The run id.
    pub run_id: TextMatch,
    /// Who triggered it.
    pub triggering_user: TextMatch,
    /// The Dag's id.
    pub dag_id_match: TextMatch,
    /// The partition.
    pub partition: Option<String>,
    /// A part of the partition.
    pub partition_key: TextMatch,
    /// A part of the name or URI of an asset whose event it consumed.
    pub consuming_asset: Option<String>,
}

fn narrow(select: &mut Select, filter: &RunFilter) {
    let now = Timestamp::now();
    select.equal_if("r.dag_id", filter.dag_id.as_ref());
    if let Some(dags) = &filter.dags {
        let any: Vec<String> = dags
            .iter()
            .map(|(team, dag_id)| {
                let dag_id = select.bind(dag_id);
                format!("(r.team_no = {team} AND r.dag_id = {dag_id})")
            })
            .collect();
        select.and(if any.is_empty() {
            "1=0".to_owned()
        } else {
            format!("({})", any.join(" OR "))
        });
    }
    select.within("r.run_after", &filter.run_after);
    select.within("r.logical_date", &filter.logical_date);
    select.within_or_open("r.start_date", &filter.start_date, now);
    select.within_or_open("r.end_date", &filter.end_date, now);
    select.within("r.updated_at", &filter.updated_at);
    select.within_real(DURATION, &filter.duration);
    select.within("r.partition_date", &filter.partition_date);
    if let Some(text) = filter.conf_contains.as_ref().filter(|text| !text.is_empty()) {
        let placeholder = select.bind(format!("%{text}%"));
        select.and(format!("r.conf LIKE {placeholder}"));
    }
    select.one_of("r.run_type", filter.run_types.iter().copied());
    select.one_of("r.state", filter.states.iter().copied());
    if !filter.versions.is_empty() {
        select.join("JOIN dag_version v ON v.id = r.created_version_id");
        select.one_of("v.version_number", filter.versions.iter().copied().map(Some));
    }
    select.equal_if("r.bundle_version", filter.bundle_version.as_ref());
    select.matches("r.run_id", &filter.run_id);
    select.matches("r.triggering_user", &filter.triggering_user);
    select.matches("r.dag_id", &filter.dag_id_match);
    select.equal_if("r.partition_key", filter.partition.as_deref());
    select.matches("r.partition_key", &filter.partition_key);
    if let Some(text) = filter.consuming_asset.as_ref().filter(|text| !text.is_empty()) {
        let (name, uri) = (select.holds("a.name", text), select.holds("a.uri", text));
        select.and(format!(
            "EXISTS (SELECT 1 FROM dag_run_asset_event x \
             JOIN asset_event e ON e.team_no = x.producer_no AND e.id = x.event_id \
             JOIN asset a ON a.team_no = e.team_no AND a.id = e.asset_id \
             WHERE x.team_no = r.team_no AND x.dag_id = r.dag_id AND x.run_id = r.run_id AND ({name} OR {uri}))"
        ));
    }
}

/// Lists runs.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &RunFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<RunRow>, StoreError> {
    let mut select = Select::new(tx, scope, "r.team_no", COLUMNS, FROM);
    narrow(&mut select, filter);
    let mut slice = select.page(tx, order, page, RunRow::read).await?;
    add_versions(tx, scope, &mut slice.rows).await?;
    Ok(slice)
}

/// Lists runs by position.
///
/// # Errors
/// The database failed.
pub async fn list_from(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &RunFilter,
    order: &Ordering,
    limit: u32,
    cursor: Option<&Cursor>,
) -> Result<CursorPage<RunRow>, StoreError> {
    let mut select = Select::new(tx, scope, "r.team_no", COLUMNS, FROM);
    narrow(&mut select, filter);
    let mut page = select.cursor_page(tx, order, limit, cursor, RunRow::read).await?;
    add_versions(tx, scope, &mut page.rows).await?;
    Ok(page)
}

/// One run.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, run_id: &RunId) -> Result<Option<RunRow>, StoreError> {
    let read_scope = scope.into();
    let mut select = Select::new(tx, &read_scope, "r.team_no", COLUMNS, FROM);
    select.equal("r.dag_id", dag_id);
    select.equal("r.run_id", run_id);
    let Some(row) = select.one(tx).await? else {
        return Ok(None);
    };
    let mut rows = [RunRow::read(&row)?];
    add_versions(tx, &read_scope, &mut rows).await?;
    let [row] = rows;
    Ok(Some(row))
}

/// Whether a run of this Dag has this logical date: its run id.
///
/// # Errors
/// The database failed.
pub async fn with_logical_date(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    logical_date: Timestamp,
) -> Result<Option<RunId>, StoreError> {
    tx.row(
        "SELECT run_id FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND logical_date = $3",
        vals![scope.team(), dag_id, logical_date],
    )
    .await?
    .map(|row| Ok(row.text("run_id")?.into()))
    .transpose()
}

async fn add_versions(tx: &mut Tx, scope: &ReadScope, rows: &mut [RunRow]) -> Result<(), StoreError> {
    let unbound: Vec<_> = rows
        .iter()
        .filter(|row| row.bundle_version.is_none())
        .map(|row| vals![row.team, &row.dag_id, &row.run_id])
        .collect();
    let pairs = if unbound.is_empty() {
        Vec::new()
    } else {
        versions::of_runs(tx, unbound).await?
    };
    let mut of_run: HashMap<(TeamId, DagId, String), Vec<Uuid>> = HashMap::new();
    for (team, dag_id, run_id, version) in pairs {
        of_run.entry((team, dag_id, run_id)).or_default().push(version);
    }
    let mut ids: Vec<Uuid> = of_run.values().flatten().copied().collect();
    ids.extend(
        rows.iter()
            .filter(|row| row.bundle_version.is_some())
            .filter_map(|row| row.created_version_id),
    );
    ids.sort_unstable();
    ids.dedup();
    let known: HashMap<Uuid, VersionRow> = versions::by_ids(tx, scope, &ids)
        .await?
        .into_iter()
        .map(|version| (version.id, version))
        .collect();
    for row in rows {
        let mut ids = if row.bundle_version.is_some() {
            row.created_version_id.into_iter().collect()
        } else {
            of_run
                .remove(&(row.team, row.dag_id.clone(), row.run_id.as_str().to_owned()))
                .unwrap_or_default()
        };
        ids.sort_unstable();
        row.versions = ids.iter().filter_map(|id| known.get(id).cloned()).collect();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store, migrate};
    use isobar_auth::OrgScope;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_runs_of_one_dag_are_found_by_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.path().join("x.db").display()))
            .await
            .unwrap();
        let org = OrgScope::at_process_start();
        migrate::migrate(&store, &org).await.unwrap();
        let mut tx = store.read().await.unwrap();
        let scope = org.team(TeamId(1)).into();
        for order in ["id", "-id", "run_after", "-run_after", "logical_date", "-logical_date"] {
            let mut select = Select::new(&tx, &scope, "r.team_no", COLUMNS, FROM);
            let filter = RunFilter {
                dag_id: Some("d".into()),
                ..RunFilter::default()
            };
            narrow(&mut select, &filter);
            let order = ORDER.order(&[order.to_owned()]).unwrap();
            let plan = select.plan(&mut tx, &order).await.unwrap();
            assert!(plan.contains("SEARCH r USING INDEX"), "{plan}");
        }
    }
}
