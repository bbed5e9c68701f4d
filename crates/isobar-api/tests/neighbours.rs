//! What a caller may not read is answered exactly as what does not exist (invariant 9), and nobody is answered nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;

use axum::http::{Method, StatusCode};
use client::{Client, Got};
use serde_json::{Value, json};
use support::World;

/// Every route that speaks of a Dag by name: method, path after `/api/v2` with `{dag}` for the name, body.
fn dag_routes() -> Vec<(Method, &'static str, Option<Value>)> {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let bulk = json!({"actions": [{"action": "update", "entities": [{"dag_run_id": "r1", "note": "x"}]}]});
    let backfill = json!({"dag_id": "{dag}", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-03T00:00:00Z"});
    vec![
        (get.clone(), "/dags/{dag}", None),
        (get.clone(), "/dags/{dag}/details", None),
        (get.clone(), "/dags/{dag}/tasks", None),
        (get.clone(), "/dags/{dag}/tasks/a", None),
        (get.clone(), "/dags/{dag}/dagVersions", None),
        (get.clone(), "/dags/{dag}/dagVersions/1", None),
        (get.clone(), "/dagSources/{dag}", None),
        (Method::PUT, "/parseDagFile/{dag}", None),
        (get.clone(), "/dagStats?dag_ids={dag}", None),
        (get.clone(), "/dags/{dag}/dagRuns", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/wait?interval=1", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/upstreamAssetEvents", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances", None),
        (get.clone(), "/dags/{dag}/dagRuns/~/taskInstances", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/-1", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/listMapped", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/tries", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/tries/0", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/logs/0", None),
        (
            get.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/externalLogUrl/1",
            None,
        ),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/xcomEntries", None),
        (
            get.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/xcomEntries/k",
            None,
        ),
        (get.clone(), "/dags/{dag}/dagRuns/r1/hitlDetails", None),
        (
            get.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/-1/hitlDetails",
            None,
        ),
        (
            get.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/-1/hitlDetails/tries/0",
            None,
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/-1/hitlDetails",
            Some(json!({"chosen_options": ["x"]})),
        ),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/dependencies", None),
        (
            get.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/-1/dependencies",
            None,
        ),
        (get.clone(), "/backfills?dag_id={dag}", None),
        (post.clone(), "/backfills", Some(backfill.clone())),
        (post.clone(), "/backfills/dry_run", Some(backfill)),
        (
            post.clone(),
            "/dags/{dag}/clearPartitions",
            Some(json!({"run_id": "r1", "clear_task_instances": true, "dry_run": false})),
        ),
        (get.clone(), "/dags/{dag}/assets/queuedEvents", None),
        (get.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store", None),
        (get, "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store/k", None),
        (
            Method::PUT,
            "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store/k",
            Some(json!({"value": 1})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store/k",
            Some(json!({"value": 1})),
        ),
        (
            delete.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store/k",
            None,
        ),
        (
            delete.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/state-store?all_map_indices=true",
            None,
        ),
        (patch.clone(), "/dags/{dag}", Some(json!({"is_paused": true}))),
        (post.clone(), "/dags/{dag}/favorite", Some(json!({}))),
        (post.clone(), "/dags/{dag}/unfavorite", Some(json!({}))),
        (
            post.clone(),
            "/dags/{dag}/dagRuns",
            Some(json!({"logical_date": null, "dag_run_id": "r9"})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1",
            Some(json!({"state": "failed", "note": "x"})),
        ),
        (patch.clone(), "/dags/{dag}/dagRuns", Some(bulk)),
        (
            post.clone(),
            "/dags/{dag}/dagRuns/r1/clear",
            Some(json!({"dry_run": false})),
        ),
        (
            post.clone(),
            "/dags/{dag}/clearDagRuns",
            Some(json!({"dry_run": false, "dag_runs": [{"dag_run_id": "r1"}]})),
        ),
        (
            post.clone(),
            "/dags/{dag}/clearTaskInstances",
            Some(json!({"dry_run": false, "dag_run_id": "r1", "only_failed": false})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a",
            Some(json!({"new_state": "failed"})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/dry_run",
            Some(json!({"new_state": "failed"})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances",
            Some(json!({"actions": [{"action": "update", "entities": [{"task_id": "a", "new_state": "failed"}]}]})),
        ),
        (
            patch.clone(),
            "/dags/{dag}/dagRuns/r1/taskGroupInstances/g",
            Some(json!({"new_state": "failed"})),
        ),
        (
            post,
            "/dags/{dag}/dagRuns/r1/taskInstances/a/xcomEntries",
            Some(json!({"key": "mine", "value": 1})),
        ),
        (
            patch,
            "/dags/{dag}/dagRuns/r1/taskInstances/a/xcomEntries/k",
            Some(json!({"value": 1})),
        ),
        (
            delete.clone(),
            "/dags/{dag}/dagRuns/r1/taskInstances/a/xcomEntries/k",
            None,
        ),
        (delete.clone(), "/dags/{dag}/assets/queuedEvents", None),
        (delete.clone(), "/dags/{dag}/dagRuns/r1/taskInstances/a", None),
        (delete.clone(), "/dags/{dag}/dagRuns/r1", None),
        (delete, "/dags/{dag}", None),
    ]
}

/// A body that speaks of a Dag by name.
fn naming(body: Option<&Value>, name: &str) -> Option<Value> {
    body.map(|body| serde_json::from_str(&body.to_string().replace("{dag}", name)).unwrap())
}

/// Every route that speaks of no Dag by name.
const OTHER_ROUTES: [&str; 23] = [
    "/dags",
    "/dags/~/dagRuns",
    "/dags/~/dagRuns/~/taskInstances",
    "/dags/~/dagRuns/~/taskInstances/~/xcomEntries",
    "/dags/~/dagRuns/~/hitlDetails",
    "/dags/~/dagVersions",
    "/dagStats",
    "/dagTags",
    "/variables",
    "/variables/x",
    "/connections",
    "/connections/x",
    "/pools",
    "/pools/default_pool",
    "/assets",
    "/assets/1",
    "/assets/1/state-store",
    "/assets/1/state-store/k",
    "/assets/aliases",
    "/assets/events",
    "/importErrors",
    "/dagWarnings",
    "/eventLogs",
];

async fn two_teams(folder: &std::path::Path) -> Vec<World> {
    let worlds = World::on_each_database(folder, true).await;
    for world in &worlds {
        fill(world).await;
    }
    worlds
}

/// What beta has and alpha has not.
async fn fill(world: &World) {
    let bea = Client::login(world, "bea").await;
    let run = json!({"logical_date": null, "dag_run_id": "r1"});
    bea.post("/api/v2/dags/rest_plain/dagRuns", run)
        .await
        .json(StatusCode::OK);
    let place = "/api/v2/dags/rest_plain/dagRuns/r1/taskInstances/a/xcomEntries";
    bea.post(place, json!({"key": "k", "value": "secret"}))
        .await
        .json(StatusCode::CREATED);
}

/// Status and body, with the name that was asked for taken out.
fn seen(got: &Got, name: &str) -> (StatusCode, String) {
    (got.status, got.text().replace(name, "{dag}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_dag_is_answered_as_a_made_up_one_on_every_route() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let ann = Client::login(&world, "ann").await;
        for (method, path, body) in dag_routes() {
            let mut answers = Vec::new();
            for name in ["beta:rest_plain", "nosuch:rest_plain", "alpha:made_up", "made_up"] {
                let path = format!("/api/v2{}", path.replace("{dag}", name));
                answers.push(seen(
                    &ann.send(method.clone(), &path, naming(body.as_ref(), name)).await,
                    name,
                ));
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
            assert_eq!(answers[0], answers[2], "{method} {path}");
            assert_eq!(answers[0], answers[3], "{method} {path}");
            assert!(!answers[0].1.contains("secret"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_teams_address_is_answered_as_a_made_up_one() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let ann = Client::login(&world, "ann").await;
        let dags = dag_routes().into_iter().map(|(method, path, body)| {
            let body = naming(body.as_ref(), "rest_plain");
            (method, path.replace("{dag}", "rest_plain"), body)
        });
        let others = OTHER_ROUTES.iter().map(|path| (Method::GET, (*path).to_owned(), None));
        for (method, path, body) in dags.chain(others) {
            let beta = ann
                .send(method.clone(), &format!("/teams/beta/api/v2{path}"), body.clone())
                .await;
            let made_up = ann
                .send(method.clone(), &format!("/teams/nosuch/api/v2{path}"), body)
                .await;
            assert_eq!(seen(&beta, ""), seen(&made_up, ""), "{method} {path}");
            assert_eq!(beta.status, StatusCode::NOT_FOUND, "{method} {path}");
        }
        for path in OTHER_ROUTES {
            let join = if path.contains('?') { '&' } else { '?' };
            let beta = ann.get(&format!("/api/v2{path}{join}team=beta")).await;
            let made_up = ann.get(&format!("/api/v2{path}{join}team=nosuch")).await;
            assert_eq!(seen(&beta, ""), seen(&made_up, ""), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_neighbour_tried_changed_anything() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let (ann, bea) = (Client::login(&world, "ann").await, Client::login(&world, "bea").await);
        let look = async || {
            let mut all = Vec::new();
            for path in [
                "/api/v2/dags",
                "/api/v2/dags/~/dagRuns",
                "/api/v2/dags/~/dagRuns/~/taskInstances?order_by=id",
                "/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries",
            ] {
                all.push(bea.get(path).await.json(StatusCode::OK));
            }
            all
        };
        let before = look().await;
        for (method, path, body) in dag_routes() {
            ann.send(
                method,
                &format!("/api/v2{}", path.replace("{dag}", "beta:rest_plain")),
                naming(body.as_ref(), "beta:rest_plain"),
            )
            .await;
        }
        assert_eq!(look().await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_hold_what_their_reader_may_read_and_name_the_team_of_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let ids = async |who: &str, path: &str| {
            let client = Client::login(&world, who).await;
            let dags = client.get(path).await.json(StatusCode::OK);
            let mut ids: Vec<String> = dags["dags"]
                .as_array()
                .unwrap()
                .iter()
                .map(|dag| dag["dag_id"].as_str().unwrap().to_owned())
                .collect();
            ids.sort();
            ids
        };
        let plain = ["rest_consumer", "rest_cron", "rest_plain", "rest_producer"];
        let beta: Vec<String> = plain.iter().map(|id| format!("beta:{id}")).collect();
        assert_eq!(ids("ann", "/api/v2/dags").await, plain);
        assert_eq!(ids("eve", "/api/v2/dags?team=beta").await, beta);
        assert_eq!(ids("eve", "/teams/beta/api/v2/dags").await, plain);
        assert_eq!(ids("eve", "/api/v2/dags").await.len(), 8);
        assert_eq!(ids("org", "/api/v2/dags").await.len(), 8);
        // A viewer of beta reads there and changes nothing.
        let eve = Client::login(&world, "eve").await;
        eve.get("/api/v2/dags/beta:rest_plain/dagRuns/r1")
            .await
            .json(StatusCode::OK);
        let paused = eve
            .patch("/api/v2/dags/beta:rest_plain", json!({"is_paused": true}))
            .await;
        paused.json(StatusCode::FORBIDDEN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let nobody = Client::anonymous(&world);
        for prefix in ["/api/v2", "/teams/beta/api/v2"] {
            for (method, path, body) in dag_routes() {
                let path = format!("{prefix}{}", path.replace("{dag}", "rest_plain"));
                let got = nobody.send(method.clone(), &path, body).await;
                assert_eq!(
                    got.json(StatusCode::UNAUTHORIZED)["detail"],
                    "Not authenticated",
                    "{method} {path}"
                );
            }
            for path in OTHER_ROUTES {
                nobody
                    .get(&format!("{prefix}{path}"))
                    .await
                    .json(StatusCode::UNAUTHORIZED);
            }
        }
        nobody.get("/api/v2/monitor/health").await.json(StatusCode::OK);
        nobody.get("/api/v2/version").await.json(StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_stands_in_the_audit_log_of_the_team_it_concerns() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let (ann, bea) = (Client::login(&world, "ann").await, Client::login(&world, "bea").await);
        ann.get("/api/v2/dags/beta:rest_plain")
            .await
            .json(StatusCode::NOT_FOUND);
        ann.get("/api/v2/dags/beta:rest_cron").await.json(StatusCode::NOT_FOUND);
        let mut denials = Value::Null;
        for _ in 0..100 {
            denials = bea.get("/api/v2/eventLogs?event=denied").await.json(StatusCode::OK);
            if denials["total_entries"] != 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(denials["total_entries"], 1, "the second within a minute is not written");
        assert_eq!(denials["event_logs"][0]["owner"], "ann");
        let own = ann.get("/api/v2/eventLogs?event=denied").await.json(StatusCode::OK);
        assert_eq!(own["total_entries"], 0, "the log of another team tells ann nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_backfill_is_answered_as_a_made_up_one() {
    let folder = tempfile::tempdir().unwrap();
    for world in two_teams(folder.path()).await {
        let bea = Client::login(&world, "bea").await;
        let body = json!({
            "dag_id": "rest_cron",
            "from_date": "2026-01-01T00:00:00Z",
            "to_date": "2026-01-03T00:00:00Z",
        });
        let made = bea.post("/api/v2/backfills", body).await.json(StatusCode::OK);
        let id = made["id"].as_i64().unwrap();
        let ann = Client::login(&world, "ann").await;
        for (method, path) in [
            (Method::GET, ""),
            (Method::PUT, "/pause"),
            (Method::PUT, "/unpause"),
            (Method::PUT, "/cancel"),
        ] {
            let theirs = ann
                .send(method.clone(), &format!("/api/v2/backfills/{id}{path}"), None)
                .await;
            let made_up = ann
                .send(method.clone(), &format!("/api/v2/backfills/{}{path}", id + 1), None)
                .await;
            assert_eq!(theirs.status, StatusCode::NOT_FOUND, "{method} {path}");
            assert_eq!(seen(&theirs, ""), seen(&made_up, ""), "{method} {path}");
        }
        // Who may only look is told so.
        let eve = Client::login(&world, "eve").await;
        let seen = eve.get(&format!("/api/v2/backfills/{id}")).await.json(StatusCode::OK);
        assert_eq!(seen["dag_id"], "beta:rest_cron");
        let pause = format!("/api/v2/backfills/{id}/pause");
        eve.send(Method::PUT, &pause, None).await.json(StatusCode::FORBIDDEN);
        let after = bea.get(&format!("/api/v2/backfills/{id}")).await.json(StatusCode::OK);
        assert_eq!(
            (&after["is_paused"], &after["completed_at"]),
            (&json!(false), &json!(null))
        );
    }
}
