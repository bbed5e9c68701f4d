//! Questions to Python: custom timetables, weight rules and cluster policies of a team, in the built binary.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::fs;
use std::path::{Path, PathBuf};

use deployment::{Client, Database, Deployment, test_python};
use jiff::civil::Date;
use serde_json::{Value, json};

/// The plugins of Airflow's own examples, under the names that its example Dags import.
const EXAMPLES: &str = "
from airflow.example_dags.plugins.decreasing_priority_weight_strategy import DecreasingPriorityWeightStrategyPlugin
from airflow.example_dags.plugins.workday import WorkdayTimetablePlugin
";

/// Years in which every workday runs, and one that ends.
const WORKDAYS: &str = r#"
import pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.example_dags.plugins.workday import AfterWorkdayTimetable

with DAG(
    dag_id="workdays", schedule=AfterWorkdayTimetable(), catchup=True, max_active_runs=2,
    start_date=pendulum.datetime(2024, 5, 2, tz="UTC"), end_date=pendulum.datetime(2024, 5, 8, tz="UTC"),
):
    EmptyOperator(task_id="t")
"#;

/// A timetable with parameters that names its runs and speaks of itself.
const FORTNIGHT: &str = r#"
from datetime import timedelta
from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

class Every(Timetable):
    description = "Now and then"

    def __init__(self, days):
        self.days = days

    @property
    def summary(self):
        return f"every {self.days} days"

    def serialize(self):
        return {"days": self.days}

    @classmethod
    def deserialize(cls, data):
        return cls(data["days"])

    def infer_manual_data_interval(self, *, run_after):
        return DataInterval(run_after - timedelta(days=self.days), run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        start = last_automated_data_interval.end if last_automated_data_interval else restriction.earliest
        if restriction.latest and start > restriction.latest:
            return None
        return DagRunInfo.interval(start, start + timedelta(days=self.days))

    def generate_run_id(self, *, run_type, run_after, data_interval, **extra):
        return f"{run_type.value}-{data_interval.start:%Y%m%d}" if data_interval else f"{run_type.value}-now"

class EveryPlugin(AirflowPlugin):
    name = "every"
    timetables = [Every]
"#;

const FORTNIGHTLY: &str = r#"
import pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from every import Every

with DAG(
    dag_id="fortnightly", schedule=Every(14), catchup=True,
    start_date=pendulum.datetime(2024, 1, 1, tz="UTC"), end_date=pendulum.datetime(2024, 1, 20, tz="UTC"),
):
    EmptyOperator(task_id="t")
"#;

/// A cluster policy that sends tasks elsewhere.
const POLICY: &str = r#"
def task_instance_mutation_hook(task_instance, dag_run=None):
    if task_instance.task_id.startswith("moved"):
        task_instance.queue = "elsewhere"
        task_instance.priority_weight = 77 + max(task_instance.map_index, 0)
        task_instance.max_tries = 4
        task_instance.executor_config = {"by": "policy"}
"#;

const POLICED: &str = r#"
from airflow.sdk import DAG, task

with DAG(dag_id="policed", schedule=None):
    @task
    def stays():
        return [1, 2]

    @task
    def moved(x):
        return x

    moved.expand(x=stays())
"#;

/// Timetables that hang, die, raise; and one that works.
const BAD: &str = r#"
import os, time
from datetime import timedelta
from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

class Base(Timetable):
    def infer_manual_data_interval(self, *, run_after):
        return DataInterval.exact(run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        self.think()
        if last_automated_data_interval:
            return None
        return DagRunInfo.interval(restriction.earliest, restriction.earliest + timedelta(days=1))

class Hangs(Base):
    def think(self):
        time.sleep(10_000)

class Dies(Base):
    def think(self):
        os._exit(7)

class Raises(Base):
    def think(self):
        raise ValueError("no such day")

    infer_manual_data_interval = None

class Works(Base):
    def think(self):
        pass

class BadPlugin(AirflowPlugin):
    name = "bad"
    timetables = [Hangs, Dies, Raises, Works]
"#;

const BAD_DAGS: &str = r#"
import pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
import bad

for name in ("Hangs", "Dies", "Raises", "Works"):
    with DAG(
        dag_id=name.lower(), schedule=getattr(bad, name)(), catchup=True, start_date=pendulum.datetime(2024, 1, 1, tz="UTC")
    ) as dag:
        EmptyOperator(task_id="t")
    globals()[name] = dag
"#;

fn plugins(deployment: &Deployment, team: &str, files: &[(&str, &str)]) {
    let folder = deployment.path().join("plugins").join(team);
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

fn example(name: &str) -> String {
    let library = test_python().parent().and_then(Path::parent).unwrap().join("lib");
    let packages: PathBuf = fs::read_dir(library)
        .unwrap()
        .map(|entry| entry.unwrap().path().join("site-packages/airflow/example_dags"))
        .find(|folder| folder.is_dir())
        .unwrap();
    fs::read_to_string(packages.join(name)).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("none").to_owned()
}

fn runs(client: &Client, dag: &str) -> Vec<Value> {
    let answer = client.get(&format!("/api/v2/dags/{dag}/dagRuns?limit=100&order_by=run_after"));
    answer.body["dag_runs"].as_array().cloned().unwrap_or_default()
}

fn today() -> Date {
    jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date()
}

fn workday(mut day: Date) -> Date {
    while matches!(
        day.weekday(),
        jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday
    ) {
        day = day.tomorrow().unwrap();
    }
    day
}

fn with_teams(database: Database) -> Deployment {
    let deployment = Deployment::on(database);
    let folder = |team: &str| deployment.path().join("plugins").join(team).display().to_string();
    plugins(
        &deployment,
        "alpha",
        &[("examples.py", EXAMPLES), ("every.py", FORTNIGHT)],
    );
    plugins(&deployment, "beta", &[("airflow_local_settings.py", POLICY)]);
    let more = ["alpha", "beta"].map(|team| format!("plugins_folder = \"{}\"", folder(team)));
    deployment
        .team("alpha", &more[0])
        .team("beta", &more[1])
        .user("ann", "alpha = \"admin\"")
        .user("bob", "beta = \"admin\"")
        .dag(
            "alpha",
            "example_workday_timetable.py",
            &example("example_workday_timetable.py"),
        )
        .dag(
            "alpha",
            "example_custom_weight.py",
            &example("example_custom_weight.py"),
        )
        .dag("alpha", "workdays.py", WORKDAYS)
        .dag("alpha", "fortnightly.py", FORTNIGHTLY)
        .dag("beta", "policed.py", POLICED)
}

fn dates_and_weights_are_the_teams(deployment: &Deployment) {
    let ann = deployment.client("ann");
    let earliest = today();
    ann.wait_for_dag("example_workday_timetable");
    let next = ann
        .wait_for("/api/v2/dags/example_workday_timetable", 60, |answer| {
            answer.body["next_dagrun_logical_date"].is_string()
        })
        .body;
    let expected = [workday(earliest), workday(today())].map(|day| format!("{day}T00:00:00Z"));
    assert!(expected.contains(&text(&next["next_dagrun_logical_date"])), "{next}");
    assert_eq!(next["timetable_summary"], "AfterWorkdayTimetable");

    let last = |answer: &deployment::Answer| answer.body["total_entries"] == 5;
    ann.wait_for("/api/v2/dags/workdays/dagRuns", 60, last);
    ann.wait_for("/api/v2/dags/workdays", 60, |answer| {
        answer.body["next_dagrun_run_after"].is_null()
    });
    let dates: Vec<String> = runs(&ann, "workdays")
        .iter()
        .map(|run| text(&run["logical_date"]))
        .collect();
    let days = ["02", "03", "06", "07", "08"].map(|day| format!("2024-05-{day}T00:00:00Z"));
    assert_eq!(dates, days);
    // Asked for a Monday, it answers with the Friday before.
    let body = json!({"logical_date": "2024-05-06T01:02:03Z"});
    let made = ann.post("/api/v2/dags/example_workday_timetable/dagRuns", &body);
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["data_interval_start"], "2024-05-03T00:00:00Z");
    assert_eq!(made.body["data_interval_end"], "2024-05-04T00:00:00Z");

    ann.wait_for("/api/v2/dags/fortnightly/dagRuns", 60, |answer| {
        answer.body["total_entries"] == 2
    });
    let ids: Vec<String> = runs(&ann, "fortnightly")
        .iter()
        .map(|run| text(&run["dag_run_id"]))
        .collect();
    assert_eq!(ids, ["scheduled-20240101", "scheduled-20240115"]);
    let dag = ann.get("/api/v2/dags/fortnightly").body;
    assert_eq!(
        (text(&dag["timetable_summary"]), text(&dag["timetable_description"])),
        ("every 14 days".to_owned(), "Now and then".to_owned())
    );

    let run = ann.trigger("example_custom_weight");
    assert_eq!(ann.wait_for_run("example_custom_weight", &run, 90)["state"], "success");
    let mut weights: Vec<(String, i64)> = ann
        .tasks("example_custom_weight", &run)
        .iter()
        .map(|ti| (text(&ti["task_id"]), ti["priority_weight"].as_i64().unwrap()))
        .collect();
    weights.sort();
    // What Airflow gives: the class's answer for a task that had no try, and sums for the built-in rule.
    let expected = [("start", 5), ("task_1", 4), ("task_2", 4), ("task_non_custom", 2)];
    assert_eq!(weights, expected.map(|(task, weight)| (task.to_owned(), weight)));
}

fn a_policy_shapes_its_own_teams_tasks(deployment: &Deployment) {
    let bob = deployment.client("bob");
    bob.wait_for_dag("policed");
    let run = bob.trigger("policed");
    assert_eq!(bob.wait_for_run("policed", &run, 90)["state"], "success");
    let mut found: Vec<_> = bob
        .tasks("policed", &run)
        .iter()
        .map(|ti| {
            (
                text(&ti["task_id"]),
                ti["map_index"].as_i64().unwrap(),
                text(&ti["queue"]),
                ti["priority_weight"].as_i64().unwrap(),
                ti["max_tries"].as_i64().unwrap(),
            )
        })
        .collect();
    found.sort();
    let expected = [
        ("moved", 0, "elsewhere", 77, 4),
        ("moved", 1, "elsewhere", 78, 4),
        ("stays", -1, "default", 2, 0),
    ];
    let expected =
        expected.map(|(task, index, queue, weight, tries)| (task.to_owned(), index, queue.to_owned(), weight, tries));
    assert_eq!(found, expected);
}

#[test]
fn custom_timetables_weight_rules_and_policies_are_asked_of_the_team() {
    let mut deployment = with_teams(Database::Sqlite);
    deployment.start("standalone");
    dates_and_weights_are_the_teams(&deployment);
    a_policy_shapes_its_own_teams_tasks(&deployment);
}

#[test]
fn an_api_server_gets_answers_through_the_schedulers_process() {
    let mut deployment = with_teams(Database::Postgres);
    deployment.run(&["db", "migrate"]);
    deployment.run(&["teams", "apply"]);
    deployment.start("api-server");
    deployment.start("scheduler");
    dates_and_weights_are_the_teams(&deployment);
}

#[test]
fn a_timetable_that_hangs_or_dies_stops_its_own_dag_only_and_says_so() {
    let deployment = Deployment::on(Database::Sqlite);
    plugins(&deployment, "gamma", &[("bad.py", BAD)]);
    plugins(&deployment, "alpha", &[("examples.py", EXAMPLES)]);
    let folder = |team: &str| {
        format!(
            "plugins_folder = \"{}\"",
            deployment.path().join("plugins").join(team).display()
        )
    };
    let (bad, good) = (folder("gamma"), folder("alpha"));
    let mut deployment = deployment
        .with("[scheduler]\nquestion_timeout = 2")
        .team("gamma", &bad)
        .team("alpha", &good)
        .user("gus", "gamma = \"admin\"")
        .user("ann", "alpha = \"admin\"")
        .dag("gamma", "bad_dags.py", BAD_DAGS)
        .dag("alpha", "workdays.py", WORKDAYS);
    deployment.start("standalone");
    let (gus, ann) = (deployment.client("gus"), deployment.client("ann"));
    let one = |answer: &deployment::Answer| answer.body["total_entries"] == 1;
    gus.wait_for("/api/v2/dags/works/dagRuns", 90, one);
    for (dag, why) in [
        ("hangs", "did not answer within 2 s"),
        ("dies", "exit code 7"),
        ("raises", "no such day"),
    ] {
        let said = |answer: &deployment::Answer| text(&answer.body["dag_warnings"][0]["message"]).contains(why);
        gus.wait_for(&format!("/api/v2/dagWarnings?dag_id={dag}"), 60, said);
        assert!(runs(&gus, dag).is_empty(), "{dag} has runs");
    }
    // Who waits is told why there is no answer.
    let body = json!({"logical_date": "2024-05-06T01:02:03Z"});
    let refused = gus.post("/api/v2/dags/raises/dagRuns", &body);
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(text(&refused.body["detail"]).contains("TypeError"), "{}", refused.body);
    // The Dag beside them and the team beside them go on.
    let made = gus.post("/api/v2/dags/works/dagRuns", &body);
    assert_eq!(made.status, 200, "{}", made.body);
    ann.wait_for("/api/v2/dags/workdays/dagRuns", 60, |answer| {
        answer.body["total_entries"] == 5
    });
    assert!(
        ann.get("/api/v2/dagWarnings").body["dag_warnings"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// A Dag over one of the timetables of `BAD`.
fn dag_over(timetable: &str) -> String {
    format!(
        r#"
import pendulum
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
import bad

with DAG(
    dag_id="{}", schedule=bad.{timetable}(), catchup=True, start_date=pendulum.datetime(2024, 1, 1, tz="UTC")
):
    EmptyOperator(task_id="t")
"#,
        timetable.to_lowercase()
    )
}

#[test]
fn while_a_timetable_hangs_the_other_dags_of_its_team_are_answered() {
    let deployment = Deployment::on(Database::Sqlite);
    let sign = deployment.evidence("gamma").join("hangs");
    let slow = format!(
        "open({:?}, \"w\").close(); time.sleep(10_000)",
        sign.display().to_string()
    );
    let bad = BAD.replace("time.sleep(10_000)", &slow);
    plugins(&deployment, "gamma", &[("bad.py", &bad)]);
    let folder = deployment.path().join("plugins/gamma").display().to_string();
    let mut deployment = deployment
        .with("[scheduler]\nquestion_timeout = 3600")
        .team("gamma", &format!("plugins_folder = \"{folder}\""))
        .user("gus", "gamma = \"admin\"")
        .dag("gamma", "hangs.py", &dag_over("Hangs"));
    deployment.start("standalone");
    let gus = deployment.client("gus");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !sign.exists() {
        assert!(std::time::Instant::now() < end, "nobody asked");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    deployment.write_dag("gamma", "works.py", &dag_over("Works"));
    gus.wait_for("/api/v2/dags/works/dagRuns", 60, |answer| {
        answer.body["total_entries"] == 1
    });
    let made = gus.post(
        "/api/v2/dags/works/dagRuns",
        &json!({"logical_date": "2024-05-06T01:02:03Z"}),
    );
    assert_eq!(made.status, 200, "{}", made.body);
    assert!(runs(&gus, "hangs").is_empty());
}
