//! Dag warnings: list.

use axum::Router;
use axum::routing::get;
use isobar_auth::Resource;
use isobar_model::render_time;
use isobar_store::lists::dag_warnings::{self, WarningFilter};
use serde_json::{Value, json};

use crate::AppState;
use crate::errors::{Answer, ok};
use crate::extract::Ask;

/// Airflow's types of warnings.
const TYPES: [&str; 3] = ["asset conflict", "non-existent pool", "runtime varying value"];

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/dagWarnings", get(list))
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Warning)?;
    let page = ask.page();
    let filter = WarningFilter {
        dag: super::assets::dag_of(&ask, ask.query.text("dag_id").as_deref()),
        warning_type: ask.query.member("warning_type", &TYPES),
    };
    ask.query.done()?;
    let order = dag_warnings::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = dag_warnings::list(&mut tx, &scope, &filter, &order, page).await?;
    let rows: Vec<Value> = found
        .rows
        .iter()
        .map(|row| {
            json!({
                "dag_id": ask.write(row.team, row.dag_id.as_str()),
                "warning_type": row.warning_type,
                "message": row.message,
                "timestamp": render_time(row.at),
                "dag_display_name": row.dag_display_name,
            })
        })
        .collect();
    ok(&json!({"dag_warnings": rows, "total_entries": found.total}))
}
