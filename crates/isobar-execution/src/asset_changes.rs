//! From what a task reports of its outlets to the changes that are registered with its success.

use std::collections::{BTreeMap, BTreeSet};

use isobar_store::assets::{self, Change, EventSource, Named};
use isobar_store::runs::Run;
use isobar_store::{StoreError, Tx};
use isobar_wire::execution::{Caller, Refusal, TaskIdentity};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answers::refusal;
use crate::execution::Execution;

/// Longest partition key, as Airflow's column.
const LONGEST_KEY: usize = 250;

/// What a task reports at its success.
pub(crate) struct Outlets {
    /// `[{name, uri, type}]`
    pub(crate) task_outlets: Vec<Value>,
    /// `[{dest_asset_key, source_alias_name?, dest_asset_extra?, extra, partition_key?}]`
    pub(crate) outlet_events: Vec<Value>,
}

/// Refuses partition keys that cannot be kept, before anything is written.
pub(crate) fn check_partition_keys(outlets: &Outlets) -> Result<(), Refusal> {
    for event in &outlets.outlet_events {
        let Some(key) = event["partition_key"].as_str() else {
            continue;
        };
        let problem = if key.trim().is_empty() {
            format!("partition_key in outlet event must not be empty or whitespace-only; got '{key}'.")
        } else if key.chars().count() > LONGEST_KEY {
            format!(
                "partition_key in outlet event must be at most {LONGEST_KEY} characters; got {}.",
                key.chars().count()
            )
        } else {
            continue;
        };
        return Err(refusal(422, "invalid_partition_key", problem));
    }
    Ok(())
}

impl Execution {
    /// Registers what the task changed, in the unit of its success.
    pub(crate) async fn register_outlets(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        task: &TaskIdentity,
        run: &Run,
        outlets: &Outlets,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if outlets.task_outlets.is_empty() && outlets.outlet_events.is_empty() {
            return Ok(());
        }
        let scope = self.own(caller);
        let mut changes = Vec::new();
        for (name, uri) in direct_outlets(tx, scope, outlets).await? {
            changes.extend(direct_changes(&name, &uri, outlets, run));
        }
        changes.extend(alias_changes(outlets, run));
        let source = EventSource {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
            task_id: task.task_id.clone(),
            map_index: task.map_index,
        };
        assets::register(tx, scope, &self.org, caller.team_name(), Some(&source), &changes, now).await?;
        Ok(())
    }
}

/// Name and URI of the active assets that the outlets name. One that is inactive has no event, as in Airflow; one that is named
/// in several ways has one for each.
async fn direct_outlets(
    tx: &mut Tx,
    scope: isobar_auth::TeamScope,
    outlets: &Outlets,
) -> Result<Vec<(String, String)>, StoreError> {
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    for outlet in &outlets.task_outlets {
        let some = |key: &str| outlet[key].as_str().filter(|text| !text.is_empty());
        let (name, uri) = (some("name"), some("uri"));
        let (kind, named) = match (outlet["type"].as_str(), name, uri) {
            (Some("Asset"), Some(name), Some(uri)) => (0, Named::Both(name, uri)),
            (Some("AssetNameRef"), Some(name), _) => (1, Named::Name(name)),
            (Some("AssetUriRef"), _, Some(uri)) => (2, Named::Uri(uri)),
            _ => continue,
        };
        let (name, uri) = match named {
            Named::Both(name, uri) => (name, uri),
            Named::Name(name) | Named::Alias(name) => (name, ""),
            Named::Uri(uri) => ("", uri),
        };
        if !seen.insert((kind, name, uri)) {
            continue;
        }
        let assets = assets::find(tx, scope, named).await?;
        let active = assets.into_iter().filter(|asset| asset.active);
        found.extend(active.map(|asset| (kind, asset.name, asset.uri)));
    }
    // Assets first, then references by name, then those by URI.
    found.sort_by_key(|(kind, _, _)| *kind);
    Ok(found.into_iter().map(|(_, name, uri)| (name, uri)).collect())
}

/// One change for each event that the task emitted for an asset, or a plain one where it emitted none.
fn direct_changes(name: &str, uri: &str, outlets: &Outlets, run: &Run) -> Vec<Change> {
    let change = |extra: Value, key: Option<&str>| {
        let key = key.map(str::to_owned).or_else(|| run.partition_key.clone());
        Change {
            name: name.to_owned(),
            uri: uri.to_owned(),
            asset_extra: json!({}),
            extra,
            aliases: BTreeSet::new(),
            // The run's date is that of the run's partition, not of another one that the task chose.
            partition_date: run.partition_date.filter(|_| key == run.partition_key),
            partition_key: key,
            consumer_teams: None,
        }
    };
    let emitted: Vec<Change> = outlets
        .outlet_events
        .iter()
        .filter(|event| event.get("source_alias_name").is_none_or(Value::is_null))
        .filter(|event| event["dest_asset_key"]["name"] == name && event["dest_asset_key"]["uri"] == uri)
        .map(|event| change(object_or_empty(&event["extra"]), event["partition_key"].as_str()))
        .collect();
    if emitted.is_empty() {
        vec![change(json!({}), None)]
    } else {
        emitted
    }
}

/// Changes that came through aliases: one for each asset and content, with all aliases that led to it.
fn alias_changes(outlets: &Outlets, run: &Run) -> Vec<Change> {
    let named: BTreeSet<&str> = outlets
        .task_outlets
        .iter()
        .filter(|outlet| outlet["type"] == "AssetAlias")
        .filter_map(|outlet| outlet["name"].as_str())
        .collect();
    let mut merged: BTreeMap<(String, String, String, String), Change> = BTreeMap::new();
    for event in &outlets.outlet_events {
        let Some(alias) = event["source_alias_name"]
            .as_str()
            .filter(|alias| named.contains(alias))
        else {
            continue;
        };
        let key = &event["dest_asset_key"];
        let (Some(name), Some(uri)) = (key["name"].as_str(), key["uri"].as_str()) else {
            continue;
        };
        let asset_extra = object_or_empty(&event["dest_asset_extra"]);
        let extra = object_or_empty(&event["extra"]);
        merged
            .entry((
                name.to_owned(),
                uri.to_owned(),
                asset_extra.to_string(),
                extra.to_string(),
            ))
            .or_insert_with(|| Change {
                name: name.to_owned(),
                uri: uri.to_owned(),
                asset_extra,
                extra,
                aliases: BTreeSet::new(),
                partition_key: run.partition_key.clone(),
                partition_date: run.partition_date,
                consumer_teams: None,
            })
            .aliases
            .insert(alias.to_owned());
    }
    merged.into_values().collect()
}

fn object_or_empty(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}
