//! Assets: looking them up, and registering that they changed.
//!
//! Within a team assets are known by name and URI; across teams they are joined by URI alone (rule 19).

use std::collections::{BTreeMap, BTreeSet};

use globset::Glob;
use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId, TeamId, TeamName};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::counters::{Counter, next_ids};
use crate::db::{Row, Val, vals, values_list};
use crate::events::{self, EventKind};
use crate::task_calls::among;
use crate::{StoreError, Tx};

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

/// What produced an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct EventSource {
    pub dag_id: DagId,
    pub run_id: RunId,
    pub task_id: TaskId,
    pub map_index: MapIndex,
}

/// A change to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The asset's name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// What the asset itself carries, where the event makes it (through an alias).
    pub asset_extra: Value,
    /// What the event carries.
    pub extra: Value,
    /// The aliases through which it came.
    pub aliases: BTreeSet<String>,
    /// The partition.
    pub partition_key: Option<String>,
    /// Globs of the teams that may consume it, where whoever reports the change restricts them (API-created events).
    pub consumer_teams: Option<Vec<String>>,
}

/// A registered event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The event's id.
    pub event_id: i64,
    /// The asset's id.
    pub asset_id: i64,
    /// The consumers whose queue it went to.
    pub consumers: Vec<(TeamId, DagId)>,
}

/// Registers changes: events, the queues of the Dags that wait for them, in this team and by consent in others, and an
/// event for the scheduler of each. An asset that is unknown is made where the change came through an alias, else left out.
///
/// # Errors
/// The database failed.
pub async fn register(
    tx: &mut Tx,
    scope: TeamScope,
    org: &OrgScope,
    team_name: &TeamName,
    source: Option<&EventSource>,
    changes: &[Change],
    now: Timestamp,
) -> Result<Vec<Registered>, StoreError> {
    let mut registered = Vec::new();
    for change in changes {
        let known = find(tx, scope, Named::Both(&change.name, &change.uri)).await?;
        let asset_id = match known.first() {
            Some(asset) => asset.id,
            None if change.aliases.is_empty() => continue,
            None => make(tx, scope, change, now).await?,
        };
        let event_id = write_event(tx, scope, source, change, asset_id, now).await?;
        let consumers = consumers(tx, scope, org, team_name, source, change).await?;
        queue(tx, scope, org, change, asset_id, event_id, &consumers, now).await?;
        registered.push(Registered {
            event_id,
            asset_id,
            consumers: consumers.into_iter().collect(),
        });
    }
    Ok(registered)
}

async fn make(tx: &mut Tx, scope: TeamScope, change: &Change, now: Timestamp) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::Asset, 1).await?;
    tx.run(
        "INSERT INTO asset (team_no, id, name, uri, asset_group, extra, active, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, 'asset', $5, FALSE, $6, $6)",
        vals![scope.team(), id, &change.name, &change.uri, &change.asset_extra, now],
    )
    .await?;
    Ok(id)
}

async fn write_event(
    tx: &mut Tx,
    scope: TeamScope,
    source: Option<&EventSource>,
    change: &Change,
    asset_id: i64,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::AssetEvent, 1).await?;
    let aliases = (!change.aliases.is_empty()).then(|| json!(change.aliases).to_string());
    tx.run(
        "INSERT INTO asset_event (team_no, id, asset_id, at, extra, source_dag_id, source_run_id, source_task_id, \
         source_map_index, source_aliases, partition_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        vals![
            scope.team(),
            id,
            asset_id,
            now,
            &change.extra,
            source.map(|source| source.dag_id.to_string()),
            source.map(|source| source.run_id.to_string()),
            source.map(|source| source.task_id.to_string()),
            source.map(|source| source.map_index),
            aliases,
            change.partition_key.as_ref(),
        ],
    )
    .await?;
    for alias in &change.aliases {
        let known = tx
            .row(
                "SELECT id FROM asset_alias WHERE team_no = $1 AND name = $2",
                vals![scope.team(), alias],
            )
            .await?;
        let alias_id = match known {
            Some(row) => row.int("id")?,
            None => {
                let alias_id = next_ids(tx, scope, Counter::AssetAlias, 1).await?;
                tx.run(
                    "INSERT INTO asset_alias (team_no, id, name, alias_group) VALUES ($1, $2, $3, '')",
                    vals![scope.team(), alias_id, alias],
                )
                .await?;
                alias_id
            }
        };
        tx.run(
            "INSERT INTO asset_alias_asset (team_no, alias_id, asset_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            vals![scope.team(), alias_id, asset_id],
        )
        .await?;
    }
    Ok(id)
}

