//! Dags: list, get, details, pause, delete, favourites.

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use isobar_auth::{Action, Resource};
use isobar_model::RunState;
use isobar_model::dag::SerializedDag;
use isobar_store::lists::dags::{self, DagFilter};
use isobar_store::lists::{Page, Slice, versions};
use isobar_store::{audit, dag_changes};
use serde_json::{Map, Value, json};

use super::dag_json::{dag, time, version};
use super::stored_dag;
use super::tasks::params;
use crate::errors::{Answer, no_content, ok};
use crate::extract::{Ask, Fields, Params, Target};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/dags", get(list).patch(patch_many))
        .route("/dags/{dag_id}", get(get_one).patch(patch_one).delete(delete))
        .route("/dags/{dag_id}/details", get(details))
        .route("/dags/{dag_id}/favorite", post(favorite))
        .route("/dags/{dag_id}/unfavorite", post(unfavorite))
}

const RUN_STATES: [&str; 4] = ["queued", "running", "success", "failed"];

/// The filters that listing and patching many share.
fn common_filter(query: &mut Params) -> DagFilter {
    DagFilter {
        exclude_stale: query.flag("exclude_stale").unwrap_or(true),
        paused: query.flag("paused"),
        dag_id: query.matching("dag_id"),
        tags: query.texts("tags"),
        all_tags: query.literal("tags_match_mode", &["any", "all"]) == Some("all"),
        owners: query.texts("owners"),
        ..DagFilter::default()
    }
}

async fn list(mut ask: Ask) -> Answer {
    let scope = ask.read(Resource::Dag)?;
    let page = ask.page();
    let user = ask.caller.name().to_owned();
    let query = &mut ask.query;
    let mut filter = DagFilter {
        display_name: query.matching("dag_display_name"),
        has_import_errors: query.flag("has_import_errors"),
        bundle: query.text("bundle_name").filter(|text| !text.is_empty()),
        bundle_version: query.text("bundle_version").filter(|text| !text.is_empty()),
        has_asset_schedule: query.flag("has_asset_schedule"),
        asset_dependency: query.text("asset_dependency"),
        last_run_state: query.word::<RunState>("last_dag_run_state", &RUN_STATES),
        run_start: query.times("dag_run_start_date"),
        run_end: query.times("dag_run_end_date"),
        timetable_types: query.texts("timetable_type"),
        favorite_of: query.flag("is_favorite").map(|wanted| (user, wanted)),
        ..common_filter(query)
    };
    let states = query.texts("dag_run_state");
    query.done()?;
    filter.run_states = run_states(&states)?;
    let order = dags::ORDER.order(&ask.query.order_by())?;
    let mut tx = ask.state.store.read().await?;
    let found = dags::list(&mut tx, &scope, &filter, &order, page).await?;
    ok(&collection(&ask, &found))
}

/// Reads states of runs; `none` stands for no state.
pub(super) fn run_states(texts: &[String]) -> Result<Vec<Option<RunState>>, ApiError> {
    texts
        .iter()
        .map(|text| match text.as_str() {
            "none" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                ApiError::new(
                    axum::http::StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid value for state. Valid values are queued, running, success, failed",
                )
            }),
        })
        .collect()
}

fn collection(ask: &Ask, found: &Slice<dags::DagRow>) -> Value {
    let rows: Vec<Value> = found.rows.iter().map(|row| dag(row, &ask.names).into()).collect();
    json!({"dags": rows, "total_entries": found.total})
}

/// Airflow reads the serialized Dag first, so a Dag without a version is not found in the same words.
async fn read_row(ask: &Ask, target: &Target) -> Result<dags::DagRow, ApiError> {
    let mut tx = ask.state.store.read().await?;
    dags::get(&mut tx, target.scope, &target.dag_id())
        .await?
        .filter(|row| row.current_version_number > 0)
        .ok_or_else(|| stored_dag::missing(target))
}

async fn get_one(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let row = read_row(&ask, &target).await?;
    ok(&dag(&row, &ask.names).into())
}

