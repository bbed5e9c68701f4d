//! Backfills: list, get, rehearse, make, pause, let go on, cancel.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use isobar_auth::{Action, Resource, TeamScope};
use isobar_engine::timetable::{Bound, MOST_RUNS, Timetable, TimetableError};
use isobar_execution::backfills::{self as making, Date};
use isobar_model::dag::SerializedDag;
use isobar_model::{Reprocess, RunType, render_time};
use isobar_store::backfills::{self, Backfill, BackfillFilter, NewBackfill};
use isobar_store::lists::{dags, versions};
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::dag_json::time;
use super::run_dates::unanswered;
use super::run_trigger::problem_of_conf;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Problem, Target, json_body};
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/backfills", get(list).post(create))
        .route("/backfills/dry_run", post(rehearse))
        .route("/backfills/{backfill_id}", get(get_one))
        .route("/backfills/{backfill_id}/pause", put(pause))
        .route("/backfills/{backfill_id}/unpause", put(unpause))
        .route("/backfills/{backfill_id}/cancel", put(cancel))
}

/// A backfill as Airflow's `BackfillResponse`.
fn json(ask: &Ask, row: &Backfill) -> Value {
    json!({
        "id": row.id,
        "dag_id": ask.write(row.team, row.dag_id.as_str()),
        "from_date": render_time(row.from_date),
        "to_date": render_time(row.to_date),
        "dag_run_conf": row.conf,
        "is_paused": row.is_paused,
        "reprocess_behavior": row.reprocess,
        "max_active_runs": row.max_active_runs,
        "created_at": render_time(row.created_at),
        "completed_at": time(row.completed_at),
        "updated_at": render_time(row.updated_at),
        "dag_display_name": row.dag_display_name,
    })
}

async fn list(mut ask: Ask) -> Answer {
    let dag_id = ask.query.required_text("dag_id");
    let target = ask.target(&dag_id, Resource::Run, Action::Read)?;
    let page = ask.page();
    ask.query.done()?;
    let order = backfills::ORDER.order(&ask.query.order_by())?;
    let filter = BackfillFilter {
        dag_id: Some(target.dag_id()),
        ..BackfillFilter::default()
    };
    let mut tx = ask.state.store.read().await?;
    let found = backfills::list(&mut tx, &target.scope.into(), &filter, &order, page).await?;
    let rows: Vec<Value> = found.rows.iter().map(|row| json(&ask, row)).collect();
    ok(&json!({"backfills": rows, "total_entries": found.total}))
}

fn missing() -> ApiError {
    ApiError::not_found("Backfill not found")
}

/// The backfill of the path, where it may be read.
async fn of_path(ask: &Ask, tx: &mut Tx) -> Result<Backfill, ApiError> {
    let scope = ask.read(Resource::Run)?;
    let id = ask.natural("backfill_id")?;
    backfills::get(tx, &scope, id).await?.ok_or_else(missing)
}

async fn get_one(ask: Ask) -> Answer {
    let mut tx = ask.state.store.read().await?;
    let row = of_path(&ask, &mut tx).await?;
    ok(&json(&ask, &row))
}

/// What a person does to a backfill that has not ended.
#[derive(Clone, Copy)]
enum Change {
    Pause,
    Unpause,
    Cancel,
}

async fn pause(ask: Ask) -> Answer {
    change(&ask, Change::Pause, "pause_backfill").await
}

async fn unpause(ask: Ask) -> Answer {
    change(&ask, Change::Unpause, "unpause_backfill").await
}

async fn cancel(ask: Ask) -> Answer {
    change(&ask, Change::Cancel, "cancel_backfill").await
}

async fn change(ask: &Ask, change: Change, event: &'static str) -> Answer {
    let mut tx = ask.state.store.begin().await?;
    let row = of_path(ask, &mut tx).await?;
    // Who may read it may know why it cannot be changed.
    let scope = ask.own(row.team, row.dag_id.as_str(), Resource::Run, Action::Edit)?;
    if row.completed_at.is_some() {
        return Err(ended());
    }
    let now = Timestamp::now();
    match change {
        Change::Pause => backfills::set_paused(&mut tx, scope, &row, true, now).await?,
        Change::Unpause => backfills::set_paused(&mut tx, scope, &row, false, now).await?,
        Change::Cancel => {
            if !backfills::cancel(&mut tx, scope, &row, now).await? {
                return Err(ended());
            }
        }
    }
    let record = audit::Record::new(event, ask.caller.name())
        .dag(&row.dag_id)
        .extra(json!({"backfill_id": row.id}));
    audit::write(&mut tx, scope, &[record]);
    let row = backfills::get(&mut tx, &scope.into(), row.id)
        .await?
        .ok_or_else(missing)?;
    tx.commit().await?;
    ok(&json(ask, &row))
}

fn ended() -> ApiError {
    ApiError::conflict("Backfill is already completed.")
}

/// The body of the routes that make or rehearse one.
struct Asked {
    from: Bound,
    to: Bound,
    backwards: bool,
    conf: Option<Map<String, Value>>,
    reprocess: Reprocess,
    max_active_runs: i64,
    on_latest: Option<bool>,
}

