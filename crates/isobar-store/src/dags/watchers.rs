//! Who watches the assets of Dags' schedules. Watchers of one class with the same arguments share a trigger.

use std::collections::BTreeMap;

use isobar_auth::TeamScope;
use isobar_model::DagId;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::references::AssetIds;
use super::{ParsedDag, WatcherDefinition};
use crate::counters::{Counter, next_ids};
use crate::db::vals;
use crate::{StoreError, Tx};

/// Writes the watchers of Dags that are new or changed; those of changed ones were taken away before.
pub(super) async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    dags: &BTreeMap<&DagId, &ParsedDag>,
    ids: &AssetIds,
) -> Result<(), StoreError> {
    for (dag_id, dag) in dags {
        for watcher in &dag.watchers {
            let key = (watcher.asset_name.clone(), watcher.asset_uri.clone());
            let Some(asset_id) = ids.get(&key) else { continue };
            let trigger = trigger(tx, scope, watcher).await?;
            tx.run(
                "INSERT INTO asset_watcher (team_no, dag_id, asset_id, name, trigger_id) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT DO NOTHING",
                vals![scope.team(), *dag_id, *asset_id, &watcher.name, trigger],
            )
            .await?;
        }
    }
    Ok(())
}

/// The trigger of a watcher, made where there is none like it.
async fn trigger(tx: &mut Tx, scope: TeamScope, watcher: &WatcherDefinition) -> Result<i64, StoreError> {
    let kwargs = watcher.kwargs.to_string();
    let fingerprint = fingerprint(&watcher.classpath, &kwargs);
    let find = "SELECT id FROM async_trigger WHERE team_no = $1 AND fingerprint = $2";
    if let Some(row) = tx.row(find, vals![scope.team(), &fingerprint]).await? {
        return row.int("id");
    }
    let id = next_ids(tx, scope, Counter::Trigger, 1).await?;
    tx.run(
        "INSERT INTO async_trigger (team_no, id, classpath, kwargs, fingerprint, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        vals![
            scope.team(),
            id,
            &watcher.classpath,
            kwargs,
            fingerprint,
            Timestamp::now()
        ],
    )
    .await?;
    Ok(id)
}

fn fingerprint(classpath: &str, kwargs: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(classpath);
    hash.update([0]);
    hash.update(kwargs);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
