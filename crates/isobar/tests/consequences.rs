//! What follows from what happens: callbacks of tasks and runs, deadlines. The built binary, real Python.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::path::Path;
use std::time::{Duration, Instant};

use deployment::{Database, Deployment};
use serde_json::Value;

const DEADLINES: &str = r#"
import json, pathlib
from datetime import timedelta
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, SyncCallback, Variable, task

EVIDENCE = pathlib.Path("@EVIDENCE@")

def late(context, text):
    said = {"text": text, "run": context["dag_run"]["dag_run_id"], "deadline": context["deadline"],
            "variable": Variable.get("greeting")}
    (EVIDENCE / f"sync_{text}.json").write_text(json.dumps(said))

async def late_async(text, context):
    (EVIDENCE / "async.json").write_text(json.dumps({"text": text, "run": context["dag_run"]["dag_run_id"]}))

def broken(context):
    raise RuntimeError("the callback itself is broken")

QUEUED = DeadlineReference.DAGRUN_QUEUED_AT

def alert(seconds, callback):
    return DeadlineAlert(reference=QUEUED, interval=timedelta(seconds=seconds), callback=callback)

with DAG(dag_id="slow", schedule=None, deadline=[
    alert(0.2, SyncCallback(broken)),
    alert(0.5, SyncCallback(late, kwargs={"text": "late"})),
    alert(0.5, AsyncCallback(late_async, kwargs={"text": "async"})),
    alert(3600, SyncCallback(late, kwargs={"text": "never"})),
]):
    @task
    def sleeps():
        import time
        time.sleep(3)
    sleeps()

with DAG(dag_id="quick", schedule=None, deadline=alert(600, SyncCallback(late, kwargs={"text": "quick"}))):
    @task
    def nothing():
        pass
    nothing()
"#;

const CALLBACKS: &str = r#"
import pathlib
from datetime import timedelta
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

EVIDENCE = pathlib.Path("@EVIDENCE@")

def note(name):
    def callback(context):
        with (EVIDENCE / "called.txt").open("a") as file:
            file.write(f"{name} {context['ti'].task_id if context.get('ti') else '-'} {context['run_id']}\n")
    return callback

told = {f"on_{what}_callback": note(what) for what in ("execute", "success", "failure", "retry", "skipped")}

with DAG(dag_id="told", schedule=None, on_success_callback=note("dag_success"), on_failure_callback=note("dag_failure"),
         default_args=told):
    @task
    def good():
        pass

    @task
    def skips():
        raise AirflowSkipException("not today")

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def bad():
        raise ValueError("broken for good")

    good(), skips(), bad()
"#;

/// Waits for a file that a callback writes.
fn written(path: &Path) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(text) = std::fs::read_to_string(path)
            && !text.is_empty()
        {
            return text;
        }
        assert!(Instant::now() < end, "{} was never written", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn a_missed_deadline_calls_back(database: Database) {
    let place = Deployment::on(database)
        .team("alpha", "variables = { greeting = \"hello\" }")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let text = DEADLINES.replace("@EVIDENCE@", &evidence.display().to_string());
    let mut place = place.dag("alpha", "deadlines.py", &text);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("slow");
    ann.wait_for_dag("quick");
    let quick = ann.trigger("quick");
    let slow = ann.trigger("slow");
    let said: Value = serde_json::from_str(&written(&evidence.join("sync_late.json"))).unwrap();
    assert_eq!(
        (&said["run"], &said["variable"]),
        (&slow.as_str().into(), &"hello".into())
    );
    assert!(said["deadline"]["deadline_time"].as_str().is_some(), "{said}");
    let said: Value = serde_json::from_str(&written(&evidence.join("async.json"))).unwrap();
    assert_eq!(said["run"], slow.as_str());
    assert_eq!(
        ann.wait_for_run("slow", &slow, 60)["state"],
        "success",
        "a late run goes on"
    );
    assert_eq!(ann.wait_for_run("quick", &quick, 60)["state"], "success");
    assert!(!evidence.join("sync_never.json").exists());
    assert!(!evidence.join("sync_quick.json").exists());
}

#[test]
fn a_missed_deadline_calls_back_on_sqlite() {
    a_missed_deadline_calls_back(Database::Sqlite);
}

#[test]
fn a_missed_deadline_calls_back_on_postgres() {
    a_missed_deadline_calls_back(Database::Postgres);
}

#[test]
fn every_callback_of_tasks_and_runs_is_called_once() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let text = CALLBACKS.replace("@EVIDENCE@", &evidence.display().to_string());
    let mut place = place.dag("alpha", "told.py", &text);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("told");
    let run = ann.trigger("told");
    assert_eq!(ann.wait_for_run("told", &run, 60)["state"], "failed");
    let end = Instant::now() + Duration::from_secs(30);
    let called = loop {
        let text = written(&evidence.join("called.txt"));
        if text.contains("dag_failure") || Instant::now() > end {
            break text;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let mut called: Vec<&str> = called.lines().map(|line| line.rsplit_once(' ').unwrap().0).collect();
    called.retain(|line| !line.starts_with("dag_failure"));
    called.sort_unstable();
    let wanted = [
        "execute bad",
        "execute bad",
        "execute good",
        "execute skips",
        "failure bad",
        "retry bad",
        "skipped skips",
        "success good",
    ];
    assert_eq!(called, wanted);
}
