//! Whom a change of an asset concerns: the one resolver for events of tasks, aliases, watchers and the API (rule 19).

use std::collections::BTreeSet;

use isobar_auth::{OrgScope, TeamScope};
use isobar_engine::assets::consents;
use isobar_model::{DagId, TeamId, TeamName};
use serde_json::Value;

use super::register::{Change, EventSource};
use crate::db::vals;
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// A Dag that waits for a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Consumer {
    /// Its team.
    pub(super) team: TeamId,
    /// The Dag.
    pub(super) dag_id: DagId,
    /// The asset as its own team has it.
    pub(super) asset_id: i64,
    /// It listens to partitions.
    pub(super) partitioned: bool,
}

/// The Dags that wait for this change: of the own team by name, URI or alias; of others by URI, where the consumer lists
/// the producing team and the producer does not shut the consumer out.
pub(super) async fn consumers(
    tx: &mut Tx,
    scope: TeamScope,
    _org: &OrgScope,
    team_name: &TeamName,
    change: &Change,
    asset_id: i64,
    allowed: Option<&Vec<String>>,
) -> Result<BTreeSet<Consumer>, StoreError> {
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
                "SELECT DISTINCT r.dag_id, d.timetable_partitioned FROM asset_reference r JOIN dag d \
                 ON d.team_no = r.team_no AND d.dag_id = r.dag_id WHERE r.team_no = $1 AND r.role = 'schedule' \
                 AND d.is_paused = FALSE AND d.is_stale = FALSE AND ((r.kind = 'asset' AND r.name = $2 AND r.uri = $3) \
                 OR (r.kind = 'name_ref' AND r.name = $2) OR (r.kind = 'uri_ref' AND r.uri = $3){by_alias})"
            ),
            values,
        )
        .await?;
    let mut found = BTreeSet::new();
    for row in &own {
        found.insert(Consumer {
            team: scope.team(),
            dag_id: DagId::from(row.text("dag_id")?),
            asset_id,
            partitioned: row.flag("timetable_partitioned")?,
        });
    }
    let foreign = tx
        .rows(
            "SELECT r.team_no, r.dag_id, r.producer_teams, t.name AS team_name, d.timetable_partitioned, a.id AS asset_id \
             FROM asset_reference r JOIN dag d ON d.team_no = r.team_no AND d.dag_id = r.dag_id \
             JOIN team t ON t.team_no = r.team_no \
             JOIN asset a ON a.team_no = r.team_no AND a.name = r.name AND a.uri = r.uri \
             WHERE r.role = 'schedule' AND r.kind = 'asset' AND r.uri = $1 AND r.team_no <> $2 \
             AND r.producer_teams IS NOT NULL AND d.is_paused = FALSE AND d.is_stale = FALSE AND t.state = 'active'",
            vals![&change.uri, scope.team()],
        )
        .await?;
    for row in &foreign {
        let consumer = row.text("team_name")?;
        let accepted = texts(&row.json("producer_teams")?);
        if consents(team_name.as_str(), &consumer, &accepted, allowed.map(Vec::as_slice)) {
            found.insert(Consumer {
                team: row.team("team_no")?,
                dag_id: DagId::from(row.text("dag_id")?),
                asset_id: row.int("asset_id")?,
                partitioned: row.flag("timetable_partitioned")?,
            });
        }
    }
    Ok(found)
}

/// The teams to which whoever produced the change restricts it; none where nobody restricts anything.
pub(super) async fn allowed_consumers(
    tx: &mut Tx,
    scope: TeamScope,
    source: Option<&EventSource>,
    change: &Change,
) -> Result<Option<Vec<String>>, StoreError> {
    if change.consumer_teams.is_some() {
        return Ok(change.consumer_teams.clone());
    }
    let Some(source) = source else { return Ok(None) };
    let row = tx
        .row(
            "SELECT consumer_teams FROM asset_reference WHERE team_no = $1 AND dag_id = $2 AND task_id = $3 \
             AND role = 'outlet' AND kind = 'asset' AND name = $4 AND uri = $5 AND consumer_teams IS NOT NULL",
            vals![scope.team(), &source.dag_id, &source.task_id, &change.name, &change.uri],
        )
        .await?;
    row.map(|row| Ok(texts(&row.json("consumer_teams")?))).transpose()
}

/// The texts of a JSON list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
