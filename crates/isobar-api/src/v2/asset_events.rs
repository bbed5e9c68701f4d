//! Asset events: list, make.

use std::collections::BTreeSet;

use axum::body::Bytes;
use isobar_auth::{Action, ReadScope, Resource};
use isobar_model::{TeamName, render_time};
use isobar_store::assets::{self as register, Change};
use isobar_store::audit;
use isobar_store::lists::asset_events::{self, EventFilter, EventRow};
use isobar_store::lists::assets;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::assets::{dag_of, extra};
use super::dag_json::time;
use super::owners;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Problem};

/// An event as Airflow's `AssetEventResponse`.
pub(super) fn event(ask: &Ask, row: &EventRow) -> Value {
    let runs: Vec<Value> = row
        .runs
        .iter()
        .map(|run| {
            json!({
                "run_id": run.run_id,
                "dag_id": ask.write(run.team, run.dag_id.as_str()),
                "logical_date": time(run.logical_date),
                "start_date": time(run.start_date),
                "end_date": time(run.end_date),
                "state": run.state,
                "data_interval_start": time(run.interval_start),
                "data_interval_end": time(run.interval_end),
                "partition_key": run.partition_key,
                "triggering": run.triggering,
            })
        })
        .collect();
    json!({
        "id": row.id,
        "asset_id": row.asset_id,
        "uri": row.uri,
        "name": row.name,
        "group": row.group,
        "extra": extra(ask, &row.extra),
        "source_task_id": row.source_task_id,
        "source_dag_id": row.source_dag_id.as_ref().map(|dag_id| ask.write(row.team, dag_id.as_str())),
        "source_run_id": row.source_run_id,
        "source_map_index": row.source_map_index,
        "created_dagruns": runs,
        "timestamp": render_time(row.at),
        "partition_key": row.partition_key,
    })
}

/// The runs that the caller may read, none where none.
pub(super) fn readable_runs(ask: &Ask) -> ReadScope {
    ask.read(Resource::Run)
        .unwrap_or_else(|_| ReadScope::from(ask.state.nobody))
}

/// `GET /assets/events`
pub(super) async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Asset)?;
    let runs = readable_runs(&ask);
    let page = ask.page();
    let source_dag = dag_of(&ask, ask.query.text("source_dag_id").as_deref());
    let query = &mut ask.query;
    let filter = EventFilter {
        asset_id: query.int("asset_id"),
        source_dag,
        source_task_id: query.text("source_task_id"),
        source_run_id: query.text("source_run_id"),
        source_map_index: query.int("source_map_index"),
        name: query.matching("name"),
        at: query.times("timestamp"),
    };
    query.done()?;
    let order = asset_events::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = asset_events::list(&mut tx, &scope, &runs, &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| event(&ask, row)).collect();
    ok(&json!({"asset_events": rows, "total_entries": found.total}))
}

/// What the body of a new event says.
struct Asked {
    asset_id: i64,
    partition_key: Option<String>,
    extra: Value,
    consumer_teams: Option<Vec<String>>,
}

impl Asked {
    fn read(fields: &mut Fields) -> Self {
        let asset_id = fields.required_int("asset_id", i64::MIN);
        let partition_key = fields.text("partition_key", Some(250));
        if partition_key.as_deref().is_some_and(|key| key.trim().is_empty()) {
            fields.mismatch("partition_key", r"\S");
        }
        let given = fields.has("extra");
        let mut extra = fields.object("extra").unwrap_or_default();
        if given && fields.raw()["extra"].is_null() {
            fields.take_over(vec![
                Problem::not_dict().at(vec!["body".into(), "extra".into()], &Value::Null),
            ]);
        }
        if given {
            extra.insert("from_rest_api".to_owned(), true.into());
        }
        let mut consumer_teams = None;
        if let Some(value) = fields.any("access_control").filter(|value| !value.is_null()) {
            match Fields::of(value, vec!["body".into(), "access_control".into()]) {
                Ok(mut inner) => {
                    consumer_teams = inner.texts("consumer_teams");
                    inner.flag("allow_global");
                    fields.take_over(inner.problems());
                }
                Err(problem) => fields.take_over(vec![problem]),
            }
        }
        Self {
            asset_id,
            partition_key,
            extra: extra.into(),
            consumer_teams,
        }
    }
}

/// `POST /assets/events`: the event is the asset's team's, and runs that team's consumers and those of others by consent
/// (rule 19), as if a task had produced it.
pub(super) async fn create(ask: Ask, body: Bytes) -> Answer {
    if !ask.might(Resource::Asset, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let mut fields = Fields::of_body(&body)?;
    let asked = Asked::read(&mut fields);
    fields.done()?;
    let missing = || ApiError::not_found(format!("Asset with ID: `{}` was not found", asked.asset_id));
    let scope = owners::of_id(&ask, asked.asset_id, Resource::Asset, Action::Create)?;
    let mut tx = ask.state.store.begin().await?;
    let asset = assets::get(&mut tx, &scope.into(), asked.asset_id)
        .await?
        .ok_or_else(missing)?;
    let team_name = ask
        .names
        .directory
        .by_id(scope.team())
        .map_or_else(|| TeamName::from_stored(String::new()), |team| team.name);
    let change = Change {
        name: asset.name,
        uri: asset.uri,
        asset_extra: asset.extra,
        extra: asked.extra.clone(),
        aliases: BTreeSet::new(),
        partition_key: asked.partition_key.clone(),
        partition_date: None,
        consumer_teams: asked.consumer_teams.clone(),
    };
    let now = Timestamp::now();
    let registered = register::register(&mut tx, scope, &ask.state.org, &team_name, None, &[change], now).await?;
    let made = registered.first().ok_or_else(missing)?.event_id;
    let record = audit::Record::new("create_asset_event", ask.caller.name())
        .extra(extra(&ask, &owners::audited(fields.raw().clone(), "POST")));
    audit::write(&mut tx, scope, &[record]);
    let row = asset_events::get(&mut tx, &scope.into(), &readable_runs(&ask), made).await?;
    tx.commit().await?;
    ok(&event(&ask, &row.ok_or_else(missing)?))
}
