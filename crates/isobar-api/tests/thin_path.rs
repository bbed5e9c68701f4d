//! What the benchmark does: list, unpause, trigger, read runs and tasks.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;

use axum::http::StatusCode;
use client::Client;
use serde_json::json;
use support::World;

async fn worlds() -> (tempfile::TempDir, Vec<World>) {
    let folder = tempfile::tempdir().unwrap();
    let worlds = World::on_each_database(folder.path(), false).await;
    (folder, worlds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lists_triggers_and_reads() {
    let (_folder, worlds) = worlds().await;
    for world in worlds {
        let user = Client::login(&world, "user").await;

        let dags = user.get("/api/v2/dags").await.json(StatusCode::OK);
        assert_eq!(dags["total_entries"], 4);
        assert_eq!(dags["dags"][0]["dag_id"], "rest_consumer");

        let dag = user.patch("/api/v2/dags/rest_plain", json!({"is_paused": false})).await;
        assert_eq!(dag.json(StatusCode::OK)["is_paused"], false);

        let tasks = user.get("/api/v2/dags/rest_plain/tasks").await.json(StatusCode::OK);
        assert_eq!(tasks["tasks"][0]["task_id"], "a");
        assert_eq!(tasks["tasks"][0]["downstream_task_ids"], json!(["b", "g.c"]));

        let body = json!({"dag_run_id": "r1", "logical_date": null});
        let run = user
            .post("/api/v2/dags/rest_plain/dagRuns", body.clone())
            .await
            .json(StatusCode::OK);
        assert_eq!(run["state"], "queued");
        assert_eq!(run["run_type"], "manual");
        assert_eq!(run["triggering_user_name"], "user");
        user.post("/api/v2/dags/rest_plain/dagRuns", body)
            .await
            .json(StatusCode::CONFLICT);

        let run = user
            .get("/api/v2/dags/rest_plain/dagRuns/r1")
            .await
            .json(StatusCode::OK);
        assert_eq!(run["dag_run_id"], "r1");
        let runs = user
            .get("/api/v2/dags/~/dagRuns?order_by=-run_after&state=queued")
            .await
            .json(StatusCode::OK);
        assert_eq!(runs["total_entries"], 1);
        let instances = user
            .get("/api/v2/dags/rest_plain/dagRuns/r1/taskInstances?limit=100&offset=0")
            .await;
        assert_eq!(instances.json(StatusCode::OK)["total_entries"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conf_that_the_params_refuse_makes_no_run() {
    let (_folder, worlds) = worlds().await;
    for world in worlds {
        let user = Client::login(&world, "user").await;
        let body = json!({"logical_date": null, "conf": {"n": 0}});
        let refused = user
            .post("/api/v2/dags/rest_plain/dagRuns", body)
            .await
            .json(StatusCode::BAD_REQUEST);
        assert!(
            refused["detail"]
                .as_str()
                .unwrap()
                .starts_with("Invalid input for param n: 0 is less than the minimum of 1")
        );
        let runs = user.get("/api/v2/dags/rest_plain/dagRuns").await.json(StatusCode::OK);
        assert_eq!(runs["total_entries"], 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_parameters_are_named_one_by_one() {
    let (_folder, worlds) = worlds().await;
    for world in worlds {
        let viewer = Client::login(&world, "viewer").await;
        let refused = viewer
            .get("/api/v2/dags?limit=x&paused=perhaps")
            .await
            .json(StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused["detail"].as_array().unwrap().len(), 2);
        let refused = viewer
            .get("/api/v2/dags?order_by=secret")
            .await
            .json(StatusCode::BAD_REQUEST);
        assert_eq!(
            refused["detail"],
            "Ordering with 'secret' is disallowed or the attribute does not exist on the model"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_changes_nothing() {
    let (_folder, worlds) = worlds().await;
    for world in worlds {
        let viewer = Client::login(&world, "viewer").await;
        let refused = viewer
            .patch("/api/v2/dags/rest_plain", json!({"is_paused": false}))
            .await;
        assert_eq!(refused.json(StatusCode::FORBIDDEN)["detail"], "Forbidden");
        viewer
            .post("/api/v2/dags/rest_plain/dagRuns", json!({"logical_date": null}))
            .await
            .json(StatusCode::FORBIDDEN);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_teams_no_team_has_an_address() {
    let (_folder, worlds) = worlds().await;
    for world in worlds {
        let admin = Client::login(&world, "admin").await;
        admin
            .get("/teams/default/api/v2/dags")
            .await
            .json(StatusCode::NOT_FOUND);
        let dags = admin.get("/api/v2/dags").await.json(StatusCode::OK);
        assert!(!dags.to_string().contains("default:"));
    }
}
