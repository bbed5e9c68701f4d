//! Classes of a team's plugins that decide on dates and partitions, in the built binary: partition mappers and windows, timetables of
//! partitions, and the dates of a backfill.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::fs;

use deployment::{Answer, Client, Database, Deployment};
use serde_json::{Value, json};

const PLUGIN: &str = r#"
import time
from datetime import timedelta
import pendulum
from airflow.exceptions import InvalidPartitionKeyError
from airflow.partition_mappers.base import PartitionMapper
from airflow.partition_mappers.window import Window
from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable
from airflow.timetables.simple import AssetTriggeredTimetable

class Regions(PartitionMapper):
    def to_downstream(self, key):
        if key == "nowhere":
            raise KeyError(key)
        return ["eu", "us"] if key == "all" else key.split("-")[0]

    def to_partition_date(self, key):
        return pendulum.datetime(2026, 1, 1 if key == "eu" else 2, tz="UTC")

class Hangs(PartitionMapper):
    def to_downstream(self, key):
        time.sleep(10_000)

class Cities(Window):
    def to_upstream(self, region):
        return [f"{region}-1", f"{region}-2"]

class Weeks(Timetable):
    """A run each Monday of 2024 from the start on, for the partition of its ISO week."""

    description = "Each week"
    periodic = True
    partitioned = True

    def __init__(self, zone="Asia/Tokyo"):
        self.zone = zone

    @property
    def summary(self):
        return "weeks"

    def serialize(self):
        return {"zone": self.zone}

    @classmethod
    def deserialize(cls, data):
        return cls(data["zone"])

    def week(self, at):
        key = f"{at.in_timezone(self.zone):%G-W%V}"
        return DagRunInfo(run_after=at, data_interval=None, partition_date=at, partition_key=key)

    def next_dagrun_info_v2(self, *, last_dagrun_info, restriction):
        at = last_dagrun_info.run_after.add(weeks=1) if last_dagrun_info else restriction.earliest
        return None if restriction.latest and at > restriction.latest else self.week(at)

    def iter_partition_dagrun_infos(self, *, earliest, latest):
        at, latest = self.localize_partition_datetime(earliest), self.localize_partition_datetime(latest)
        while at <= latest:
            yield self.week(at)
            at = at.add(weeks=1)

    def localize_partition_datetime(self, dt):
        return pendulum.instance(dt).set(tz=self.zone).in_timezone("UTC")

    def _decode_partition_date(self, key):
        try:
            return pendulum.parse(key + "-1", tz=self.zone).in_timezone("UTC")
        except Exception as error:
            raise InvalidPartitionKeyError(f"no week: {key}") from error

    def generate_run_id(self, *, run_type, run_after, data_interval, partition_key=None, **extra):
        return f"{run_type.value}-{partition_key or 'free'}-{run_after:%Y%m%d}"

class Days(Timetable):
    """Every day but the weekend; raises where nobody should look."""

    def infer_manual_data_interval(self, *, run_after):
        return DataInterval.exact(run_after)

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        start = last_automated_data_interval.end if last_automated_data_interval else restriction.earliest
        while start.day_of_week in (pendulum.SATURDAY, pendulum.SUNDAY):
            start = start.add(days=1)
        if restriction.latest and start > restriction.latest:
            return None
        return DagRunInfo.interval(start, start.add(days=1))

    def generate_run_id(self, *, run_type, data_interval, **extra):
        return f"{run_type.value}-{data_interval.start:%Y%m%d}" if data_interval else "free"

class Never(Timetable):
    periodic = False
    can_be_scheduled = False

    def next_dagrun_info(self, *, last_automated_data_interval, restriction):
        return None

class OnNews(AssetTriggeredTimetable):
    @property
    def summary(self):
        return "On news"

class DatesPlugin(AirflowPlugin):
    name = "dates"
    timetables = [Weeks, Days, Never, OnNews]
    partition_mappers = [Regions, Hangs]
    windows = [Cities]
"#;

const DAGS: &str = r#"
import pendulum
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable, RollupMapper
from airflow.providers.standard.operators.empty import EmptyOperator
import dates

SPAN = {"start_date": pendulum.datetime(2024, 1, 1, tz="Asia/Tokyo"), "end_date": pendulum.datetime(2024, 1, 20, tz="UTC")}
cities = Asset("cities")
rollup = RollupMapper(upstream_mapper=dates.Regions(), window=dates.Cities())

def dag(dag_id, schedule, **more):
    with DAG(dag_id=dag_id, schedule=schedule, **more) as dag:
        EmptyOperator(task_id="t")
    globals()[dag_id] = dag

