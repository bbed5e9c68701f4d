//! Counts of runs by state, and the tags of Dags.

use axum::Router;
use axum::routing::get;
use isobar_auth::Resource;
use isobar_model::{RunState, TeamId};
use isobar_store::lists::{BadOrder, stats, tags};
use serde_json::{Value, json};

use super::runs::named_dags;
use crate::AppState;
use crate::errors::{Answer, ok};
use crate::extract::Ask;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/dagStats", get(run_counts))
        .route("/dagTags", get(all_tags))
}

/// The order of states in the answer, which is that of Airflow's enumeration.
const STATES: [RunState; 4] = [RunState::Queued, RunState::Running, RunState::Success, RunState::Failed];

async fn run_counts(ask: Ask) -> Answer {
    let scope = ask.read(Resource::Run)?;
    let asked = ask.query.texts("dag_ids");
    let dags = named_dags(&ask, (!asked.is_empty()).then_some(asked));
    let mut tx = ask.state.store.read().await?;
    let counts = stats::runs_by_state(&mut tx, &scope, dags.as_deref()).await?;
    let mut groups: Vec<((TeamId, &str), Vec<&stats::StateCount>)> = Vec::new();
    for count in &counts {
        let key = (count.team, count.dag_id.as_str());
        match groups.last_mut() {
            Some((last, group)) if *last == key => group.push(count),
            _ => groups.push((key, vec![count])),
        }
    }
    let dags: Vec<Value> = groups
        .iter()
        .map(|((team, dag_id), group)| {
            let stats: Vec<Value> = STATES
                .iter()
                .map(|state| {
                    let count = group.iter().find(|one| one.state == *state).map_or(0, |one| one.count);
                    json!({"state": state, "count": count})
                })
                .collect();
            json!({
                "dag_id": ask.write(*team, dag_id),
                "dag_display_name": group[0].dag_display_name,
                "stats": stats,
            })
        })
        .collect();
    let total = dags.len();
    ok(&json!({"dags": dags, "total_entries": total}))
}

async fn all_tags(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Dag)?;
    let page = ask.page();
    ask.query.done()?;
    let order = ask.query.order_by();
    if let Some(other) = order
        .iter()
        .map(|name| name.trim_start_matches('-'))
        .find(|name| *name != "name")
    {
        return Err(BadOrder::Unknown(other.to_owned()).into());
    }
    let descending = order.first().is_some_and(|name| name.starts_with('-'));
    let mut tx = ask.state.store.read().await?;
    let found = tags::list(&mut tx, &scope, &ask.query.matching("tag_name"), descending, page).await?;
    ok(&json!({"tags": found.rows, "total_entries": found.total}))
}
