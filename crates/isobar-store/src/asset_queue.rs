//! Taking events off the queues of Dags that wait for them.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_model::DagId;
use jiff::Timestamp;
use serde_json::json;

use crate::db::vals;
use crate::events::{self, EventKind};
use crate::lists::asset_queue::QueueFilter;
use crate::{StoreError, Tx};

/// Deletes what waits for the team's Dags; answers how many events that were. The scheduler is told of each Dag.
///
/// # Errors
/// The database failed.
pub async fn delete(tx: &mut Tx, scope: TeamScope, filter: &QueueFilter, now: Timestamp) -> Result<usize, StoreError> {
    let mut values = vals![scope.team()];
    let mut conditions = filter.conditions(|value| {
        values.push(value);
        format!("${}", values.len())
    });
    conditions.insert(0, "q.team_no = $1".to_owned());
    let gone = tx
        .rows(
            &format!(
                "DELETE FROM asset_queue AS q WHERE {} RETURNING dag_id",
                conditions.join(" AND ")
            ),
            values,
        )
        .await?;
    let dags: BTreeSet<String> = gone.iter().map(|row| row.text("dag_id")).collect::<Result<_, _>>()?;
    for dag_id in dags {
        let body = json!({"why": "asset"});
        events::insert(tx, scope, EventKind::Dag, &DagId::from(dag_id), &body, now).await?;
    }
    Ok(gone.len())
}
