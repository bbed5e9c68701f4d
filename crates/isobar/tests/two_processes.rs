//! `api-server` and `scheduler` apart, on PostgreSQL, while clients clear, mark, trigger and delete what runs.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::time::{Duration, Instant};

use deployment::{Client, Database, Deployment};
use serde_json::json;

const BUSY: &str = r#"
from datetime import timedelta
from airflow.sdk import DAG, task

with DAG(dag_id="busy", schedule=None, catchup=False, max_active_runs=16) as dag:
    @task(retries=1, retry_delay=timedelta(seconds=1))
    def step(n, ti=None):
        import time
        time.sleep(0.2)
        return str(ti.id)

    previous = None
    for n in range(4):
        now = step.override(task_id=f"step_{n}")(n)
        if previous is not None:
            previous >> now
        previous = now
"#;

/// A tiny generator, so that a failing run can be told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

/// What one restless client does for a while. Conflicts (404, 409) are answers like others; 5xx are not.
fn meddle(client: &Client, seed: u64, seconds: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut runs: Vec<String> = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let chosen = if runs.is_empty() { 0 } else { dice.roll(10) };
        let run = if runs.is_empty() {
            String::new()
        } else {
            runs[dice.roll(runs.len())].clone()
        };
        let task = format!("step_{}", dice.roll(4));
        let base = format!("/api/v2/dags/busy/dagRuns/{run}");
        let answer = match chosen {
            0..=2 => {
                let answer = client.post("/api/v2/dags/busy/dagRuns", &json!({ "logical_date": null }));
                assert_eq!(answer.status, 200, "{}", answer.body);
                runs.push(answer.body["dag_run_id"].as_str().expect("a run id").to_owned());
                answer
            }
            3 | 4 => client.post(
                "/api/v2/dags/busy/clearTaskInstances",
                &json!({ "dry_run": false, "dag_run_id": run, "task_ids": [task], "include_downstream": true, "only_failed": false, "reset_dag_runs": true }),
            ),
            5 | 6 => client.patch(&format!("{base}/taskInstances/{task}"), &json!({ "new_state": if chosen == 5 { "success" } else { "failed" } })),
            7 => client.patch(&base, &json!({ "state": if dice.roll(2) == 0 { "success" } else { "failed" } })),
            8 => client.post(&format!("{base}/clear"), &json!({ "dry_run": false, "only_failed": false })),
            _ => {
                runs.retain(|other| *other != run);
                client.delete(&base)
            }
        };
        assert!(
            answer.status < 500,
            "seed {seed}, action {chosen}: {} {}",
            answer.status,
            answer.body
        );
        std::thread::sleep(Duration::from_millis(40 + dice.roll(120) as u64));
    }
    runs
}

/// Whether a person marked the run or a task of it; looks at the whole of its audit log.
fn was_marked(client: &Client, run: &str) -> bool {
    let run = run.replace('+', "%2B");
    let mut seen = 0;
    loop {
        let path = format!("/api/v2/eventLogs?dag_id=busy&run_id={run}&limit=100&offset={seen}");
        let page = client.get(&path).body;
        let logs = page["event_logs"].as_array().expect("event logs");
        assert!(seen > 0 || !logs.is_empty(), "every run has records");
        // A mark on the run is a "patch_dag_run"; a mark on a task is its new state, with the name of who gave it.
        let by_hand = |log: &serde_json::Value| {
            log["event"] == "patch_dag_run"
                || (log["owner"] == "ann" && ["success", "failed"].iter().any(|state| log["event"] == *state))
        };
        if logs.iter().any(by_hand) {
            return true;
        }
        seen += logs.len();
        if logs.is_empty() || seen as u64 >= page["total_entries"].as_u64().expect("a total") {
            return false;
        }
    }
}

#[test]
fn nothing_is_lost_while_clients_meddle() {
    let mut place = Deployment::on(Database::Postgres)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "busy.py", BUSY);
    place.run(&["db", "migrate"]);
    place.run(&["teams", "apply"]);
    place.start("api-server");
    place.start("scheduler");
    let ann = place.client("ann");
    ann.wait_for_dag("busy");
    let meddlers: Vec<_> = (1..=3)
        .map(|seed| {
            let client = ann.clone();
            std::thread::spawn(move || meddle(&client, seed, 15))
        })
        .collect();
    let runs: Vec<String> = meddlers
        .into_iter()
        .flat_map(|meddler| meddler.join().expect("a meddler's asserts hold"))
        .collect();
    assert!(runs.len() > 10, "the meddlers left runs to look at");
    for run in &runs {
        ann.wait_for_run("busy", run, 180);
    }
    for run in &runs {
        for ti in ann.tasks("busy", run) {
            let state = ti["state"].as_str().unwrap_or("none");
            assert!(
                ["success", "failed", "upstream_failed", "skipped", "none"].contains(&state),
                "{run}: still {state}: {ti}"
            );
            // What a task wrote is its last dispatch's; a person's mark leaves whatever an earlier one wrote or nothing.
            let path = format!(
                "/api/v2/dags/busy/dagRuns/{run}/taskInstances/{}",
                ti["task_id"].as_str().unwrap()
            );
            let xcom = ann.get(&format!("{path}/xcomEntries/return_value"));
            let marked = was_marked(&ann, run);
            if xcom.status == 200 && !marked {
                assert_eq!(
                    state, "success",
                    "{path}: nobody marked anything in this run, and no task of it fails by itself; {ti}"
                );
                assert_eq!(
                    xcom.body["value"], ti["id"],
                    "{path}: a result of an older dispatch was accepted; {ti}"
                );
            }
        }
    }
}
