//! Versions of Dags.

use axum::Router;
use axum::routing::get;
use isobar_auth::{Action, ReadScope, Resource};
use isobar_store::lists::versions::{self, VersionFilter};
use serde_json::{Value, json};

use super::dag_json::version;
use super::stored_dag;
use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/dags/{dag_id}/dagVersions", get(list))
        .route("/dags/{dag_id}/dagVersions/{version_number}", get(get_one))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let number = ask.number("version_number")?;
    let mut tx = ask.state.store.read().await?;
    let row = versions::get(&mut tx, target.scope, &target.dag_id(), Some(number))
        .await?
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "The DagVersion with dag_id: `{}` and version_number: `{number}` was not found",
                target.written
            ))
        })?;
    ok(&version(&row, &ask.names))
}

async fn list(mut ask: Ask) -> Answer {
    let target = match ask.part("dag_id") {
        "~" => None,
        _ => Some(ask.dag(Resource::Dag, Action::Read)?),
    };
    let scope: ReadScope = match &target {
        Some(target) => target.scope.into(),
        None => ask.read(Resource::Dag)?,
    };
    let page = ask.page();
    let filter = VersionFilter {
        dag_id: target.as_ref().map(crate::extract::Target::dag_id),
        number: ask.query.int("version_number"),
        bundle: ask.query.text("bundle_name").filter(|text| !text.is_empty()),
        bundle_version: ask.query.text("bundle_version").filter(|text| !text.is_empty()),
    };
    ask.query.done()?;
    let mut tx = ask.state.store.read().await?;
    if let Some(target) = &target {
        stored_dag::latest(&ask.state, &mut tx, target).await?;
    }
    let order = versions::ORDER.order(&ask.query.order_by())?;
    let found = versions::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| version(row, &ask.names)).collect();
    ok(&json!({"dag_versions": rows, "total_entries": found.total}))
}
