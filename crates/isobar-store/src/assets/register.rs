//! Registering that assets changed: the event, and everybody whom it concerns.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{DagId, MapIndex, RunId, TaskId, TeamId, TeamName};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::consumers::{Consumer, allowed_consumers, consumers};
use super::{Named, active, find};
use crate::counters::{Counter, next_ids};
use crate::db::{Val, vals, values_list};
use crate::events::{self, EventKind};
use crate::{StoreError, Tx, audit, listeners};

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
    /// The date of the producing run's partition, where this is that partition.
    pub partition_date: Option<Timestamp>,
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
    let heard = listeners::heard(tx, scope).await?;
    // The counter of assets before that of their events, and of their events before that of aliases, in every unit.
    let mut found = Vec::with_capacity(changes.len());
    for change in changes {
        let known = find(tx, scope, Named::Both(&change.name, &change.uri)).await?;
        let asset_id = match known.first() {
            Some(asset) => asset.id,
            None if change.aliases.is_empty() => continue,
            None => make(tx, scope, change, now).await?,
        };
        found.push((change, asset_id));
    }
    for (change, asset_id) in found {
        let allowed = allowed_consumers(tx, scope, source, change).await?;
        let event_id = write_event(tx, scope, source, change, asset_id, allowed.as_ref(), now).await?;
        remember_aliases(tx, scope, change, asset_id, event_id, now).await?;
        let consumers = consumers(tx, scope, org, team_name, change, asset_id, allowed.as_ref()).await?;
        let told = tell(tx, scope, org, source, change, event_id, &consumers, now).await?;
        registered.push(Registered {
            event_id,
            asset_id,
            consumers: told.into_iter().collect(),
        });
        // The producing team's alone: another team consumes the event, and is told of its own runs.
        let calls = listeners::asset_changed(tx, scope, &heard, source, change, asset_id).await?;
        listeners::tell(tx, scope, calls, now);
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
    allowed: Option<&Vec<String>>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let id = next_ids(tx, scope, Counter::AssetEvent, 1).await?;
    let aliases = (!change.aliases.is_empty()).then(|| json!(change.aliases).to_string());
    tx.run(
        "INSERT INTO asset_event (team_no, id, asset_id, at, extra, source_dag_id, source_run_id, source_task_id, \
         source_map_index, source_aliases, partition_key, consumer_teams) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
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
            allowed.map(|teams| json!(teams).to_string()),
        ],
    )
    .await?;
    Ok(id)
}

/// The aliases through which an event came stand for its asset from now on.
async fn remember_aliases(
    tx: &mut Tx,
    scope: TeamScope,
    change: &Change,
    asset_id: i64,
    event_id: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut new = 0;
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
        new += tx
            .run(
                "INSERT INTO asset_alias_asset (team_no, alias_id, asset_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                vals![scope.team(), alias_id, asset_id],
            )
            .await?;
        tx.run(
            "INSERT INTO asset_alias_event (team_no, alias_id, at, event_id) VALUES ($1, $2, $3, $4)",
            vals![scope.team(), alias_id, now, event_id],
        )
        .await?;
    }
    if new > 0 {
        active::activate(tx, scope, &BTreeSet::from([change.name.clone()]), now).await?;
    }
    Ok(())
}

/// Puts an event into the queues of its consumers; answers whom it went to.
#[expect(clippy::too_many_arguments, reason = "one event has all of these")]
async fn tell(
    tx: &mut Tx,
    scope: TeamScope,
    org: &OrgScope,
    source: Option<&EventSource>,
    change: &Change,
    event_id: i64,
    consumers: &BTreeSet<Consumer>,
    now: Timestamp,
) -> Result<BTreeSet<(TeamId, DagId)>, StoreError> {
    let (partitioned, plain): (Vec<&Consumer>, Vec<&Consumer>) =
        consumers.iter().partition(|consumer| consumer.partitioned);
    // A Dag without partitions does not hear of partitions, and the other way round.
    let told = match &change.partition_key {
        None => {
            note_missing_key(tx, scope, org, source, &partitioned).await?;
            let rows = plain
                .iter()
                .map(|consumer| vals![consumer.team, &consumer.dag_id, consumer.asset_id, now])
                .collect();
            let into = "asset_queue (team_no, dag_id, asset_id, created_at)";
            insert(tx, into, rows).await?;
            plain
        }
        Some(key) => {
            let rows = partitioned
                .iter()
                .map(|consumer| {
                    vals![
                        consumer.team,
                        &consumer.dag_id,
                        scope.team(),
                        event_id,
                        consumer.asset_id,
                        key,
                        change.partition_date,
                        now
                    ]
                })
                .collect();
            let into = "asset_partition_arrival (team_no, dag_id, producer_no, event_id, asset_id, partition_key, \
                        partition_date, at)";
            insert(tx, into, rows).await?;
            partitioned
        }
    };
    let told: BTreeSet<(TeamId, DagId)> = told
        .into_iter()
        .map(|consumer| (consumer.team, consumer.dag_id.clone()))
        .collect();
    for (team, dag_id) in &told {
        let body = json!({"why": "asset"});
        events::insert(tx, org.team(*team), EventKind::Dag, dag_id, &body, now).await?;
    }
    Ok(told)
}

async fn insert(tx: &mut Tx, into: &str, rows: Vec<Vec<Val>>) -> Result<(), StoreError> {
    for chunk in rows.chunks(500) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(
            &format!("INSERT INTO {into} VALUES {list} ON CONFLICT DO NOTHING"),
            values,
        )
        .await?;
    }
    Ok(())
}

/// Dags that listen to partitions cannot use an event without one: each of their teams finds that in its audit log.
async fn note_missing_key(
    tx: &mut Tx,
    scope: TeamScope,
    org: &OrgScope,
    source: Option<&EventSource>,
    listening: &[&Consumer],
) -> Result<(), StoreError> {
    let mut by_team: BTreeMap<TeamId, BTreeSet<&str>> = BTreeMap::new();
    for consumer in listening {
        by_team
            .entry(consumer.team)
            .or_default()
            .insert(consumer.dag_id.as_str());
    }
    for (team, dags) in by_team {
        let own = source.filter(|_| team == scope.team());
        let said = |text: Option<&str>| text.unwrap_or("None").to_owned();
        let mut record = audit::Record::new("missing partition key", "scheduler").extra(Value::String(format!(
            "Listening Dags are partition-aware but the run has no partition key (listening_dags={dags:?}, run_id={}, \
             dag_id={}, task_id={})",
            said(own.map(|source| source.run_id.as_str())),
            said(own.map(|source| source.dag_id.as_str())),
            said(own.map(|source| source.task_id.as_str())),
        )));
        if let Some(source) = own {
            record = record
                .dag(&source.dag_id)
                .run(&source.run_id)
                .task(&source.task_id, Some(source.map_index));
        }
        audit::write(tx, org.team(team), &[record]);
    }
    Ok(())
}
