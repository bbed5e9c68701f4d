//! Events that wait for a consumer's condition, as the REST API lists them: one entry for a Dag and an asset, like Airflow,
//! however many events wait.

use isobar_auth::ReadScope;
use isobar_model::{DagId, TeamId};
use jiff::Timestamp;

use super::select::Select;
use crate::db::Val;
use crate::{StoreError, Tx};

/// The asset as its consumer knows it. An event of another team came by URI (rule 19), so the consumer's own asset of that
/// URI is shown: the producer's number is none of its business.
macro_rules! shown {
    () => {
        "CASE WHEN q.producer_no = q.team_no THEN q.asset_id ELSE coalesce((SELECT min(o.id) FROM asset o \
         WHERE o.team_no = q.team_no AND o.uri = q.uri), q.asset_id) END"
    };
}

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
            let id = bind(asset_id.into());
            conditions.push(format!(
                concat!("(q.asset_id = {id} OR ", shown!(), " = {id})"),
                id = id
            ));
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
        concat!(
            "q.team_no, q.dag_id, coalesce(d.display_name, q.dag_id) AS dag_display_name, q.created_at, ",
            shown!(),
            " AS shown"
        ),
        "asset_queue q JOIN dag d ON d.team_no = q.team_no AND d.dag_id = q.dag_id",
    );
    for condition in filter.conditions(|value| select.bind(value)) {
        select.and(condition);
    }
    let rows = select
        .all(tx, " ORDER BY q.team_no, q.dag_id, q.created_at, q.event_id")
        .await?;
    let mut found: Vec<QueuedRow> = Vec::new();
    for row in &rows {
        let entry = QueuedRow {
            team: row.team("team_no")?,
            dag_id: row.text("dag_id")?.into(),
            dag_display_name: row.text("dag_display_name")?,
            asset_id: filter.asset_id.map_or_else(|| row.int("shown"), Ok)?,
            created_at: row.time("created_at")?,
        };
        let known = found
            .iter()
            .rev()
            .take_while(|known| known.team == entry.team && known.dag_id == entry.dag_id)
            .any(|known| known.asset_id == entry.asset_id);
        if !known {
            found.push(entry);
        }
    }
    Ok(found)
}
