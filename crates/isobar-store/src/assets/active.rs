//! Which assets are active: those that a Dag names or an alias stands for, of which no two share a name or a URI.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::TeamScope;
use isobar_model::DagId;
use jiff::Timestamp;
use serde_json::json;

use crate::db::{Row, vals};
use crate::events::{self, EventKind};
use crate::task_calls::among;
use crate::{StoreError, Tx};

const AT_A_TIME: usize = 500;
/// The kind of warning that says that a Dag's asset cannot be active.
const CONFLICT: &str = "asset conflict";
/// Somebody names the asset `a`.
const NAMED: &str = "(EXISTS (SELECT 1 FROM asset_reference r JOIN dag d ON d.team_no = r.team_no AND d.dag_id = r.dag_id \
     WHERE r.team_no = a.team_no AND r.kind = 'asset' AND r.name = a.name AND r.uri = a.uri AND d.is_stale = FALSE) \
     OR EXISTS (SELECT 1 FROM asset_alias_asset l WHERE l.team_no = a.team_no AND l.asset_id = a.id))";

struct Candidate {
    id: i64,
    name: String,
    uri: String,
    active: bool,
    named: bool,
}

impl Candidate {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.int("id")?,
            name: row.text("name")?,
            uri: row.text("uri")?,
            active: row.flag("active")?,
            named: row.flag("named")?,
        })
    }
}

/// Looks at the assets of these names again, and at those that share a URI with one of them: what nobody names any more is
/// put to rest and its state forgotten, what is named is activated where its name and its URI are free.
pub(crate) async fn activate(
    tx: &mut Tx,
    scope: TeamScope,
    names: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    let candidates = candidates(tx, scope, names).await?;
    let orphans: Vec<i64> = candidates
        .iter()
        .filter(|one| one.active && !one.named)
        .map(|one| one.id)
        .collect();
    for chunk in orphans.chunks(AT_A_TIME) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rest = format!("UPDATE asset SET active = FALSE WHERE team_no = $1 AND id {list}");
        tx.run(&rest, values.clone()).await?;
        let forget = format!("DELETE FROM asset_store WHERE team_no = $1 AND asset_id {list}");
        tx.run(&forget, values).await?;
    }
    let mut woken = Vec::new();
    for one in candidates.iter().filter(|one| !one.active && one.named) {
        let free = tx
            .run(
                "UPDATE asset SET active = TRUE WHERE team_no = $1 AND id = $2 AND NOT EXISTS (SELECT 1 FROM asset o \
                 WHERE o.team_no = $1 AND o.active = TRUE AND o.id <> $2 AND (o.name = $3 OR o.uri = $4))",
                vals![scope.team(), one.id, &one.name, &one.uri],
            )
            .await?;
        if free > 0 {
            woken.push(one.id);
        }
    }
    wake_consumers(tx, scope, &woken, now).await
}

async fn candidates(tx: &mut Tx, scope: TeamScope, names: &BTreeSet<String>) -> Result<Vec<Candidate>, StoreError> {
    let names: Vec<&String> = names.iter().collect();
    let mut found = BTreeMap::new();
    for chunk in names.chunks(AT_A_TIME) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT a.id, a.name, a.uri, a.active, {NAMED} AS named FROM asset a WHERE a.team_no = $1 \
                     AND (a.name {list} OR a.uri IN (SELECT o.uri FROM asset o WHERE o.team_no = $1 AND o.name {list}))"
                ),
                values,
            )
            .await?;
        for row in &rows {
            let one = Candidate::from_row(row)?;
            found.insert(one.id, one);
        }
    }
    Ok(found.into_values().collect())
}

/// Dags that wait for what was put to rest can go on.
async fn wake_consumers(tx: &mut Tx, scope: TeamScope, woken: &[i64], now: Timestamp) -> Result<(), StoreError> {
    let mut dags = BTreeSet::new();
    for chunk in woken.chunks(AT_A_TIME) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT dag_id FROM asset_queue WHERE team_no = $1 AND asset_id {list} UNION \
                     SELECT k.dag_id FROM asset_partition_key k JOIN asset_partition_run p ON p.team_no = k.team_no \
                     AND p.id = k.partition_run_id WHERE k.team_no = $1 AND k.asset_id {list} AND p.run_id IS NULL"
                ),
                values,
            )
            .await?;
        for row in &rows {
            dags.insert(DagId::from(row.text("dag_id")?));
        }
    }
    for dag_id in dags {
        events::insert(tx, scope, EventKind::Dag, &dag_id, &json!({"why": "asset"}), now).await?;
    }
    Ok(())
}

/// Warns every Dag that names an asset which cannot be active, and takes back the warnings of all others.
///
/// # Errors
/// The database failed.
pub(crate) async fn warn_of_conflicts(tx: &mut Tx, scope: TeamScope, now: Timestamp) -> Result<(), StoreError> {
    let rows = tx
        .rows(
            &format!(
                "SELECT r.dag_id, a.name, a.uri, a.asset_group, (SELECT min(o.uri) FROM asset o WHERE o.team_no = a.team_no \
                 AND o.active = TRUE AND o.name = a.name) AS other_uri, (SELECT min(o.name) FROM asset o \
                 WHERE o.team_no = a.team_no AND o.active = TRUE AND o.uri = a.uri) AS other_name FROM asset a \
                 JOIN asset_reference r ON r.team_no = a.team_no AND r.kind = 'asset' AND r.name = a.name AND r.uri = a.uri \
                 WHERE a.team_no = $1 AND a.active = FALSE AND {NAMED}"
            ),
            vals![scope.team()],
        )
        .await?;
    let mut messages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let (what, holder) = match (row.maybe_text("other_uri")?, row.maybe_text("other_name")?) {
            (Some(uri), _) => ("name", uri),
            (None, Some(name)) => ("uri", name),
            (None, None) => continue,
        };
        messages.entry(row.text("dag_id")?).or_default().push(format!(
            "Cannot activate asset Asset(name=\"{}\", uri=\"{}\", group=\"{}\"); {what} is already associated to '{holder}'",
            row.text("name")?,
            row.text("uri")?,
            row.text("asset_group")?,
        ));
    }
    let known = tx
        .rows(
            "SELECT dag_id, message FROM dag_warning WHERE team_no = $1 AND warning_type = $2",
            vals![scope.team(), CONFLICT],
        )
        .await?;
    let mut standing = BTreeMap::new();
    for row in &known {
        standing.insert(row.text("dag_id")?, row.text("message")?);
    }
    for dag_id in standing.keys().filter(|dag_id| !messages.contains_key(*dag_id)) {
        tx.run(
            "DELETE FROM dag_warning WHERE team_no = $1 AND dag_id = $2 AND warning_type = $3",
            vals![scope.team(), dag_id, CONFLICT],
        )
        .await?;
    }
    for (dag_id, mut lines) in messages {
        lines.sort();
        let message = lines.join("\n");
        if standing.get(&dag_id) != Some(&message) {
            tx.run(
                "INSERT INTO dag_warning (team_no, dag_id, warning_type, message, at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (team_no, dag_id, warning_type) DO UPDATE SET message = excluded.message, at = excluded.at",
                vals![scope.team(), dag_id, CONFLICT, message, now],
            )
            .await?;
        }
    }
    Ok(())
}
