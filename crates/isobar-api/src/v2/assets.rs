//! Assets and aliases: list, get.

use axum::Router;
use axum::routing::{get, post};
use isobar_auth::Resource;
use isobar_model::{DagId, TeamId, render_time};
use isobar_store::lists::assets::{self, AliasRow, AssetFilter, AssetRow};
use serde_json::{Value, json};

use super::{asset_events, asset_materialize, asset_queue, redact};
use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/assets", get(list))
        .route("/assets/aliases", get(list_aliases))
        .route("/assets/aliases/{asset_alias_id}", get(get_alias))
        .route("/assets/events", get(asset_events::list).post(asset_events::create))
        .route("/assets/{asset_id}", get(get_one))
        .route("/assets/{asset_id}/materialize", post(asset_materialize::start))
        .merge(asset_queue::routes())
}

/// The Dag that a written name means, as team and plain id; of a team that never exists where there is none.
pub(super) fn dag_of(ask: &Ask, written: Option<&str>) -> Option<(TeamId, DagId)> {
    let (team, name) = ask.names.read(written?);
    Some((team.unwrap_or(ask.state.nobody.team()), name.into()))
}

/// What the author attached, without secrets.
pub(super) fn extra(ask: &Ask, extra: &Value) -> Value {
    redact::hide(extra, None, &ask.state.sensitive_names)
}

fn alias(row: &AliasRow) -> Value {
    json!({"id": row.id, "name": row.name, "group": row.group})
}

/// An asset as Airflow's `AssetResponse`. References have no times of their own: they show the asset's.
fn asset(ask: &Ask, row: &AssetRow) -> Value {
    let (made, changed) = (render_time(row.created_at), render_time(row.updated_at));
    let dag = |dag_id: &DagId| ask.write(row.team, dag_id.as_str());
    let tasks = |some: &[(DagId, String)]| -> Vec<Value> {
        some.iter()
            .map(|(dag_id, task_id)| {
                json!({"dag_id": dag(dag_id), "task_id": task_id, "created_at": made, "updated_at": changed})
            })
            .collect()
    };
    let scheduled: Vec<Value> = row
        .scheduled
        .iter()
        .map(|dag_id| json!({"dag_id": dag(dag_id), "created_at": made, "updated_at": changed}))
        .collect();
    let watchers: Vec<Value> = row
        .watchers
        .iter()
        .map(|watcher| {
            json!({
                "name": watcher.name,
                "trigger_id": watcher.trigger_id,
                "created_date": render_time(watcher.created_at),
            })
        })
        .collect();
    json!({
        "id": row.id,
        "name": row.name,
        "uri": row.uri,
        "group": row.group,
        "extra": extra(ask, &row.extra),
        "created_at": made,
        "updated_at": changed,
        "scheduled_dags": scheduled,
        "producing_tasks": tasks(&row.producing),
        "consuming_tasks": tasks(&row.consuming),
        "aliases": row.aliases.iter().map(alias).collect::<Vec<_>>(),
        "watchers": watchers,
        "last_asset_event": {
            "id": row.last_event.map(|(id, _)| id),
            "timestamp": row.last_event.map(|(_, at)| render_time(at)),
        },
    })
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let page = ask.page();
    let mut dags = ask.query.texts("dag_ids");
    if let [one] = dags.as_slice()
        && one.contains(',')
    {
        dags = one.split(',').map(str::to_owned).collect();
    }
    let filter = AssetFilter {
        only_active: ask.query.flag("only_active").unwrap_or(true),
        name: ask.query.matching("name"),
        uri: ask.query.matching("uri"),
        dags: (!dags.is_empty()).then(|| dags.iter().filter_map(|one| dag_of(&ask, Some(one))).collect()),
    };
    ask.query.done()?;
    let order = assets::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = assets::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| asset(&ask, row)).collect();
    ok(&json!({"assets": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let id = ask.number("asset_id")?;
    let mut tx = ask.state.store.read().await?;
    let row = assets::get(&mut tx, &scope, id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("The Asset with ID: `{id}` was not found")))?;
    ok(&asset(&ask, &row))
}

async fn list_aliases(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let page = ask.page();
    let name = ask.query.matching("name");
    ask.query.done()?;
    let order = assets::ALIAS_ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = assets::aliases(&mut tx, &scope, &name, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(alias).collect();
    ok(&json!({"asset_aliases": rows, "total_entries": found.total}))
}

async fn get_alias(ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let id = ask.number("asset_alias_id")?;
    let mut tx = ask.state.store.read().await?;
    let row = assets::alias(&mut tx, &scope, id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("The Asset Alias with ID: `{id}` was not found")))?;
    ok(&alias(&row))
}