/// The Dags that wait for this change: of the own team by name, URI or alias; of others by URI, where the consumer lists
/// the producing team and the producer does not shut the consumer out.
async fn consumers(
    tx: &mut Tx,
    scope: TeamScope,
    _org: &OrgScope,
    team_name: &TeamName,
    source: Option<&EventSource>,
    change: &Change,
) -> Result<BTreeSet<(TeamId, DagId)>, StoreError> {
    let mut values = vals![scope.team(), &change.name, &change.uri];
    let by_alias = if change.aliases.is_empty() {
        String::new()
    } else {
        let aliases: Vec<&String> = change.aliases.iter().collect();
        format!(" OR (r.kind = 'alias' AND r.name {})", among(&mut values, &aliases))
    };
    let own = tx
        .rows(
            &format!(
                "SELECT DISTINCT r.dag_id FROM asset_reference r JOIN dag d ON d.team_no = r.team_no \
                 AND d.dag_id = r.dag_id WHERE r.team_no = $1 AND r.role = 'schedule' AND d.is_paused = FALSE \
                 AND d.is_stale = FALSE AND ((r.kind = 'asset' AND r.name = $2 AND r.uri = $3) \
                 OR (r.kind = 'name_ref' AND r.name = $2) OR (r.kind = 'uri_ref' AND r.uri = $3){by_alias})"
            ),
            values,
        )
        .await?;
    let mut found = BTreeSet::new();
    for row in &own {
        found.insert((scope.team(), DagId::from(row.text("dag_id")?)));
    }
    let foreign = tx
        .rows(
            "SELECT r.team_no, r.dag_id, r.producer_teams, t.name AS team_name FROM asset_reference r \
             JOIN dag d ON d.team_no = r.team_no AND d.dag_id = r.dag_id JOIN team t ON t.team_no = r.team_no \
             WHERE r.role = 'schedule' AND r.kind IN ('asset', 'uri_ref') AND r.uri = $1 AND r.team_no <> $2 \
             AND r.producer_teams IS NOT NULL AND d.is_paused = FALSE AND d.is_stale = FALSE AND t.state = 'active'",
            vals![&change.uri, scope.team()],
        )
        .await?;
    if foreign.is_empty() {
        return Ok(found);
    }
    let allowed = allowed_consumers(tx, scope, source, change).await?;
    for row in &foreign {
        let consumer = row.text("team_name")?;
        let accepts = matches_any(&row.json("producer_teams")?, team_name.as_str());
        let may = allowed.as_ref().is_none_or(|globs| matches_any(globs, &consumer));
        if accepts && may {
            found.insert((row.team("team_no")?, DagId::from(row.text("dag_id")?)));
        }
    }
    Ok(found)
}

/// The teams to which the producing task restricts this asset; none where it restricts nothing.
async fn allowed_consumers(
    tx: &mut Tx,
    scope: TeamScope,
    source: Option<&EventSource>,
    change: &Change,
) -> Result<Option<Value>, StoreError> {
    if let Some(teams) = &change.consumer_teams {
        return Ok(Some(json!(teams)));
    }
    let Some(source) = source else { return Ok(None) };
    let row = tx
        .row(
            "SELECT consumer_teams FROM asset_reference WHERE team_no = $1 AND dag_id = $2 AND task_id = $3 \
             AND role = 'outlet' AND kind = 'asset' AND name = $4 AND uri = $5 AND consumer_teams IS NOT NULL",
            vals![scope.team(), &source.dag_id, &source.task_id, &change.name, &change.uri],
        )
        .await?;
    row.map(|row| row.json("consumer_teams")).transpose()
}