impl Asked {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        fields.required_text("dag_id", None);
        let from = bound(fields.required_time("from_date"));
        let to = bound(fields.required_time("to_date"));
        let backwards = fields.flag_or("run_backwards", false);
        let conf = fields.object("dag_run_conf");
        let words: Vec<&str> = Reprocess::ALL.iter().map(|word| word.as_str()).collect();
        fields.not_null("reprocess_behavior", Problem::not_member(&words));
        let reprocess = fields.word("reprocess_behavior", &words);
        fields.not_null("max_active_runs", Problem::not_int());
        let max_active_runs = fields.int("max_active_runs").unwrap_or(10);
        let on_latest = fields.flag("run_on_latest_version");
        fields.done()?;
        Ok(Self {
            from,
            to,
            backwards,
            conf,
            reprocess: reprocess.unwrap_or(Reprocess::None),
            max_active_runs,
            on_latest,
        })
    }
}

fn bound((at, wall): (Timestamp, DateTime)) -> Bound {
    Bound { at, wall }
}

/// A time as Python writes it, in the offset in which it was given.
fn python_time(Bound { at, wall }: Bound, between: char) -> String {
    let offset = wall
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_or(0, |zoned| zoned.timestamp().duration_since(at).as_secs() / 60);
    let fraction = match wall.subsec_nanosecond() / 1000 {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    let (date, clock) = (wall.date(), wall.time().strftime("%H:%M:%S"));
    let sign = if offset < 0 { '-' } else { '+' };
    let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
    format!("{date}{between}{clock}{fraction}{sign}{hours:02}:{minutes:02}")
}

/// Reads the body and finds the Dag that it names, with the permission to run it.
fn read(ask: &Ask, body: &Bytes) -> Result<(Asked, Target), ApiError> {
    let raw = json_body(body).unwrap_or_default();
    let named = match raw.get("dag_id") {
        Some(Value::String(dag_id)) => Some(ask.target(dag_id, Resource::Run, Action::Create)?),
        Some(Value::Null) | None => None,
        Some(_) => return Err(ApiError::bad_request("'dag_id' must be a string")),
    };
    if named.is_none() && !ask.might(Resource::Run, Action::Create) {
        return Err(ApiError::forbidden());
    }
    let asked = Asked::read(&mut Fields::of_body(body)?)?;
    let target = named.ok_or_else(missing)?;
    Ok((asked, target))
}

/// A refusal of what was asked, which Airflow answers as a text instead of a list.
fn refused(text: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, text.into())
}

/// The Dag that is to be backfilled.
struct Found {
    dag: Arc<SerializedDag>,
    version_id: Uuid,
}

async fn find(ask: &Ask, tx: &mut Tx, target: &Target) -> Result<Found, ApiError> {
    let content = versions::content(tx, target.scope, &target.dag_id(), None).await?;
    let found = content.and_then(|content| {
        Some(Found {
            dag: ask.state.dags.read(&content)?,
            version_id: content.id,
        })
    });
    found.ok_or_else(|| ApiError::not_found(format!("Could not find dag {}", target.written)))
}

fn allowed(dag: &SerializedDag, target: &Target) -> Result<(), ApiError> {
    match &dag.allowed_run_types {
        Some(kinds) if !kinds.contains(&RunType::Backfill) => Err(ApiError::bad_request(format!(
            "Dag with dag_id: '{}' does not allow backfill runs",
            target.written
        ))),
        _ => Ok(()),
    }
}

fn periodic(dag: &SerializedDag, target: &Target) -> Result<(), ApiError> {
    if dag.timetable.is_periodic() {
        return Ok(());
    }
    Err(refused(format!(
        "{} has a non-periodic schedule that does not support backfills",
        target.written
    )))
}

/// What Airflow refuses about dates, direction and conf.
fn check(dag: &SerializedDag, asked: &Asked, now: Timestamp) -> Result<(), ApiError> {
    if asked.from.at > asked.to.at {
        let (from, to) = (python_time(asked.from, 'T'), python_time(asked.to, 'T'));
        return Err(refused(format!("from_date ({from}) must not be after to_date ({to}).")));
    }
    if asked.from.at >= now {
        return Err(refused("Backfill cannot be executed for future dates."));
    }
    if dag.tasks().any(|task| dag.task(task).depends_on_past) {
        if asked.backwards {
            return Err(refused(
                "Backfill cannot be run in reverse when the Dag has tasks where depends_on_past=True.",
            ));
        }
        if asked.reprocess == Reprocess::None {
            return Err(refused(
                "Dag has tasks for which depends_on_past=True. You must set reprocess behavior to reprocess completed \
                 or reprocess failed.",
            ));
        }
    }
    match asked.conf.as_ref().and_then(|conf| problem_of_conf(dag, Some(conf))) {
        Some(problem) => Err(refused(problem)),
        None => Ok(()),
    }
}

