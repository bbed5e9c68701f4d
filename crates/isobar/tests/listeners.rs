//! What listeners of a team's plugins hear of what the control plane does. The built binary, real Python.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deployment::{Database, Deployment};
use serde_json::{Value, json};

const PLUGIN: &str = include_str!("data/listeners/hearing.py");
/// What a real Airflow called in the same scene: `tools/conformance/listeners.py`.
const AIRFLOW: &str = include_str!("data/listeners/heard.json");
const DAGS: &str = include_str!("data/listeners/heard.py");

/// Listeners that do what they should not.
const ROUGH: &str = r#"
import os, pathlib, time
from airflow.listeners import hookimpl
from airflow.sdk import Variable
from airflow.sdk.plugins_manager import AirflowPlugin

EVIDENCE = pathlib.Path(os.environ["LISTENERS_EVIDENCE"])

def say(text):
    with (EVIDENCE / "rough.txt").open("a") as file:
        file.write(text + "\n")

class Rough:
    @hookimpl
    def on_starting(self, component):
        if type(component).__name__ == "ListenersMarker":
            say("on_starting")

    @hookimpl
    def before_stopping(self, component):
        if type(component).__name__ == "ListenersMarker":
            say("before_stopping")

    @hookimpl
    def on_dag_run_running(self, dag_run, msg):
        say(f"running {dag_run.run_id} {Variable.get('greeting')}")
        while dag_run.run_id == "held" and not (EVIDENCE / "go").exists():
            time.sleep(0.05)
        if dag_run.run_id == "exits":
            os._exit(3)

    @hookimpl
    def on_dag_run_success(self, dag_run, msg):
        say(f"success {dag_run.run_id}")

class Plugin(AirflowPlugin):
    name = "rough"
    listeners = [Rough()]
"#;

const EMPTY: &str = r#"
from airflow.sdk import DAG

with DAG(dag_id="empty", schedule=None):
    pass
"#;

const CONSUMER: &str = r#"
from airflow.sdk import DAG, Asset, task

theirs = Asset("made", uri="s3://listeners/made", extra={"allow_triggering_by_teams": ["alpha"]})

with DAG(dag_id="consumer", schedule=[theirs]):
    @task
    def consumes():
        pass
    consumes()
"#;

/// Makes a folder of plugins with one file; answers what a team needs of it.
fn plugged(place: &Deployment, team: &str, text: &str) -> String {
    let plugins = place.path().join(format!("{team}-plugins"));
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("listening.py"), text).unwrap();
    format!(
        "plugins_folder = \"{}\"\nenv = {{ LISTENERS_EVIDENCE = \"{}\" }}\n",
        plugins.display(),
        place.evidence(team).display()
    )
}

/// A deployment with the team alpha, whose plugin writes down what it hears, and the team beta without any.
fn place(database: Database) -> (Deployment, PathBuf) {
    let place = Deployment::on(database);
    let more = plugged(&place, "alpha", PLUGIN);
    let evidence = place.evidence("alpha");
    let place = place
        .team("alpha", &more)
        .team("beta", "")
        .user("ann", "alpha = \"admin\"")
        .user("bob", "beta = \"admin\"")
        .dag("alpha", "heard.py", DAGS)
        .dag("beta", "heard.py", DAGS);
    (place, evidence.join("heard.jsonl"))
}

