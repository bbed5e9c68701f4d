//! Assets that wait for a consumer's condition, as the REST API lists them: one entry for a Dag and an asset, however many
//! events there were. The asset is the consumer's own, also where another team's event came by its URI (rule 19).

use isobar_auth::ReadScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;

use super::select::Select;
use crate::db::Val;
use crate::{StoreError, Tx};

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRow {
    /// The consumer's team.
    pub team: TeamId,
    /// The consumer.
    pub dag_id: DagId,
    /// Its name to show.
    pub dag_display_name: String,
    /// The asset.
    pub asset_id: i64,
    /// Since when the first event waits.
    pub created_at: Timestamp,
}

/// What is meant.
#[derive(Clone, Debug, Default)]
pub struct QueueFilter {
    /// What waits for this Dag.
    pub dag_id: Option<DagId>,
    /// What waits of this asset.
    pub asset_id: Option<i64>,
    /// What came before.
    pub before: Option<Timestamp>,
}

impl QueueFilter {
    /// As conditions on rows `q`; `bind` gives a placeholder for a value.
    pub(crate) fn conditions(&self, mut bind: impl FnMut(Val) -> String) -> Vec<String> {
        let mut conditions = Vec::new();
        if let Some(dag_id) = &self.dag_id {
            conditions.push(format!("q.dag_id = {}", bind(dag_id.into())));
        }
        if let Some(asset_id) = self.asset_id {
            conditions.push(format!("q.asset_id = {}", bind(asset_id.into())));
        }
        if let Some(before) = self.before {
            conditions.push(format!("q.created_at < {}", bind(before.into())));
        }
        conditions
    }
}

/// Everything that waits for Dags that may be read.
///
/// # Errors
/// The database failed.
pub async fn list(tx: &mut Tx, scope: &ReadScope, filter: &QueueFilter) -> Result<Vec<QueuedRow>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "q.team_no",
        "q.team_no, q.dag_id, coalesce(d.display_name, q.dag_id) AS dag_display_name, q.created_at, q.asset_id",
        "asset_queue q JOIN dag d ON d.team_no = q.team_no AND d.dag_id = q.dag_id",
    );
    for condition in filter.conditions(|value| select.bind(value)) {
        select.and(condition);
    }
    let rows = select
        .all(tx, " ORDER BY q.team_no, q.dag_id, q.created_at, q.asset_id")
        .await?;
    rows.iter()
        .map(|row| {
            Ok(QueuedRow {
                team: row.team("team_no")?,
                dag_id: row.text("dag_id")?.into(),
                dag_display_name: row.text("dag_display_name")?,
                asset_id: row.int("asset_id")?,
                created_at: row.time("created_at")?,
            })
        })
        .collect()
}
