//! The same tasks and secrets under Airflow's own supervisor: logs must look the same.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use isobar_runtime::masker::Masker;
use serde_json::{Value, json};
use support::{MemoryApi, Team, python, spec};

/// A script of `tests/data` in the environment of the team.
fn script(home: &std::path::Path, name: &str) -> Command {
    let mut command = Command::new(python());
    command
        .arg(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR")))
        .env_clear()
        .envs(spec(home).env)
        .env("AIRFLOW__LOGGING__BASE_LOG_FOLDER", home.join("airflow-logs"));
    command
}

/// What of a log line is the same in every run: level, logger, the event without numbers, the names of its keys.
fn shape(line: &Value) -> (String, String, String, Vec<String>, BTreeSet<String>) {
    let line = line.as_object().expect("a log line is a map");
    let text = |key: &str| line.get(key).map(Value::to_string).unwrap_or_default();
    let keys: Vec<String> = line.keys().cloned().collect();
    (
        text("level"),
        text("logger"),
        text("event").replace(|c: char| c.is_ascii_digit(), "0"),
        keys[..3].to_vec(),
        keys[3..].iter().cloned().collect(),
    )
}

#[tokio::test]
async fn log_files_have_airflows_lines_in_airflows_order_with_airflows_keys() {
    let tasks = ["noop", "value", "boom", "skip", "outputs", "bash"];
    let team = Team::start().await;
    let out = script(team.home.path(), "airflow_logs.py")
        .arg(support::dags())
        .args(tasks)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let theirs = String::from_utf8(out.stdout).expect("a path");
    let theirs: Value = serde_json::from_str(theirs.lines().last().expect("the script prints its logs")).unwrap();
    for task in tasks {
        let done = team.run(&MemoryApi::with(|_| {}), task).await;
        let theirs: Vec<&Value> = theirs[task].as_array().unwrap().iter().collect();
        // Printed lines are stamped where they are read, so each stream keeps its own order only.
        for printed in [true, false] {
            let stream = |line: &&Value| line["logger"].as_str().unwrap().starts_with("task.std") == printed;
            let ours: Vec<_> = done.log.iter().filter(stream).map(shape).collect();
            let theirs: Vec<_> = theirs.iter().copied().filter(stream).map(shape).collect();
            assert_eq!(ours, theirs, "{task}");
        }
    }
}

#[test]
fn shortcuts_through_the_sdk_come_to_the_same_results() {
    let home = tempfile::tempdir().unwrap();
    let agent = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let out = script(home.path(), "shortcuts.py")
        .arg(&agent)
        .arg(agent.join("isobar_agent/sample_dag.py"))
        .args(["bench.py", "flows.py"].map(|file| support::dags().join(file)))
        .args(example_dags())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.contains("the same"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Those that come with Airflow, of many kinds of operators.
fn example_dags() -> Vec<std::path::PathBuf> {
    let program = "import os, airflow; print(os.path.join(os.path.dirname(airflow.__file__), 'example_dags'))";
    let out = Command::new(python()).args(["-c", program]).output().expect("Python");
    let folder = String::from_utf8(out.stdout).expect("a path");
    let names = [
        "example_bash_operator.py",
        "example_branch_labels.py",
        "example_dynamic_task_mapping.py",
        "example_params_trigger_ui.py",
        "example_setup_teardown_taskflow.py",
        "example_task_group_decorator.py",
        "example_xcomargs.py",
        "tutorial_taskflow_api.py",
    ];
    names
        .map(|name| std::path::Path::new(folder.trim()).join(name))
        .to_vec()
}

#[test]
fn the_masker_hides_what_airflows_hides() {
    let home = tempfile::tempdir().unwrap();
    let cases = json!({
        "add": [
            ["top-secret", null], ["abcd", null], ["airflow", null], ["", null], ["a.b*c(d)", null],
            ["by-name", "my_password"], ["not-by-name", "greeting"],
            [{"login": "plain-login", "api_key": "nested-key", "inner": {"token": ["in-a-list", "and-another"]}}, null],
            [["one-of-many", "two-of-many"], null], ["ümläut-sécret", null],
        ],
        "events": [
            {"event": "top-secret abcd airflow a.b*c(d) aXbYc by-name not-by-name"},
            {"event": "plain-login nested-key in-a-list and-another one-of-many two-of-many ümläut-sécret"},
            {"event": "x", "password": "anything", "My Password": {"a": "b", "c": [1, "d", null]}, "PROXY": true},
            {"event": "x", "list": [{"secret": "gone"}, ["top-secret"]], "n": 5, "auth-header": "h"},
            {"event": "x", "exc": [{"exc_value": "ValueError: top-secret", "frames": [{"filename": "top-secret.py"}]}]},
            {"event": "", "tokenizer": "also hidden", "key": "not hidden", "dsn": null},
        ],
        "names": [
            "password", "db_password", "PASSWD", "api-key", "API KEY", "apikey", "access.token", "key", "private key",
            "username", "proxy", "tokens", "service_account_json", "webhook-url", "dsn", "bearer", "name", " secret ",
        ],
    });
    let mut child = script(home.path(), "airflow_masks.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(cases.to_string().as_bytes())
        .unwrap();
    let out = child.wait_with_output().unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    let theirs: Value = serde_json::from_str(out.lines().last().expect("the script prints its results")).unwrap();

    let masker = Masker::default();
    for case in cases["add"].as_array().unwrap() {
        masker.add(&case[0], case[1].as_str());
    }
    for (event, theirs) in cases["events"]
        .as_array()
        .unwrap()
        .iter()
        .zip(theirs["events"].as_array().unwrap())
    {
        let mut ours = event.clone();
        masker.redact(&mut ours);
        assert_eq!(ours, *theirs, "{event}");
    }
    for (name, theirs) in cases["names"]
        .as_array()
        .unwrap()
        .iter()
        .zip(theirs["names"].as_array().unwrap())
    {
        assert_eq!(masker.is_sensitive(name.as_str().unwrap()), *theirs, "{name}");
    }
}
