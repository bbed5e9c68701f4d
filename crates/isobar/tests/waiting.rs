//! Tasks that wait: for triggers, for people, and assets that are watched. The built binary, real Python.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::fs;

use deployment::{Database, wait_for_notes, with_triggers};
use serde_json::{Value, json};

const WAITS: &str = r#"
from datetime import timedelta
from airflow.sdk import DAG, BaseOperator
from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.triggers.base import StartTriggerArgs
from watching import FileTrigger

EVIDENCE = __EVIDENCE__

class Waits(BaseOperator):
    def __init__(self, *, name, mode="event", patience=None, **kwargs):
        super().__init__(**kwargs)
        self.name, self.mode, self.patience = name, mode, patience

    def execute(self, context):
        trigger = FileTrigger(EVIDENCE, self.name, self.mode)
        self.defer(trigger=trigger, method_name="resume", kwargs={"own": timedelta(seconds=1)}, timeout=self.patience)

    def resume(self, context, event, own):
        return [event["seen"], own.total_seconds()]

class Starts(BaseOperator):
    start_from_trigger = True
    start_trigger_args = StartTriggerArgs(
        trigger_cls="watching.FileTrigger",
        trigger_kwargs={"folder": EVIDENCE, "name": "e"},
        next_method="resume",
        next_kwargs={"own": 3},
        timeout=timedelta(seconds=600),
    )

    def execute(self, context):
        raise RuntimeError("a worker must not run this")

    def resume(self, context, event, own):
        return [event["seen"], own]

with DAG(dag_id="waits", schedule=None):
    TimeDeltaSensor(task_id="delta", delta=timedelta(seconds=1), deferrable=True)
    Waits(task_id="event", name="e")
    Waits(task_id="boom", name="e", mode="boom")
    Waits(task_id="ends", name="e", mode="success")
    Waits(task_id="skips", name="e", mode="skipped")
    Waits(task_id="fails", name="e", mode="failed", retries=1, retry_delay=timedelta(seconds=1))
    Waits(task_id="late", name="never", patience=timedelta(seconds=2))
    Starts(task_id="starts")

with DAG(dag_id="single", schedule=None):
    Waits(task_id="single", name="single")
"#;

const ASKS: &str = r#"
from datetime import timedelta
from airflow.sdk import DAG, Param, task
from airflow.providers.standard.operators.hitl import (
    ApprovalOperator, HITLBranchOperator, HITLEntryOperator, HITLOperator,
)

with DAG(dag_id="asks", schedule=None):
    approve = ApprovalOperator(task_id="approve", subject="Ship {{ run_id }}?", body="It is **ready**.")
    choose = HITLBranchOperator(task_id="choose", subject="Which way?", options=["left", "right"])
    entry = HITLEntryOperator(task_id="entry", subject="How many?", params={"n": Param(3, type="integer")})
    HITLOperator(
        task_id="only_root", subject="Who?", options=["a", "b"], multiple=True,
        assigned_users=[{"id": "someone-else", "name": "someone-else"}],
        response_timeout=timedelta(seconds=3), defaults=["a"],
    )
    HITLOperator(task_id="nobody", subject="Anyone?", options=["x"], response_timeout=timedelta(seconds=2))

    @task
    def shipped(): ...
    @task
    def left(): ...
    @task
    def right(): ...

    approve >> shipped()
    choose >> [left(), right()]
"#;

const WATCHED: &str = r#"
from airflow.sdk import DAG, Asset, AssetWatcher, task
from watching import FolderWatcher

inbox = Asset("inbox", watchers=[AssetWatcher(name="folder", trigger=FolderWatcher(__EVIDENCE__, "mail"))])

with DAG(dag_id="reads_mail", schedule=[inbox]):
    @task
    def read(triggering_asset_events=None):
        return [event.extra["payload"]["file"] for event in triggering_asset_events[inbox]]
    read()
"#;

