//! How many runs of each Dag are in each state.

use isobar_auth::ReadScope;
use isobar_model::{DagId, RunState, TeamId};

use super::select::Select;
use crate::{StoreError, Tx};

/// Runs of one Dag in one state.
#[derive(Clone, Debug)]
pub struct StateCount {
    /// Whose it is.
    pub team: TeamId,
    /// The Dag.
    pub dag_id: DagId,
    /// The Dag's name to show.
    pub dag_display_name: String,
    /// The state.
    pub state: RunState,
    /// How many.
    pub count: i64,
}

/// Counts the runs of some Dags (of all that may be read where none are named), in order of the Dag's id.
///
/// # Errors
/// The database failed.
pub async fn runs_by_state(
    tx: &mut Tx,
    scope: &ReadScope,
    dags: Option<&[(TeamId, DagId)]>,
) -> Result<Vec<StateCount>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "r.team_no",
        "r.team_no, r.dag_id, r.state, coalesce(d.display_name, r.dag_id) AS dag_display_name, count(*) AS n",
        "dag_run r JOIN dag d ON d.team_no = r.team_no AND d.dag_id = r.dag_id",
    );
    if let Some(dags) = dags {
        let any: Vec<String> = dags
            .iter()
            .map(|(team, dag_id)| {
                let dag_id = select.bind(dag_id);
                format!("(r.team_no = {team} AND r.dag_id = {dag_id})")
            })
            .collect();
        select.and(if any.is_empty() {
            "1=0".to_owned()
        } else {
            format!("({})", any.join(" OR "))
        });
    }
    select
        .all(
            tx,
            " GROUP BY r.team_no, r.dag_id, r.state, coalesce(d.display_name, r.dag_id) ORDER BY r.dag_id, r.team_no",
        )
        .await?
        .iter()
        .map(|row| {
            Ok(StateCount {
                team: row.team("team_no")?,
                dag_id: row.text("dag_id")?.into(),
                dag_display_name: row.text("dag_display_name")?,
                state: row.word("state")?,
                count: row.int("n")?,
            })
        })
        .collect()
}
