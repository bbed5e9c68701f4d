//! What becomes of runs that something happens to: their Dag changes, a person marks them, a backfill's server is killed.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deployment::{Client, Database, Deployment};
use serde_json::{Value, json};

/// What every Dag here begins with: tasks that wait until a file of the evidence folder says go on.
const BEGINNING: &str = r#"
import pathlib, time
from datetime import datetime, timedelta
from airflow.sdk import DAG, task, setup, teardown

EVIDENCE = pathlib.Path(__EVIDENCE__)

def wait_for(name):
    while not (EVIDENCE / name).exists():
        time.sleep(0.05)

def say(text):
    with open(EVIDENCE / "said", "a") as f:
        print(text, file=f, flush=True)
"#;

fn with_evidence(evidence: &Path, text: &str) -> String {
    let evidence = format!("{:?}", evidence.display().to_string());
    format!("{}{text}", BEGINNING.replace("__EVIDENCE__", &evidence))
}

fn states(client: &Client, dag: &str, run: &str) -> BTreeMap<String, String> {
    client
        .tasks(dag, run)
        .iter()
        .map(|ti| {
            let text = |key: &str| ti[key].as_str().unwrap_or("none").to_owned();
            (text("task_id"), text("state"))
        })
        .collect()
}

fn wait_for_task(client: &Client, dag: &str, run: &str, task: &str, state: &str) {
    let path = format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}");
    client.wait_for(&path, 60, |answer| answer.body["state"] == state);
}

fn expect(found: &BTreeMap<String, String>, wanted: &[(&str, &str)]) {
    let wanted: BTreeMap<String, String> = wanted
        .iter()
        .map(|(task, state)| ((*task).to_owned(), (*state).to_owned()))
        .collect();
    assert_eq!(*found, wanted);
}

const CHANGING: &str = r#"
with DAG(dag_id="changing", schedule=None, catchup=False) as dag:
    @task
    def first():
        wait_for("go")

    @task
    def second():
        say("second")

    @task
    def added():
        say("added")

    @task
    def last():
        say("last")

    __GRAPH__
"#;

#[test]
fn a_dag_that_changes_in_mid_run_takes_its_run_along() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let version = |graph: &str| with_evidence(&evidence, &CHANGING.replace("__GRAPH__", graph));
    let mut place = place.dag("alpha", "changing.py", &version("first() >> second() >> last()"));
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("changing");
    let run = ann.trigger("changing");
    wait_for_task(&ann, "changing", &run, "first", "running");

    let parsed = |number: i64| {
        ann.wait_for(&format!("/api/v2/dags/changing/dagVersions/{number}"), 60, |answer| {
            answer.status == 200
        });
    };
    // A task goes and another comes.
    place.write_dag("alpha", "changing.py", &version("first() >> [added(), last()]"));
    parsed(2);
    wait_for_task(&ann, "changing", &run, "second", "removed");
    wait_for_task(&ann, "changing", &run, "first", "running");
    // The first is back, the other gone.
    place.write_dag("alpha", "changing.py", &version("first() >> second() >> last()"));
    ann.wait_for("/api/v2/dags/changing/tasks", 60, |answer| {
        answer.body["tasks"].to_string().contains("\"second\"")
    });
    wait_for_task(&ann, "changing", &run, "added", "removed");
    fs::write(evidence.join("go"), "").unwrap();
    assert_eq!(ann.wait_for_run("changing", &run, 60)["state"], "success");
    expect(
        &states(&ann, "changing", &run),
        &[
            ("first", "success"),
            ("second", "success"),
            ("added", "removed"),
            ("last", "success"),
        ],
    );
    assert_eq!(fs::read_to_string(evidence.join("said")).unwrap(), "second\nlast\n");
    let newest = ann.get("/api/v2/dags/changing/details").body["latest_dag_version"]["version_number"].clone();
    for ti in ann.tasks("changing", &run) {
        if ti["state"] == "success" {
            assert_eq!(ti["dag_version"]["version_number"], newest, "what it ran on: {ti}");
        }
    }
}

const DAILY: &str = r#"
with DAG(dag_id="daily", schedule="@daily", start_date=datetime(2026, 1, 1), end_date=datetime(2026, 1, 31), catchup=False) as dag:
    @task(retries=1, retry_delay=timedelta(seconds=0))
    def work(logical_date=None, ti=None):
        day = logical_date.strftime("%d")
        say(f"{day} try {ti.try_number}")
        if day == "02":
            wait_for("go")

    work()
"#;