async fn details(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let row = read_row(&ask, &target).await?;
    let mut tx = ask.state.store.read().await?;
    let stored = stored_dag::latest(&ask.state, &mut tx, &target).await?;
    let mut body = dag(&row, &ask.names);
    let extra = json!({
        "catchup": stored.catchup,
        "dag_run_timeout": stored.dagrun_timeout.map(super::tasks::iso_duration),
        "asset_expression": row.asset_expression,
        "doc_md": stored.doc_md.as_deref().map(clean_doc),
        "start_date": time(stored.start_date),
        "end_date": time(stored.end_date),
        "is_paused_upon_creation": stored.is_paused_upon_creation,
        "params": params(&stored.params),
        "render_template_as_native_obj": stored.render_template_as_native_obj,
        "template_search_path": attribute(&stored, "template_searchpath"),
        "timezone": stored.timezone.name(),
        "last_parsed": time(row.last_parsed),
        "default_args": default_args(&stored),
        "rerun_with_latest_version": stored.rerun_with_latest_version,
        "owner_links": stored.owner_links,
        "is_favorite": dags::is_favorite(&mut tx, target.scope, &target.dag_id(), ask.caller.name()).await?,
        "active_runs_count": dags::running_runs(&mut tx, target.scope, &target.dag_id()).await?,
        "concurrency": row.max_active_tasks,
        "latest_dag_version": versions::get(&mut tx, target.scope, &target.dag_id(), None)
            .await?
            .map(|one| version(&one, &ask.names)),
    });
    if let Value::Object(extra) = extra {
        // Airflow's computed fields come last.
        let computed: Vec<(String, Value)> = ["is_backfillable", "file_token"]
            .iter()
            .filter_map(|name| body.shift_remove_entry(*name))
            .collect();
        body.extend(extra);
        let tail: Vec<(String, Value)> = ["concurrency", "latest_dag_version"]
            .iter()
            .filter_map(|name| body.shift_remove_entry(*name))
            .collect();
        body.extend(computed);
        body.extend(tail);
    }
    ok(&body.into())
}

/// The default arguments of tasks, durations and times as pydantic writes them.
fn default_args(dag: &SerializedDag) -> Value {
    let args = dag.json().get("dag").and_then(|dag| dag.get("default_args"));
    args.map_or_else(|| Value::Object(Map::new()), shown)
}

/// A value of Airflow's tagged encoding as its API shows it.
fn shown(value: &Value) -> Value {
    let tagged = value
        .as_object()
        .and_then(|map| Some((map.get("__type")?.as_str()?, map.get("__var")?)));
    match (tagged, value) {
        (Some(("timedelta", inner)), _) => inner.as_f64().map_or(Value::Null, |seconds| {
            jiff::SignedDuration::try_from_secs_f64(seconds)
                .map_or(Value::Null, |delta| super::tasks::iso_duration(delta).into())
        }),
        (Some(("datetime", inner)), _) => inner
            .as_f64()
            .and_then(|seconds| jiff::SignedDuration::try_from_secs_f64(seconds).ok())
            .and_then(|since| jiff::Timestamp::from_duration(since).ok())
            .map_or(Value::Null, |at| time(Some(at))),
        (Some((_, inner)), _) => shown(inner),
        (None, Value::Object(map)) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), shown(value))).collect())
        }
        (None, Value::Array(items)) => items.iter().map(shown).collect(),
        (None, other) => other.clone(),
    }
}

fn attribute(dag: &SerializedDag, name: &str) -> Value {
    dag.json()
        .get("dag")
        .and_then(|dag| dag.get(name))
        .map_or(Value::Null, isobar_model::dag::plain)
}

/// Takes the common indentation off, as Python's `inspect.cleandoc`.
fn clean_doc(text: &str) -> String {
    let expanded = text.replace('\t', "        ");
    let mut lines: Vec<&str> = expanded.split('\n').collect();
    let margin = lines
        .iter()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    for (index, line) in lines.iter_mut().enumerate() {
        *line = if index == 0 {
            line.trim_start()
        } else {
            line.get(margin..).unwrap_or("")
        };
    }
    let start = lines.iter().position(|line| !line.is_empty()).unwrap_or(lines.len());
    let end = lines
        .iter()
        .rposition(|line| !line.is_empty())
        .map_or(start, |last| last + 1);
    lines[start..end].join("\n")
}

/// Checks `update_mask`, whose only value can be `is_paused`.
fn check_mask(ask: &Ask) -> Result<(), ApiError> {
    let mask = ask.query.texts("update_mask");
    if mask.is_empty() || mask == ["is_paused"] {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "Only `is_paused` field can be updated through the REST API",
        ))
    }
}

fn wanted_pause(body: &Bytes) -> Result<bool, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let paused = fields.required_flag("is_paused");
    fields.done()?;
    Ok(paused)
}

