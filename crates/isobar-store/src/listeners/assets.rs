//! What listeners are told of an asset that changed.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_model::{AirflowTime, UNMAPPED};
use isobar_wire::listeners::Hook;
use serde_json::{Value, json};

use super::NewCall;
use crate::assets::{Change, EventSource};
use crate::db::{Val, vals};
use crate::{StoreError, Tx};

/// Of the asset, then of the event, where anybody listens.
///
/// # Errors
/// The database failed.
pub(crate) async fn asset_changed(
    tx: &mut Tx,
    scope: TeamScope,
    heard: &BTreeSet<Hook>,
    source: Option<&EventSource>,
    change: &Change,
    asset_id: i64,
) -> Result<Vec<NewCall>, StoreError> {
    let hooks = [Hook::OnAssetChanged, Hook::OnAssetEventEmitted];
    let hooks: Vec<Hook> = hooks.into_iter().filter(|hook| heard.contains(hook)).collect();
    if hooks.is_empty() {
        return Ok(Vec::new());
    }
    let row = tx
        .row(
            "SELECT name, uri, asset_group, extra FROM asset WHERE team_no = $1 AND id = $2",
            vals![scope.team(), asset_id],
        )
        .await?;
    let Some(row) = row else { return Ok(Vec::new()) };
    let asset = json!({
        "name": row.text("name")?,
        "uri": row.text("uri")?,
        "group": row.text("asset_group")?,
        "extra": row.json("extra")?,
    });
    let mut aliases = Vec::new();
    if hooks.contains(&Hook::OnAssetEventEmitted) && !change.aliases.is_empty() {
        aliases = serialized_aliases(tx, scope, &change.aliases).await?;
    }
    let call = |hook| NewCall {
        hook,
        arguments: match hook {
            Hook::OnAssetChanged => json!({"asset": asset}),
            _ => json!({"asset_event": {
                "asset": asset,
                "extra": change.extra,
                "source_dag_id": source.map(|source| &source.dag_id),
                "source_task_id": source.map(|source| &source.task_id),
                "source_run_id": source.map(|source| &source.run_id),
                "source_map_index": source.map_or(UNMAPPED, |source| source.map_index),
                "source_aliases": aliases,
                "partition_key": change.partition_key,
                "partition_date": change.partition_date.map(AirflowTime),
            }}),
        },
        version_id: None,
    };
    Ok(hooks.into_iter().map(call).collect())
}

async fn serialized_aliases(tx: &mut Tx, scope: TeamScope, names: &BTreeSet<String>) -> Result<Vec<Value>, StoreError> {
    let mut values: Vec<Val> = vals![scope.team()];
    let marks: Vec<String> = names
        .iter()
        .map(|name| {
            values.push(name.as_str().into());
            format!("${}", values.len())
        })
        .collect();
    let rows = tx
        .rows(
            &format!(
                "SELECT name, alias_group FROM asset_alias WHERE team_no = $1 AND name IN ({}) ORDER BY id",
                marks.join(", ")
            ),
            values,
        )
        .await?;
    rows.iter()
        .map(|row| Ok(json!({"name": row.text("name")?, "group": row.text("alias_group")?})))
        .collect()
}
