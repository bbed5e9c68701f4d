//! The Task Execution API over HTTP: tokens, versions, and that a foreign token opens nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;
mod worker;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use isobar_auth::TaskTokenScope;
use isobar_wire::execution::TaskIdentity;
use serde_json::{Value, json};
use support::World;
use tower::ServiceExt;
use worker::queued;

async fn send(world: &World, token: &str, method: Method, path: &str, body: Option<Value>) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(format!("/execution/{path}"))
        .header("airflow-api-version", "2026-06-30")
        .header("correlation-id", "c-1")
        .header("authorization", format!("Bearer {token}"))
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
        .unwrap();
    isobar_api::router(world.state.clone()).oneshot(request).await.unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_starts_a_task_swaps_its_token_and_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), true, support::DAGS, None).await;
    let task = queued(&world, "alpha", "r1").await;
    let id = task.ti_id;
    let workload = world.state.auth.task_token(&task, TaskTokenScope::Workload).unwrap();
    // the queue's token begins the task and does nothing else
    let refused = send(&world, &workload, Method::GET, "variables/x", None).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let start =
        json!({"state": "running", "hostname": "h", "unixname": "u", "pid": 1, "start_date": "2026-01-01T00:00:00Z"});
    let started = send(
        &world,
        &workload,
        Method::PATCH,
        &format!("task-instances/{id}/run"),
        Some(start),
    )
    .await;
    assert_eq!(started.status(), StatusCode::OK);
    assert_eq!(started.headers()["content-type"], "application/json");
    assert_eq!(started.headers()["correlation-id"], "c-1");
    let token = started.headers()["refreshed-api-token"].to_str().unwrap().to_owned();
    assert_eq!(json_of(started).await["dag_run"]["run_id"], "r1");

    let put = send(
        &world,
        &token,
        Method::PUT,
        "variables/a/b",
        Some(json!({"val": "1", "description": null})),
    )
    .await;
    assert_eq!(put.status(), StatusCode::CREATED);
    let got = json_of(send(&world, &token, Method::GET, "variables/a/b", None).await).await;
    assert_eq!(got, json!({"key": "a/b", "value": "1"}));
    let path = "xcoms/rest_plain/r1/a/k";
    let set = send(
        &world,
        &token,
        Method::POST,
        &format!("{path}?map_index=-1"),
        Some(json!({"x": 1})),
    )
    .await;
    assert_eq!(set.status(), StatusCode::CREATED);
    let head = send(&world, &token, Method::HEAD, path, None).await;
    assert_eq!(head.headers()["content-range"], "map_indexes 1");
    let missing = send(&world, &token, Method::GET, "connections/none", None).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(missing).await["detail"]["reason"], "not_found");
    // another task instance's routes are not this token's
    let other = uuid::Uuid::new_v4();
    let beat = json!({"hostname": "h", "pid": 1});
    let refused = send(
        &world,
        &token,
        Method::PUT,
        &format!("task-instances/{other}/heartbeat"),
        Some(beat.clone()),
    )
    .await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let beat = send(
        &world,
        &token,
        Method::PUT,
        &format!("task-instances/{id}/heartbeat"),
        Some(beat),
    )
    .await;
    assert_eq!(beat.status(), StatusCode::NO_CONTENT);
    let end = json!({"state": "success", "end_date": "2026-01-01T00:00:05Z", "task_outlets": [], "outlet_events": []});
    let ended = send(
        &world,
        &token,
        Method::PATCH,
        &format!("task-instances/{id}/state"),
        Some(end),
    )
    .await;
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    let refused = send(&world, &token, Method::DELETE, "variables/a/b", None).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_own_teams_rows_on_no_route_but_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), true, support::DAGS, None).await;
    let (ours, theirs) = (queued(&world, "alpha", "r1").await, queued(&world, "beta", "r2").await);
    let token = world.state.auth.task_token(&ours, TaskTokenScope::Execution).unwrap();
    let id = theirs.ti_id;
    for (method, path) in [
        (Method::PATCH, format!("task-instances/{id}/run")),
        (Method::PATCH, format!("task-instances/{id}/state")),
        (Method::GET, format!("store/ti/{id}/k")),
        (Method::GET, format!("hitlDetails/{id}")),
        (Method::GET, format!("task-reschedules/{id}/start_date")),
    ] {
        let body = json!({"state": "running", "hostname": "h", "unixname": "u", "pid": 1,
            "start_date": "2026-01-01T00:00:00Z", "end_date": "2026-01-01T00:00:00Z"});
        let response = send(&world, &token, method, &path, Some(body)).await;
        assert!(
            matches!(response.status().as_u16(), 403 | 422),
            "{path}: {}",
            response.status()
        );
    }
    // a token that claims another team is signed by that team's key or by none
    let forged = TaskIdentity {
        team: theirs.team,
        ..ours
    };
    let forged = world.state.auth.task_token(&forged, TaskTokenScope::Execution).unwrap();
    let response = send(&world, &forged, Method::GET, "dags/rest_plain", None).await;
    assert_eq!(
        response.status(),
        StatusCode::FORBIDDEN,
        "no row of that team has this dispatch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_no_version_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), true, support::DAGS, None).await;
    let bare = |path: &str, version: &str| {
        let request = Request::builder()
            .uri(format!("/execution/{path}"))
            .header("airflow-api-version", version.to_owned())
            .body(Body::empty())
            .unwrap();
        isobar_api::router(world.state.clone()).oneshot(request)
    };
    let response = bare("variables/x", "2026-06-30").await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(json_of(response).await, json!({"detail": "Missing auth token"}));
    assert_eq!(bare("health", "2026-06-30").await.unwrap().status(), StatusCode::OK);
    let response = bare("health", "2025-04-11").await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let refused = send(&world, "not.a.token", Method::GET, "variables/x", None).await;
    assert_eq!(json_of(refused).await, json!({"detail": "Invalid auth token"}));
}