async fn patch_one(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Edit)?;
    let paused = wanted_pause(&body)?;
    let not_found = || ApiError::not_found(format!("Dag with id: {} was not found", target.written));
    let mut tx = ask.state.store.begin().await?;
    dags::get(&mut tx, target.scope, &target.dag_id())
        .await?
        .ok_or_else(not_found)?;
    check_mask(&ask)?;
    dag_changes::set_paused(&mut tx, target.scope, &[target.dag_id()], paused).await?;
    let record = audit::Record::new("patch_dag", ask.caller.name())
        .dag(&target.dag_id())
        .extra(json!({"is_paused": paused}));
    audit::write(&mut tx, target.scope, &[record]);
    let row = dags::get(&mut tx, target.scope, &target.dag_id())
        .await?
        .ok_or_else(not_found)?;
    tx.commit().await?;
    ok(&dag(&row, &ask.names).into())
}

async fn patch_many(mut ask: Ask, body: Bytes) -> Answer {
    let scopes = ask.writable(Resource::Dag, Action::Edit)?;
    let page = ask.page();
    let filter = common_filter(&mut ask.query);
    ask.query.done()?;
    let paused = wanted_pause(&body)?;
    check_mask(&ask)?;
    let order = dags::ORDER.order(&[])?;
    // Without a pattern nothing is meant, so that a forgotten one does not pause everything.
    if filter.dag_id.is_empty() {
        return ok(&json!({"dags": [], "total_entries": 0}));
    }
    let mut total = 0;
    let mut shown = Vec::new();
    for scope in scopes {
        let mut tx = ask.state.store.begin().await?;
        let all = Page {
            limit: u32::MAX,
            offset: 0,
        };
        let found = dags::list(&mut tx, &scope.into(), &filter, &order, all).await?;
        let ids: Vec<_> = found.rows.iter().map(|row| row.dag_id.clone()).collect();
        dag_changes::set_paused(&mut tx, scope, &ids, paused).await?;
        let records: Vec<_> = ids
            .iter()
            .map(|id| {
                audit::Record::new("patch_dag", ask.caller.name())
                    .dag(id)
                    .extra(json!({"is_paused": paused}))
            })
            .collect();
        audit::write(&mut tx, scope, &records);
        tx.commit().await?;
        total += found.total;
        shown.extend(found.rows.into_iter().map(|mut row| {
            row.is_paused = paused;
            row
        }));
    }
    let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
    let rows: Vec<Value> = shown
        .iter()
        .skip(offset)
        .take(page.limit as usize)
        .map(|row| dag(row, &ask.names).into())
        .collect();
    ok(&json!({"dags": rows, "total_entries": total}))
}

async fn delete(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Delete)?;
    let mut tx = ask.state.store.begin().await?;
    match dag_changes::delete(&mut tx, target.scope, &target.dag_id()).await? {
        dag_changes::Deleted::Missing => Err(ApiError::not_found(format!(
            "Dag with id: {} was not found",
            target.written
        ))),
        dag_changes::Deleted::StillRunning => Err(ApiError::conflict(format!(
            "Task instances of dag with id: '{}' are still running",
            target.written
        ))),
        dag_changes::Deleted::Done => {
            let record = audit::Record::new("delete_dag", ask.caller.name()).dag(&target.dag_id());
            audit::write(&mut tx, target.scope, &[record]);
            tx.commit().await?;
            no_content()
        }
    }
}

async fn mark_favorite(ask: &Ask, wanted: bool) -> Answer {
    let target = ask.dag(Resource::Dag, Action::Read)?;
    let mut tx = ask.state.store.begin().await?;
    if dags::get(&mut tx, target.scope, &target.dag_id()).await?.is_none() {
        return Err(ApiError::not_found(format!(
            "Dag with id '{}' not found",
            target.written
        )));
    }
    let changed = dag_changes::set_favorite(&mut tx, target.scope, &target.dag_id(), ask.caller.name(), wanted).await?;
    if !changed {
        return Err(if wanted {
            ApiError::not_unique("dag_favorite", "user_id, dag_favorite.dag_id")
        } else {
            ApiError::conflict("Dag is not marked as favorite")
        });
    }
    tx.commit().await?;
    no_content()
}

async fn favorite(ask: Ask) -> Answer {
    mark_favorite(&ask, true).await
}

async fn unfavorite(ask: Ask) -> Answer {
    mark_favorite(&ask, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_loses_its_margin() {
        assert_eq!(clean_doc("\n    # Title\n      text\n    "), "# Title\n  text");
    }
}
