//! What the Task Execution API reads of runs.

use std::collections::HashMap;

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{RunKey, TeamId};
use jiff::Timestamp;
use serde_json::Value;

use crate::db::vals;
use crate::runs::Run;
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// How many runs of a Dag are meant; what is empty restricts nothing.
///
/// # Errors
/// The database failed.
pub async fn count(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    logical_dates: &[Timestamp],
    run_ids: &[String],
    states: &[String],
) -> Result<i64, StoreError> {
    let mut values = vals![scope.team(), dag_id];
    let mut text = "SELECT count(*) AS n FROM dag_run WHERE team_no = $1 AND dag_id = $2".to_owned();
    if !logical_dates.is_empty() {
        text.push_str(&format!(" AND logical_date {}", among(&mut values, logical_dates)));
    }
    if !run_ids.is_empty() {
        text.push_str(&format!(" AND run_id {}", among(&mut values, run_ids)));
    }
    if !states.is_empty() {
        text.push_str(&format!(" AND state {}", among(&mut values, states)));
    }
    let row = tx.row(&text, values).await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// The run before a logical date, of a state where one is given.
///
/// # Errors
/// The database failed.
pub async fn previous(
    tx: &mut Tx,
    scope: TeamScope,
    dag_id: &str,
    before: Timestamp,
    state: Option<&str>,
) -> Result<Option<Run>, StoreError> {
    let mut values = vals![scope.team(), dag_id, before];
    let mut text = "SELECT * FROM dag_run WHERE team_no = $1 AND dag_id = $2 AND logical_date < $3".to_owned();
    if let Some(state) = state {
        values.push(state.into());
        text.push_str(" AND state = $4");
    }
    text.push_str(" ORDER BY logical_date DESC LIMIT 1");
    let row = tx.row(&text, values).await?;
    row.as_ref().map(Run::from_row).transpose()
}

/// An asset event that a run consumed.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct ConsumedEvent {
    pub producer: TeamId,
    pub producer_name: String,
    pub name: String,
    pub uri: String,
    pub asset_extra: Value,
    pub extra: Value,
    pub source_dag_id: Option<String>,
    pub source_run_id: Option<String>,
    pub source_task_id: Option<String>,
    pub source_map_index: Option<i64>,
    /// Names of aliases, a list or null.
    pub source_aliases: Value,
    pub at: Timestamp,
    pub partition_key: Option<String>,
}

/// What a run consumed, oldest first. Events of other teams are among them where a consent let them in (rule 19), hence
/// the organisation's scope beside the team's.
///
/// # Errors
/// The database failed.
pub async fn consumed_events(
    tx: &mut Tx,
    scope: TeamScope,
    _org: &OrgScope,
    run: &RunKey,
) -> Result<Vec<ConsumedEvent>, StoreError> {
    let rows = tx
        .rows(
            "SELECT e.team_no AS producer, t.name AS producer_name, a.name, a.uri, a.extra AS asset_extra, e.extra, e.source_dag_id, \
             e.source_run_id, e.source_task_id, e.source_map_index, e.source_aliases, e.at, e.partition_key \
             FROM dag_run_asset_event c JOIN asset_event e ON e.team_no = c.producer_no AND e.id = c.event_id \
             JOIN asset a ON a.team_no = e.team_no AND a.id = e.asset_id \
             JOIN team t ON t.team_no = e.team_no WHERE c.team_no = $1 AND c.dag_id = $2 AND c.run_id = $3 ORDER BY e.at, e.id",
            vals![scope.team(), &run.dag_id, &run.run_id],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ConsumedEvent {
                producer: row.team("producer")?,
                producer_name: row.text("producer_name")?,
                name: row.text("name")?,
                uri: row.text("uri")?,
                asset_extra: row.json("asset_extra")?,
                extra: row.json("extra")?,
                source_dag_id: row.maybe_text("source_dag_id")?,
                source_run_id: row.maybe_text("source_run_id")?,
                source_task_id: row.maybe_text("source_task_id")?,
                source_map_index: row.maybe_int("source_map_index")?,
                source_aliases: row.json("source_aliases")?,
                at: row.time("at")?,
                partition_key: row.maybe_text("partition_key")?,
            })
        })
        .collect()
}

/// The team's own runs that events of it caused, by event.
///
/// # Errors
/// The database failed.
pub async fn caused_by_events(
    tx: &mut Tx,
    scope: TeamScope,
    events: &[i64],
) -> Result<HashMap<i64, Vec<Run>>, StoreError> {
    let mut caused: HashMap<i64, Vec<Run>> = HashMap::new();
    for chunk in events.chunks(500) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT c.event_id, r.* FROM dag_run_asset_event c JOIN dag_run r ON r.team_no = c.team_no \
                     AND r.dag_id = c.dag_id AND r.run_id = c.run_id \
                     WHERE c.producer_no = $1 AND c.team_no = $1 AND c.event_id {list} ORDER BY r.id"
                ),
                values,
            )
            .await?;
        for row in &rows {
            caused
                .entry(row.int("event_id")?)
                .or_default()
                .push(Run::from_row(row)?);
        }
    }
    Ok(caused)
}
