//! The audit log: list, get.

use axum::Router;
use axum::routing::get;
use isobar_auth::Resource;
use isobar_model::render_time;
use isobar_store::lists::TimeRange;
use isobar_store::lists::event_logs::{self, EventLogFilter, EventLogRow};
use serde_json::{Value, json};

use super::dag_json::time;
use super::python_json;
use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/eventLogs", get(list))
        .route("/eventLogs/{event_log_id}", get(get_one))
}

/// Clients read the text inside the text; its spaces are Airflow's.
fn as_python_writes(extra: &str) -> String {
    serde_json::from_str(extra).map_or_else(|_| extra.to_owned(), |read| python_json::dumps(&read))
}

/// A record as Airflow's `EventLogResponse`.
fn json(ask: &Ask, row: &EventLogRow) -> Value {
    json!({
        "event_log_id": row.id,
        "when": render_time(row.at),
        "dag_id": row.dag_id.as_ref().map(|dag_id| ask.write(row.team, dag_id.as_str())),
        "task_id": row.task_id,
        "run_id": row.run_id,
        "map_index": row.map_index,
        "try_number": row.try_number,
        "event": row.event,
        "logical_date": time(row.logical_date),
        "owner": row.owner,
        "extra": row.extra.as_deref().map(as_python_writes),
        "dag_display_name": row.dag_display_name,
        "task_display_name": row.task_display_name,
    })
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Audit)?;
    let page = ask.page();
    let dag = super::assets::dag_of(&ask, ask.query.text("dag_id").as_deref());
    let query = &mut ask.query;
    let filter = EventLogFilter {
        dag,
        task_id: query.text("task_id"),
        run_id: query.text("run_id"),
        map_index: query.int("map_index"),
        try_number: query.int("try_number"),
        owner: query.text("owner"),
        event: query.text("event"),
        excluded_events: query.texts("excluded_events"),
        included_events: query.texts("included_events"),
        at: TimeRange {
            lt: query.time("before"),
            gt: query.time("after"),
            ..TimeRange::default()
        },
        dag_id_match: query.matching("dag_id"),
        task_id_match: query.matching("task_id"),
        run_id_match: query.matching("run_id"),
        owner_match: query.matching("owner"),
        event_match: query.matching("event"),
    };
    query.done()?;
    let order = event_logs::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = event_logs::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| json(&ask, row)).collect();
    ok(&json!({"event_logs": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let scope = ask.read(Resource::Audit)?;
    let id = ask.number("event_log_id")?;
    let mut tx = ask.state.store.read().await?;
    let row = event_logs::get(&mut tx, &scope, id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("The Event Log with id: `{id}` not found")))?;
    ok(&json(&ask, &row))
}
