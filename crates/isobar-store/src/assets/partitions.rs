//! Partitions of Dags that listen to partitioned assets: what arrived, what waits for more, what has its run.

use std::collections::BTreeMap;

use isobar_auth::TeamScope;
use isobar_model::{DagId, RunKey, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use crate::counters::next_ids;
use crate::db::{vals, values_list};
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// The counter of partitions of Dags.
const COUNTER: &str = "asset_partition_run";

/// A partition of an asset that a Dag's mappers have not seen yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The team that owns the event.
    pub producer: TeamId,
    /// The event, in the producer's numbers.
    pub event_id: i64,
    /// The consumer's own asset.
    pub asset_id: i64,
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// The partition.
    pub key: String,
    /// The date of the producing run's partition.
    pub date: Option<Timestamp>,
}

/// What arrived for a Dag since its mappers were last asked, oldest first.
///
/// # Errors
/// The database failed.
pub async fn arrivals(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<Arrival>, StoreError> {
    let rows = tx
        .rows(
            "SELECT p.producer_no, p.event_id, p.asset_id, a.name, a.uri, p.partition_key, p.partition_date \
             FROM asset_partition_arrival p JOIN asset a ON a.team_no = p.team_no AND a.id = p.asset_id \
             WHERE p.team_no = $1 AND p.dag_id = $2 ORDER BY p.at, p.event_id, p.asset_id",
            vals![scope.team(), dag_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Arrival {
                producer: row.team("producer_no")?,
                event_id: row.int("event_id")?,
                asset_id: row.int("asset_id")?,
                name: row.text("name")?,
                uri: row.text("uri")?,
                key: row.text("partition_key")?,
                date: row.maybe_time("partition_date")?,
            })
        })
        .collect()
}

/// The mappers saw these.
///
/// # Errors
/// The database failed.
pub async fn seen(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, arrivals: &[Arrival]) -> Result<(), StoreError> {
    for arrival in arrivals {
        tx.run(
            "DELETE FROM asset_partition_arrival WHERE team_no = $1 AND dag_id = $2 AND producer_no = $3 \
             AND event_id = $4 AND asset_id = $5",
            vals![
                scope.team(),
                dag_id,
                arrival.producer,
                arrival.event_id,
                arrival.asset_id
            ],
        )
        .await?;
    }
    Ok(())
}

/// An arrival goes to a partition of the Dag, which is made where none of that key waits.
///
/// Events may carry different dates for one partition: then it has none, as in Airflow.
///
/// # Errors
/// The database failed.
#[expect(clippy::too_many_arguments, reason = "one row is made of all of these")]
pub async fn file(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &DagId,
    arrival: &Arrival,
    key: &str,
    date: Option<Timestamp>,
    fingerprint: &Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    let latest = tx
        .row(
            "SELECT id, partition_date, run_id FROM asset_partition_run WHERE team_no = $1 AND dag_id = $2 \
             AND partition_key = $3 ORDER BY id DESC LIMIT 1",
            vals![scope.team(), dag_id, key],
        )
        .await?;
    let waiting = match latest {
        Some(row) if row.maybe_text("run_id")?.is_none() => Some((row.int("id")?, row.maybe_time("partition_date")?)),
        _ => None,
    };
    let id = if let Some((id, known)) = waiting {
        let settled = match (known, date) {
            (None, date) => date,
            (known, None) => known,
            (Some(known), Some(date)) => (known == date).then_some(known),
        };
        if settled != known {
            tx.run(
                "UPDATE asset_partition_run SET partition_date = $3, updated_at = $4 WHERE team_no = $1 AND id = $2",
                vals![scope.team(), id, settled, now],
            )
            .await?;
        }
        id
    } else {
        let id = next_ids(tx, scope, COUNTER, 1).await?;
        tx.run(
            "INSERT INTO asset_partition_run (team_no, id, dag_id, partition_key, partition_date, fingerprint, run_id, \
             created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, $7)",
            vals![scope.team(), id, dag_id, key, date, fingerprint, now],
        )
        .await?;
        id
    };
    tx.run(
        "INSERT INTO asset_partition_key (team_no, partition_run_id, asset_id, producer_no, event_id, dag_id, source_key) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        vals![
            scope.team(),
            id,
            arrival.asset_id,
            arrival.producer,
            arrival.event_id,
            dag_id,
            &arrival.key
        ],
    )
    .await
    .map(drop)
}

