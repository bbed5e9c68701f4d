//! Two schedulers: the second stands by, and takes over when the first is killed in the middle of runs.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use deployment::{Database, Deployment};

/// Tasks that run, that wait for others, that wait for a file in a triggerer, and that wait for a slot.
const WORK: &str = r#"
import pathlib, time
from datetime import timedelta
from airflow.sdk import DAG, task
from airflow.sdk.bases.sensor import PokeReturnValue

EVIDENCE = pathlib.Path(__EVIDENCE__)

def say(text):
    with open(EVIDENCE / "said", "a") as file:
        print(text, file=file, flush=True)

with DAG(dag_id="work", schedule=None, catchup=False, default_args={"retries": 1, "retry_delay": timedelta(seconds=0)}):
    @task
    def runs(n, ti=None):
        say(f"runs_{n} try {ti.try_number}")
        while ti.try_number == 1 and not (EVIDENCE / "go").exists():
            time.sleep(0.05)
        say(f"runs_{n} try {ti.try_number} ends")

    @task(max_active_tis_per_dag=1)
    def waits_for_a_slot(n, ti=None):
        say(f"slot_{n} try {ti.try_number}")
        say(f"slot_{n} try {ti.try_number} ends")

    @task.sensor(mode="reschedule", poke_interval=1, timeout=600)
    def looks(ti=None):
        return PokeReturnValue(is_done=(EVIDENCE / "go").exists())

    @task
    def last(ti=None):
        say(f"last try {ti.try_number} ends")

    first = [runs.override(task_id=f"runs_{n}")(n) for n in range(3)]
    slots = [waits_for_a_slot.override(task_id=f"slot_{n}")(n) for n in range(3)]
    for n in range(3):
        first[n] >> slots[n]
    [*slots, looks()] >> last()
"#;

#[test]
fn the_second_goes_on_where_the_first_was_killed() {
    let place = Deployment::on(Database::Postgres)
        .team("alpha", "")
        .user("ann", "alpha = \"admin\"");
    let evidence = place.evidence("alpha");
    let text = WORK.replace("__EVIDENCE__", &format!("{:?}", evidence.display().to_string()));
    let mut place = place.dag("alpha", "work.py", &text);
    place.run(&["db", "migrate"]);
    place.run(&["teams", "apply"]);
    place.start("api-server");
    place.start_as("first", "scheduler");
    let ann = place.client("ann");
    ann.wait_for_dag("work");
    place.start_as("second", "scheduler");
    let run = ann.trigger("work");
    let said = || fs::read_to_string(evidence.join("said")).unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(60);
    while said().lines().count() < 3 {
        assert!(Instant::now() < end, "the tasks never began: {}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    place.kill("first");
    let end = Instant::now() + Duration::from_secs(60);
    while !(0..3).all(|n| said().contains(&format!("runs_{n} try 2"))) {
        assert!(Instant::now() < end, "the second never took over: {}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    // Only now, so that what the first left running cannot have ended well before its end was noticed.
    fs::write(evidence.join("go"), "").unwrap();
    let ended = ann.wait_for_run("work", &run, 90);
    assert_eq!(ended["state"], "success", "{}", said());
    for ti in ann.tasks("work", &run) {
        let task = ti["task_id"].as_str().unwrap();
        let killed = task.starts_with("runs_");
        assert_eq!(
            (&ti["state"], &ti["try_number"]),
            (&"success".into(), &(if killed { 2 } else { 1 }).into()),
            "{ti}"
        );
    }
    let said = said();
    let (mut lines, mut all): (Vec<&str>, BTreeSet<&str>) = (said.lines().collect(), said.lines().collect());
    lines.retain(|line| !all.remove(line));
    assert!(lines.is_empty(), "these happened twice: {lines:?}");
    let ends: Vec<&str> = said.lines().filter(|line| line.ends_with(" ends")).collect();
    assert_eq!(ends.len(), 7, "one effective end for each task: {ends:?}");
}
