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

/// A deployment with the team alpha, whose plugin writes down what it hears, and the team beta without any.
fn place(database: Database) -> (Deployment, PathBuf) {
    let place = Deployment::on(database);
    let plugins = place.path().join("alpha-plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("hearing.py"), PLUGIN).unwrap();
    let evidence = place.evidence("alpha");
    let more = format!(
        "plugins_folder = \"{}\"\nenv = {{ LISTENERS_EVIDENCE = \"{}\" }}",
        plugins.display(),
        evidence.display()
    );
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
