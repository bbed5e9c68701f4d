//! `kill -9` of the server while fifty tasks run: nothing lost, nothing repeated, no orphan goes on writing.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use deployment::{Database, Deployment};

/// Fifty tasks: Python and Bash, with and without retries. Each appends a line to its own file every 50 ms.
const STORM: &str = r#"
from datetime import timedelta
from airflow.sdk import DAG, task
from airflow.providers.standard.operators.bash import BashOperator

EVIDENCE = __EVIDENCE__

with DAG(dag_id="storm", schedule=None, catchup=False, max_active_tasks=64) as dag:
    for n in range(25):
        retrying = {"retries": 1, "retry_delay": timedelta(seconds=1)} if n % 2 else {}

        @task(task_id=f"python_{n}", **retrying)
        def write(name, ti=None):
            import pathlib, time
            with open(pathlib.Path(EVIDENCE) / name, "a") as f:
                for tick in range(200 if ti.try_number == 1 else 3):
                    print(f"try {ti.try_number} tick {tick}", file=f, flush=True)
                    time.sleep(0.05)
            return str(ti.id)

        write(f"python_{n}")
        BashOperator(
            task_id=f"bash_{n}",
            bash_command=f"setsid sh -c 'N={{{{ 200 if ti.try_number == 1 else 3 }}}}; i=0; while [ $i -lt $N ]; do echo try {{{{ ti.try_number }}}} tick $i >> {EVIDENCE}/bash_{n}; sleep 0.05; i=$((i+1)); done'",
            **retrying,
        )
"#;

fn sizes(evidence: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(evidence).expect("the evidence folder");
    entries
        .flatten()
        .map(|e| {
            (
                e.file_name().to_string_lossy().into_owned(),
                e.metadata().map_or(0, |m| m.len()),
            )
        })
        .collect()
}

fn storm_survives(database: Database) {
    let place = Deployment::on(database).user("ann", "alpha = \"admin\"").team(
        "alpha",
        "[[team.executor]]\nname = \"local\"\ntype = \"local\"\nparallelism = 64\n",
    );
    let evidence = place.evidence("alpha");
    let dag = STORM.replace("__EVIDENCE__", &format!("{:?}", evidence.display().to_string()));
    let mut place = place.dag("alpha", "storm.py", &dag).more_parallelism(64);
    place.start("standalone");
    let ann = place.client("ann");
    ann.wait_for_dag("storm");
    let run = ann.trigger("storm");
    let end = Instant::now() + Duration::from_secs(90);
    while sizes(&evidence).len() < 50 {
        assert!(
            Instant::now() < end,
            "only {} of 50 tasks began",
            sizes(&evidence).len()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    place.kill("standalone");

    // The zygotes notice by their closed sockets and take every descendant with them, those in other sessions too.
    std::thread::sleep(Duration::from_secs(3));
    let before = sizes(&evidence);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(sizes(&evidence), before, "an orphan went on writing");

    place.start("standalone");
    let ann = place.client("ann");
    let ended = ann.wait_for_run("storm", &run, 120);
    assert_eq!(ended["state"], "failed");
    let tasks = ann.tasks("storm", &run);
    assert_eq!(tasks.len(), 50);
    for ti in &tasks {
        let (name, tries) = (ti["task_id"].as_str().unwrap(), ti["try_number"].as_i64().unwrap());
        let odd = name.rsplit('_').next().unwrap().parse::<u32>().unwrap() % 2 == 1;
        let expected = if odd { ("success", 2) } else { ("failed", 1) };
        assert_eq!((ti["state"].as_str().unwrap(), tries), expected, "{name}: {ti}");
        let path = format!("/api/v2/dags/storm/dagRuns/{run}/taskInstances/{name}");
        let history = ann.get(&format!("{path}/tries")).body;
        assert_eq!(
            history["total_entries"].as_i64(),
            Some(tries),
            "{name}: one record per try: {history}"
        );
        if odd && name.starts_with("python") {
            let xcom = ann.get(&format!("{path}/xcomEntries/return_value")).body;
            assert_eq!(
                xcom["value"], ti["id"],
                "{name}: the accepted result is that of the last dispatch"
            );
        }
    }
}

#[test]
fn a_killed_server_loses_and_repeats_nothing_on_sqlite() {
    storm_survives(Database::Sqlite);
}

#[test]
fn a_killed_server_loses_and_repeats_nothing_on_postgres() {
    storm_survives(Database::Postgres);
}

/// Who forked the task.
const PARENT: &str = r#"
import os
from airflow.sdk import DAG, task

with DAG(dag_id="parent", schedule=None):
    @task
    def parent():
        return os.getppid()

    parent()
"#;

#[test]
fn a_team_whose_python_is_killed_gets_the_folders_that_it_lost_when_that_starts_again() {
    let mut deployment = Deployment::on(Database::Sqlite)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "parent.py", PARENT);
    deployment.start("standalone");
    let ann = deployment.client("ann");
    ann.wait_for_dag("parent");
    let run = || {
        let run = ann.trigger("parent");
        assert_eq!(ann.wait_for_run("parent", &run, 90)["state"], "success");
        ann.xcom("parent", &run, "parent").as_i64().unwrap()
    };
    let zygote = run();
    let own = fs::read_dir(deployment.path().join("home/run/alpha")).unwrap();
    for folder in own
        .map(|entry| entry.unwrap().path())
        .chain([deployment.evidence("alpha")])
    {
        fs::remove_dir_all(folder).unwrap();
    }
    let zygote = nix::unistd::Pid::from_raw(zygote.try_into().unwrap());
    nix::sys::signal::kill(zygote, nix::sys::signal::Signal::SIGKILL).unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while !deployment.output("standalone").contains("the team's Python ended") {
        assert!(Instant::now() < end, "nobody noticed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(run(), i64::from(zygote.as_raw()));
}
