//! Health and version; the only routes without a login.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use isobar_model::render_time;
use isobar_store::lists::health;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::AppState;

/// The Airflow whose API this is.
const AIRFLOW_VERSION: &str = "3.3.2";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/monitor/health", get(get_health))
        .route("/version", get(get_version))
}

/// A scheduler is healthy while somebody holds its lease. Triggerers run while something waits for a trigger: without one
/// there is nothing to be ill. The dag-processor has no heartbeat of its own and lives where the scheduler does: its health is the
/// scheduler's.
async fn get_health(State(state): State<AppState>) -> Json<Value> {
    let found = async { health::of_scheduler(&mut state.store.read().await?).await }.await;
    let triggerer = async { health::of_triggerers(&mut state.store.read().await?).await };
    let triggerer = triggerer.await.ok().flatten();
    let status = |healthy: bool| if healthy { "healthy" } else { "unhealthy" };
    let heartbeat = found.as_ref().ok().and_then(|found| found.heartbeat).map(render_time);
    let scheduler = found.as_ref().is_ok_and(|found| found.alive);
    Json(json!({
        "metadatabase": {"status": status(found.is_ok())},
        "scheduler": {"status": status(scheduler), "latest_scheduler_heartbeat": heartbeat},
        "triggerer": {
            "status": triggerer.map(|at| status(at >= Timestamp::now() - state.triggerer_alive)),
            "latest_triggerer_heartbeat": triggerer.map(render_time),
        },
        "dag_processor": {"status": status(scheduler), "latest_dag_processor_heartbeat": heartbeat},
    }))
}

async fn get_version() -> Json<Value> {
    Json(json!({"version": AIRFLOW_VERSION, "git_version": null}))
}
