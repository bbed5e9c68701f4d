//! Assets that wait for a consumer Dag's condition, and the events that a run of it consumes.

use std::collections::HashMap;

use isobar_auth::{OrgScope, TeamScope};
use isobar_engine::assets::consents;
use isobar_model::{DagId, RunKey};
use jiff::Timestamp;

use crate::assets::texts;
use crate::db::{Val, vals, values_list};
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// An asset of which events wait for a consumer Dag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedAsset {
    /// The consumer's own asset.
    pub asset_id: i64,
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// References mean active assets only.
    pub active: bool,
    /// Since when the first event waits.
    pub created_at: Timestamp,
}

/// What waits for a Dag's asset condition, oldest first.
///
/// # Errors
/// The database failed.
pub async fn asset_queue(tx: &mut Tx, scope: TeamScope, dag_id: &DagId) -> Result<Vec<QueuedAsset>, StoreError> {
    let rows = tx
        .rows(
            "SELECT q.asset_id, a.name, a.uri, a.active, q.created_at FROM asset_queue q \
             JOIN asset a ON a.team_no = q.team_no AND a.id = q.asset_id \
             WHERE q.team_no = $1 AND q.dag_id = $2 ORDER BY q.created_at, q.asset_id",
            vals![scope.team(), dag_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(QueuedAsset {
                asset_id: row.int("asset_id")?,
                name: row.text("name")?,
                uri: row.text("uri")?,
                active: row.flag("active")?,
                created_at: row.time("created_at")?,
            })
        })
        .collect()
}

/// Gives a run that assets caused the events since the one before, up to `until`, and empties the queue up to then.
///
/// As in Airflow the window counts, not the queue: what happened while the Dag was paused is among them. A first run looks
/// back as far as the Dag names its assets, and with `catchup` to the beginning. Events of other teams are among them where
/// both sides consent (rule 19), hence the organisation's scope beside the team's.
///
/// # Errors
/// The database failed.
pub async fn consume_assets(
    tx: &mut Tx,
    scope: TeamScope,
    _org: &OrgScope,
    run: &RunKey,
    until: Timestamp,
    catchup: bool,
) -> Result<(), StoreError> {
    let after = floor(tx, scope, run, until, catchup).await?;
    let mut consumed = own_events(tx, scope, run, after, until).await?;
    consumed.extend(foreign_events(tx, scope, run, after, until).await?);
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
    tx.run(
        "DELETE FROM asset_queue WHERE team_no = $1 AND dag_id = $2 AND created_at <= $3",
        vals![scope.team(), &run.dag_id, until],
    )
    .await
    .map(drop)
}

/// Events up to this time are not the run's.
async fn floor(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    until: Timestamp,
    catchup: bool,
) -> Result<Option<Timestamp>, StoreError> {
    let before = tx
        .row(
            "SELECT run_after FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND run_type = 'asset_triggered' \
             AND run_after < $3 ORDER BY run_after DESC LIMIT 1",
            vals![scope.team(), &run.dag_id, until],
        )
        .await?;
    if let Some(row) = before {
        return row.time("run_after").map(Some);
    }
    if catchup {
        return Ok(None);
    }
    let since = tx
        .row(
            "SELECT min(created_at) AS at FROM asset_reference WHERE team_no = $1 AND dag_id = $2 AND role = 'schedule' \
             AND kind = 'asset'",
            vals![scope.team(), &run.dag_id],
        )
        .await?;
    since.map_or(Ok(None), |row| row.maybe_time("at"))
}

fn within(values: &mut Vec<Val>, column: &str, after: Option<Timestamp>, until: Timestamp) -> String {
    values.push(until.into());
    let mut text = format!("{column} <= ${}", values.len());
    if let Some(after) = after {
        values.push(after.into());
        text.push_str(&format!(" AND {column} > ${}", values.len()));
    }
    text
}

async fn own_events(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    after: Option<Timestamp>,
    until: Timestamp,
) -> Result<Vec<Vec<Val>>, StoreError> {
    let row = |event: i64| vals![scope.team(), &run.dag_id, &run.run_id, scope.team(), event];
    let mut consumed = Vec::new();
    let named = |kind: &str| {
        format!(
            "FROM asset_reference r WHERE r.team_no = $1 AND r.dag_id = $2 AND r.role = 'schedule' AND r.kind = '{kind}'"
        )
    };
    let assets = tx
        .rows(
            &format!(
                "SELECT id FROM asset WHERE team_no = $1 AND (name, uri) IN (SELECT r.name, r.uri {})",
                named("asset")
            ),
            vals![scope.team(), &run.dag_id],
        )
        .await?;
    let assets: Vec<i64> = assets.iter().map(|row| row.int("id")).collect::<Result<_, _>>()?;
    for chunk in assets.chunks(200) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let window = within(&mut values, "at", after, until);
        let text = format!("SELECT id FROM asset_event WHERE team_no = $1 AND asset_id {list} AND {window}");
        for found in tx.rows(&text, values).await? {
            consumed.push(row(found.int("id")?));
        }
    }
    let mut values = vals![scope.team(), &run.dag_id];
    let window = within(&mut values, "x.at", after, until);
    let text = format!(
        "SELECT x.event_id FROM asset_alias s JOIN asset_alias_event x ON x.team_no = s.team_no AND x.alias_id = s.id \
         WHERE s.team_no = $1 AND s.name IN (SELECT r.name {}) AND {window}",
        named("alias")
    );
    for found in tx.rows(&text, values).await? {
        consumed.push(row(found.int("event_id")?));
    }
    Ok(consumed)
}

async fn foreign_events(
    tx: &mut Tx,
    scope: TeamScope,
    run: &RunKey,
    after: Option<Timestamp>,
    until: Timestamp,
) -> Result<Vec<Vec<Val>>, StoreError> {
    let mut values = vals![scope.team(), &run.dag_id];
    let window = within(&mut values, "e.at", after, until);
    let rows = tx
        .rows(
            &format!(
                "SELECT e.team_no, e.id, e.consumer_teams, r.producer_teams, t.name AS producer, c.name AS consumer \
                 FROM asset_reference r JOIN team c ON c.team_no = r.team_no \
                 JOIN asset a ON a.uri = r.uri AND a.team_no <> r.team_no JOIN team t ON t.team_no = a.team_no \
                 JOIN asset_event e ON e.team_no = a.team_no AND e.asset_id = a.id \
                 WHERE r.team_no = $1 AND r.dag_id = $2 AND r.role = 'schedule' AND r.kind = 'asset' \
                 AND r.producer_teams IS NOT NULL AND {window}"
            ),
            values,
        )
        .await?;
    let mut consumed = Vec::new();
    for found in &rows {
        let allowed = found
            .maybe_text("consumer_teams")?
            .map(|_| found.json("consumer_teams"));
        let allowed = allowed.transpose()?.map(|list| texts(&list));
        let accepted = texts(&found.json("producer_teams")?);
        let (producer, consumer) = (found.text("producer")?, found.text("consumer")?);
        if consents(&producer, &consumer, &accepted, allowed.as_deref()) {
            consumed.push(vals![
                scope.team(),
                &run.dag_id,
                &run.run_id,
                found.team("team_no")?,
                found.int("id")?
            ]);
        }
    }
    Ok(consumed)
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
