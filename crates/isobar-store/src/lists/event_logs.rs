//! The audit log as the REST API lists it.

use isobar_auth::ReadScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;

use super::matching::{Page, Slice, TextMatch, TimeRange};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::Row;
use crate::{StoreError, Tx};

/// By what records can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "a.id" Int;
        "event_log_id" => "a.id" Int;
        "dttm" => "a.at" Int;
        "when" => "a.at" Int;
        "dag_id" => "a.dag_id" Text;
        "task_id" => "a.task_id" Text;
        "run_id" => "a.run_id" Text;
        "event" => "a.event" Text;
        "logical_date" => "a.logical_date" Int;
        "owner" => "a.owner" Text;
        "extra" => "a.extra" Text;
    },
    unique: &[("a.id", Kind::Int)],
    default: "id",
};

const COLUMNS: &str = "a.team_no, a.id, a.at, a.event, a.owner, a.dag_id, a.run_id, a.task_id, a.map_index, \
    a.try_number, a.logical_date, a.extra, coalesce(d.display_name, d.dag_id) AS dag_display_name, \
    coalesce(i.display_name, i.task_id) AS task_display_name";
const FROM: &str = "audit a LEFT JOIN dag d ON d.team_no = a.team_no AND d.dag_id = a.dag_id \
    LEFT JOIN task_instance i ON i.team_no = a.team_no AND i.dag_id = a.dag_id AND i.run_id = a.run_id \
    AND i.task_id = a.task_id AND i.map_index = a.map_index";

/// A record of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct EventLogRow {
    pub team: TeamId,
    pub id: i64,
    pub at: Timestamp,
    pub event: String,
    pub owner: Option<String>,
    pub dag_id: Option<DagId>,
    pub run_id: Option<String>,
    pub task_id: Option<String>,
    pub map_index: Option<i64>,
    pub try_number: Option<i64>,
    pub logical_date: Option<Timestamp>,
    pub extra: Option<String>,
    pub dag_display_name: Option<String>,
    pub task_display_name: Option<String>,
}

impl EventLogRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            id: row.int("id")?,
            at: row.time("at")?,
            event: row.text("event")?,
            owner: row.maybe_text("owner")?,
            dag_id: row.maybe_text("dag_id")?.map(DagId::from),
            run_id: row.maybe_text("run_id")?,
            task_id: row.maybe_text("task_id")?,
            map_index: row.maybe_int("map_index")?,
            try_number: row.maybe_int("try_number")?,
            logical_date: row.maybe_time("logical_date")?,
            extra: row.maybe_text("extra")?,
            dag_display_name: row.maybe_text("dag_display_name")?,
            task_display_name: row.maybe_text("task_display_name")?,
        })
    }
}

/// Which records.
#[derive(Clone, Debug, Default)]
pub struct EventLogFilter {
    /// About this Dag.
    pub dag: Option<(TeamId, DagId)>,
    /// About this task.
    pub task_id: Option<String>,
    /// About this run.
    pub run_id: Option<String>,
    /// About this map index.
    pub map_index: Option<i64>,
    /// About this try.
    pub try_number: Option<i64>,
    /// By this actor.
    pub owner: Option<String>,
    /// Of this event.
    pub event: Option<String>,
    /// Not of these events.
    pub excluded_events: Vec<String>,
    /// Of these events.
    pub included_events: Vec<String>,
    /// When.
    pub at: TimeRange,
    /// The Dag's id.
    pub dag_id_match: TextMatch,
    /// The task's id.
    pub task_id_match: TextMatch,
    /// The run's id.
    pub run_id_match: TextMatch,
    /// The actor.
    pub owner_match: TextMatch,
    /// The event.
    pub event_match: TextMatch,
}

/// One page of the records that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &EventLogFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<EventLogRow>, StoreError> {
    let mut select = Select::new(tx, scope, "a.team_no", COLUMNS, FROM);
    if let Some((team, dag_id)) = &filter.dag {
        select.equal("a.team_no", *team);
        select.equal("a.dag_id", dag_id);
    }
    select.equal_if("a.task_id", filter.task_id.as_deref());
    select.equal_if("a.run_id", filter.run_id.as_deref());
    select.equal_if("a.map_index", filter.map_index);
    select.equal_if("a.try_number", filter.try_number);
    select.equal_if("a.owner", filter.owner.as_deref());
    select.equal_if("a.event", filter.event.as_deref());
    select.one_of(
        "a.event",
        filter.included_events.iter().map(|event| Some(event.as_str())),
    );
    for event in &filter.excluded_events {
        let placeholder = select.bind(event.as_str());
        select.and(format!("a.event <> {placeholder}"));
    }
    select.within("a.at", &filter.at);
    select.matches("a.dag_id", &filter.dag_id_match);
    select.matches("a.task_id", &filter.task_id_match);
    select.matches("a.run_id", &filter.run_id_match);
    select.matches("a.owner", &filter.owner_match);
    select.matches("a.event", &filter.event_match);
    select.page(tx, order, page, EventLogRow::read).await
}

/// One record, none where there is none of that id that may be read.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: &ReadScope, id: i64) -> Result<Option<EventLogRow>, StoreError> {
    let mut select = Select::new(tx, scope, "a.team_no", COLUMNS, FROM);
    select.by_id("a", id);
    select.one(tx).await?.as_ref().map(EventLogRow::read).transpose()
}