fn a_backfill_goes_on_after_a_kill(database: Database, backwards: bool, order: [&str; 4]) {
    let place = Deployment::on(database)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let mut place = place.dag("alpha", "daily.py", &with_evidence(&evidence, DAILY));
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("daily");
    let made = ann.post(
        "/api/v2/backfills",
        &json!({
            "dag_id": "daily",
            "from_date": "2026-01-01T00:00:00Z",
            "to_date": "2026-01-04T00:00:00Z",
            "run_backwards": backwards,
            "max_active_runs": 1,
            "dag_run_conf": {"why": "a test"},
        }),
    );
    assert_eq!(made.status, 200, "{}", made.body);
    let path = format!("/api/v2/backfills/{}", made.body["id"]);
    wait_for_task(&ann, "daily", "backfill__2026-01-02T00:00:00+00:00", "work", "running");
    let waiting = order.iter().position(|day| *day == "02").unwrap();
    let said = || fs::read_to_string(evidence.join("said")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while !said().contains("02 try 1") {
        assert!(Instant::now() < end, "the task that waits has not said so: {}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    let runs = ann.get("/api/v2/dags/daily/dagRuns").body["dag_runs"].clone();
    let count = |state: &str| {
        runs.as_array()
            .unwrap()
            .iter()
            .filter(|run| run["state"] == state)
            .count()
    };
    assert_eq!((count("success"), count("running")), (waiting, 1), "{runs:#}");

    place.kill("standalone");
    fs::write(evidence.join("go"), "").unwrap();
    place.start("standalone");
    let ann = place.client("ann");
    let ended = ann.wait_for(&path, 90, |answer| !answer.body["completed_at"].is_null());
    assert_eq!(ended.body["is_paused"], false);
    let runs = ann.get("/api/v2/dags/daily/dagRuns?order_by=start_date").body["dag_runs"].clone();
    let days: Vec<String> = runs
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            assert_eq!(
                (&run["state"], &run["run_type"]),
                (&json!("success"), &json!("backfill"))
            );
            assert_eq!(run["conf"], json!({"why": "a test"}));
            run["logical_date"].as_str().unwrap()[8..10].to_owned()
        })
        .collect();
    assert_eq!(days, order, "one after the other");
    let mut expected: Vec<String> = order.iter().map(|day| format!("{day} try 1")).collect();
    expected.insert(waiting + 1, "02 try 2".to_owned());
    let said = fs::read_to_string(evidence.join("said")).unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        expected,
        "nothing lost, nothing repeated"
    );
}

#[test]
fn a_forward_backfill_goes_on_after_a_kill() {
    a_backfill_goes_on_after_a_kill(Database::Sqlite, false, ["01", "02", "03", "04"]);
}

#[test]
fn a_backward_backfill_goes_on_after_a_kill_on_postgres() {
    a_backfill_goes_on_after_a_kill(Database::Postgres, true, ["04", "03", "02", "01"]);
}

const MARKED: &str = r#"
with DAG(dag_id="marked", schedule=None, catchup=False) as dag:
    @task
    def breaks():
        raise ValueError("broken")

    @task
    def below():
        say("below")

    @task
    def end():
        say("end")

    breaks() >> below() >> end()

with DAG(dag_id="stopped", schedule=None, catchup=False) as stopped:
    @setup
    def open_it():
        pass

    @task
    def works():
        say("works")
        wait_for("never")

    @task
    def waits():
        say("waits")

    @teardown
    def close_it():
        say("closed")

    opened, closed = open_it(), close_it()
    opened >> works() >> waits() >> closed
    opened >> closed
"#;

