//! Finding the serialized Dag that a route speaks of.

use std::sync::Arc;

use isobar_model::dag::SerializedDag;
use isobar_store::Tx;
use isobar_store::lists::runs::RunRow;
use isobar_store::lists::versions;

use crate::extract::{Ask, Target};
use crate::{ApiError, AppState};

/// The refusal for a Dag that is not there.
pub(super) fn missing(target: &Target) -> ApiError {
    ApiError::not_found(format!("The Dag with ID: `{}` was not found", target.written))
}

/// The latest version of a Dag.
///
/// # Errors
/// 404 in Airflow's words where there is none.
pub(super) async fn latest(state: &AppState, tx: &mut Tx, target: &Target) -> Result<Arc<SerializedDag>, ApiError> {
    versions::content(tx, target.scope, &target.dag_id(), None)
        .await?
        .and_then(|content| state.dags.read(&content))
        .ok_or_else(|| missing(target))
}

/// A version of a Dag; the latest where none is named or it is gone.
///
/// # Errors
/// 404 where there is none.
pub(super) async fn version(
    ask: &Ask,
    tx: &mut Tx,
    target: &Target,
    id: Option<uuid::Uuid>,
) -> Result<Arc<SerializedDag>, ApiError> {
    if let Some(id) = id
        && let Some(content) = versions::content_by_id(tx, target.scope, id).await?
        && let Some(dag) = ask.state.dags.read(&content)
    {
        return Ok(dag);
    }
    latest(&ask.state, tx, target).await
}

/// The version of a Dag that a run is bound to; else the latest.
///
/// # Errors
/// 404 where there is none.
pub(super) async fn for_run(
    ask: &Ask,
    tx: &mut Tx,
    target: &Target,
    run: Option<&RunRow>,
) -> Result<Arc<SerializedDag>, ApiError> {
    let bound = run
        .filter(|run| run.bundle_version.is_some())
        .and_then(|run| run.created_version_id);
    version(ask, tx, target, bound).await
}
