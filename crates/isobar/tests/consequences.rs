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
from airflow.sdk.definitions.deadline import VariableInterval

EVIDENCE = pathlib.Path("@EVIDENCE@")

def late(context, text):
    said = {"text": text, "run": context["dag_run"]["dag_run_id"], "deadline": context["deadline"],
            "variable": Variable.get("greeting")}
    (EVIDENCE / f"sync_{text}.json").write_text(json.dumps(said, default=str))

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
    DeadlineAlert(reference=QUEUED, interval=VariableInterval("length"), callback=SyncCallback(late, kwargs={"text": "variable"})),
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

const MAIL: &str = r#"
import os, signal
from datetime import timedelta
from airflow.sdk import DAG, task

with DAG(dag_id="mailed", schedule=None, default_args={"email": ["ops@example.com"]}):
    @task
    def raises():
        raise ValueError("broken for good")

    @task(retries=1, retry_delay=timedelta(seconds=0.1), email_on_failure=False)
    def retried(ti=None):
        if ti.try_number == 1:
            raise ValueError("not yet")

    @task
    def dies():
        os.kill(os.getpid(), signal.SIGKILL)

    raises(), retried(), dies()
"#;

const MAIL_BACKEND: &str = r#"
import pathlib

def send(to, subject, html_content, **more):
    with pathlib.Path("@EVIDENCE@", "mail.txt").open("a") as file:
        file.write(f"{','.join(to)}: {subject}\n")
"#;

const PLUGIN: &str = r#"
import pathlib
from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

EVIDENCE = pathlib.Path("@EVIDENCE@")

class Listener:
    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        self.note("running", task_instance)

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        self.note("success", task_instance)

    def note(self, what, ti):
        with (EVIDENCE / "heard.txt").open("a") as file:
            file.write(f"{what} {ti.task_id}\n")

class Ours(AirflowPlugin):
    name = "ours"
    listeners = [Listener()]
"#;

const POLICIES: &str = r#"
def task_policy(task):
    task.doc = "seen by the policy"

def dag_policy(dag):
    from airflow.exceptions import AirflowClusterPolicyViolation
    if dag.dag_id == "forbidden":
        raise AirflowClusterPolicyViolation("no Dag may be called that")
"#;

const PLUGGED: &str = r#"
from airflow.sdk import DAG
from airflow.sdk.bases.operator import BaseOperator
from airflow.sdk.bases.operatorlink import BaseOperatorLink

class Docs(BaseOperatorLink):
    name = "Docs"

    def get_link(self, operator, *, ti_key):
        return f"https://docs.example.com/{ti_key.task_id}"

class Linked(BaseOperator):
    operator_extra_links = (Docs(),)

    def execute(self, context):
        return None

with DAG(dag_id="plugged", schedule=None):
    Linked(task_id="heard")
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
        .team(
            "alpha",
            "variables = { greeting = \"hello\" }\nenv = { AIRFLOW_VAR_LENGTH = \"1\" }",
        )
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
    written(&evidence.join("sync_variable.json"));
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

#[test]
fn mail_goes_out_for_failures_retries_and_killed_tasks() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "env = { AIRFLOW__EMAIL__EMAIL_BACKEND = \"our_mail.send\" }")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let backend = MAIL_BACKEND.replace("@EVIDENCE@", &evidence.display().to_string());
    let mut place = place
        .dag("alpha", "our_mail.py", &backend)
        .dag("alpha", "mailed.py", MAIL);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("mailed");
    let run = ann.trigger("mailed");
    assert_eq!(ann.wait_for_run("mailed", &run, 60)["state"], "failed");
    let end = Instant::now() + Duration::from_secs(60);
    let mails = loop {
        let text = written(&evidence.join("mail.txt"));
        if text.lines().count() >= 3 || Instant::now() > end {
            break text;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(mails.lines().count(), 3, "{mails}");
    for task in ["raises", "retried", "dies"] {
        let about = |mail: &str| {
            mail.starts_with("ops@example.com: Airflow alert") && mail.contains(&format!("task_id='{task}'"))
        };
        assert!(mails.lines().any(about), "{task}: {mails}");
    }
}

#[test]
fn listeners_links_and_policies_of_a_team_act_on_its_side_alone() {
    let place = Deployment::on(Database::Sqlite);
    let extras = place.path().join("alpha-extras");
    std::fs::create_dir_all(extras.join("plugins")).unwrap();
    let env = format!(
        "env = {{ AIRFLOW__CORE__PLUGINS_FOLDER = \"{0}/plugins\", PYTHONPATH = \"{0}\" }}\nread_folders = [\"{0}\"]",
        extras.display()
    );
    let place = place
        .team("alpha", &env)
        .team("beta", "")
        .user("ann", "alpha = \"admin\"")
        .user("bob", "beta = \"admin\"");
    let evidence = place.evidence("alpha");
    let plugin = PLUGIN.replace("@EVIDENCE@", &evidence.display().to_string());
    std::fs::write(extras.join("plugins/ours.py"), plugin).unwrap();
    std::fs::write(extras.join("airflow_local_settings.py"), POLICIES).unwrap();
    let forbidden = PLUGGED.replace("plugged", "forbidden");
    let mut place = place
        .dag("alpha", "plugged.py", PLUGGED)
        .dag("alpha", "forbidden.py", &forbidden)
        .dag("beta", "plugged.py", PLUGGED)
        .dag("beta", "forbidden.py", &forbidden);
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    bob.wait_for_dag("plugged");
    bob.wait_for_dag("forbidden");
    ann.wait_for_dag("plugged");
    let errors = ann.wait_for("/api/v2/importErrors", 60, |answer| answer.body["total_entries"] == 1);
    let trace = errors.body["import_errors"][0]["stack_trace"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(trace.contains("no Dag may be called that"), "{trace}");
    assert_eq!(ann.get("/api/v2/dags/forbidden").status, 404);
    assert_eq!(bob.get("/api/v2/importErrors").body["total_entries"], 0);
    let run = ann.trigger("plugged");
    assert_eq!(ann.wait_for_run("plugged", &run, 60)["state"], "success");
    let theirs = bob.trigger("plugged");
    assert_eq!(bob.wait_for_run("plugged", &theirs, 60)["state"], "success");
    assert_eq!(ann.get("/api/v2/dags/plugged/tasks/heard").body["doc_md"], Value::Null);
    let links = format!("/api/v2/dags/plugged/dagRuns/{run}/taskInstances/heard/links");
    let links = ann.wait_for(&links, 30, |answer| answer.body["total_entries"] == 1);
    assert_eq!(links.body["extra_links"]["Docs"], "https://docs.example.com/heard");
    let heard = written(&evidence.join("heard.txt"));
    assert_eq!(
        heard.lines().collect::<Vec<_>>(),
        ["running heard", "success heard"],
        "of alpha's run, and no other"
    );
}
