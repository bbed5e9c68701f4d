//! What a warm fork costs: `cargo run -p isobar-runtime --example fork_bench [-- RUNS]`, with `ISOBAR_TEST_PYTHON` set.
//!
//! Prints medians: from asking for a no-op task to its success being reported, to its end, the child's CPU time; and
//! the same for a parse of a small Dag file.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use isobar_runtime::channel::Channel;
use isobar_runtime::zygote::Target;
use isobar_wire::answers::Reply;
use isobar_wire::frames::DEFAULT_FRAME_LIMIT;
use serde_json::json;
use support::{MemoryApi, Team, dags, workload};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let runs: usize = std::env::args().nth(1).and_then(|runs| runs.parse().ok()).unwrap_or(20);
    let ready = Instant::now();
    let team = Team::start().await;
    println!("zygote ready in {:?}", ready.elapsed());
    for task in ["noop", "bash"] {
        let mut rows = Vec::new();
        for _ in 0..runs {
            rows.push(task_run(&team, task).await);
        }
        println!(
            "task {task:5}: {}",
            medians(&rows, &["started", "success", "end", "cpu"])
        );
    }
    let mut rows = Vec::new();
    for _ in 0..runs {
        rows.push(parse(&team).await);
    }
    println!("parse     : {}", medians(&rows, &["result", "end", "cpu"]));
}

async fn task_run(team: &Team, task: &str) -> Vec<Duration> {
    let api = MemoryApi::with(|_| {});
    let mut workload = workload(task, -1);
    workload.dag_rel_path = "bench.py".into();
    workload.identity.dag_id = "bench".into();
    let supervisor = team.supervisor(&api);
    let begin = Instant::now();
    let ended = supervisor.run(&team.zygote, &workload, CancellationToken::new()).await;
    let end = begin.elapsed();
    assert_eq!(ended.reported, Some("success"), "{:#?}", team.log(&workload));
    let world = api.world();
    let started = world.run_answered.expect("it succeeded, so it started") - begin;
    let success = world.ended.expect("it succeeded, so it ended") - begin;
    vec![started, success, end, ended.cpu]
}

async fn parse(team: &Team) -> Vec<Duration> {
    let begin = Instant::now();
    let mut child = team.zygote.fork(Target::Parse, &[]).await.expect("the zygote forks");
    let sockets = child.take_sockets().expect("the sockets are there");
    let mut channel = Channel::new(sockets.requests, DEFAULT_FRAME_LIMIT);
    let request = json!({
        "type": "DagFileParseRequest", "file": dags().join("bench.py"), "bundle_path": dags(), "bundle_name": "tests",
        "callback_requests": [],
    });
    channel.start(&request).await.expect("the child reads");
    let mut result = None;
    while let Some(request) = channel.next().await.expect("the child speaks in frames") {
        if request.body["type"] == "DagFileParsingResult" {
            assert_eq!(request.body["import_errors"], json!({}));
            assert_eq!(request.body["serialized_dags"].as_array().map(Vec::len), Some(1));
            result = Some(begin.elapsed());
        }
        channel
            .answer(request.id, &Reply::Body(None))
            .await
            .expect("the child waits");
    }
    child.wait().await;
    vec![result.expect("a parse gives a result"), begin.elapsed(), child.cpu()]
}

fn medians(rows: &[Vec<Duration>], names: &[&str]) -> String {
    let column = |at: usize| {
        let mut values: Vec<_> = rows.iter().map(|row| row[at]).collect();
        values.sort();
        format!(
            "{} {:.1} ms (min {:.1})",
            names[at],
            ms(values[values.len() / 2]),
            ms(values[0])
        )
    };
    (0..names.len()).map(column).collect::<Vec<_>>().join(", ")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
