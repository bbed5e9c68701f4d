//! Questions about assets and their events. Names and URIs resolve within the team.

use isobar_model::AirflowTime;
use isobar_store::assets::{self, Asset, AssetEvent, EventWindow, Named};
use isobar_store::run_calls;
use isobar_wire::execution::{Answer, Caller};
use serde_json::{Value, json};

use crate::answers::{broken, not_found, refusal, time};
use crate::execution::{Execution, Outcome};
use crate::standing::may_read;

fn asset_body(asset: &Asset) -> Value {
    json!({"name": asset.name, "uri": asset.uri, "group": asset.group, "extra": asset.extra})
}

/// Which events are meant, from the parameters of the routes.
pub(crate) fn window(
    after: Option<AirflowTime>,
    before: Option<AirflowTime>,
    ascending: bool,
    limit: Option<u32>,
    partition_key: Option<String>,
) -> EventWindow {
    EventWindow {
        after: after.map(|at| at.0),
        before: before.map(|at| at.0),
        ascending,
        limit: limit.filter(|limit| *limit > 0),
        partition_key,
    }
}

impl Execution {
    pub(crate) async fn asset_by_name(&self, caller: &Caller, name: &str) -> Outcome {
        self.one_asset(caller, Named::Name(name), format!("Asset with name {name} not found"))
            .await
    }

    pub(crate) async fn asset_by_uri(&self, caller: &Caller, uri: &str) -> Outcome {
        self.one_asset(caller, Named::Uri(uri), format!("Asset with URI {uri} not found"))
            .await
    }

    async fn one_asset(&self, caller: &Caller, named: Named<'_>, missing: String) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let found = assets::find(&mut tx, scope, named).await.map_err(broken)?;
        found
            .first()
            .map(|asset| Answer::ok(asset_body(asset)))
            .ok_or_else(|| not_found(missing))
    }

    pub(crate) async fn assets_by_alias(&self, caller: &Caller, alias: &str) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let found = assets::find(&mut tx, scope, Named::Alias(alias))
            .await
            .map_err(broken)?;
        let bodies: Vec<Value> = found.iter().map(asset_body).collect();
        Ok(Answer::ok(Value::Array(bodies)))
    }

    pub(crate) async fn events_by_asset(
        &self,
        caller: &Caller,
        name: Option<&str>,
        uri: Option<&str>,
        window: &EventWindow,
    ) -> Outcome {
        let some = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let (name, uri) = (some(name), some(uri));
        let named = match (&name, &uri) {
            (Some(name), Some(uri)) => Named::Both(name, uri),
            (None, Some(uri)) => Named::Uri(uri),
            (Some(name), None) => Named::Name(name),
            (None, None) => {
                return Err(refusal(400, "Missing parameter", "name and uri cannot both be None"));
            }
        };
        self.events(caller, named, window).await
    }

    pub(crate) async fn events_by_alias(&self, caller: &Caller, alias: &str, window: &EventWindow) -> Outcome {
        self.events(caller, Named::Alias(alias), window).await
    }

    async fn events(&self, caller: &Caller, named: Named<'_>, window: &EventWindow) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let events: Vec<AssetEvent> = assets::events_of(&mut tx, scope, named, window).await.map_err(broken)?;
        let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
        let caused = run_calls::caused_by_events(&mut tx, scope, &ids)
            .await
            .map_err(broken)?;
        let bodies: Vec<Value> = events
            .iter()
            .map(|event| {
                let runs: Vec<Value> = caused
                    .get(&event.id)
                    .into_iter()
                    .flatten()
                    .filter(|run| run.start_date.is_some())
                    .map(|run| {
                        json!({
                            "run_id": run.run_id.as_str(),
                            "dag_id": run.dag_id.as_str(),
                            "logical_date": time(run.logical_date),
                            "start_date": time(run.start_date),
                            "end_date": time(run.end_date),
                            "state": run.state.as_str(),
                            "data_interval_start": time(run.interval_start),
                            "data_interval_end": time(run.interval_end),
                            "partition_key": run.partition_key,
                        })
                    })
                    .collect();
                json!({
                    "id": event.id,
                    "timestamp": time(Some(event.at)),
                    "extra": event.extra,
                    "asset": asset_body(&event.asset),
                    "created_dagruns": runs,
                    "source_task_id": event.source_task_id,
                    "source_dag_id": event.source_dag_id,
                    "source_run_id": event.source_run_id,
                    "source_map_index": event.source_map_index,
                    "partition_key": event.partition_key,
                })
            })
            .collect();
        Ok(Answer::ok(json!({"asset_events": bodies})))
    }
}
