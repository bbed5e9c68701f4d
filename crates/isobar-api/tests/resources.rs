//! Variables, connections, pools, assets and the audit log: made, shown without secrets, changed, deleted, recorded; and what
//! one team has looks to another as if it were not there. On SQLite, and on PostgreSQL where `ISOBAR_TEST_POSTGRES` names one.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod client;
mod support;

use axum::http::{Method, StatusCode};
use client::Client;
use serde_json::{Value, json};
use support::World;

const OK: StatusCode = StatusCode::OK;
const CREATED: StatusCode = StatusCode::CREATED;
const GONE: StatusCode = StatusCode::NO_CONTENT;
const MISSING: StatusCode = StatusCode::NOT_FOUND;
const FORBIDDEN: StatusCode = StatusCode::FORBIDDEN;

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_is_made_hidden_patched_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let op = Client::login(&world, "op").await;
        let body = json!({"key": "a/b", "value": {"n": 1, "password": "p"}, "description": "d"});
        let made = op.post("/api/v2/variables", body.clone()).await.json(CREATED);
        assert_eq!(made["value"], r#"{"n": 1, "password": "***"}"#);
        assert_eq!(made["team_name"], Value::Null);
        let again = op.post("/api/v2/variables", body).await.json(StatusCode::CONFLICT);
        assert_eq!(again["detail"], "The Variable with key: `a/b` already exists");
        let patch = json!({"key": "a/b", "value": "new", "description": "kept?"});
        let patched = op
            .patch("/api/v2/variables/a%2Fb?update_mask=value", patch)
            .await
            .json(OK);
        assert_eq!(
            (&patched["value"], &patched["description"]),
            (&json!("new"), &json!("d"))
        );
        let list = op.get("/api/v2/variables?variable_key_pattern=A").await.json(OK);
        assert_eq!(list["total_entries"], 1);
        op.delete("/api/v2/variables/a/b").await.json(GONE);
        op.get("/api/v2/variables/a/b").await.json(MISSING);
        let log = op.get("/api/v2/eventLogs?order_by=event_log_id").await.json(OK);
        let events: Vec<&str> = log["event_logs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["event"].as_str().unwrap())
            .collect();
        assert_eq!(events, ["post_variable", "patch_variable", "delete_variable"]);
        assert!(!log.to_string().contains("new"), "a value reached the audit log: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_never_tells_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let op = Client::login(&world, "op").await;
        let body = json!({"connection_id": "c", "conn_type": "http", "password": "hush1",
            "extra": r#"{"api_key": "hush2", "k": "v"}"#});
        op.post("/api/v2/connections", body.clone()).await.json(CREATED);
        op.post("/api/v2/connections", body).await.json(StatusCode::CONFLICT);
        let patch = json!({"connection_id": "c", "conn_type": "ftp", "password": "***",
            "extra": r#"{"api_key": "***", "k": "w"}"#});
        let patched = op.patch("/api/v2/connections/c", patch).await.json(OK);
        assert_eq!(patched["extra"], r#"{"api_key": "***", "k": "w"}"#);
        for path in ["/api/v2/connections", "/api/v2/connections/c", "/api/v2/eventLogs"] {
            let text = op.get(path).await.text();
            assert!(!text.contains("hush"), "{path}: {text}");
        }
        let mut tx = world.state.store.read().await.unwrap();
        let scope = world.org.team(world.team("default"));
        let kept = isobar_store::connections::get(&mut tx, scope, &world.state.master_key, "c").await;
        let kept = kept.unwrap().unwrap();
        assert_eq!(kept.password.as_deref(), Some("hush1"));
        assert_eq!(kept.extra.as_deref(), Some(r#"{"api_key": "hush2", "k": "w"}"#));
        drop(tx);
        let test = json!({"connection_id": "c", "conn_type": "http"});
        op.post("/api/v2/connections/test", test).await.json(FORBIDDEN);
        op.delete("/api/v2/connections/c").await.json(GONE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_counts_its_slots_and_the_default_stays() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let op = Client::login(&world, "op").await;
        let made = op
            .post("/api/v2/pools", json!({"name": "p", "slots": 3}))
            .await
            .json(CREATED);
        assert_eq!((&made["open_slots"], &made["occupied_slots"]), (&json!(3), &json!(0)));
        let run = json!({"dag_run_id": "r", "logical_date": null});
        op.post("/api/v2/dags/rest_plain/dagRuns", run).await.json(OK);
        let default = op.get("/api/v2/pools/default_pool").await.json(OK);
        assert_eq!(default["open_slots"], 128);
        op.delete("/api/v2/pools/default_pool")
            .await
            .json(StatusCode::BAD_REQUEST);
        let bulk = json!({"actions": [
            {"action": "update", "entities": [{"name": "p", "slots": -1, "include_deferred": true}]},
            {"action": "delete", "entities": ["default_pool"]},
            {"action": "delete", "entities": ["nope"]},
        ]});
        let done = op.patch("/api/v2/pools", bulk).await.json(OK);
        assert_eq!(done["update"]["success"], json!(["p"]));
        assert_eq!(done["delete"]["success"], json!([]));
        assert_eq!(done["delete"]["errors"][1]["status_code"], 404);
        let unbounded = op.get("/api/v2/pools/p").await.json(OK);
        assert_eq!(unbounded["open_slots"], -1);
        op.delete("/api/v2/pools/p").await.json(GONE);
    }
}

/// The tests' Dags, a task of one of which names a pool.
fn dags_that_want(pool: &str) -> String {
    let mut data: Value = serde_json::from_str(support::DAGS).unwrap();
    for dag in data["dags"].as_array_mut().unwrap() {
        if dag["dag"]["dag_id"] == "rest_plain" {
            dag["dag"]["tasks"][0]["__var"]["pool"] = pool.into();
        }
    }
    data.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dag_waits_for_its_pool_as_an_import_error() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), false, &dags_that_want("gpu"), None).await;
    let op = Client::login(&world, "op").await;
    let errors = || async { op.get("/api/v2/importErrors").await.json(OK) };
    let error = errors().await;
    assert_eq!(error["total_entries"], 1);
    let text = error["import_errors"][0]["stack_trace"].as_str().unwrap();
    assert!(text.contains("`gpu`"), "{text}");
    let id = error["import_errors"][0]["import_error_id"].as_i64().unwrap();
    op.get(&format!("/api/v2/importErrors/{id}")).await.json(OK);
    let made = json!({"actions": [{"action": "create", "entities": [{"name": "gpu", "slots": 1}]}]});
    op.patch("/api/v2/pools", made).await.json(OK);
    assert_eq!(errors().await["total_entries"], 0);
    op.get("/api/v2/dags/rest_plain").await.json(OK);
    let gone = json!({"actions": [{"action": "delete", "entities": ["gpu"]}]});
    op.patch("/api/v2/pools", gone).await.json(OK);
    assert_eq!(errors().await["total_entries"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_by_hand_waits_for_its_consumer_until_it_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let op = Client::login(&world, "op").await;
        let assets = op.get("/api/v2/assets").await.json(OK);
        let id = assets["assets"][0]["id"].as_i64().unwrap();
        let event = json!({"asset_id": id, "extra": {"k": 1}});
        let made = op.post("/api/v2/assets/events", event).await.json(OK);
        assert_eq!(made["extra"], json!({"k": 1, "from_rest_api": true}));
        let queue = format!("/api/v2/assets/{id}/queuedEvents");
        let waiting = op.get(&queue).await.json(OK);
        assert_eq!(waiting["queued_events"][0]["dag_id"], "rest_consumer");
        assert_eq!(waiting["total_entries"], 1);
        op.delete(&queue).await.json(GONE);
        op.delete(&queue).await.json(MISSING);
        let run = op
            .post(&format!("/api/v2/assets/{id}/materialize"), json!({}))
            .await
            .json(OK);
        assert_eq!(run["run_type"], "asset_materialization");
        assert_eq!(run["dag_id"], "rest_producer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_of_a_bulk_body_are_named_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let op = Client::login(&world, "op").await;
        let body = json!({"actions": [{"action": "create", "entities": [{"key": 1}]}]});
        let refused = op.patch("/api/v2/variables", body).await;
        let refused = refused.json(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            refused["detail"][0]["loc"],
            json!(["body", "actions", 0, "create", "entities", 0, "key"])
        );
        let half = json!({"actions": [
            {"action": "create", "entities": [{"key": "x", "value": "1"}]},
            {"action": "nonsense", "entities": []},
        ]});
        op.patch("/api/v2/variables", half)
            .await
            .json(StatusCode::UNPROCESSABLE_ENTITY);
        op.get("/api/v2/variables/x").await.json(MISSING);
    }
}

/// Every route of these resources, with a name or an id to be filled in.
fn routes() -> Vec<(Method, &'static str, Option<Value>)> {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    vec![
        (get.clone(), "/variables/{name}", None),
        (
            patch.clone(),
            "/variables/{name}",
            Some(json!({"key": "{name}", "value": "x"})),
        ),
        (delete.clone(), "/variables/{name}", None),
        (
            patch.clone(),
            "/variables",
            Some(json!({"actions": [{"action": "delete", "entities": ["{name}"]}]})),
        ),
        (get.clone(), "/connections/{name}", None),
        (
            patch.clone(),
            "/connections/{name}",
            Some(json!({"connection_id": "{name}", "conn_type": "x"})),
        ),
        (delete.clone(), "/connections/{name}", None),
        (get.clone(), "/pools/{name}", None),
        (
            patch.clone(),
            "/pools/{name}",
            Some(json!({"pool": "{name}", "slots": 1, "include_deferred": true})),
        ),
        (
            patch,
            "/pools",
            Some(json!({"actions": [{"action": "delete", "entities": ["{name}"]}]})),
        ),
        (delete.clone(), "/pools/{name}", None),
        (get.clone(), "/assets/{id}", None),
        (get.clone(), "/assets/{id}/queuedEvents", None),
        (delete.clone(), "/assets/{id}/queuedEvents", None),
        (post.clone(), "/assets/{id}/materialize", Some(json!({}))),
        (post, "/assets/events", Some(json!({"asset_id": "{id}"}))),
        (get.clone(), "/assets/events?asset_id={id}", None),
        (delete, "/dags/{name}/assets/queuedEvents", None),
        (get.clone(), "/dags/{name}/assets/{id}/queuedEvents", None),
        (get.clone(), "/importErrors/{id}", None),
        (get.clone(), "/eventLogs/{id}", None),
        (get.clone(), "/eventLogs?dag_id={name}", None),
        (get, "/dagWarnings?dag_id={name}", None),
    ]
}

/// What `client` gets for a name and an id, with both taken out of the answer.
async fn answer(
    client: &Client,
    route: &(Method, &'static str, Option<Value>),
    name: &str,
    id: i64,
) -> (StatusCode, String) {
    let (method, path, body) = route;
    let fill = |text: &str| text.replace("{name}", name).replace("{id}", &id.to_string());
    let body = body
        .as_ref()
        .map(|body| serde_json::from_str(&fill(&body.to_string())).unwrap());
    let got = client
        .send(method.clone(), &fill(&format!("/api/v2{path}")), body)
        .await;
    let text = got.text().replace(name, "NAME").replace(&id.to_string(), "ID");
    (got.status, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_foreign_team_has_looks_as_if_it_were_not_there() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), true).await {
        let (ann, bea) = (Client::login(&world, "ann").await, Client::login(&world, "bea").await);
        bea.post("/api/v2/variables", json!({"key": "thing", "value": "v"}))
            .await
            .json(CREATED);
        bea.post(
            "/api/v2/connections",
            json!({"connection_id": "thing", "conn_type": "x"}),
        )
        .await
        .json(CREATED);
        bea.post("/api/v2/pools", json!({"name": "thing", "slots": 1}))
            .await
            .json(CREATED);
        let assets = bea.get("/api/v2/assets").await.json(OK);
        let foreign = assets["assets"][0]["id"].as_i64().unwrap();
        assert!(foreign > 1 << 36, "ids are team-private");
        // An id of the own team that is not there: its audit log and assets are shorter than that.
        let made_up = (i64::from(world.team("alpha").0) << 36) + 999_999;
        let nobody = Client::anonymous(&world);
        for route in routes() {
            let theirs = answer(&ann, &route, "beta:thing", foreign).await;
            let missing = answer(&ann, &route, "beta:other", made_up).await;
            let no_team = answer(&ann, &route, "gamma:thing", made_up).await;
            assert_eq!(theirs, missing, "{route:?}");
            assert_eq!(theirs, no_team, "{route:?}");
            assert!(theirs.0 != FORBIDDEN, "{route:?}");
            let (status, _) = answer(&nobody, &route, "thing", made_up).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{route:?}");
        }
        // What was tried changed nothing.
        let kept = bea.get("/api/v2/variables/thing").await.json(OK);
        assert_eq!((&kept["value"], &kept["team_name"]), (&json!("v"), &json!("beta")));
        bea.get("/api/v2/pools/thing").await.json(OK);
        bea.get("/api/v2/connections/thing").await.json(OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_other_teams_are_written_with_their_team() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), true).await {
        let org = Client::login(&world, "org").await;
        for (key, team) in [("x", "alpha"), ("x", "beta")] {
            let body = json!({"key": key, "value": team, "team_name": team});
            let made = org.post("/api/v2/variables", body).await.json(CREATED);
            assert_eq!(made["key"], format!("{team}:x"));
            assert_eq!(made["team_name"], team);
        }
        let ann = Client::login(&world, "ann").await;
        let own = ann.get("/api/v2/variables").await.json(OK);
        assert_eq!(own["total_entries"], 1);
        assert_eq!(own["variables"][0]["key"], "x");
        let inside = org.get("/teams/beta/api/v2/variables/x").await.json(OK);
        assert_eq!((&inside["key"], &inside["value"]), (&json!("x"), &json!("beta")));
        let asked = org.get("/api/v2/variables?team=alpha").await.json(OK);
        assert_eq!(asked["total_entries"], 1);
        let moved = json!({"key": "x", "value": "y", "team_name": "beta"});
        ann.patch("/api/v2/variables/x", moved)
            .await
            .json(StatusCode::BAD_REQUEST);
        let foreign = json!({"key": "y", "value": "y", "team_name": "beta"});
        let unknown = json!({"key": "y", "value": "y", "team_name": "gamma"});
        let foreign = ann.post("/api/v2/variables", foreign).await;
        let unknown = ann.post("/api/v2/variables", unknown).await;
        assert_eq!((foreign.status, foreign.text()), (unknown.status, unknown.text()));
        // What all teams share is the organisation's to see, and the configuration's to make.
        let shared = json!({"key": "s", "value": "y", "team_name": "shared"});
        org.post("/api/v2/variables", shared.clone())
            .await
            .json(StatusCode::BAD_REQUEST);
        let shared = ann.post("/api/v2/variables", shared).await;
        assert_eq!((shared.status, shared.text()), (unknown.status, unknown.text()));
        let seen = ann.get("/api/v2/variables/shared:s").await.text();
        assert_eq!(
            seen.replace("shared", "gamma"),
            ann.get("/api/v2/variables/gamma:s").await.text()
        );
        // The audit record of a bulk over two teams tells each team its own part.
        let bulk = json!({"actions": [{"action": "delete", "entities": ["alpha:x", "beta:x"]}]});
        org.patch("/api/v2/variables", bulk).await.json(OK);
        let log = ann.get("/api/v2/eventLogs?event=bulk_variables").await.json(OK);
        assert_eq!(log["total_entries"], 1);
        assert!(!log.to_string().contains("beta"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_reads_pools_and_assets_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let viewer = Client::login(&world, "viewer").await;
        viewer.get("/api/v2/pools").await.json(OK);
        let assets = viewer.get("/api/v2/assets").await.json(OK);
        viewer.get("/api/v2/variables").await.json(FORBIDDEN);
        viewer.get("/api/v2/connections").await.json(FORBIDDEN);
        viewer
            .post("/api/v2/pools", json!({"name": "p", "slots": 1}))
            .await
            .json(FORBIDDEN);
        viewer.delete("/api/v2/pools/default_pool").await.json(FORBIDDEN);
        let event = json!({"asset_id": assets["assets"][0]["id"]});
        viewer.post("/api/v2/assets/events", event).await.json(FORBIDDEN);
    }
}