/// Whether a name matches one of a JSON list of globs. A glob that cannot be read matches nothing.
fn matches_any(globs: &Value, name: &str) -> bool {
    globs
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|glob| Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(name)))
}

#[expect(clippy::too_many_arguments, reason = "one row is made of all of these")]
async fn queue(
    tx: &mut Tx,
    scope: TeamScope,
    org: &OrgScope,
    change: &Change,
    asset_id: i64,
    event_id: i64,
    consumers: &BTreeSet<(TeamId, DagId)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if consumers.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<Val>> = consumers
        .iter()
        .map(|(team, dag_id)| {
            vals![
                *team,
                dag_id,
                scope.team(),
                asset_id,
                event_id,
                &change.name,
                &change.uri,
                now
            ]
        })
        .collect();
    for chunk in rows.chunks(500) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(
            &format!(
                "INSERT INTO asset_queue (team_no, dag_id, producer_no, asset_id, event_id, name, uri, created_at) \
                 VALUES {list} ON CONFLICT DO NOTHING"
            ),
            values,
        )
        .await?;
    }
    for (team, dag_id) in consumers {
        events::insert(
            tx,
            org.team(*team),
            EventKind::Dag,
            dag_id,
            &json!({"why": "asset"}),
            now,
        )
        .await?;
    }
    Ok(())
}

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
    let ids: Vec<i64> = assets.keys().copied().collect();
    let mut values = vals![scope.team()];
    let mut text = format!(
        "SELECT e.* FROM asset_event e WHERE e.team_no = $1 AND e.asset_id {}",
        among(&mut values, &ids)
    );
    for (at, sign) in [(window.after, ">="), (window.before, "<=")] {
        if let Some(at) = at {
            values.push(at.into());
            text.push_str(&format!(" AND e.at {sign} ${}", values.len()));
        }
    }
    if let Some(key) = &window.partition_key {
        values.push(key.into());
        text.push_str(&format!(" AND e.partition_key = ${}", values.len()));
    }
    let order = if window.ascending { "ASC" } else { "DESC" };
    text.push_str(&format!(" ORDER BY e.at {order}, e.id {order}"));
    let alias = match named {
        Named::Alias(alias) => Some(alias),
        _ => None,
    };
    // Aliases are a list inside the row: they are compared here, so the limit is, too.
    if let (Some(limit), None) = (window.limit, alias) {
        values.push(limit.into());
        text.push_str(&format!(" LIMIT ${}", values.len()));
    }
    let mut found = Vec::new();
    for row in &tx.rows(&text, values).await? {
        if let Some(alias) = alias {
            let through = row.json("source_aliases")?;
            if !through
                .as_array()
                .is_some_and(|names| names.iter().any(|name| name == alias))
            {
                continue;
            }
        }
        let Some(asset) = assets.get(&row.int("asset_id")?) else {
            continue;
        };
        found.push(AssetEvent {
            id: row.int("id")?,
            at: row.time("at")?,
            extra: row.json("extra")?,
            asset: asset.clone(),
            source_dag_id: row.maybe_text("source_dag_id")?,
            source_run_id: row.maybe_text("source_run_id")?,
            source_task_id: row.maybe_text("source_task_id")?,
            source_map_index: row.maybe_int("source_map_index")?,
            partition_key: row.maybe_text("partition_key")?,
        });
        if window.limit.is_some_and(|limit| found.len() >= limit as usize) {
            break;
        }
    }
    Ok(found)
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