/// What was heard until now.
fn heard(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// Waits until something like this was heard, and answers it.
fn wait_to_hear(file: &Path, wanted: &Value) -> Value {
    let end = Instant::now() + Duration::from_secs(90);
    loop {
        let all = heard(file);
        if let Some(found) = all.iter().find(|one| is_like(one, wanted)) {
            return found.clone();
        }
        assert!(Instant::now() < end, "{wanted} was never heard, but {all:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_like(one: &Value, wanted: &Value) -> bool {
    wanted
        .as_object()
        .unwrap()
        .iter()
        .all(|(key, value)| one[key] == *value)
}

/// What was heard, in the form in which `tools/conformance/listeners.py` recorded it of Airflow: runs of a Dag in their order, the
/// rest, which several processes say, by contents.
fn settled(heard: &[Value]) -> Value {
    let (mut runs, mut rest) = (BTreeMap::<String, Vec<Value>>::new(), Vec::new());
    for one in heard {
        let mut one = one.clone();
        one.as_object_mut().unwrap().remove("run");
        if one["hook"].as_str().unwrap().starts_with("run_") {
            let dag = one["dag"].as_str().unwrap().to_owned();
            runs.entry(dag).or_default().push(one);
        } else {
            rest.push(one);
        }
    }
    rest.sort_by_key(Value::to_string);
    json!({"runs": runs, "rest": rest})
}

/// The hooks that were called about a Dag, in their order.
fn hooks_of(file: &Path, dag: &str) -> Vec<String> {
    let about = |one: &&Value| one["dag"] == dag;
    let name = |one: &Value| one["hook"].as_str().unwrap().to_owned();
    heard(file).iter().filter(about).map(name).collect()
}

fn runs_are_told_of(database: Database) {
    let (mut place, file) = place(database);
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    ann.wait_for_dag("good");
    bob.wait_for_dag("good");
    let theirs = bob.trigger("good");
    assert_eq!(bob.wait_for_run("good", &theirs, 60)["state"], "success");
    let bad = ann.trigger("bad");
    let said = wait_to_hear(&file, &json!({"hook": "run_failed", "dag": "bad"}));
    assert_eq!(
        said,
        json!({"hook": "run_failed", "msg": "task_failure", "dag": "bad", "run": bad, "state": "failed", "type": "manual",
               "conf": {}, "logical": false, "interval": true, "started": true, "ended": true, "tasks": ["raises"]})
    );
    // That listener raised; those after it are called all the same.
    let good = ann.trigger("good");
    wait_to_hear(
        &file,
        &json!({"hook": "run_success", "dag": "good", "run": good, "msg": "success"}),
    );
    let said = wait_to_hear(&file, &json!({"hook": "run_running", "dag": "good"}));
    assert_eq!(
        (&said["msg"], &said["state"], &said["ended"]),
        (&json!("started"), &json!("running"), &json!(false))
    );
    let runs: Vec<String> = hooks_of(&file, "bad")
        .into_iter()
        .filter(|hook| hook.starts_with("run"))
        .collect();
    assert_eq!(runs, ["run_running", "run_failed"]);
    assert!(
        heard(&file).iter().all(|one| one["run"] != theirs.as_str()),
        "alpha heard of beta's run"
    );
    let logs = place.path().join("home/logs/alpha/listeners");
    let log = std::fs::read_dir(logs).unwrap().next().unwrap().unwrap().path();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("error calling listener") && log.contains("this listener is broken"),
        "{log}"
    );
}

#[test]
fn listeners_hear_of_their_own_teams_runs_on_sqlite() {
    runs_are_told_of(Database::Sqlite);
}

#[test]
fn listeners_hear_of_their_own_teams_runs_on_postgres() {
    runs_are_told_of(Database::Postgres);
}

/// The scene of `tools/conformance/listeners.py`.
#[test]
fn listeners_hear_what_airflows_hear() {
    let (mut place, file) = place(Database::Sqlite);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("good");
    let good = ann.trigger("good");
    wait_to_hear(&file, &json!({"hook": "run_success", "dag": "good"}));
    for (dag, end) in [("bad", "run_failed"), ("killed", "run_success")] {
        ann.trigger(dag);
        wait_to_hear(&file, &json!({"hook": end, "dag": dag}));
    }
    let marked = ann.trigger("marked");
    wait_to_hear(&file, &json!({"hook": "task_running", "dag": "marked"}));
    let task = format!("/api/v2/dags/marked/dagRuns/{marked}/taskInstances/waits");
    assert_eq!(ann.patch(&task, &json!({"new_state": "failed"})).status, 200);
    wait_to_hear(&file, &json!({"hook": "run_failed", "dag": "marked"}));
    let ended = ann.trigger("ended");
    wait_to_hear(&file, &json!({"hook": "task_running", "dag": "ended"}));
    let run = format!("/api/v2/dags/ended/dagRuns/{ended}");
    assert_eq!(ann.patch(&run, &json!({"state": "success"})).status, 200);
    wait_to_hear(&file, &json!({"hook": "run_success", "dag": "ended"}));
    let task = format!("/api/v2/dags/good/dagRuns/{good}/taskInstances/makes");
    assert_eq!(ann.patch(&task, &json!({"new_state": "skipped"})).status, 200);
    wait_to_hear(&file, &json!({"hook": "task_skipped", "dag": "good"}));
    let assets = ann.get("/api/v2/assets?uri_pattern=s3://listeners/made").body;
    let event = json!({"asset_id": assets["assets"][0]["id"], "extra": {"rows": 5}});
    assert_eq!(ann.post("/api/v2/assets/events", &event).status, 200);
    wait_to_hear(&file, &json!({"hook": "asset_event", "dag": null}));
    place.write_dag(
        "alpha",
        "broken.py",
        "from airflow.sdk import DAG\nraise ValueError('broken')\n",
    );
    wait_to_hear(&file, &json!({"hook": "error_new"}));
    place.write_dag(
        "alpha",
        "broken.py",
        "from airflow.sdk import DAG\nraise ValueError('broken again')\n",
    );
    wait_to_hear(&file, &json!({"hook": "error_again"}));
    let (ours, theirs) = (settled(&heard(&file)), serde_json::from_str::<Value>(AIRFLOW).unwrap());
    assert_eq!(ours["runs"], theirs["runs"]);
    for one in theirs["rest"].as_array().unwrap() {
        assert!(
            ours["rest"].as_array().unwrap().contains(one),
            "{one} was not heard, but {:#}",
            ours["rest"]
        );
    }
    let count = |said: &Value| said["rest"].as_array().unwrap().len();
    assert_eq!(count(&ours), count(&theirs), "{:#}", ours["rest"]);
}

#[test]
fn the_consumer_of_another_teams_asset_hears_of_its_own_run_alone() {
    let place = Deployment::on(Database::Sqlite);
    let (alphas, betas) = (plugged(&place, "alpha", PLUGIN), plugged(&place, "beta", PLUGIN));
    let (alphas_file, betas_file) = (
        place.evidence("alpha").join("heard.jsonl"),
        place.evidence("beta").join("heard.jsonl"),
    );
    let mut place = place
        .team("alpha", &alphas)
        .team("beta", &betas)
        .user("ann", "alpha = \"admin\"")
        .user("bob", "beta = \"admin\"")
        .dag("alpha", "heard.py", DAGS)
        .dag("beta", "consumer.py", CONSUMER);
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    bob.wait_for_dag("consumer");
    ann.wait_for_dag("good");
    ann.trigger("good");
    wait_to_hear(&betas_file, &json!({"hook": "run_success", "dag": "consumer"}));
    wait_to_hear(&alphas_file, &json!({"hook": "run_success", "dag": "good"}));
    // A task's own process does not wait for what listeners of its run are told.
    let mut hooks: Vec<String> = heard(&betas_file)
        .iter()
        .map(|one| one["hook"].as_str().unwrap().to_owned())
        .collect();
    hooks.sort_unstable();
    let own = [
        "asset_created",
        "run_running",
        "run_success",
        "task_running",
        "task_success",
    ];
    assert_eq!(hooks, own);
    assert!(heard(&alphas_file).iter().all(|one| one["dag"] != "consumer"));
    assert_eq!(
        hooks_of(&alphas_file, "good")
            .iter()
            .filter(|hook| *hook == "asset_event")
            .count(),
        2
    );
}

fn said(place: &Deployment) -> Vec<String> {
    let text = std::fs::read_to_string(place.evidence("alpha").join("rough.txt")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_until_said(place: &Deployment, wanted: &[&str]) {
    let end = Instant::now() + Duration::from_secs(90);
    while said(place) != wanted {
        assert!(
            Instant::now() < end,
            "{wanted:#?} was to be said, but {:#?}",
            said(place)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn rough(database: Database) {
    let place = Deployment::on(database);
    let more = format!(
        "{}variables = {{ greeting = \"hello\" }}\n",
        plugged(&place, "alpha", ROUGH)
    );
    let mut place = place
        .team("alpha", &more)
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "empty.py", EMPTY);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("empty");
    let trigger = |run: &str| {
        let body = json!({"dag_run_id": run, "logical_date": null});
        assert_eq!(
            place.client("ann").post("/api/v2/dags/empty/dagRuns", &body).status,
            200
        );
    };
    trigger("exits");
    let mut wanted = vec!["on_starting", "running exits hello"];
    // The listener took its process with it: that call is passed over, the next has another process.
    wanted.extend(["on_starting", "success exits"]);
    wait_until_said(&place, &wanted);
    trigger("held");
    wanted.push("running held hello");
    wait_until_said(&place, &wanted);
    trigger("later");
    place.client("ann").wait_for_run("empty", "later", 60);
    place.kill("standalone");
    std::fs::write(place.evidence("alpha").join("go"), "").unwrap();
    place.start("standalone");
    // What was being told is told again, and nothing is lost or overtaken.
    wanted.extend([
        "on_starting",
        "running held hello",
        "success held",
        "running later hello",
        "success later",
    ]);
    wait_until_said(&place, &wanted);
    place.stop("standalone");
    wanted.push("before_stopping");
    wait_until_said(&place, &wanted);
}

#[test]
fn no_call_is_lost_to_a_killed_server_or_a_listener_that_exits_on_sqlite() {
    rough(Database::Sqlite);
}

#[test]
fn no_call_is_lost_to_a_killed_server_or_a_listener_that_exits_on_postgres() {
    rough(Database::Postgres);
}
