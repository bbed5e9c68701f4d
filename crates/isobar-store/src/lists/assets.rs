//! Assets and aliases as the REST API lists them. Each asset is one team's: its references and its aliases are that team's.

use std::collections::HashMap;

use isobar_auth::ReadScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use super::matching::{Page, Slice, TextMatch};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::db::{Row, vals, values_list};
use crate::{StoreError, Tx};

/// By what assets can be ordered.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "a.id" Int;
        "name" => "a.name" Text;
        "uri" => "a.uri" Text;
        "created_at" => "a.created_at" Int;
        "updated_at" => "a.updated_at" Int;
    },
    unique: &[("a.id", Kind::Int)],
    default: "id",
};

/// By what aliases can be ordered.
pub const ALIAS_ORDER: Sortables = Sortables {
    names: sortables! {
        "id" => "s.id" Int;
        "name" => "s.name" Text;
    },
    unique: &[("s.id", Kind::Int)],
    default: "id",
};

const COLUMNS: &str = "a.team_no, a.id, a.name, a.uri, a.asset_group, a.extra, a.created_at, a.updated_at, \
    (SELECT max(e.at) FROM asset_event e WHERE e.team_no = a.team_no AND e.asset_id = a.id) AS last_at, \
    (SELECT e.id FROM asset_event e WHERE e.team_no = a.team_no AND e.asset_id = a.id \
     ORDER BY e.at DESC, e.id DESC LIMIT 1) AS last_id";

/// An asset with who names it.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetRow {
    /// Whose it is.
    pub team: TeamId,
    /// The id that Airflow's API shows.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// Its group.
    pub group: String,
    /// What its author attached.
    pub extra: Value,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// When its definition last changed.
    pub updated_at: Timestamp,
    /// The Dags that it schedules.
    pub scheduled: Vec<DagId>,
    /// The tasks that have it as an outlet.
    pub producing: Vec<(DagId, String)>,
    /// The tasks that have it as an inlet.
    pub consuming: Vec<(DagId, String)>,
    /// The aliases that stood for it.
    pub aliases: Vec<AliasRow>,
    /// Who watches it for Dags that are neither paused nor stale.
    pub watchers: Vec<WatcherRow>,
    /// Id and time of its last event.
    pub last_event: Option<(i64, Timestamp)>,
}

/// A watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherRow {
    /// Its name in the Dag file.
    pub name: String,
    /// Its trigger, which others may share.
    pub trigger_id: i64,
    /// When the trigger was made.
    pub created_at: Timestamp,
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasRow {
    /// Whose it is.
    pub team: TeamId,
    /// The id that Airflow's API shows.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its group; empty where only an event named it.
    pub group: String,
}

impl AliasRow {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            team: row.team("team_no")?,
            id: row.int("id")?,
            name: row.text("name")?,
            group: row.text("alias_group")?,
        })
    }
}

/// Which assets.
#[derive(Clone, Debug, Default)]
pub struct AssetFilter {
    /// Only those that a Dag names now.
    pub only_active: bool,
    /// The name.
    pub name: TextMatch,
    /// The URI.
    pub uri: TextMatch,
    /// Named by one of these Dags.
    pub dags: Option<Vec<(TeamId, DagId)>>,
}

fn read(row: &Row) -> Result<AssetRow, StoreError> {
    let last = row.maybe_int("last_id")?.zip(row.maybe_time("last_at")?);
    Ok(AssetRow {
        team: row.team("team_no")?,
        id: row.int("id")?,
        name: row.text("name")?,
        uri: row.text("uri")?,
        group: row.text("asset_group")?,
        extra: row.json("extra")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
        scheduled: Vec::new(),
        producing: Vec::new(),
        consuming: Vec::new(),
        aliases: Vec::new(),
        watchers: Vec::new(),
        last_event: last,
    })
}

/// One page of the assets that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    filter: &AssetFilter,
    order: &Ordering,
    page: Page,
) -> Result<Slice<AssetRow>, StoreError> {
    let mut select = Select::new(tx, scope, "a.team_no", COLUMNS, "asset a");
    if filter.only_active {
        select.and("a.active = TRUE");
    }
    select.matches("a.name", &filter.name);
    select.matches("a.uri", &filter.uri);
    if let Some(dags) = &filter.dags {
        let any: Vec<String> = dags
            .iter()
            .map(|(team, dag_id)| format!("(r.team_no = {team} AND r.dag_id = {})", select.bind(dag_id)))
            .collect();
        let any = if any.is_empty() {
            "1=0".to_owned()
        } else {
            any.join(" OR ")
        };
        select.and(format!(
            "EXISTS (SELECT 1 FROM asset_reference r WHERE r.team_no = a.team_no AND r.kind = 'asset' \
             AND r.name = a.name AND r.uri = a.uri AND ({any}))"
        ));
    }
    let mut found = select.page(tx, order, page, read).await?;
    complete(tx, &mut found.rows).await?;
    Ok(found)
}

