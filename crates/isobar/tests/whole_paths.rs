//! Whole paths: the built binary, real Python tasks, both databases.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::fs;

use deployment::{Database, Deployment};
use serde_json::json;

const PIPELINE: &str = r#"
from __future__ import annotations
import os, pathlib
from airflow.sdk import DAG, task, Variable
from airflow.providers.standard.operators.bash import BashOperator

with DAG(dag_id="pipeline", schedule=None, catchup=False) as dag:
    @task
    def extract():
        return [1, 2, 3]

    @task
    def double(x):
        return x * 2

    @task
    def total(xs):
        print("the total is", sum(xs))
        return sum(xs)

    @task.branch
    def choose(n):
        return "big" if n > 10 else "small"

    @task
    def big():
        pass

    @task
    def small():
        pass

    @task(trigger_rule="none_failed_min_one_success")
    def join():
        return "joined"

    said = BashOperator(task_id="said", bash_command="echo $WHO", env={"WHO": "bash"}, append_env=True)
    chosen = choose(total(double.expand(x=extract())))
    chosen >> [big(), small()] >> join() >> said
"#;

const TROUBLE: &str = r#"
import pathlib
from datetime import timedelta
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

with DAG(dag_id="trouble", schedule=None, catchup=False) as dag:
    @task(retries=1, retry_delay=timedelta(seconds=1))
    def second_time_lucky(ti=None):
        if ti.try_number == 1:
            raise RuntimeError("not yet")
        return ti.try_number

    @task
    def skips():
        raise AirflowSkipException("not today")

    @task
    def fails():
        raise ValueError("broken for good")

    @task
    def dies():
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def never():
        pass

    @task.sensor(mode="reschedule", poke_interval=1, timeout=60)
    def waits(ti=None):
        from airflow.sdk import PokeReturnValue
        flag = pathlib.Path(__EVIDENCE__) / "poked"
        if flag.exists():
            return PokeReturnValue(is_done=True)
        flag.touch()
        return PokeReturnValue(is_done=False)

    second_time_lucky()
    skips()
    fails() >> never()
    dies()
    waits()
"#;

fn states(tasks: &[serde_json::Value]) -> Vec<(String, i64, String)> {
    let mut all: Vec<_> = tasks
        .iter()
        .map(|ti| {
            let text = |key: &str| ti[key].as_str().unwrap_or("none").to_owned();
            (text("task_id"), ti["map_index"].as_i64().unwrap(), text("state"))
        })
        .collect();
    all.sort();
    all
}

fn a_pipeline_runs(database: Database) {
    let mut place = Deployment::on(database)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "pipeline.py", PIPELINE);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("pipeline");
    let run = ann.trigger("pipeline");
    let ended = ann.wait_for_run("pipeline", &run, 90);
    let tasks = ann.tasks("pipeline", &run);
    assert_eq!(ended["state"], "success", "{:#?}", states(&tasks));
    let expected = [
        ("big", -1, "success"),
        ("choose", -1, "success"),
        ("double", 0, "success"),
        ("double", 1, "success"),
        ("double", 2, "success"),
        ("extract", -1, "success"),
        ("join", -1, "success"),
        ("said", -1, "success"),
        ("small", -1, "skipped"),
        ("total", -1, "success"),
    ];
    assert_eq!(
        states(&tasks),
        expected.map(|(task, index, state)| (task.to_owned(), index, state.to_owned()))
    );
    let base = format!("/api/v2/dags/pipeline/dagRuns/{run}/taskInstances");
    let xcom = ann.get(&format!("{base}/total/xcomEntries/return_value"));
    assert_eq!(xcom.body["value"], json!(12), "{}", xcom.body);
    let log = ann.get(&format!("{base}/total/logs/1?full_content=true"));
    assert!(log.body.to_string().contains("the total is 12"), "{}", log.body);
    let bash = ann.get(&format!("{base}/said/logs/1?full_content=true"));
    assert!(bash.body.to_string().contains("bash"), "{}", bash.body);
    place.stop("standalone");
}

#[test]
fn a_pipeline_runs_on_sqlite() {
    a_pipeline_runs(Database::Sqlite);
}

#[test]
fn a_pipeline_runs_on_postgres() {
    a_pipeline_runs(Database::Postgres);
}

