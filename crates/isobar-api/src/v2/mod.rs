//! `/api/v2`: Airflow 3.3.2's public REST API. One file per resource; paths, parameters, bodies and status codes are
//! Airflow's own.

mod clear;
mod dag_json;
mod dag_sources;
mod dag_stats;
mod dag_versions;
mod dags;
mod logs;
mod monitor;
pub(crate) mod redact;
mod run_json;
mod run_trigger;
mod run_wait;
mod runs;
mod selection;
mod stored_dag;
mod task_instance_json;
mod task_instance_patch;
mod task_instances;
mod tasks;
mod xcoms;

use axum::Router;

use crate::AppState;

/// The routes under `/api/v2`.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .merge(monitor::routes())
        .merge(dags::routes())
        .merge(dag_sources::routes())
        .merge(dag_stats::routes())
        .merge(dag_versions::routes())
        .merge(tasks::routes())
        .merge(runs::routes())
        .merge(run_wait::routes())
        .merge(xcoms::routes())
        .merge(task_instances::routes())
        .merge(logs::routes())
}
