//! Runs: list, get, patch, delete, clear, and the asset events that one consumed.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use isobar_auth::{Action, ReadScope, Resource};
use isobar_engine::timetable::Bound;
use isobar_model::dag::SerializedDag;
use isobar_model::{DagId, RunKey, RunState, RunType, TeamId};
use isobar_store::clearing;
use isobar_store::lists::runs::{self, RunFilter, RunRow};
use isobar_store::lists::{self, Cursor, Page, TextMatch, TimeRange, cursor};
use isobar_store::runs as run_rows;
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use jiff::civil::Time;
use serde_json::{Value, json};

use super::run_json::run;
use super::run_trigger::trigger;
use super::{asset_events, clear, clear_partitions, dags, partition_span, runs_bulk, stored_dag};
use crate::errors::{Answer, no_content, ok};
use crate::extract::{Ask, Fields, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route(
            "/dags/{dag_id}/dagRuns",
            get(list).post(trigger).patch(runs_bulk::patch),
        )
        .route("/dags/{dag_id}/dagRuns/list", post(batch))
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}",
            get(get_one).patch(patch).delete(delete),
        )
        .route("/dags/{dag_id}/dagRuns/{dag_run_id}/clear", post(clear::run))
        .route(
            "/dags/{dag_id}/dagRuns/{dag_run_id}/upstreamAssetEvents",
            get(consumed_events),
        )
        .route("/dags/{dag_id}/clearDagRuns", post(clear::many_runs))
        .route(
            "/dags/{dag_id}/clearPartitions",
            post(clear_partitions::clear_partitions),
        )
}

/// The refusal for a run that is not there.
pub(super) fn missing(written: &str, run_id: &str) -> ApiError {
    ApiError::not_found(format!(
        "The DagRun with dag_id: `{written}` and run_id: `{run_id}` was not found"
    ))
}

/// The run of the path.
pub(super) async fn read_row(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<RunRow, ApiError> {
    runs::get(tx, target.scope, &target.dag_id(), &ask.run_id())
        .await?
        .ok_or_else(|| missing(&target.written, ask.part("dag_run_id")))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Run, Action::Read)?;
    let mut tx = ask.state.store.read().await?;
    ok(&run(&read_row(&ask, &mut tx, &target).await?, &ask.names))
}

/// The asset events that made a run.
async fn consumed_events(ask: Ask) -> Answer {
    ask.dag(Resource::Asset, Action::Read)?;
    let target = ask.dag(Resource::Run, Action::Read)?;
    let runs = asset_events::readable_runs(&ask);
    let mut tx = ask.state.store.read().await?;
    let row = read_row(&ask, &mut tx, &target).await?;
    let found = lists::asset_events::of_run(&mut tx, target.scope, &runs, &row.dag_id, &row.run_id).await?;
    let events: Vec<Value> = found.iter().map(|event| asset_events::event(&ask, event)).collect();
    let total = events.len();
    ok(&json!({"asset_events": events, "total_entries": total}))
}

fn run_types(texts: &[String]) -> Result<Vec<Option<RunType>>, ApiError> {
    texts
        .iter()
        .map(|text| match text.as_str() {
            "none" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let all: Vec<&str> = RunType::ALL.iter().map(|kind| kind.as_str()).collect();
                ApiError::new(
                    axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                    format!("Invalid value for run type. Valid values are {}", all.join(", ")),
                )
            }),
        })
        .collect()
}

