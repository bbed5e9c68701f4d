//! Events of assets, as tasks ask for them.

use std::collections::BTreeMap;

use isobar_auth::TeamScope;
use jiff::Timestamp;
use serde_json::Value;

use super::{Asset, Named, find};
use crate::db::{Row, vals};
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// An event of one of the team's assets.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct AssetEvent {
    pub id: i64,
    pub at: Timestamp,
    pub extra: Value,
    pub asset: Asset,
    pub source_dag_id: Option<String>,
    pub source_run_id: Option<String>,
    pub source_task_id: Option<String>,
    pub source_map_index: Option<i64>,
    pub partition_key: Option<String>,
}

/// Which events are meant, and in what order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventWindow {
    /// Not before.
    pub after: Option<Timestamp>,
    /// Not after.
    pub before: Option<Timestamp>,
    /// Oldest first.
    pub ascending: bool,
    /// How many at most.
    pub limit: Option<u32>,
    /// Only of this partition.
    pub partition_key: Option<String>,
}

/// Events of the team's assets that are meant; through an alias, where one is named.
///
/// # Errors
/// The database failed.
pub async fn events_of(
    tx: &mut Tx,
    scope: TeamScope,
    named: Named<'_>,
    window: &EventWindow,
) -> Result<Vec<AssetEvent>, StoreError> {
    let assets: BTreeMap<i64, Asset> = find(tx, scope, named)
        .await?
        .into_iter()
        .map(|asset| (asset.id, asset))
        .collect();
    if assets.is_empty() {
        return Ok(Vec::new());
    }
    let mut values = vals![scope.team()];
    let (from, at) = if let Named::Alias(alias) = named {
        values.push(alias.into());
        (
            "asset_alias s JOIN asset_alias_event x ON x.team_no = s.team_no AND x.alias_id = s.id \
             JOIN asset_event e ON e.team_no = x.team_no AND e.id = x.event_id WHERE s.team_no = $1 AND s.name = $2"
                .to_owned(),
            "x.at",
        )
    } else {
        let ids: Vec<i64> = assets.keys().copied().collect();
        let list = among(&mut values, &ids);
        (
            format!("asset_event e WHERE e.team_no = $1 AND e.asset_id {list}"),
            "e.at",
        )
    };
    let mut text = format!("SELECT e.* FROM {from}");
    for (bound, sign) in [(window.after, ">="), (window.before, "<=")] {
        if let Some(bound) = bound {
            values.push(bound.into());
            text.push_str(&format!(" AND {at} {sign} ${}", values.len()));
        }
    }
    if let Some(key) = &window.partition_key {
        values.push(key.into());
        text.push_str(&format!(" AND e.partition_key = ${}", values.len()));
    }
    let order = if window.ascending { "ASC" } else { "DESC" };
    text.push_str(&format!(" ORDER BY {at} {order}, e.id {order}"));
    if let Some(limit) = window.limit {
        values.push(limit.into());
        text.push_str(&format!(" LIMIT ${}", values.len()));
    }
    let rows = tx.rows(&text, values).await?;
    let mut found = Vec::new();
    for row in &rows {
        if let Some(asset) = assets.get(&row.int("asset_id")?) {
            found.push(AssetEvent::from_row(row, asset)?);
        }
    }
    Ok(found)
}

impl AssetEvent {
    fn from_row(row: &Row, asset: &Asset) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.int("id")?,
            at: row.time("at")?,
            extra: row.json("extra")?,
            asset: asset.clone(),
            source_dag_id: row.maybe_text("source_dag_id")?,
            source_run_id: row.maybe_text("source_run_id")?,
            source_task_id: row.maybe_text("source_task_id")?,
            source_map_index: row.maybe_int("source_map_index")?,
            partition_key: row.maybe_text("partition_key")?,
        })
    }
}