#[test]
fn every_kind_of_trouble_ends_as_it_must() {
    let place = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = format!("{:?}", place.evidence("alpha").display().to_string());
    let mut place = place.dag("alpha", "trouble.py", &TROUBLE.replace("__EVIDENCE__", &evidence));
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("trouble");
    let run = ann.trigger("trouble");
    assert_eq!(ann.wait_for_run("trouble", &run, 90)["state"], "failed");
    let tasks = ann.tasks("trouble", &run);
    let expected = [
        ("dies", -1, "failed"),
        ("fails", -1, "failed"),
        ("never", -1, "upstream_failed"),
        ("second_time_lucky", -1, "success"),
        ("skips", -1, "skipped"),
        ("waits", -1, "success"),
    ];
    assert_eq!(
        states(&tasks),
        expected.map(|(task, index, state)| (task.to_owned(), index, state.to_owned()))
    );
    let base = format!("/api/v2/dags/trouble/dagRuns/{run}/taskInstances");
    let lucky = ann.get(&format!("{base}/second_time_lucky")).body;
    assert_eq!(lucky["try_number"], 2);
    let tries = ann.get(&format!("{base}/second_time_lucky/tries")).body;
    assert_eq!(tries["total_entries"], 2, "{tries}");
    let log = ann
        .get(&format!("{base}/dies/logs/1?full_content=true"))
        .body
        .to_string();
    assert!(
        log.contains("SIGKILL") || log.contains("-9"),
        "the reason is in the log: {log}"
    );
}

#[test]
fn a_broken_file_and_an_endless_one_harm_nobody_else() {
    let mut place = Deployment::on(Database::Sqlite)
        .with("[parsing]\ntimeout = \"5s\"")
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "broken.py", "from airflow.sdk import DAG\nthis is not python")
        .dag("alpha", "endless.py", "from airflow.sdk import DAG\nwhile True: pass")
        .dag("alpha", "pipeline.py", PIPELINE);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("pipeline");
    let errors = ann
        .wait_for("/api/v2/importErrors", 60, |answer| answer.body["total_entries"] == 2)
        .body;
    let files: Vec<_> = errors["import_errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["filename"].as_str().unwrap())
        .collect();
    assert!(
        files.contains(&"broken.py") && files.contains(&"endless.py"),
        "{errors}"
    );
    // Mended and removed files lose their errors; a removed Dag goes stale.
    place.write_dag(
        "alpha",
        "broken.py",
        PIPELINE.replace("\"pipeline\"", "\"mended\"").as_str(),
    );
    fs::remove_file(place.dags("alpha").join("endless.py")).unwrap();
    ann.wait_for_dag("mended");
    ann.wait_for("/api/v2/importErrors", 30, |answer| answer.body["total_entries"] == 0);
    fs::remove_file(place.dags("alpha").join("broken.py")).unwrap();
    ann.wait_for("/api/v2/dags", 30, |answer| !answer.body.to_string().contains("mended"));
}

const CHANGING: &str = r#"
import pathlib, time
from airflow.sdk import DAG, task
try:
    import spice
except ImportError:
    spice = None

with DAG(dag_id="spicy" if spice else "plain", schedule=None, catchup=False) as dag:
    @task
    def waits():
        pathlib.Path("EVIDENCE/begun").touch()
        while not pathlib.Path("EVIDENCE/go").exists():
            time.sleep(0.1)
    waits()
"#;

/// An environment of its own on top of the one for tests, and where its packages lie.
fn own_environment(place: &std::path::Path) -> std::path::PathBuf {
    let python = deployment::test_python();
    let made = std::process::Command::new(&python)
        .args(["-m", "venv", "--without-pip"])
        .arg(place)
        .status();
    assert!(made.unwrap().success());
    let asked = std::process::Command::new(&python)
        .args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
        .output();
    let theirs = String::from_utf8(asked.unwrap().stdout).unwrap();
    let versions = fs::read_dir(place.join("lib")).unwrap();
    let version = versions.map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let packages = version.unwrap().join("site-packages");
    fs::write(packages.join("tests.pth"), theirs).unwrap();
    packages
}