async fn list(mut ask: Ask) -> Answer {
    // `~` stands for all Dags that may be read.
    let target = match ask.part("dag_id") {
        "~" => None,
        _ => Some(ask.dag(Resource::Run, Action::Read)?),
    };
    let scope: ReadScope = match &target {
        Some(target) => target.scope.into(),
        None => ask.read(Resource::Run)?,
    };
    let page = ask.page();
    let query = &mut ask.query;
    let mut filter = RunFilter {
        run_after: query.times("run_after"),
        logical_date: query.times("logical_date"),
        start_date: query.times("start_date"),
        end_date: query.times("end_date"),
        duration: query.reals("duration"),
        updated_at: query.times("updated_at"),
        conf_contains: query.text("conf_contains"),
        versions: query.ints("dag_version"),
        bundle_version: query.text("bundle_version").filter(|text| !text.is_empty()),
        run_id: query.matching("run_id"),
        triggering_user: query.matching("triggering_user_name"),
        dag_id_match: query.matching("dag_id"),
        partition_key: TextMatch {
            alternatives: false,
            ..query.matching("partition_key")
        },
        consuming_asset: query.text("consuming_asset_pattern"),
        ..RunFilter::default()
    };
    let (types, states) = (query.texts("run_type"), query.texts("state"));
    query.done()?;
    filter.run_types = run_types(&types)?;
    filter.states = dags::run_states(&states)?;
    let dated = ask.query.text("partition_date_gte").is_some() || ask.query.text("partition_date_lte").is_some();
    match &target {
        None if dated => {
            return Err(ApiError::bad_request(
                "partition_date_gte and partition_date_lte require a specific dag_id.",
            ));
        }
        None => {}
        Some(target) => {
            let dag = {
                let mut tx = ask.state.store.read().await?;
                stored_dag::latest(&ask.state, &mut tx, target).await?
            };
            filter.dag_id = Some(target.dag_id());
            if dated && !dag.timetable.is_partitioned() {
                return Err(ApiError::bad_request(format!(
                    "Dag with dag_id: '{}' is not partitioned; \
                     partition_date_gte and partition_date_lte are not supported.",
                    target.written
                )));
            }
            if dated {
                filter.partition_date = partition_window(&ask, target, &dag).await?;
            }
        }
    }
    let order = runs::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    if let Some(text) = ask.query.text("cursor") {
        let at = (!text.is_empty()).then(|| Cursor::decode(&text, &order)).transpose()?;
        let found = runs::list_from(&mut tx, &scope, &filter, &order, page.limit, at.as_ref()).await?;
        return ok(&json!({
            "dag_runs": all(&ask, &found.rows),
            "total_entries": found.total,
            "total_entries_limit": cursor::COUNTED,
            "next_cursor": found.next.map(|cursor| cursor.encode()),
            "previous_cursor": found.previous.map(|cursor| cursor.encode()),
        }));
    }
    let found = runs::list(&mut tx, &scope, &filter, &order, page).await?;
    ok(&collection(&ask, &found.rows, found.total))
}

/// Whole days on the clock of the Dag's timetable, both ends included.
async fn partition_window(ask: &Ask, target: &Target, dag: &SerializedDag) -> Result<TimeRange, ApiError> {
    let day = |name: &str, after: i64| -> Result<Option<Bound>, ApiError> {
        let Some(text) = ask.query.text(name) else {
            return Ok(None);
        };
        let midnight = text.parse::<jiff::civil::Date>().ok().and_then(|date| {
            let wall = date
                .checked_add(jiff::Span::new().days(after))
                .ok()?
                .to_datetime(Time::midnight());
            let at = jiff::tz::TimeZone::UTC.to_timestamp(wall).ok()?;
            Some(Bound { at, wall })
        });
        midnight.map(Some).ok_or_else(|| {
            ApiError::unprocessable(vec![json!({
                "type": "date_from_datetime_parsing",
                "loc": ["query", name],
                "msg": "Input should be a valid date or datetime, invalid character in year",
                "input": text,
                "ctx": {"error": "invalid character in year"},
            })])
        })
    };
    let days = [day("partition_date_gte", 0)?, day("partition_date_lte", 1)?];
    let [gte, lt] = partition_span::read(ask, target, dag, days).await?;
    Ok(TimeRange {
        gte,
        lt,
        ..TimeRange::default()
    })
}

fn all(ask: &Ask, rows: &[RunRow]) -> Vec<Value> {
    rows.iter().map(|row| run(row, &ask.names)).collect()
}

/// A page by count.
pub(super) fn collection(ask: &Ask, rows: &[RunRow], total: i64) -> Value {
    json!({
        "dag_runs": all(ask, rows),
        "total_entries": total,
        "total_entries_limit": null,
        "next_cursor": null,
        "previous_cursor": null,
    })
}

/// Names of Dags in a body, as team and id; those of teams that are not there find nothing. An empty list asks for nothing.
pub(super) fn named_dags(ask: &Ask, names: Option<Vec<String>>) -> Option<Vec<(TeamId, DagId)>> {
    names.filter(|names| !names.is_empty()).map(|names| {
        names
            .iter()
            .map(|written| {
                let (team, name) = ask.names.read(written);
                (team.unwrap_or(ask.state.nobody.team()), name.into())
            })
            .collect()
    })
}

