//! Import errors: list, get.

use axum::Router;
use axum::routing::get;
use isobar_auth::Resource;
use isobar_model::render_time;
use isobar_store::lists::import_errors::{self, ImportErrorFilter, ImportErrorRow};
use serde_json::{Value, json};

use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/importErrors", get(list))
        .route("/importErrors/{import_error_id}", get(get_one))
}

/// An import error as Airflow's `ImportErrorResponse`.
fn json(row: &ImportErrorRow) -> Value {
    json!({
        "import_error_id": row.id,
        "timestamp": render_time(row.at),
        "filename": row.rel_path,
        "bundle_name": row.bundle,
        "stack_trace": row.stack_trace,
    })
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::ImportError)?;
    let page = ask.page();
    let filter = ImportErrorFilter {
        file: ask.query.matching("filename"),
        exact_file: ask.query.text("filename"),
        bundle: ask.query.text("bundle_name"),
    };
    ask.query.done()?;
    let order = import_errors::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = import_errors::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(json).collect();
    ok(&json!({"import_errors": rows, "total_entries": found.total}))
}

async fn get_one(ask: Ask) -> Answer {
    let scope = ask.read(Resource::ImportError)?;
    let id = ask.number("import_error_id")?;
    let mut tx = ask.state.store.read().await?;
    let row = import_errors::get(&mut tx, &scope, id).await?;
    let row =
        row.ok_or_else(|| ApiError::not_found(format!("The ImportError with import_error_id: `{id}` was not found")))?;
    ok(&json(&row))
}