#[test]
fn an_environment_that_cannot_be_warmed_starts_cold_and_a_changed_one_takes_over_while_tasks_run_on() {
    let place = Deployment::on(Database::Sqlite);
    let venv = place.path().join("venv");
    let packages = own_environment(&venv);
    let threads = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()";
    fs::write(packages.join("airflow_local_settings.py"), threads).unwrap();
    let mut place = place
        .team("alpha", &format!("venv = \"{}\"", venv.display()))
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    place.write_dag(
        "alpha",
        "changing.py",
        &CHANGING.replace("EVIDENCE", &evidence.display().to_string()),
    );
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("plain");
    assert!(place.output("standalone").contains("cannot be warmed"));
    let said = place.command(&["doctor"]).output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.contains("alpha: starts cold since") && said.contains("threads running"),
        "{said}"
    );
    let run = ann.trigger("plain");
    let task = format!("/api/v2/dags/plain/dagRuns/{run}/taskInstances/waits");
    // A process that runs has not read the Dag file yet, which is about to hold another Dag.
    ann.wait_for(&task, 90, |_| evidence.join("begun").exists());

    fs::remove_file(packages.join("airflow_local_settings.py")).unwrap();
    fs::write(packages.join("spice.py"), "").unwrap();
    ann.wait_for_dag("spicy");
    assert_eq!(
        ann.get(&task).body["state"],
        "running",
        "what ran in the old environment runs on"
    );
    let next = ann.trigger("spicy");
    fs::write(evidence.join("go"), "").unwrap();
    assert_eq!(ann.wait_for_run("plain", &run, 60)["state"], "success");
    assert_eq!(ann.wait_for_run("spicy", &next, 60)["state"], "success");
    let said = place.command(&["doctor"]).output().unwrap().stdout;
    assert!(
        !String::from_utf8(said).unwrap().contains("starts cold"),
        "it is warm by now"
    );
}

const DAILY: &str = r#"
import datetime
from airflow.sdk import DAG, task

with DAG(
    dag_id="daily", schedule="@daily", catchup=True, start_date=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
) as dag:
    @task
    def nothing():
        pass
    nothing()
"#;

#[test]
fn a_dag_that_changes_team_goes_on_where_its_schedule_stood() {
    let fixed = "START";
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72);
    let text = DAILY
        .replace(
            "datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)",
            fixed,
        )
        .replace(
            fixed,
            &format!("datetime.datetime.fromtimestamp({}, datetime.UTC)", start.as_second()),
        );
    let mut place = Deployment::on(Database::Sqlite)
        .with("[scheduler]\nsweep_interval = 1")
        .team("alpha", "")
        .team("beta", "")
        .user("ann", "alpha = \"admin\"")
        .user("bob", "beta = \"admin\"")
        .dag("alpha", "daily.py", &text);
    place.start("standalone");
    let (ann, bob) = (place.client("ann"), place.client("bob"));
    ann.wait_for_dag("daily");
    let runs = "/api/v2/dags/daily/dagRuns?state=success";
    ann.wait_for(runs, 90, |answer| answer.body["total_entries"].as_u64() >= Some(3));
    ann.wait_for("/api/v2/dags/daily/dagRuns?state=running&state=queued", 60, |answer| {
        answer.body["total_entries"] == 0
    });
    let said = place
        .command(&["teams", "move", "daily", "--from", "alpha", "--to", "beta"])
        .output()
        .unwrap();
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("is still defined in team `alpha`, in `daily.py`"));

    fs::rename(place.dags("alpha").join("daily.py"), place.path().join("daily.py")).unwrap();
    ann.wait_for("/api/v2/dags", 30, |answer| answer.body["total_entries"] == 0);
    fs::rename(place.path().join("daily.py"), place.dags("beta").join("daily.py")).unwrap();
    bob.wait_for_dag("daily");
    let dag = "/api/v2/dags/daily";
    assert_eq!(bob.get(dag).body["is_paused"], true, "it arrives paused");
    place.run(&["teams", "move", "daily", "--from", "alpha", "--to", "beta"]);
    let next = |answer: &deployment::Answer| {
        let date = answer.body["next_dagrun_run_after"].as_str().unwrap_or_default();
        date.parse::<jiff::Timestamp>().ok()
    };
    bob.wait_for(dag, 60, |answer| {
        next(answer).is_some_and(|date| date > jiff::Timestamp::now())
    });
    assert_eq!(bob.get(dag).body["is_paused"], false, "as it was");
    assert_eq!(
        bob.get("/api/v2/dags/daily/dagRuns").body["total_entries"],
        0,
        "nothing runs again"
    );
    assert!(ann.get(runs).body["total_entries"].as_u64() >= Some(3), "its runs stay");
    for (client, other) in [(&ann, "beta"), (&bob, "alpha")] {
        let log = client.get("/api/v2/eventLogs?event=move_dag").body;
        assert_eq!(log["total_entries"], 1, "{log}");
        assert!(log.to_string().contains(other), "{log}");
    }
}
