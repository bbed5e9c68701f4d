//! Asset events that wait for a consumer Dag's condition.

use std::collections::HashMap;

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunKey, TeamId};
use jiff::Timestamp;

use crate::db::vals;
use crate::{StoreError, Tx};

/// An asset event that waits for a consumer Dag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedAssetEvent {
    /// The team that owns asset and event.
    pub producer: TeamId,
    /// The asset, in the producer's numbers.
    pub asset_id: i64,
    /// The event, in the producer's numbers.
    pub event_id: i64,
    /// The asset's name, in the producing team.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// When it was queued.
    pub created_at: Timestamp,
}

/// What waits for a Dag's asset condition, oldest first.
///
/// # Errors
/// The database failed.
pub async fn asset_queue(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<QueuedAssetEvent>, StoreError> {
    let rows = tx
        .rows(
            "SELECT producer_no, asset_id, event_id, name, uri, created_at FROM asset_queue \
             WHERE team_no = $1 AND dag_id = $2 ORDER BY created_at, event_id",
            vals![scope.team(), dag_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(QueuedAssetEvent {
                producer: row.team("producer_no")?,
                asset_id: row.int("asset_id")?,
                event_id: row.int("event_id")?,
                name: row.text("name")?,
                uri: row.text("uri")?,
                created_at: row.time("created_at")?,
            })
        })
        .collect()
}

/// Gives the queued events up to `until` to a run: they leave the queue. Answers how many.
///
/// # Errors
/// The database failed.
pub async fn consume_assets(tx: &mut Tx, scope: TeamScope, run: &RunKey, until: Timestamp) -> Result<u64, StoreError> {
    tx.run(
        "INSERT INTO dag_run_asset_event (team_no, dag_id, run_id, producer_no, event_id) \
         SELECT team_no, dag_id, $3, producer_no, event_id FROM asset_queue \
         WHERE team_no = $1 AND dag_id = $2 AND created_at <= $4 ON CONFLICT DO NOTHING",
        vals![scope.team(), &run.dag_id, &run.run_id, until],
    )
    .await?;
    tx.run(
        "DELETE FROM asset_queue WHERE team_no = $1 AND dag_id = $2 AND created_at <= $3",
        vals![scope.team(), &run.dag_id, until],
    )
    .await
}

/// The assets (name and URI) that each of these aliases has stood for so far.
///
/// # Errors
/// The database failed.
pub async fn alias_assets(
    tx: &mut Tx,
    scope: TeamScope,
    aliases: &[String],
) -> Result<HashMap<String, Vec<(String, String)>>, StoreError> {
    let mut found: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for alias in aliases {
        let rows = tx
            .rows(
                "SELECT asset.name, asset.uri FROM asset_alias JOIN asset_alias_asset AS link \
                 ON link.team_no = asset_alias.team_no AND link.alias_id = asset_alias.id \
                 JOIN asset ON asset.team_no = link.team_no AND asset.id = link.asset_id \
                 WHERE asset_alias.team_no = $1 AND asset_alias.name = $2",
                vals![scope.team(), alias],
            )
            .await?;
        for row in &rows {
            found
                .entry(alias.clone())
                .or_default()
                .push((row.text("name")?, row.text("uri")?));
        }
    }
    Ok(found)
}
