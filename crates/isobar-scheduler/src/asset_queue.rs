//! Whether the asset events that wait for a Dag satisfy its condition.

use std::collections::{HashMap, HashSet};

use isobar_engine::assets::{AssetKey, Queued, ready};
use isobar_engine::dagplan::AssetTrigger;
use isobar_model::dag::AssetExpr;
use isobar_store::loading::QueuedAsset;

/// The trigger that the queued assets give, none where they are not enough.
pub(crate) fn trigger(
    condition: &AssetExpr,
    queued: &[QueuedAsset],
    aliases: &HashMap<String, Vec<(String, String)>>,
) -> Option<AssetTrigger> {
    let triggered_at = queued.iter().map(|asset| asset.created_at).max()?;
    let keys = |active: bool| {
        let some = queued.iter().filter(move |asset| asset.active || !active);
        some.map(|asset| key(&asset.name, &asset.uri))
    };
    let active: HashSet<AssetKey> = keys(true).collect();
    let queued = Queued {
        assets: keys(false).collect(),
        inactive: keys(false).filter(|key| !active.contains(key)).collect(),
        of_alias: of_alias(aliases),
    };
    ready(condition, &queued).then_some(AssetTrigger { triggered_at })
}

/// What aliases stand for, by name.
pub(crate) fn of_alias(aliases: &HashMap<String, Vec<(String, String)>>) -> HashMap<String, Vec<AssetKey>> {
    aliases
        .iter()
        .map(|(alias, stands_for)| {
            let keys = stands_for.iter().map(|(name, uri)| key(name, uri)).collect();
            (alias.clone(), keys)
        })
        .collect()
}

pub(crate) fn key(name: &str, uri: &str) -> AssetKey {
    AssetKey {
        name: name.to_owned(),
        uri: uri.to_owned(),
    }
}
