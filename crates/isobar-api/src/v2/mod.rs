//! `/api/v2`: Airflow 3.3.2's public REST API. One file per resource; paths, parameters, bodies and status codes are
//! Airflow's own.

mod asset_events;
mod asset_materialize;
mod asset_queue;
mod asset_store;
mod assets;
mod backfills;
mod bulk;
mod clear;
mod clear_partitions;
mod connection_body;
mod connections;
mod connections_bulk;
mod dag_files;
mod dag_json;
mod dag_sources;
mod dag_stats;
mod dag_versions;
mod dag_warnings;
mod dags;
mod dependencies;
mod event_logs;
mod extra_links;
mod hitl;
mod import_errors;
mod logs;
mod monitor;
mod owners;
mod partition_span;
mod pools;
mod pools_bulk;
mod python_json;
pub(crate) mod redact;
mod run_dates;
mod run_json;
mod run_trigger;
mod run_wait;
mod runs;
mod runs_bulk;
mod selection;
mod stored_dag;
mod stored_value;
mod task_instance_delete;
mod task_instance_json;
mod task_instance_patch;
mod task_instances;
mod task_instances_bulk;
mod task_store;
mod tasks;
mod variables;
mod variables_bulk;
mod xcoms;

use axum::Router;

use crate::AppState;

/// The routes under `/api/v2`.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .merge(monitor::routes())
        .merge(dags::routes())
        .merge(dag_sources::routes())
        .merge(dag_files::routes())
        .merge(dag_stats::routes())
        .merge(dag_versions::routes())
        .merge(tasks::routes())
        .merge(runs::routes())
        .merge(backfills::routes())
        .merge(run_wait::routes())
        .merge(xcoms::routes())
        .merge(task_instances::routes())
        .merge(extra_links::routes())
        .merge(logs::routes())
        .merge(hitl::routes())
        .merge(variables::routes())
        .merge(connections::routes())
        .merge(pools::routes())
        .merge(assets::routes())
        .merge(asset_store::routes())
        .merge(task_store::routes())
        .merge(import_errors::routes())
        .merge(dag_warnings::routes())
        .merge(event_logs::routes())
        .fallback(async || {
            (
                axum::http::StatusCode::NOT_FOUND,
                axum::Json(serde_json::json!({"error": "API route not found"})),
            )
        })
}
