//! Several triggerers of one team, each a process of Python of its own: they share the team's triggers and take over from each
//! other. The built binary, real Python, PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use deployment::{Client, Database, notes, wait_for_notes, with_triggers};

const MANY: &str = r#"
import pathlib
from airflow.sdk import DAG, BaseOperator
from watching import FileTrigger

EVIDENCE = __EVIDENCE__

class Waits(BaseOperator):
    def execute(self, context):
        self.defer(trigger=FileTrigger(EVIDENCE, self.task_id), method_name="resume")

    def resume(self, context, event):
        with open(pathlib.Path(EVIDENCE) / f"{self.task_id}.resumed", "a") as notes:
            notes.write(f"{context['ti'].try_number}\n")
        return event["seen"]

with DAG(dag_id="many", schedule=None):
    for n in range(8):
        Waits(task_id=f"t{n}")
"#;

/// Who runs the trigger of each task that is deferred, by the task's name.
fn triggerers(client: &Client, run: &str) -> BTreeMap<String, Option<i64>> {
    let tasks = client.tasks("many", run);
    let deferred = tasks.iter().filter(|ti| ti["state"] == "deferred");
    deferred
        .map(|ti| {
            (
                ti["task_id"].as_str().unwrap().to_owned(),
                ti["triggerer_job"]["id"].as_i64(),
            )
        })
        .collect()
}

/// Waits until all tasks are deferred, and so many of their triggers run.
fn wait_for_triggers(client: &Client, run: &str, deferred: usize, at_work: usize) -> BTreeMap<String, Option<i64>> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
    loop {
        let found = triggerers(client, run);
        if found.len() == deferred && found.values().flatten().count() == at_work {
            return found;
        }
        assert!(std::time::Instant::now() < end, "{found:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn two_triggerers_of_a_team_share_its_triggers_and_one_takes_over_all_when_the_other_is_killed() {
    let mut place = with_triggers(Database::Postgres, &["alpha"], &[("many.py", MANY)])
        .with("[triggerer]\ncapacity = 4\nmax_trigger_to_select_per_loop = 3");
    place.run(&["db", "migrate"]);
    place.run(&["teams", "apply"]);
    place.start("api-server");
    place.start("scheduler");
    let (client, evidence) = (place.client("alpha"), place.evidence("alpha"));
    client.wait_for_dag("many");
    let run = client.trigger("many");

    // One triggerer runs as many as it may; the others wait for one that has room.
    let first = wait_for_triggers(&client, &run, 8, 4);
    let of_first: Vec<String> = first
        .iter()
        .filter(|(_, by)| by.is_some())
        .map(|(task, _)| task.clone())
        .collect();
    for task in &of_first {
        wait_for_notes(&evidence.join(format!("{task}.begun")), 1);
    }
    let begun = fs::read_dir(&evidence).unwrap().flatten();
    assert_eq!(
        begun
            .filter(|file| file.file_name().to_string_lossy().ends_with(".begun"))
            .count(),
        4
    );

    // A second one, with a state folder of its own, takes what waits.
    place.start_another("scheduler", "second", &[("ISOBAR__TRIGGERER__CAPACITY", "100")]);
    let both = wait_for_triggers(&client, &run, 8, 8);
    assert_eq!(both.values().collect::<BTreeSet<_>>().len(), 2, "{both:?}");
    let mut of_second: Vec<String> = both.keys().filter(|task| !of_first.contains(task)).cloned().collect();
    let pid = |task: &String, count| wait_for_notes(&evidence.join(format!("{task}.begun")), count)[count - 1].clone();
    let pids: BTreeSet<String> = both.keys().map(|task| pid(task, 1)).collect();
    assert_eq!(pids.len(), 2, "each triggerer is a process of its own");

    // Both work: what they say resumes tasks.
    let mut of_first = of_first;
    for task in [of_first.pop().unwrap(), of_second.pop().unwrap()] {
        fs::write(evidence.join(&task), "").unwrap();
        client.wait_for_task("many", &run, &task, "success");
    }

    // kill -9 of the whole first server: the second runs all that is left, as one process.
    place.kill("scheduler");
    let heir = pid(&of_second[0], 1);
    for task in &of_first {
        assert_eq!(pid(task, 2), heir, "{task} runs in the process of the second");
    }
    let after = wait_for_triggers(&client, &run, 6, 6);
    assert_eq!(after.values().collect::<BTreeSet<_>>().len(), 1, "{after:?}");
    for task in after.keys() {
        fs::write(evidence.join(task), "").unwrap();
    }
    let ended = client.wait_for_run("many", &run, 120);
    assert_eq!(ended["state"], "success");

    // Each fired once and was resumed once, in its first try; those that nobody killed began once.
    for n in 0..8 {
        let task = format!("t{n}");
        let of = |what: &str| notes(&evidence.join(format!("{task}.{what}")));
        assert_eq!((of("fired").len(), of("resumed")), (1, vec!["1".to_owned()]), "{task}");
        let begun = if of_first.contains(&task) { 2 } else { 1 };
        assert_eq!(of("begun").len(), begun, "{task}");
        assert!(of("killed").is_empty(), "{task}: a crash is nobody's wish");
    }
}
