//! The state of an asset: list, get, set, delete (rule 19: it is per team).

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::render_time;
use isobar_store::lists::assets;
use isobar_store::lists::stores::{self as list, StoredValue};
use isobar_store::stores::{self, Writer};
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{owners, stored_value};
use crate::errors::{Answer, no_content, ok};
use crate::extract::{Ask, Fields};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/assets/{asset_id}/state-store", get(list_all).delete(clear))
        .route(
            "/assets/{asset_id}/state-store/{*key}",
            get(get_one).put(set).delete(delete),
        )
}

fn entry(ask: &Ask, scope: TeamScope, row: &StoredValue) -> Value {
    let writer = row.writer.as_ref().map(|writer| {
        json!({
            "kind": writer.kind,
            "dag_id": writer.dag_id.as_ref().map(|dag_id| ask.write(scope.team(), dag_id)),
            "run_id": writer.run_id,
            "task_id": writer.task_id,
            "map_index": writer.map_index,
        })
    });
    json!({
        "key": row.key,
        "value": row.value,
        "updated_at": render_time(row.updated_at),
        "last_updated_by": writer,
    })
}

/// The asset of the path and the scope to do something with its state.
fn asset(ask: &Ask, action: Action) -> Result<(TeamScope, i64), ApiError> {
    let id = ask.number("asset_id")?;
    Ok((owners::of_id(ask, id, Resource::Asset, action)?, id))
}

async fn must_exist(tx: &mut Tx, scope: TeamScope, id: i64) -> Result<(), ApiError> {
    match assets::get(tx, &scope.into(), id).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found(format!("Asset with id {id} not found"))),
    }
}

async fn list_all(mut ask: Ask) -> Answer {
    let (scope, id) = asset(&ask, Action::Read)?;
    let page = ask.page();
    ask.query.done()?;
    let mut tx = ask.state.store.read().await?;
    must_exist(&mut tx, scope, id).await?;
    let found = list::of_asset_id(&mut tx, scope, id, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| entry(&ask, scope, row)).collect();
    ok(&json!({"asset_state_store": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let (scope, id) = asset(&ask, Action::Read)?;
    let key = ask.part("key");
    let mut tx = ask.state.store.read().await?;
    must_exist(&mut tx, scope, id).await?;
    let row = list::asset_value(&mut tx, scope, id, key).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("Asset state store key '{key}' not found")))?;
    ok(&entry(&ask, scope, &row))
}

async fn set(ask: Ask, body: Bytes) -> Answer {
    let (scope, id) = asset(&ask, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let value = stored_value::value(&mut fields);
    fields.done()?;
    let key = ask.part("key");
    let mut tx = ask.state.store.begin().await?;
    must_exist(&mut tx, scope, id).await?;
    stores::set_asset_value(&mut tx, scope, id, key, &value, Writer::Api, Timestamp::now()).await?;
    note(&ask, &mut tx, scope, "set_asset_state_store", id, Some(key)).await?;
    tx.commit().await?;
    no_content()
}

async fn remove(ask: &Ask, key: Option<&str>, event: &'static str) -> Answer {
    let (scope, id) = asset(ask, Action::Delete)?;
    let mut tx = ask.state.store.begin().await?;
    must_exist(&mut tx, scope, id).await?;
    stores::delete_asset_values(&mut tx, scope, id, key).await?;
    note(ask, &mut tx, scope, event, id, key).await?;
    tx.commit().await?;
    no_content()
}

async fn delete(ask: Ask) -> Answer {
    remove(&ask, Some(ask.part("key")), "delete_asset_state_store").await
}

async fn clear(ask: Ask) -> Answer {
    remove(&ask, None, "clear_asset_state_store").await
}

/// The audit record: which key, never the value.
async fn note(
    ask: &Ask,
    tx: &mut Tx,
    scope: TeamScope,
    event: &'static str,
    id: i64,
    key: Option<&str>,
) -> Result<(), ApiError> {
    let record = audit::Record::new(event, ask.caller.name()).extra(json!({"asset_id": id, "key": key}));
    audit::write(tx, scope, &[record]);
    Ok(())
}