/// A partition of a Dag that waits for more.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Its id.
    pub id: i64,
    /// Its key.
    pub key: String,
    /// The date that its events carried.
    pub date: Option<Timestamp>,
    /// The mappers under which it was collected.
    pub fingerprint: Value,
    /// Name and URI of the consumer's assets of which something arrived, whether each is active, and the upstream key.
    pub arrived: Vec<(String, String, bool, String)>,
}

/// The partitions of a Dag that wait, oldest first.
///
/// # Errors
/// The database failed.
pub async fn pending(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<Pending>, StoreError> {
    let rows = tx
        .rows(
            "SELECT p.id, p.partition_key, p.partition_date, p.fingerprint, a.name, a.uri, a.active, k.source_key \
             FROM asset_partition_run p LEFT JOIN asset_partition_key k ON k.team_no = p.team_no \
             AND k.partition_run_id = p.id LEFT JOIN asset a ON a.team_no = k.team_no AND a.id = k.asset_id \
             WHERE p.team_no = $1 AND p.dag_id = $2 AND p.run_id IS NULL ORDER BY p.id",
            vals![scope.team(), dag_id],
        )
        .await?;
    let mut found: BTreeMap<i64, Pending> = BTreeMap::new();
    for row in &rows {
        let id = row.int("id")?;
        if let std::collections::btree_map::Entry::Vacant(e) = found.entry(id) {
            let one = Pending {
                id,
                key: row.text("partition_key")?,
                date: row.maybe_time("partition_date")?,
                fingerprint: row.json("fingerprint")?,
                arrived: Vec::new(),
            };
            e.insert(one);
        }
        if let (Some(one), Some(key)) = (found.get_mut(&id), row.maybe_text("source_key")?) {
            let Some(name) = row.maybe_text("name")? else { continue };
            one.arrived.push((name, row.text("uri")?, row.flag("active")?, key));
        }
    }
    Ok(found.into_values().collect())
}

/// Forgets partitions that wait: the mappers under which they were collected are not the Dag's any more.
///
/// # Errors
/// The database failed.
pub async fn forget(tx: &mut Tx, scope: TeamScope, ids: &[i64]) -> Result<(), StoreError> {
    for chunk in ids.chunks(500) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let text = format!("DELETE FROM asset_partition_key WHERE team_no = $1 AND partition_run_id {list}");
        tx.run(&text, values.clone()).await?;
        let text = format!("DELETE FROM asset_partition_run WHERE team_no = $1 AND id {list}");
        tx.run(&text, values).await?;
    }
    Ok(())
}

/// A partition has its run, which consumes what arrived for it.
///
/// # Errors
/// The database failed.
pub async fn made(tx: &mut Tx, scope: TeamScope, id: i64, run: &RunKey, now: Timestamp) -> Result<(), StoreError> {
    tx.run(
        "UPDATE asset_partition_run SET run_id = $3, updated_at = $4 WHERE team_no = $1 AND id = $2",
        vals![scope.team(), id, &run.run_id, now],
    )
    .await?;
    let rows = tx
        .rows(
            "SELECT DISTINCT producer_no, event_id FROM asset_partition_key WHERE team_no = $1 AND partition_run_id = $2",
            vals![scope.team(), id],
        )
        .await?;
    let mut consumed = Vec::new();
    for row in &rows {
        consumed.push(vals![
            scope.team(),
            &run.dag_id,
            &run.run_id,
            row.team("producer_no")?,
            row.int("event_id")?
        ]);
    }
    for chunk in consumed.chunks(500) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(
            &format!(
                "INSERT INTO dag_run_asset_event (team_no, dag_id, run_id, producer_no, event_id) VALUES {list} \
                 ON CONFLICT DO NOTHING"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}
