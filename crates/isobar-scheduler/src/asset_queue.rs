//! Whether the asset events that wait for a Dag satisfy its condition.

use std::collections::{HashMap, HashSet};

use isobar_engine::assets::{AssetKey, Queued, ready};
use isobar_engine::dagplan::AssetTrigger;
use isobar_model::dag::{AssetExpr, AssetLeaf};
use isobar_store::loading::QueuedAssetEvent;

/// The trigger that the queued events give, none where they are not enough.
pub(crate) fn trigger(
    condition: &AssetExpr,
    queued: &[QueuedAssetEvent],
    aliases: &HashMap<String, Vec<(String, String)>>,
) -> Option<AssetTrigger> {
    let triggered_at = queued.iter().map(|event| event.created_at).max()?;
    let mut assets: HashSet<AssetKey> = queued.iter().map(|event| key(&event.name, &event.uri)).collect();
    // Across teams assets are joined by URI alone: the condition knows the consumer's own name for it (rule 19).
    for leaf in condition.leaves() {
        if let AssetLeaf::Asset(asset) = leaf
            && queued.iter().any(|event| event.uri == asset.uri)
        {
            assets.insert(key(&asset.name, &asset.uri));
        }
    }
    let of_alias = aliases
        .iter()
        .map(|(alias, stands_for)| {
            let keys = stands_for.iter().map(|(name, uri)| key(name, uri)).collect();
            (alias.clone(), keys)
        })
        .collect();
    ready(condition, &Queued { assets, of_alias }).then_some(AssetTrigger { triggered_at })
}

fn key(name: &str, uri: &str) -> AssetKey {
    AssetKey {
        name: name.to_owned(),
        uri: uri.to_owned(),
    }
}
