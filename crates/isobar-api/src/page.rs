//! The first page: a person's teams at a glance. It stands beside Airflow's own UI and shows what that one cannot, all
//! of one's teams on one page.
//!
//! The page is one static document; its data comes from `/isobar/overview`, and from the REST API for tasks and logs.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use isobar_auth::{Action, OrgRole, Principal, Resource, Role};
use isobar_model::{TeamName, render_time};
use isobar_store::overview::{self, DagGlance, RunGlance, TeamOverview};
use serde_json::{Value, json};

use crate::AppState;
use crate::auth::Caller;

/// Nothing on the page comes from elsewhere, and nothing that a Dag author wrote may run.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// `/` and what it loads.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(page))
        .route(
            "/isobar/page.js",
            get(|| asset("text/javascript", include_str!("page/page.js"))),
        )
        .route(
            "/isobar/page.css",
            get(|| asset("text/css", include_str!("page/page.css"))),
        )
        .route("/isobar/overview", get(teams_at_a_glance))
}

async fn page(caller: Result<Caller, crate::auth::NotRecognised>) -> Response {
    if caller.is_err() {
        return (StatusCode::SEE_OTHER, [(LOCATION, "/auth/login?next=/")]).into_response();
    }
    let headers: [(HeaderName, &str); 2] = [(CACHE_CONTROL, "no-store"), (CONTENT_SECURITY_POLICY, POLICY)];
    (headers, Html(include_str!("page/page.html"))).into_response()
}

async fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=300")], text).into_response()
}

async fn teams_at_a_glance(State(state): State<AppState>, Caller(person): Caller) -> Response {
    let directory = state.auth.directory();
    let mut teams = Vec::new();
    for team in directory.all().iter() {
        let Some(scope) = person.act(team.id, Resource::Dag, Action::Read) else {
            continue;
        };
        let glance = async { overview::of_team(&mut state.store.read().await?, scope).await };
        match glance.await {
            Ok(found) => teams.push(shown(
                &person,
                &team.name,
                person.home() == Some(team.id),
                team.id,
                &found,
            )),
            Err(error) => {
                tracing::error!(%error, team = %team.name, "the overview of a team cannot be read");
                let detail = json!({ "detail": "The metadata database cannot be read" });
                return (StatusCode::INTERNAL_SERVER_ERROR, Json(detail)).into_response();
            }
        }
    }
    let body = json!({
        "user": person.name(),
        "organisation_role": person.org_role().map(|role| match role {
            OrgRole::Viewer => "org-viewer",
            OrgRole::Admin => "org-admin",
        }),
        "multi_team": directory.multi_team(),
        "teams": teams,
    });
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

fn shown(person: &Principal, name: &TeamName, home: bool, id: isobar_model::TeamId, found: &TeamOverview) -> Value {
    json!({
        "name": name,
        "home": home,
        "role": person.roles().get(&id).map(|role| match role {
            Role::Viewer => "viewer",
            Role::User => "user",
            Role::Op => "op",
            Role::Admin => "admin",
        }),
        "may_trigger": person.act(id, Resource::Run, Action::Create).is_some(),
        "dag_count": found.dag_count,
        "import_errors": found.import_errors,
        "running": found.running,
        "queued": found.queued,
        "scheduled": found.scheduled,
        "waiting": found.waiting,
        "dags": found.dags.iter().map(dag).collect::<Vec<_>>(),
    })
}

fn dag(dag: &DagGlance) -> Value {
    json!({
        "dag_id": dag.dag_id,
        "description": dag.description,
        "is_paused": dag.is_paused,
        "schedule": dag.schedule,
        "next_run": dag.next_run.map(render_time),
        "runs": dag.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn run(run: &RunGlance) -> Value {
    json!({
        "run_id": run.run_id,
        "state": run.state,
        "start_date": run.start_date.map(render_time),
        "end_date": run.end_date.map(render_time),
    })
}
