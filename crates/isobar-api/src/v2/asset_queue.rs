//! Asset events that wait for a Dag's condition: list, get, delete.

use axum::Router;
use axum::routing::get;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::render_time;
use isobar_store::lists::asset_queue::{self, QueueFilter, QueuedRow};
use isobar_store::{asset_queue as queue, audit};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::errors::{Answer, no_content, ok};
use crate::extract::{Ask, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/assets/{asset_id}/queuedEvents", get(of_asset).delete(delete_of_asset))
        .route("/dags/{dag_id}/assets/queuedEvents", get(of_dag).delete(delete_of_dag))
        .route(
            "/dags/{dag_id}/assets/{asset_id}/queuedEvents",
            get(of_both).delete(delete_of_both),
        )
}

/// An entry as Airflow's `QueuedEventResponse`.
fn json(ask: &Ask, row: &QueuedRow) -> Value {
    json!({
        "dag_id": ask.write(row.team, row.dag_id.as_str()),
        "asset_id": row.asset_id,
        "created_at": render_time(row.created_at),
        "dag_display_name": row.dag_display_name,
    })
}

fn collection(ask: &Ask, rows: &[QueuedRow]) -> Answer {
    let total = rows.len();
    let rows: Vec<Value> = rows.iter().map(|row| json(ask, row)).collect();
    ok(&json!({"queued_events": rows, "total_entries": total}))
}

fn before(ask: &mut Ask) -> Result<Option<Timestamp>, ApiError> {
    let at = ask.query.time("before");
    ask.query.done().map_err(|_| {
        let text = ask.query.text("before").unwrap_or_default();
        ApiError::bad_request(format!(
            "Invalid datetime: '{text}'. Please check the date parameter have this value."
        ))
    })?;
    Ok(at)
}

/// The Dag of the path; its queue is read by who may read both it and assets.
fn consumer(ask: &Ask, action: Action) -> Result<Target, ApiError> {
    let dag_action = match action {
        Action::Read => Action::Read,
        _ => Action::Edit,
    };
    ask.dag(Resource::Asset, action)?;
    ask.dag(Resource::Dag, dag_action)
}

async fn of_asset(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let filter = QueueFilter {
        asset_id: Some(ask.number("asset_id")?),
        before: before(&mut ask)?,
        dag_id: None,
    };
    let mut tx = ask.state.store.read().await?;
    let rows = asset_queue::list(&mut tx, &scope, &filter).await?;
    collection(&ask, &rows)
}

async fn of_dag(mut ask: Ask) -> Answer {
    let target = consumer(&ask, Action::Read)?;
    let filter = QueueFilter {
        dag_id: Some(target.dag_id()),
        before: before(&mut ask)?,
        asset_id: None,
    };
    let mut tx = ask.state.store.read().await?;
    let rows = asset_queue::list(&mut tx, &target.scope.into(), &filter).await?;
    collection(&ask, &rows)
}

fn missing(target: &Target, asset_id: i64) -> ApiError {
    ApiError::not_found(format!(
        "Queued event with dag_id: `{}` and asset_id: `{asset_id}` was not found",
        target.written
    ))
}

async fn of_both(mut ask: Ask) -> Answer {
    let target = consumer(&ask, Action::Read)?;
    let asset_id = ask.number("asset_id")?;
    let filter = QueueFilter {
        dag_id: Some(target.dag_id()),
        asset_id: Some(asset_id),
        before: before(&mut ask)?,
    };
    let mut tx = ask.state.store.read().await?;
    let rows = asset_queue::list(&mut tx, &target.scope.into(), &filter).await?;
    let row = rows.first().ok_or_else(|| missing(&target, asset_id))?;
    ok(&json(&ask, row))
}

/// Deletes in one team, with its audit record; how many events went.
async fn delete(ask: &Ask, scope: TeamScope, filter: &QueueFilter, event: &'static str) -> Result<usize, ApiError> {
    let mut tx = ask.state.store.begin().await?;
    let gone = queue::delete(&mut tx, scope, filter, Timestamp::now()).await?;
    if gone > 0 {
        let mut record = audit::Record::new(event, ask.caller.name()).extra(json!({
            "asset_id": filter.asset_id,
            "before": filter.before.map(render_time),
            "method": "DELETE",
        }));
        if let Some(dag_id) = &filter.dag_id {
            record = record.dag(dag_id);
        }
        audit::write(&mut tx, scope, &[record]);
    }
    tx.commit().await?;
    Ok(gone)
}

async fn delete_of_asset(mut ask: Ask) -> Answer {
    let scopes = ask.writable(Resource::Asset, Action::Delete)?;
    let asset_id = ask.number("asset_id")?;
    let filter = QueueFilter {
        asset_id: Some(asset_id),
        before: before(&mut ask)?,
        dag_id: None,
    };
    let mut gone = 0;
    for scope in scopes {
        if ask.caller.act(scope.team(), Resource::Dag, Action::Edit).is_some() {
            gone += delete(&ask, scope, &filter, "delete_asset_queued_events").await?;
        }
    }
    if gone == 0 {
        return Err(ApiError::not_found(format!(
            "Queue event with asset_id: `{asset_id}` was not found"
        )));
    }
    no_content()
}

async fn delete_of_dag(mut ask: Ask) -> Answer {
    let target = consumer(&ask, Action::Delete)?;
    let filter = QueueFilter {
        dag_id: Some(target.dag_id()),
        before: before(&mut ask)?,
        asset_id: None,
    };
    if delete(&ask, target.scope, &filter, "delete_dag_asset_queued_events").await? == 0 {
        return Err(ApiError::not_found(format!(
            "Queue event with dag_id: `{}` was not found",
            target.written
        )));
    }
    no_content()
}

async fn delete_of_both(mut ask: Ask) -> Answer {
    let target = consumer(&ask, Action::Delete)?;
    let asset_id = ask.number("asset_id")?;
    let filter = QueueFilter {
        dag_id: Some(target.dag_id()),
        asset_id: Some(asset_id),
        before: before(&mut ask)?,
    };
    if delete(&ask, target.scope, &filter, "delete_dag_asset_queued_event").await? == 0 {
        return Err(missing(&target, asset_id));
    }
    no_content()
}
