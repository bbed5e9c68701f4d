//! When retries are due, as Airflow 3.3.2 computed it (`data/record_retries.py`).

use isobar_engine::graph::TaskSpec;
use isobar_engine::planner::retry::{Retry, may_retry, next_retry_at};
use isobar_model::{DagId, TaskId, TaskState};
use jiff::{SignedDuration, Timestamp};

type Recorded = (
    DagId,
    TaskId,
    Option<Timestamp>,
    i32,
    Timestamp,
    f64,
    f64,
    Option<f64>,
    Option<f64>,
    Timestamp,
);

#[test]
fn a_retry_is_due_when_airflow_says() {
    let text = include_str!("data/retries.jsonl");
    for line in text.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let (dag_id, task_id, logical_date, try_number, end_date, delay, factor, longest, delay_override, due) =
            recorded;
        let seconds = SignedDuration::from_secs_f64;
        let task = TaskSpec {
            task_id,
            retry_delay: seconds(delay),
            retry_exponential_backoff: factor,
            max_retry_delay: longest.map(seconds),
            ..TaskSpec::default()
        };
        let retry = Retry {
            dag_id: &dag_id,
            task: &task,
            logical_date,
            try_number,
            end_date,
            delay_override: delay_override.map(seconds),
        };
        assert_eq!(next_retry_at(&retry), due, "{line}");
    }
}

#[test]
fn a_task_may_be_retried_up_to_its_tries_and_always_when_it_was_cleared_while_running() {
    assert!(may_retry(Some(TaskState::Running), 2, 1, 2));
    assert!(may_retry(Some(TaskState::Running), 2, 2, 2));
    assert!(!may_retry(Some(TaskState::Running), 2, 3, 2));
    assert!(!may_retry(Some(TaskState::Running), 0, 1, 5));
    assert!(may_retry(Some(TaskState::Restarting), 0, 9, 0));
}