#[test]
fn tasks_that_defer_go_on_end_or_fail_as_their_triggers_say() {
    let mut deployment = with_triggers(Database::Sqlite, &["alpha"], &[("waits.py", WAITS)]);
    deployment.start("standalone");
    let (client, evidence) = (deployment.client("alpha"), deployment.evidence("alpha"));
    client.wait_for_dag("waits");
    let run = client.trigger("waits");
    // While it waits the API shows on what, and who runs it.
    let event = "/taskInstances/event";
    let path = format!("/api/v2/dags/waits/dagRuns/{run}{event}");
    let waiting = client
        .wait_for(&path, 90, |answer| !answer.body["triggerer_job"].is_null())
        .body;
    assert_eq!(waiting["state"], "deferred");
    assert_eq!(waiting["trigger"]["classpath"], "watching.FileTrigger");
    assert_eq!(waiting["trigger"]["kwargs"], "{}");
    assert_eq!(waiting["trigger"]["triggerer_id"], waiting["triggerer_job"]["id"]);
    assert_eq!(
        client.get("/api/v2/monitor/health").body["triggerer"]["status"],
        "healthy"
    );
    let started = client.wait_for_task("waits", &run, "starts", "deferred");
    assert_eq!((&started["try_number"], &started["pid"]), (&json!(1), &Value::Null));

    fs::write(evidence.join("e"), "").unwrap();
    client.wait_for_run("waits", &run, 120);
    let tasks = client.tasks("waits", &run);
    let mut states: Vec<(&str, &str, i64)> = tasks
        .iter()
        .map(|ti| {
            let text = |key: &str| ti[key].as_str().unwrap_or("none");
            (text("task_id"), text("state"), ti["try_number"].as_i64().unwrap())
        })
        .collect();
    states.sort_unstable();
    assert_eq!(
        states,
        [
            ("boom", "failed", 1),
            ("delta", "success", 1),
            ("ends", "success", 1),
            ("event", "success", 1),
            ("fails", "failed", 2),
            ("late", "failed", 1),
            ("skips", "skipped", 1),
            ("starts", "success", 1),
        ]
    );
    assert_eq!(client.xcom("waits", &run, "event"), json!(["e", 1.0]));
    assert_eq!(client.xcom("waits", &run, "starts"), json!(["e", 3]));
    // As in Airflow: what a trigger pushes is stored, and pulled, as JSON text.
    assert_eq!(client.xcom("waits", &run, "ends"), json!("\"from the trigger\""));
    let boom = client.task_log("waits", &run, "boom");
    assert!(
        boom.contains("the trigger is broken") && boom.contains("Trigger failure"),
        "{boom}"
    );
    let late = client.task_log("waits", &run, "late");
    assert!(late.contains("Trigger timeout"), "{late}");
    // What the trigger logged stands between the task's two parts.
    let event = client.task_log("waits", &run, "event");
    let place = |text: &str| event.find(text).unwrap_or_else(|| panic!("no `{text}` in {event}"));
    assert!(place("Pausing task as DEFERRED") < place("waiting for e"));
    // Nobody killed any of them, and all could clean up.
    assert!(!evidence.join("e.killed").exists());
    wait_for_notes(&evidence.join("e.cleaned"), 7);
}