/// The batch routes answer for all Dags only.
pub(super) fn must_be_tilde(ask: &Ask, names: &[&'static str]) -> Result<(), ApiError> {
    let problems: Vec<Value> = names
        .iter()
        .filter(|name| ask.part(name) != "~")
        .map(|name| {
            json!({
                "type": "literal_error",
                "loc": ["path", name],
                "msg": "Input should be '~'",
                "input": ask.part(name),
                "ctx": {"expected": "'~'"},
            })
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ApiError::unprocessable(problems))
    }
}

async fn batch(ask: Ask, body: Bytes) -> Answer {
    let scope = ask.read(Resource::Run)?;
    must_be_tilde(&ask, &["dag_id"])?;
    let mut fields = Fields::of_body(&body)?;
    let order = fields.text("order_by", None);
    let offset = fields.natural("page_offset", 0);
    let limit = fields.natural("page_limit", 100);
    let filter = RunFilter {
        dags: named_dags(&ask, fields.texts("dag_ids")),
        states: fields.words("states", &["queued", "running", "success", "failed"]),
        run_after: fields.times(["run_after_gte", "run_after_gt", "run_after_lte", "run_after_lt"]),
        logical_date: fields.times([
            "logical_date_gte",
            "logical_date_gt",
            "logical_date_lte",
            "logical_date_lt",
        ]),
        start_date: fields.times(["start_date_gte", "start_date_gt", "start_date_lte", "start_date_lt"]),
        end_date: fields.times(["end_date_gte", "end_date_gt", "end_date_lte", "end_date_lt"]),
        duration: fields.reals(["duration_gte", "duration_gt", "duration_lte", "duration_lt"]),
        conf_contains: fields.text("conf_contains", None),
        ..RunFilter::default()
    };
    fields.done()?;
    let order = runs::BATCH_ORDER.order(&order.into_iter().collect::<Vec<_>>())?;
    let page = Page {
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
        offset: u64::try_from(offset).unwrap_or(0),
    };
    let mut tx = ask.state.store.read().await?;
    let found = runs::list(&mut tx, &scope, &filter, &order, page).await?;
    ok(&collection(&ask, &found.rows, found.total))
}

/// States that a person may give to a run.
pub(super) const MUTABLE: [&str; 3] = ["queued", "success", "failed"];

async fn patch(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::Run, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let state = fields.word::<RunState>("state", &MUTABLE);
    let note = fields.text("note", Some(1000));
    fields.done()?;
    let mask = ask.query.texts("update_mask");
    let masked = |name: &str| mask.is_empty() || mask.iter().any(|one| one == name);
    let row = {
        let mut tx = ask.state.store.read().await?;
        let row = read_row(&ask, &mut tx, &target).await?;
        stored_dag::for_run(&ask, &mut tx, &target, Some(&row)).await?;
        row
    };
    let note = (fields.has("note") && masked("note")).then_some(note);
    let state = state.filter(|_| masked("state"));
    let row = change(&ask, &target, &row, note, state).await?;
    ok(&run(&row, &ask.names))
}

/// Writes a run's note, then its state, each with its audit record.
pub(super) async fn change(
    ask: &Ask,
    target: &Target,
    row: &RunRow,
    note: Option<Option<String>>,
    state: Option<RunState>,
) -> Result<RunRow, ApiError> {
    let key = RunKey {
        dag_id: row.dag_id.clone(),
        run_id: row.run_id.clone(),
    };
    let dag = {
        let mut tx = ask.state.store.read().await?;
        stored_dag::for_run(ask, &mut tx, target, Some(row)).await?
    };
    let now = Timestamp::now();
    let actor = ask.caller.name();
    let mut tx = ask.state.store.begin().await?;
    if let Some(note) = note {
        let note = note.filter(|note| !note.is_empty());
        run_rows::set_note(&mut tx, target.scope, &key, note.as_deref(), Some(actor), now).await?;
    }
    if let Some(state) = state {
        let teardown =
            |task_id: &isobar_model::TaskId| dag.task_by_id(task_id.as_str()).is_some_and(|task| task.is_teardown);
        clearing::set_run_state(&mut tx, target.scope, &key, state, &teardown, Some(actor), now).await?;
    }
    let record = audit::Record::new("patch_dag_run", actor)
        .dag(&key.dag_id)
        .run(&key.run_id)
        .extra(json!({"state": state}));
    audit::write(&mut tx, target.scope, &[record]);
    let changed = runs::get(&mut tx, target.scope, &key.dag_id, &key.run_id).await?;
    tx.commit().await?;
    changed.ok_or_else(|| missing(&target.written, row.run_id.as_str()))
}

async fn delete(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Run, Action::Delete)?;
    let mut tx = ask.state.store.begin().await?;
    let row = read_row(&ask, &mut tx, &target).await?;
    if row.state == RunState::Running {
        return Err(ApiError::conflict(format!(
            "The DagRun with dag_id: `{}` and run_id: `{}` cannot be deleted in {} state",
            target.written, row.run_id, row.state
        )));
    }
    let key = RunKey {
        dag_id: row.dag_id,
        run_id: row.run_id,
    };
    run_rows::delete(&mut tx, target.scope, &key, Timestamp::now()).await?;
    let record = audit::Record::new("delete_dag_run", ask.caller.name())
        .dag(&key.dag_id)
        .run(&key.run_id);
    audit::write(&mut tx, target.scope, &[record]);
    tx.commit().await?;
    no_content()
}
