//! Timetables answer what Airflow's answer (recorded by `data/record_timetables.py`): zones, changes of the clocks, catchup, chains of runs.

#![expect(clippy::unwrap_used, reason = "a test stops where its data are wrong")]

use isobar_engine::dagplan::{Next, NextRun, Restriction};
use isobar_engine::timetable::{Timetable, TimetableError};
use isobar_model::dag::SerializedDag;
use jiff::Timestamp;
use serde_json::{Value, json};

fn instant(value: &Value) -> Option<Timestamp> {
    value
        .as_f64()
        .map(|seconds| Timestamp::from_microsecond((seconds * 1e6).round() as i64).unwrap())
}

fn seconds(at: Timestamp) -> Value {
    let micros = at.as_microsecond();
    if micros % 1_000_000 == 0 {
        json!(micros / 1_000_000)
    } else {
        json!(micros as f64 / 1e6)
    }
}

fn recorded(name: &str, committed: &str) -> String {
    std::env::var_os("ISOBAR_RECORDED").map_or_else(
        || committed.to_owned(),
        |folder| std::fs::read_to_string(std::path::Path::new(&folder).join(name)).unwrap(),
    )
}

fn timetable(schedule: &Value) -> Timetable {
    let dag = json!({"__version": 3, "dag": {"dag_id": "d", "fileloc": "/d.py", "tasks": [], "timetable": schedule}});
    Timetable::from_model(&SerializedDag::read(dag).unwrap().timetable).unwrap()
}

fn shown(next: &Result<Next, TimetableError>) -> Value {
    match next {
        Ok(Next::At(run)) => match run.data_interval {
            Some((start, end)) => {
                assert_eq!(run.run_after, end);
                json!([seconds(start), seconds(end)])
            }
            None => json!([
                seconds(run.run_after),
                run.partition_key,
                seconds(run.partition_date.unwrap())
            ]),
        },
        Ok(Next::Never) => Value::Null,
        Ok(Next::Ask) => json!("ask"),
        Err(_) => json!("error"),
    }
}

/// What is committed, or what `make conformance` has just recorded.
fn cases() -> Vec<Value> {
    recorded("timetables.jsonl", include_str!("data/timetables.jsonl"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Without catchup Airflow raises where an every-hour cron of few days steps over a change of the clocks (its `_skip_to_latest` then
/// finds itself off the schedule), and the Dag gets no runs; ours goes on (docs/differences.md).
fn airflow_breaks_down(case: &Value, recorded: &Value, ours: &Result<Next, TimetableError>) -> bool {
    let kind = case["schedule"]["__type"].as_str().unwrap();
    recorded == "error" && kind.ends_with("CronDataIntervalTimetable") && ours.is_ok()
}

/// `5/2` inside a list: Airflow's English lacks "starting" there; we say it.
fn steps_from_a_value_in_a_list(case: &Value) -> bool {
    let schedule = &case["schedule"]["__var"];
    let expressions = schedule["expressions"].as_array().into_iter().flatten();
    let stepped = |item: &str| item.contains('/') && !item.starts_with('*') && !item.contains('-');
    expressions
        .chain(std::iter::once(&schedule["expression"]))
        .filter_map(Value::as_str)
        .flat_map(str::split_whitespace)
        .any(|column| column.contains(',') && column.split(',').any(stepped))
}

#[test]
fn chains_of_runs_are_airflows() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for case in cases() {
        let timetable = timetable(&case["schedule"]);
        for chain in case["chains"].as_array().unwrap() {
            let within = Restriction {
                earliest: instant(&chain[0]),
                latest: instant(&chain[1]),
                catchup: chain[2].as_bool().unwrap(),
            };
            let mut last = chain[3].as_array().map(|given| {
                let (start, end) = (instant(&given[0]).unwrap(), instant(&given[1]).unwrap());
                NextRun {
                    run_after: end,
                    data_interval: Some((start, end)),
                    partition_key: None,
                    partition_date: None,
                }
            });
            for step in chain[4].as_array().unwrap() {
                let now = instant(&step[0]).unwrap();
                let next = timetable.next_run(last.as_ref(), &within, now);
                checked += 1;
                if airflow_breaks_down(&case, &step[1], &next) {
                    break;
                }
                if shown(&next) != step[1] {
                    wrong.push(format!(
                        "{} now {now} {within:?} last {:?}: {} instead of {}",
                        case["schedule"],
                        last.as_ref().and_then(|l| l.data_interval),
                        shown(&next),
                        step[1]
                    ));
                    break;
                }
                last = match next {
                    Ok(Next::At(run)) => Some(run),
                    _ => break,
                };
            }
        }
    }
    assert!(checked > 5_000, "only {checked} cases are recorded");
    assert!(
        wrong.is_empty(),
        "{} of {checked} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(25)].join("\n")
    );
}

#[test]
fn intervals_of_manual_runs_are_airflows() {
    let mut wrong = Vec::new();
    for case in cases() {
        let timetable = timetable(&case["schedule"]);
        for manual in case["manual"].as_array().unwrap() {
            let found = match timetable.manual_interval(instant(&manual[0]).unwrap()) {
                Ok((start, end)) => json!([manual[0], seconds(start), seconds(end)]),
                Err(_) => json!([manual[0], "error"]),
            };
            if found != *manual {
                wrong.push(format!("{}: {found} instead of {manual}", case["schedule"]));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(25)].join("\n")
    );
}

#[test]
fn summaries_and_descriptions_are_airflows() {
    for case in cases() {
        let timetable = timetable(&case["schedule"]);
        assert_eq!(timetable.summary(), case["summary"], "{}", case["schedule"]);
        if !steps_from_a_value_in_a_list(&case) {
            assert_eq!(timetable.description(), case["description"], "{}", case["schedule"]);
        }
    }
}

#[test]
fn a_plugin_timetable_asks_python() {
    let custom = timetable(&json!({"__type": "acme.Workdays", "__var": {}}));
    let within = Restriction {
        earliest: None,
        latest: None,
        catchup: true,
    };
    assert_eq!(custom.next_run(None, &within, Timestamp::UNIX_EPOCH), Ok(Next::Ask));
    let path = "acme.Workdays".to_owned();
    assert_eq!(
        custom.manual_interval(Timestamp::UNIX_EPOCH),
        Err(TimetableError::NeedsPython { path })
    );
}
