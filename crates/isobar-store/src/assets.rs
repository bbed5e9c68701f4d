//! Assets: looking them up, and registering that they changed.
//!
//! Within a team assets are known by name and URI; across teams they are joined by URI alone (rule 19).

mod active;
mod consumers;
mod events;
pub mod partitions;
mod register;

use isobar_auth::TeamScope;
use serde_json::Value;

use crate::db::{Row, vals};
use crate::{StoreError, Tx};

pub(crate) use active::{activate, warn_of_conflicts};
pub(crate) use consumers::texts;
pub use events::{AssetEvent, EventWindow, events_of};
pub use register::{Change, EventSource, Registered, register};

/// An asset of a team.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct Asset {
    pub id: i64,
    pub name: String,
    pub uri: String,
    pub group: String,
    pub extra: Value,
    pub active: bool,
}

impl Asset {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.int("id")?,
            name: row.text("name")?,
            uri: row.text("uri")?,
            group: row.text("asset_group")?,
            extra: row.json("extra")?,
            active: row.flag("active")?,
        })
    }
}

/// By what an asset is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// Name and URI, active or not.
    Both(&'a str, &'a str),
    /// The active asset of this name.
    Name(&'a str),
    /// The active asset of this URI.
    Uri(&'a str),
    /// What an alias has stood for so far.
    Alias(&'a str),
}

/// The team's assets that are meant.
///
/// # Errors
/// The database failed.
pub async fn find(tx: &mut Tx, scope: TeamScope, named: Named<'_>) -> Result<Vec<Asset>, StoreError> {
    let mut values = vals![scope.team()];
    let condition = match named {
        Named::Both(name, uri) => {
            values.extend(vals![name, uri]);
            "a.name = $2 AND a.uri = $3"
        }
        Named::Name(name) => {
            values.push(name.into());
            "a.name = $2 AND a.active = TRUE"
        }
        Named::Uri(uri) => {
            values.push(uri.into());
            "a.uri = $2 AND a.active = TRUE"
        }
        Named::Alias(alias) => {
            values.push(alias.into());
            "a.id IN (SELECT l.asset_id FROM asset_alias_asset l JOIN asset_alias s ON s.team_no = l.team_no \
             AND s.id = l.alias_id WHERE l.team_no = $1 AND s.name = $2)"
        }
    };
    let rows = tx
        .rows(
            &format!(
                "SELECT a.id, a.name, a.uri, a.asset_group, a.extra, a.active FROM asset a WHERE a.team_no = $1 \
                 AND {condition} ORDER BY a.id"
            ),
            values,
        )
        .await?;
    rows.iter().map(Asset::from_row).collect()
}

/// Name and URI of the assets among a task's inlets and outlets that are not active.
///
/// # Errors
/// The database failed.
pub async fn inactive_of_task(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    task_id: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = tx
        .rows(
            "SELECT DISTINCT r.name, r.uri FROM asset_reference r LEFT JOIN asset a ON a.team_no = r.team_no \
             AND a.name = r.name AND a.uri = r.uri WHERE r.team_no = $1 AND r.dag_id = $2 AND r.task_id = $3 \
             AND r.kind = 'asset' AND r.role IN ('inlet', 'outlet') AND coalesce(a.active, FALSE) = FALSE \
             ORDER BY r.name, r.uri",
            vals![scope.team(), dag_id, task_id],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.text("name")?, row.text("uri")?)))
        .collect()
}

/// How many events wait for a Dag's asset condition.
///
/// # Errors
/// The database failed.
pub async fn queued_for(tx: &mut Tx, scope: TeamScope, dag_id: &str) -> Result<i64, StoreError> {
    let row = tx
        .row(
            "SELECT count(*) AS n FROM asset_queue WHERE team_no = $1 AND dag_id = $2",
            vals![scope.team(), dag_id],
        )
        .await?;
    row.map_or(Ok(0), |row| row.int("n"))
}