#[test]
fn marks_cascade() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let mut place = place.dag("alpha", "marked.py", &with_evidence(&evidence, MARKED));
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("marked");
    ann.wait_for_dag("stopped");

    // Marking a task that failed as successful revives what failed because of it.
    let run = ann.trigger("marked");
    assert_eq!(ann.wait_for_run("marked", &run, 60)["state"], "failed");
    let task = format!("/api/v2/dags/marked/dagRuns/{run}/taskInstances/breaks");
    let marked = ann.patch(&task, &json!({"new_state": "success"}));
    assert_eq!(marked.status, 200, "{}", marked.body);
    let path = format!("/api/v2/dags/marked/dagRuns/{run}");
    ann.wait_for(&path, 60, |answer| answer.body["state"] == "success");
    expect(
        &states(&ann, "marked", &run),
        &[("breaks", "success"), ("below", "success"), ("end", "success")],
    );

    // Marking a run as failed stops what runs, skips what waits, and lets teardowns work.
    let run = ann.trigger("stopped");
    wait_for_task(&ann, "stopped", &run, "works", "running");
    // It runs before its own code does.
    let end = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(evidence.join("said")).unwrap().contains("works") {
        assert!(Instant::now() < end, "the task never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let path = format!("/api/v2/dags/stopped/dagRuns/{run}");
    let marked: Value = ann.patch(&path, &json!({"state": "failed"})).body;
    assert_eq!(marked["state"], "running", "the teardown is still to come: {marked}");
    ann.wait_for(&path, 60, |answer| answer.body["state"] != "running");
    expect(
        &states(&ann, "stopped", &run),
        &[
            ("open_it", "success"),
            ("works", "failed"),
            ("waits", "skipped"),
            ("close_it", "success"),
        ],
    );
    let said = fs::read_to_string(evidence.join("said")).unwrap();
    assert_eq!(said.lines().collect::<Vec<_>>(), ["below", "end", "works", "closed"]);
}

const TROUBLED: &str = r#"
def called_back(context):
    say(f"{context['ti'].task_id} try {context['ti'].try_number} is called back")

with DAG(dag_id="cleared", schedule=None, catchup=False) as cleared:
    @task(on_retry_callback=called_back)
    def works(ti=None):
        say(f"works try {ti.try_number}")
        if ti.try_number == 1:
            wait_for("never")

    works()

with DAG(dag_id="deleted", schedule=None, catchup=False) as deleted:
    @task
    def first(ti=None):
        say("first begins")
        wait_for("first may end")

    @task
    def below():
        say("below")

    first() >> below()

with DAG(dag_id="again", schedule=None, catchup=False) as again:
    @task
    def quick():
        pass

    quick()
"#;

const GOING: &str = r#"
with DAG(dag_id="going", schedule=None, catchup=False) as going:
    @task
    def early():
        say("early")
        wait_for("early may end")

    @task
    def late():
        say("late")

    early() >> late()
"#;

/// Waits until the tasks have said a line so often.
fn wait_until_said(evidence: &Path, line: &str, times: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let said = fs::read_to_string(evidence.join("said")).unwrap_or_default();
        if said.lines().filter(|said| *said == line).count() >= times {
            return;
        }
        assert!(Instant::now() < end, "`{line}` was not said {times} times:\n{said}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_happens_to_running_tasks_and_their_files_ends_as_in_airflow() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let going = with_evidence(&evidence, GOING);
    let mut place = place
        .dag("alpha", "troubled.py", &with_evidence(&evidence, TROUBLED))
        .dag("alpha", "going.py", &going);
    place.start("standalone");
    let ann = place.client("ann");
    for dag in ["cleared", "deleted", "again", "going"] {
        ann.wait_for_dag(dag);
    }

    // A task that is cleared while it runs counts as retried, for its callback, too.
    let run = ann.trigger("cleared");
    wait_until_said(&evidence, "works try 1", 1);
    wait_for_task(&ann, "cleared", &run, "works", "running");
    let body = json!({"dag_run_id": run, "dry_run": false, "only_failed": false});
    assert_eq!(ann.post("/api/v2/dags/cleared/clearTaskInstances", &body).status, 200);
    assert_eq!(ann.wait_for_run("cleared", &run, 60)["state"], "success");
    wait_until_said(&evidence, "works try 2", 1);
    wait_until_said(&evidence, "works try 1 is called back", 1);

    // An instance that is deleted is made anew, and what stands below waits for that.
    let run = ann.trigger("deleted");
    wait_until_said(&evidence, "first begins", 1);
    wait_for_task(&ann, "deleted", &run, "first", "running");
    let gone = ann.delete(&format!("/api/v2/dags/deleted/dagRuns/{run}/taskInstances/first"));
    assert_eq!(gone.status, 200, "{}", gone.body);
    wait_until_said(&evidence, "first begins", 2);
    fs::write(evidence.join("first may end"), "").unwrap();
    assert_eq!(ann.wait_for_run("deleted", &run, 60)["state"], "success");
    wait_until_said(&evidence, "below", 1);

    // Runs of a Dag whose file is gone stand still until it is back.
    let run = ann.trigger("going");
    wait_until_said(&evidence, "early", 1);
    fs::remove_file(place.dags("alpha").join("going.py")).unwrap();
    ann.wait_for("/api/v2/dags/going", 60, |answer| answer.body["is_stale"] == true);
    fs::write(evidence.join("early may end"), "").unwrap();
    wait_for_task(&ann, "going", &run, "early", "success");

    // A run that is queued again and has nothing left to do has a start all the same. All of it happens after the end of `early`.
    let quick = ann.trigger("again");
    assert_eq!(ann.wait_for_run("again", &quick, 60)["state"], "success");
    let path = format!("/api/v2/dags/again/dagRuns/{quick}");
    assert_eq!(ann.patch(&path, &json!({"state": "queued"})).status, 200);
    let ended = ann.wait_for_run("again", &quick, 60);
    assert!(ended["start_date"].is_string(), "{ended}");

    let late = ann
        .get(&format!("/api/v2/dags/going/dagRuns/{run}/taskInstances/late"))
        .body;
    assert_eq!(late["state"], Value::Null, "{late}");
    place.write_dag("alpha", "going.py", &going);
    assert_eq!(ann.wait_for_run("going", &run, 60)["state"], "success");
}
