//! Requests that wait for a team's Python while its helper says nothing: they hold no connection that others need.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use client::Client;
use isobar_store::Store;
use isobar_store::questions;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::World;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// As many connections as the larger of the pools has: PostgreSQL's.
const REQUESTS: usize = 16;

/// The tests' Dags, one of which has a timetable of its team's own.
fn dags() -> String {
    let mut data: Value = serde_json::from_str(support::DAGS).unwrap();
    for dag in data["dags"].as_array_mut().unwrap() {
        if dag["dag"]["dag_id"] == "rest_plain" {
            let says = json!({"periodic": true, "can_be_scheduled": true, "partitioned": true});
            dag["dag"]["timetable"] = json!({"__type": "acme.Days", "__var": {}, "__says": says});
        }
    }
    data.to_string()
}

/// Takes questions as a helper that never answers does, until it has so many.
async fn take_questions(world: &World, team: &str) {
    let store = Store::open(&world.url).await.unwrap();
    let (scope, hold) = (world.org.team(world.team(team)), SignedDuration::from_mins(5));
    let mut taken = 0;
    while taken < REQUESTS {
        let mut tx = store.begin().await.unwrap();
        let claimed = questions::claim(&mut tx, scope, 64, Timestamp::now(), hold).await;
        tx.commit().await.unwrap();
        taken += claimed.unwrap().len();
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_one_teams_python_leave_the_database_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let runs = "/api/v2/dags/alpha:rest_plain/dagRuns";
    let asking = [
        (Method::GET, format!("{runs}?partition_date_gte=2026-01-01"), None),
        (
            Method::POST,
            "/api/v2/dags/alpha:rest_plain/clearDagRuns".to_owned(),
            Some(json!({"partition_date_start": "2026-01-01T00:00:00Z", "dry_run": true})),
        ),
        (
            Method::PATCH,
            format!("{runs}/r/taskInstances/a/dry_run"),
            Some(json!({"new_state": "success", "include_past": true})),
        ),
    ];
    for world in World::with_dags_on_each_database(folder.path(), true, &dags()).await {
        let (ann, bea) = (Client::login(&world, "ann").await, Client::login(&world, "bea").await);
        let run = json!({"dag_run_id": "r", "logical_date": "2026-01-01T00:00:00Z",
            "data_interval_start": "2026-01-01T00:00:00Z", "data_interval_end": "2026-01-02T00:00:00Z"});
        ann.post(runs, run).await.json(StatusCode::OK);
        let ann = Arc::new(ann);
        for (method, path, body) in &asking {
            let mut waiting = JoinSet::new();
            for _ in 0..REQUESTS {
                let (ann, method, path, body) = (ann.clone(), method.clone(), path.clone(), body.clone());
                waiting.spawn(async move { ann.send(method, &path, body).await });
            }
            let taken = timeout(Duration::from_secs(4), take_questions(&world, "alpha")).await;
            assert!(taken.is_ok(), "{path}: they wait for connections, not for an answer");
            for _ in 0..8 {
                let got = timeout(Duration::from_secs(2), bea.get("/api/v2/dags/beta:rest_plain")).await;
                got.expect("another team is answered meanwhile").json(StatusCode::OK);
            }
            assert!(
                waiting.try_join_next().is_none(),
                "{path}: nobody answered, and yet it ended"
            );
        }
    }
}