/// One asset, active or not; none where there is none of that id that may be read.
///
/// # Errors
/// The database failed.
pub async fn get(tx: &mut Tx, scope: &ReadScope, id: i64) -> Result<Option<AssetRow>, StoreError> {
    let mut select = Select::new(tx, scope, "a.team_no", COLUMNS, "asset a");
    select.by_id("a", id);
    let Some(row) = select.one(tx).await? else {
        return Ok(None);
    };
    let mut rows = vec![read(&row)?];
    complete(tx, &mut rows).await?;
    Ok(rows.pop())
}

/// Fills in who names these assets, by one reading for all.
async fn complete(tx: &mut Tx, rows: &mut [AssetRow]) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let places: HashMap<(TeamId, String, String), usize> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| ((row.team, row.name.clone(), row.uri.clone()), at))
        .collect();
    let (list, values) = values_list(1, rows.iter().map(|row| vals![row.team, &row.name, &row.uri]).collect());
    let references = tx
        .rows(
            &format!(
                "SELECT team_no, name, uri, role, dag_id, task_id FROM asset_reference WHERE kind = 'asset' \
                 AND role IN ('schedule', 'inlet', 'outlet') AND (team_no, name, uri) IN (VALUES {list}) \
                 ORDER BY dag_id, task_id"
            ),
            values,
        )
        .await?;
    for found in &references {
        let key = (found.team("team_no")?, found.text("name")?, found.text("uri")?);
        let Some(row) = places.get(&key).map(|at| &mut rows[*at]) else {
            continue;
        };
        let dag_id = DagId::from(found.text("dag_id")?);
        match found.text("role")?.as_str() {
            "schedule" => row.scheduled.push(dag_id),
            "inlet" => row.consuming.push((dag_id, found.text("task_id")?)),
            _ => row.producing.push((dag_id, found.text("task_id")?)),
        }
    }
    let places: HashMap<i64, usize> = rows.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
    let (list, values) = values_list(1, rows.iter().map(|row| vals![row.team, row.id]).collect());
    let aliases = tx
        .rows(
            &format!(
                "SELECT l.asset_id, s.team_no, s.id, s.name, s.alias_group FROM asset_alias_asset l \
                 JOIN asset_alias s ON s.team_no = l.team_no AND s.id = l.alias_id \
                 WHERE (l.team_no, l.asset_id) IN (VALUES {list}) ORDER BY s.id"
            ),
            values,
        )
        .await?;
    for found in &aliases {
        if let Some(at) = places.get(&found.int("asset_id")?) {
            rows[*at].aliases.push(AliasRow::read(found)?);
        }
    }
    let (list, values) = values_list(1, rows.iter().map(|row| vals![row.team, row.id]).collect());
    // Dags that watch alike share a trigger, which shows once.
    let watchers = tx
        .rows(
            &format!(
                "SELECT w.asset_id, min(w.name) AS name, w.trigger_id, t.created_at FROM asset_watcher w \
                 JOIN dag d ON d.team_no = w.team_no AND d.dag_id = w.dag_id \
                 JOIN async_trigger t ON t.team_no = w.team_no AND t.id = w.trigger_id \
                 WHERE (w.team_no, w.asset_id) IN (VALUES {list}) AND d.is_paused = FALSE AND d.is_stale = FALSE \
                 GROUP BY w.asset_id, w.trigger_id, t.created_at ORDER BY w.trigger_id"
            ),
            values,
        )
        .await?;
    for found in &watchers {
        if let Some(at) = places.get(&found.int("asset_id")?) {
            rows[*at].watchers.push(WatcherRow {
                name: found.text("name")?,
                trigger_id: found.int("trigger_id")?,
                created_at: found.time("created_at")?,
            });
        }
    }
    Ok(())
}

/// One page of the aliases that may be read.
///
/// # Errors
/// The database failed.
pub async fn aliases(
    tx: &mut Tx,
    scope: &ReadScope,
    name: &TextMatch,
    order: &Ordering,
    page: Page,
) -> Result<Slice<AliasRow>, StoreError> {
    let mut select = Select::new(tx, scope, "s.team_no", "s.*", "asset_alias s");
    select.matches("s.name", name);
    select.page(tx, order, page, AliasRow::read).await
}

/// One alias, none where there is none of that id that may be read.
///
/// # Errors
/// The database failed.
pub async fn alias(tx: &mut Tx, scope: &ReadScope, id: i64) -> Result<Option<AliasRow>, StoreError> {
    let mut select = Select::new(tx, scope, "s.team_no", "s.*", "asset_alias s");
    select.by_id("s", id);
    select.one(tx).await?.as_ref().map(AliasRow::read).transpose()
}