dag("by_region", PartitionedAssetTimetable(assets=cities, default_partition_mapper=dates.Regions()))
dag("whole_region", PartitionedAssetTimetable(assets=cities, default_partition_mapper=rollup))
dag("hung", PartitionedAssetTimetable(assets=cities, default_partition_mapper=dates.Hangs()))
dag("weekly", dates.Weeks(), catchup=True, **SPAN)
dag("workdays", dates.Days(), start_date=pendulum.datetime(2099, 1, 1, tz="UTC"))
dag("never", dates.Never(), start_date=pendulum.datetime(2024, 1, 1, tz="UTC"))
dag("on_news", dates.OnNews([Asset("news")]))
"#;

fn deployment() -> Deployment {
    let deployment = Deployment::on(Database::Sqlite);
    let folder = deployment.path().join("plugins");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("dates.py"), PLUGIN).unwrap();
    let more = format!("plugins_folder = \"{}\"", folder.display());
    let mut deployment = deployment
        .with("[scheduler]\nquestion_timeout = 2")
        .team("alpha", &more)
        .user("ann", "alpha = \"admin\"")
        .dag("alpha", "dags.py", DAGS);
    deployment.start("standalone");
    deployment
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("none").to_owned()
}

fn column(answer: &Answer, list: &str, name: &str) -> Vec<String> {
    let rows = answer.body[list].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| text(&row[name])).collect()
}

/// Asks again while the helper is busy with something that hangs.
fn insist(client: &Client, path: &str, body: &Value) -> Answer {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let answer = client.post(path, body);
        if answer.status != 503 || std::time::Instant::now() > until {
            return answer;
        }
    }
}

fn happens(client: &Client, asset: &str, key: Option<&str>) {
    let found = client.get(&format!("/api/v2/assets?name_pattern={asset}"));
    let id = found.body["assets"][0]["id"].clone();
    let made = client.post("/api/v2/assets/events", &json!({"asset_id": id, "partition_key": key}));
    assert_eq!(made.status, 200, "{}", made.body);
}

/// Waits until the Dag has runs of these partitions and no others.
fn partitions(client: &Client, dag: &str, expected: &[&str]) {
    let path = format!("/api/v2/dags/{dag}/dagRuns?order_by=id");
    client.wait_for(&path, 60, |answer| {
        let mut found = column(answer, "dag_runs", "partition_key");
        found.sort();
        found == expected
    });
}

#[test]
fn partition_mappers_and_windows_of_a_team_are_asked_and_one_that_hangs_stops_its_own_dag_only() {
    let deployment = deployment();
    let ann = deployment.client("ann");
    for dag in ["by_region", "whole_region", "hung"] {
        ann.wait_for_dag(dag);
    }
    happens(&ann, "cities", Some("eu-1"));
    partitions(&ann, "by_region", &["eu"]);
    happens(&ann, "cities", Some("nowhere"));
    happens(&ann, "cities", Some("us-2"));
    partitions(&ann, "by_region", &["eu", "us"]);
    happens(&ann, "cities", Some("eu-2"));
    partitions(&ann, "by_region", &["eu", "eu", "us"]);
    partitions(&ann, "whole_region", &["eu"]);
    happens(&ann, "cities", Some("all"));
    partitions(&ann, "by_region", &["eu", "eu", "eu", "us", "us"]);
    partitions(&ann, "whole_region", &["eu"]);
    let run = ann.get("/api/v2/dags/whole_region/dagRuns").body["dag_runs"][0].clone();
    assert_eq!(run["partition_date"], "2026-01-01T00:00:00Z", "{run}");

    let noted = ann.get("/api/v2/eventLogs?dag_id=by_region&event=failed+to+map+partition_key");
    let extra = text(&noted.body["event_logs"][0]["extra"]);
    assert!(extra.contains("KeyError: 'nowhere'"), "{}", noted.body);
    let said = |answer: &Answer| text(&answer.body["dag_warnings"][0]["message"]).contains("did not answer within 2 s");
    ann.wait_for("/api/v2/dagWarnings?dag_id=hung", 60, said);
    assert_eq!(ann.get("/api/v2/dags/hung/dagRuns").body["total_entries"], 0);
    for dag in ["by_region", "whole_region"] {
        let warnings = ann.get(&format!("/api/v2/dagWarnings?dag_id={dag}"));
        assert_eq!(warnings.body["total_entries"], 0, "{}", warnings.body);
    }
    // A partition that a person names has the date that the mapper gives it.
    let body = json!({"logical_date": null, "partition_key": "us"});
    let made = insist(&ann, "/api/v2/dags/by_region/dagRuns", &body);
    assert_eq!(made.status, 200, "{}", made.body);
    assert_eq!(made.body["partition_date"], "2026-01-02T00:00:00Z", "{}", made.body);
}