#[test]
fn a_dead_triggerer_loses_no_trigger_and_a_person_who_acts_on_a_deferred_task_kills_its_trigger() {
    let mut deployment = with_triggers(Database::Postgres, &["alpha"], &[("waits.py", WAITS)]);
    deployment.start("standalone");
    let (client, evidence) = (deployment.client("alpha"), deployment.evidence("alpha"));
    client.wait_for_dag("single");
    let run = client.trigger("single");
    let begun = evidence.join("single.begun");
    let first = wait_for_notes(&begun, 1);
    // kill -9 of the process that runs the trigger: another runs it.
    let killed = std::process::Command::new("kill")
        .args(["-9", &first[0]])
        .status()
        .unwrap();
    assert!(killed.success());
    let both = wait_for_notes(&begun, 2);
    assert_ne!(both[0], both[1]);
    assert!(!evidence.join("single.killed").exists(), "a crash is nobody's wish");

    // Clear: the trigger is killed on purpose, the task begins anew.
    let clear = json!({"dry_run": false, "task_ids": ["single"], "dag_run_id": run, "only_failed": false});
    let answer = client.post("/api/v2/dags/single/clearTaskInstances", &clear);
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait_for_notes(&evidence.join("single.killed"), 1);
    wait_for_notes(&begun, 3);

    // The whole server dies and comes back: the trigger runs again.
    deployment.kill("standalone");
    deployment.start("standalone");
    let client = deployment.client("alpha");
    wait_for_notes(&begun, 4);
    client.wait_for_task("single", &run, "single", "deferred");

    // Mark failed.
    let path = format!("/api/v2/dags/single/dagRuns/{run}/taskInstances/single");
    let answer = client.patch(&path, &json!({"new_state": "failed"}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    wait_for_notes(&evidence.join("single.killed"), 2);
    assert_eq!(client.get(&path).body["state"], "failed");
}

#[test]
fn people_answer_questions_over_the_api_and_time_answers_for_them() {
    let mut deployment = with_triggers(Database::Sqlite, &["alpha"], &[("asks.py", ASKS)]);
    deployment.start("standalone");
    let client = deployment.client("alpha");
    client.wait_for_dag("asks");
    let run = client.trigger("asks");
    let base = format!("/api/v2/dags/asks/dagRuns/{run}");
    let list = format!("{base}/hitlDetails");
    let asked = client
        .wait_for(&list, 90, |answer| answer.body["total_entries"] == 5)
        .body;
    assert_eq!(asked["hitl_details"].as_array().unwrap().len(), 5);
    let of = |task: &str| format!("{base}/taskInstances/{task}/-1/hitlDetails");
    client.wait_for_task("asks", &run, "approve", "awaiting_input");
    let question = client.get(&of("approve")).body;
    assert_eq!(question["subject"], format!("Ship {run}?"));
    assert_eq!(question["options"], json!(["Approve", "Reject"]));
    assert_eq!(question["response_received"], false);
    assert_eq!(question["task_instance"]["state"], "awaiting_input");

    // What is not allowed changes nothing.
    let answer = |task: &str, options: Value, params: Value| {
        client.patch(&of(task), &json!({"chosen_options": options, "params_input": params}))
    };
    assert_eq!(answer("approve", json!([]), json!({})).status, 422);
    assert_eq!(answer("approve", json!(["Perhaps"]), json!({})).status, 400);
    assert_eq!(answer("approve", json!(["Approve", "Reject"]), json!({})).status, 400);
    assert_eq!(answer("only_root", json!(["a"]), json!({})).status, 403);
    assert_eq!(answer("shipped", json!(["a"]), json!({})).status, 404);

    let given = answer("approve", json!(["Reject"]), json!({}));
    assert_eq!(given.status, 200, "{}", given.body);
    assert_eq!(given.body["responded_by"], json!({"id": "alpha", "name": "alpha"}));
    assert_eq!(answer("approve", json!(["Approve"]), json!({})).status, 409);
    assert_eq!(answer("choose", json!(["right"]), json!({})).status, 200);
    assert_eq!(answer("entry", json!(["OK"]), json!({"n": 7})).status, 200);

    client.wait_for_run("asks", &run, 120);
    let mut states: Vec<(String, String)> = client
        .tasks("asks", &run)
        .iter()
        .map(|ti| {
            (
                ti["task_id"].as_str().unwrap().to_owned(),
                ti["state"].as_str().unwrap_or("none").to_owned(),
            )
        })
        .collect();
    states.sort();
    let expected = [
        ("approve", "success"),
        ("choose", "success"),
        ("entry", "success"),
        ("left", "skipped"),
        ("nobody", "failed"),
        ("only_root", "success"),
        ("right", "success"),
        ("shipped", "skipped"),
    ];
    assert_eq!(
        states,
        expected.map(|(task, state)| (task.to_owned(), state.to_owned()))
    );
    let entry = client.xcom("asks", &run, "entry");
    assert_eq!(entry["params_input"], json!({"n": 7}), "{entry}");
    let by_default = client.get(&of("only_root")).body;
    assert_eq!(by_default["chosen_options"], json!(["a"]));
    assert_eq!(
        (&by_default["responded_by_user"], &by_default["response_received"]),
        (&Value::Null, &json!(true))
    );
    let nobody = client.task_log("asks", &run, "nobody");
    assert!(nobody.contains("HITLTimeoutError"), "{nobody}");
    let answered = client
        .get(&format!(
            "{list}?response_received=true&subject_search=ship&order_by=-created_at"
        ))
        .body;
    assert_eq!(answered["total_entries"], 1, "{answered}");
}

#[test]
fn a_watcher_makes_runs_of_its_own_team_in_a_process_of_its_own() {
    let mut deployment = with_triggers(Database::Sqlite, &["alpha", "beta"], &[("watched.py", WATCHED)]);
    deployment.start("standalone");
    let mut pids = Vec::new();
    for team in ["alpha", "beta"] {
        let client = deployment.client(team);
        client.wait_for_dag("reads_mail");
        pids.push(wait_for_notes(&deployment.evidence(team).join("watcher.mail"), 1)[0].clone());
    }
    assert_ne!(pids[0], pids[1], "each team's triggers run in a process of the team");
    fs::write(deployment.evidence("alpha").join("mail-1"), "").unwrap();
    let client = deployment.client("alpha");
    let runs = client.wait_for("/api/v2/dags/reads_mail/dagRuns", 90, |answer| {
        answer.body["dag_runs"]
            .get(0)
            .is_some_and(|run| run["state"] == "success")
    });
    let run = runs.body["dag_runs"][0]["dag_run_id"].as_str().unwrap().to_owned();
    assert_eq!(runs.body["dag_runs"][0]["run_type"], "asset_triggered");
    assert_eq!(client.xcom("reads_mail", &run, "read"), json!(["mail-1"]));
    let events = client.get("/api/v2/assets/events").body;
    assert_eq!(
        events["asset_events"][0]["extra"],
        json!({"from_trigger": true, "payload": {"file": "mail-1"}})
    );
    // The neighbour saw nothing of it.
    let neighbour = deployment.client("beta");
    assert_eq!(
        neighbour.get("/api/v2/dags/reads_mail/dagRuns").body["total_entries"],
        0
    );
    assert_eq!(neighbour.get("/api/v2/assets/events").body["total_entries"], 0);

    // A paused Dag watches nothing; unpaused its watcher begins anew.
    let watcher = deployment.evidence("alpha").join("watcher.mail");
    let paused = client.patch("/api/v2/dags/reads_mail", &json!({"is_paused": true}));
    assert_eq!(paused.status, 200, "{}", paused.body);
    wait_for_notes(&deployment.evidence("alpha").join("gone.mail"), 1);
    client.patch("/api/v2/dags/reads_mail", &json!({"is_paused": false}));
    wait_for_notes(&watcher, 2);
}