/// The dates of a backfill, in the order in which they run. A custom timetable is asked through its team's helper.
async fn dates(
    ask: &Ask,
    target: &Target,
    dag: &SerializedDag,
    asked: &Asked,
    now: Timestamp,
) -> Result<Vec<Date>, ApiError> {
    let timetable = Timetable::from_model(&dag.timetable).map_err(|error| refused(error.to_string()))?;
    let mut dates = match timetable.question() {
        None => {
            let runs = timetable.runs_between(asked.from, asked.to, now);
            let runs = runs.map_err(|error| refused(error.to_string()))?;
            runs.into_iter().map(Date::of).collect()
        }
        Some(question) => {
            let (dag_id, span) = (dag.dag_id.as_str(), (asked.from, asked.to));
            let asking = ask
                .state
                .execution
                .ask_runs_between(target.scope, dag_id, question, span, Some(now));
            let runs = asking.await.map_err(unanswered)?;
            let runs = runs.ok_or_else(|| refused(TimetableError::TooManyRuns(MOST_RUNS).to_string()))?;
            let named = runs.into_iter().map(|(run, run_id)| Date {
                run,
                run_id: Some(run_id),
            });
            named.collect::<Vec<_>>()
        }
    };
    if asked.backwards {
        dates.reverse();
    }
    Ok(dates)
}

/// `POST /backfills/dry_run`
async fn rehearse(ask: Ask, body: Bytes) -> Answer {
    let (asked, target) = read(&ask, &body)?;
    let now = Timestamp::now();
    let Found { dag, .. } = {
        let mut tx = ask.state.store.read().await?;
        find(&ask, &mut tx, &target).await?
    };
    periodic(&dag, &target)?;
    allowed(&dag, &target)?;
    check(&dag, &asked, now)?;
    let dates = dates(&ask, &target, &dag, &asked, now).await?;
    let mut tx = ask.state.store.read().await?;
    let kept = making::rehearse(&mut tx, target.scope, &target.dag_id(), dates, asked.reprocess).await?;
    let shown: Vec<Value> = kept
        .iter()
        .map(|Date { run, .. }| {
            json!({
                "logical_date": time(run.logical_date()),
                "partition_key": run.partition_key,
                "partition_date": time(run.partition_date),
            })
        })
        .collect();
    let total = shown.len();
    ok(&json!({"backfills": shown, "total_entries": total}))
}

fn already_running(target: &Target) -> ApiError {
    ApiError::conflict(format!(
        "There is already a running backfill for dag {}",
        target.written
    ))
}

/// `POST /backfills`
async fn create(ask: Ask, body: Bytes) -> Answer {
    let (asked, target) = read(&ask, &body)?;
    let (scope, dag_id, now): (TeamScope, _, _) = (target.scope, target.dag_id(), Timestamp::now());
    let (found, bundle_version) = {
        let mut tx = ask.state.store.read().await?;
        let found = find(&ask, &mut tx, &target).await?;
        let bundle_version = dags::get(&mut tx, scope, &dag_id)
            .await?
            .and_then(|row| row.bundle_version);
        allowed(&found.dag, &target)?;
        periodic(&found.dag, &target)?;
        if backfills::open_of(&mut tx, scope, &dag_id).await?.is_some() {
            return Err(already_running(&target));
        }
        (found, bundle_version)
    };
    check(&found.dag, &asked, now)?;
    let dates = dates(&ask, &target, &found.dag, &asked, now).await?;
    if dates.is_empty() {
        let (from, to) = (python_time(asked.from, ' '), python_time(asked.to, ' '));
        return Err(refused(format!(
            "No runs to create for Dag {} in the range [{from}, {to}]",
            target.written
        )));
    }
    let settings = ask.state.execution.settings();
    let on_latest = settings.runs_again_on_latest(asked.on_latest, &found.dag, true);
    let plan = making::Plan {
        new: NewBackfill {
            dag_id: dag_id.clone(),
            from_date: asked.from.at,
            to_date: asked.to.at,
            conf: asked.conf.map_or(Value::Null, Value::Object),
            reprocess: asked.reprocess,
            max_active_runs: asked.max_active_runs,
            triggering_user: ask.caller.name().to_owned(),
        },
        dates,
        bundle_version: bundle_version.filter(|_| !found.dag.disable_bundle_versioning),
        version_id: found.version_id,
        dag: found.dag,
        on_latest,
    };
    let mut tx = ask.state.store.begin().await?;
    let made = ask
        .state
        .execution
        .new_runs()
        .backfill(&mut tx, scope, &plan, now)
        .await?;
    let id = made.ok_or_else(|| already_running(&target))?;
    let record = audit::Record::new("create_backfill", ask.caller.name())
        .dag(&dag_id)
        .extra(json!({
            "backfill_id": id,
            "from_date": render_time(plan.new.from_date),
            "to_date": render_time(plan.new.to_date),
            "run_backwards": asked.backwards,
            "reprocess_behavior": plan.new.reprocess,
            "max_active_runs": plan.new.max_active_runs,
        }));
    audit::write(&mut tx, scope, &[record]);
    let row = backfills::get(&mut tx, &scope.into(), id).await?.ok_or_else(missing)?;
    tx.commit().await?;
    ok(&json(&ask, &row))
}
