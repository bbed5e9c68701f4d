//! Paging by position, logs, sources and waiting.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;
mod worker;

use axum::http::StatusCode;
use client::Client;
use isobar_wire::execution::{Caller, ExecutionApi as _, Operation, TaskStart};
use serde_json::{Value, json};
use support::World;

/// Every row of a list, page by page, forwards; then back to the start.
async fn walk(client: &Client, path: &str, key: &str, id: &str) -> (Vec<String>, Vec<String>) {
    let names = |page: &Value| -> Vec<String> {
        let rows = page[key].as_array().unwrap();
        rows.iter().map(|row| row[id].as_str().unwrap().to_owned()).collect()
    };
    let mut page = client
        .get(&format!("{path}&limit=2&cursor="))
        .await
        .json(StatusCode::OK);
    assert_eq!(page["previous_cursor"], Value::Null);
    let mut pages = vec![names(&page)];
    while let Some(next) = page["next_cursor"].as_str() {
        page = client
            .get(&format!("{path}&limit=2&cursor={next}"))
            .await
            .json(StatusCode::OK);
        pages.push(names(&page));
    }
    let forwards = pages.concat();
    let mut back = vec![names(&page)];
    while let Some(previous) = page["previous_cursor"].as_str() {
        page = client
            .get(&format!("{path}&limit=2&cursor={previous}"))
            .await
            .json(StatusCode::OK);
        if names(&page).is_empty() {
            break;
        }
        back.push(names(&page));
    }
    back.reverse();
    (forwards, back.concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_by_position_hold_every_row_once_in_both_directions_nulls_included() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let user = Client::login(&world, "user").await;
        for number in 0..5 {
            // Some have a logical date, some have none; one has ended.
            let date = (number % 2 == 0).then(|| format!("2026-01-0{}T00:00:00Z", number + 1));
            let body = json!({"dag_run_id": format!("r{number}"), "logical_date": date});
            user.post("/api/v2/dags/rest_plain/dagRuns", body)
                .await
                .json(StatusCode::OK);
        }
        let failed = user
            .patch("/api/v2/dags/rest_plain/dagRuns/r3", json!({"state": "failed"}))
            .await;
        failed.json(StatusCode::OK);
        for order in [
            "id",
            "-id",
            "logical_date",
            "-logical_date",
            "end_date",
            "-end_date",
            "-run_id",
        ] {
            let path = format!("/api/v2/dags/rest_plain/dagRuns?order_by={order}");
            let whole = user.get(&path).await.json(StatusCode::OK);
            let expected: Vec<&str> = whole["dag_runs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["dag_run_id"].as_str().unwrap())
                .collect();
            let (forwards, back) = walk(&user, &path, "dag_runs", "dag_run_id").await;
            assert_eq!(forwards, expected, "{order}");
            assert_eq!(back, expected, "{order}");
        }
        let path = "/api/v2/dags/rest_plain/dagRuns/~/taskInstances?order_by=-state";
        let whole = user.get(&format!("{path}&limit=100")).await.json(StatusCode::OK);
        let expected: Vec<&str> = whole["task_instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ti| ti["id"].as_str().unwrap())
            .collect();
        assert_eq!(expected.len(), 15);
        let (forwards, back) = walk(&user, path, "task_instances", "id").await;
        assert_eq!(forwards, expected);
        assert_eq!(back, expected);
        let other = user
            .get("/api/v2/dags/rest_plain/dagRuns?order_by=state&cursor=WzFd")
            .await;
        assert_eq!(
            other.json(StatusCode::BAD_REQUEST)["detail"],
            "Cursor token does not match current query shape"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_from_its_teams_folder_and_continued() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), true).await {
        let (ann, bea) = (Client::login(&world, "ann").await, Client::login(&world, "bea").await);
        for (team, client) in [("alpha", &ann), ("beta", &bea)] {
            let task = worker::queued(&world, team, "r1").await;
            let folder = world
                .state
                .log_folder
                .join(format!("{team}/dag_id=rest_plain/run_id=r1/task_id=a"));
            std::fs::create_dir_all(&folder).unwrap();
            let line =
                json!({"timestamp": "2026-01-01T00:00:00+00:00", "event": format!("hello {team}"), "level": "info"});
            std::fs::write(folder.join("attempt=1.log"), format!("{line}\nplain text\nhalf a li")).unwrap();
            let start = TaskStart {
                hostname: "h".into(),
                unixname: "u".into(),
                pid: 1,
                start_date: isobar_model::AirflowTime(jiff::Timestamp::now()),
            };
            world
                .execution
                .call(&Caller::Task(task), Operation::Run(start))
                .await
                .unwrap();
            let path = "/api/v2/dags/rest_plain/dagRuns/r1/taskInstances/a/logs/1";
            let log = client.get(path).await.json(StatusCode::OK);
            let content = log["content"].as_array().unwrap();
            assert_eq!(content[0]["event"], "::group::Log message source details");
            let hello = json!({"timestamp": "2026-01-01T00:00:00Z", "event": format!("hello {team}"), "level": "info"});
            assert_eq!(content[3], hello);
            assert_eq!(content[4], json!({"event": "plain text"}));
            assert_eq!(content.len(), 5, "half a line is not shown yet");
            // It runs, so there may be more.
            let token = log["continuation_token"].as_str().unwrap();
            std::fs::write(
                folder.join("attempt=1.log"),
                format!("{line}\nplain text\nhalf a line\n"),
            )
            .unwrap();
            let more = client.get(&format!("{path}?token={token}")).await.json(StatusCode::OK);
            assert_eq!(more["content"], json!([{"event": "half a line"}]));
            let refused = client.get(&format!("{path}?token=nonsense")).await;
            refused.json(StatusCode::BAD_REQUEST);
        }
        // Ann asks for beta's log, which exists, and is told what she is told of a made-up one.
        for name in ["beta:rest_plain", "nosuch:rest_plain"] {
            let path = format!("/api/v2/dags/{name}/dagRuns/r1/taskInstances/a/logs/1");
            assert_eq!(
                ann.get(&path).await.json(StatusCode::NOT_FOUND)["detail"],
                "TaskInstance not found"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_with_the_run_and_its_results() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        let user = Client::login(&world, "user").await;
        let body = json!({"dag_run_id": "r1", "logical_date": null});
        user.post("/api/v2/dags/rest_plain/dagRuns", body)
            .await
            .json(StatusCode::OK);
        let place = "/api/v2/dags/rest_plain/dagRuns/r1/taskInstances/a/xcomEntries";
        user.post(place, json!({"key": "return_value", "value": 42}))
            .await
            .json(StatusCode::CREATED);
        user.patch("/api/v2/dags/rest_plain/dagRuns/r1", json!({"state": "success"}))
            .await
            .json(StatusCode::OK);
        let lines = user
            .get("/api/v2/dags/rest_plain/dagRuns/r1/wait?interval=0.1&result=a")
            .await;
        let line: Value = serde_json::from_str(lines.text().trim()).unwrap();
        assert_eq!(line, json!({"state": "success", "results": {"a": 42}}));
    }
}
