//! Making the run that produces an asset.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_model::RunType;
use isobar_store::lists::{assets, dags};

use super::run_trigger::{self, Asked};
use super::{owners, stored_dag};
use crate::ApiError;
use crate::errors::Answer;
use crate::extract::{Ask, Target};

/// `POST /assets/{asset_id}/materialize`: a run of the one Dag that has the asset as an outlet.
pub(super) async fn start(ask: Ask, body: Bytes) -> Answer {
    let id = ask.number("asset_id")?;
    let scope = owners::of_id(&ask, id, Resource::Asset, Action::Create)?;
    let body = if body.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        body
    };
    let asked = Asked::read(&body, RunType::AssetMaterialization)?;
    let row = {
        let mut tx = ask.state.store.read().await?;
        let asset = assets::get(&mut tx, &scope.into(), id).await?;
        let mut producers: Vec<_> = asset
            .into_iter()
            .flat_map(|asset| asset.producing)
            .map(|(dag_id, _)| dag_id)
            .collect();
        producers.dedup();
        let dag_id = match producers.as_slice() {
            [] => {
                return Err(ApiError::not_found(format!("No Dag materializes asset with ID: {id}")));
            }
            [one] => one.clone(),
            _ => {
                return Err(ApiError::conflict(format!(
                    "More than one Dag materializes asset with ID: {id}"
                )));
            }
        };
        (dags::get(&mut tx, scope, &dag_id).await?, dag_id)
    };
    let (row, dag_id) = row;
    let written = ask.write(scope.team(), dag_id.as_str());
    let Some(scope) = ask.caller.act(scope.team(), Resource::Run, Action::Create) else {
        return Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            format!("User is not authorized to trigger a run for Dag: {written} that materializes this asset"),
        ));
    };
    let target = Target {
        scope,
        name: dag_id.to_string(),
        written,
    };
    let row = row.ok_or_else(|| stored_dag::missing(&target))?;
    run_trigger::make(
        &ask,
        &target,
        row,
        asked,
        RunType::AssetMaterialization,
        "materialize_asset",
    )
    .await
}