#[test]
fn a_timetable_of_a_team_says_what_it_is_and_which_runs_a_backfill_makes() {
    let deployment = deployment();
    let ann = deployment.client("ann");
    ann.wait_for_dag("weekly");
    partitions(&ann, "weekly", &["2024-W01", "2024-W02", "2024-W03"]);
    let runs = ann.get("/api/v2/dags/weekly/dagRuns?order_by=run_after");
    let ids = ["2024-W01-20231231", "2024-W02-20240107", "2024-W03-20240114"].map(|id| format!("scheduled-{id}"));
    assert_eq!(column(&runs, "dag_runs", "dag_run_id"), ids);
    let facts = |dag: &str| {
        let dag = ann.get(&format!("/api/v2/dags/{dag}")).body;
        let words = ["timetable_summary", "timetable_description"].map(|name| text(&dag[name]));
        (
            words.join("|"),
            dag["timetable_partitioned"] == true,
            dag["timetable_periodic"] == true,
            dag["is_backfillable"] == true,
        )
    };
    assert_eq!(facts("weekly"), ("weeks|Each week".to_owned(), true, true, true));
    assert_eq!(facts("never"), ("Never|".to_owned(), false, false, false));
    assert_eq!(facts("on_news").0, "On news|Triggered by assets");

    // Dates are read on the timetable's own clock.
    let body = |dag: &str, to: &str| json!({"dag_id": dag, "from_date": "2024-01-01T00:00:00Z", "to_date": to});
    let rehearsed = ann.post("/api/v2/backfills/dry_run", &body("weekly", "2024-01-22T00:00:00Z"));
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.body);
    // Weeks that ran are there already.
    assert_eq!(column(&rehearsed, "backfills", "partition_key"), ["2024-W04"]);
    assert_eq!(
        column(&rehearsed, "backfills", "partition_date"),
        ["2024-01-21T15:00:00Z"]
    );
    let week = |key: &str| {
        ann.post(
            "/api/v2/dags/weekly/dagRuns",
            &json!({"logical_date": null, "partition_key": key}),
        )
    };
    let (good, bad) = (week("2024-W10"), week("someday"));
    assert_eq!((good.status, bad.status), (200, 400), "{} {}", good.body, bad.body);
    assert_eq!(good.body["partition_date"], "2024-03-03T15:00:00Z");
    assert!(text(&bad.body["detail"]).contains("no week: someday"), "{}", bad.body);
    let window = "partition_date_gte=2024-01-01&partition_date_lte=2024-01-08";
    let within = ann.get(&format!("/api/v2/dags/weekly/dagRuns?order_by=run_after&{window}"));
    assert_eq!(
        column(&within, "dag_runs", "partition_key"),
        ["2024-W01", "2024-W02"],
        "{}",
        within.body
    );

    let rehearsed = ann.post("/api/v2/backfills/dry_run", &body("workdays", "2024-01-09T00:00:00Z"));
    let days = ["01", "02", "03", "04", "05", "08", "09"].map(|day| format!("2024-01-{day}T00:00:00Z"));
    assert_eq!(
        column(&rehearsed, "backfills", "logical_date"),
        days,
        "{}",
        rehearsed.body
    );
    let mut backwards = body("workdays", "2024-01-06T00:00:00Z");
    backwards["run_backwards"] = true.into();
    let made = ann.post("/api/v2/backfills", &backwards);
    assert_eq!(made.status, 200, "{}", made.body);
    let of_backfill = "/api/v2/dags/workdays/dagRuns?run_type=backfill&order_by=logical_date";
    let runs = ann.get(of_backfill);
    let ids = ["01", "02", "03", "04", "05"].map(|day| format!("backfill-202401{day}"));
    assert_eq!(column(&runs, "dag_runs", "dag_run_id"), ids, "{}", runs.body);
    ann.wait_for(of_backfill, 60, |answer| {
        column(answer, "dag_runs", "state")
            .iter()
            .all(|state| state == "success")
    });
    let refused = ann.post("/api/v2/backfills", &body("never", "2024-01-09T00:00:00Z"));
    assert_eq!(refused.status, 422, "{}", refused.body);

    happens(&ann, "news", None);
    ann.wait_for("/api/v2/dags/on_news/dagRuns", 60, |answer| {
        column(answer, "dag_runs", "run_type") == ["asset_triggered"]
    });
}
