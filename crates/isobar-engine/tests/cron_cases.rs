//! Cron on a wall clock answers what croniter answers (recorded by `data/record_timetables.py`).

#![expect(clippy::unwrap_used, reason = "a test stops where its data are wrong")]

use isobar_engine::cron::Cron;
use jiff::civil::DateTime;
use proptest::prelude::*;
use serde_json::Value;

/// What is committed, or what `make conformance` has just recorded.
fn lines(name: &str, committed: &str) -> Vec<Value> {
    let recorded = std::env::var_os("ISOBAR_RECORDED").map_or_else(
        || committed.to_owned(),
        |folder| std::fs::read_to_string(std::path::Path::new(&folder).join(name)).unwrap(),
    );
    recorded
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_valid_and_what_is_not() {
    let mut wrong = Vec::new();
    for case in lines("cron_words.jsonl", include_str!("data/cron_words.jsonl")) {
        let expression = case[0].as_str().unwrap();
        if Cron::parse(expression).is_ok() != case[1].as_bool().unwrap() {
            wrong.push(case);
        }
    }
    assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
}

#[test]
fn the_next_and_the_previous_match_are_croniters() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for case in lines("cron.jsonl", include_str!("data/cron.jsonl")) {
        let expression = case[0].as_str().unwrap();
        let cron = Cron::parse(expression).unwrap_or_else(|error| panic!("{error}"));
        let shown = |at: Option<DateTime>| at.map_or(Value::Null, |at| at.to_string().into());
        for answer in case[1].as_array().unwrap() {
            let at: DateTime = answer[0].as_str().unwrap().parse().unwrap();
            let found = (shown(cron.next_after(at)), shown(cron.prev_before(at)));
            checked += 2;
            if found != (answer[1].clone(), answer[2].clone()) {
                wrong.push(format!("{expression} at {at}: {found:?}, Airflow: {answer}"));
            }
        }
    }
    assert!(checked > 10_000, "only {checked} cases are recorded");
    assert!(
        wrong.is_empty(),
        "{} of {checked} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}

/// `5/2` inside a list: cron-descriptor's English catalogue lacks "starting", and says nothing; we say it.
fn steps_from_a_value_in_a_list(expression: &str) -> bool {
    let stepped = |item: &str| item.contains('/') && !item.starts_with('*') && !item.contains('-');
    expression
        .split_whitespace()
        .any(|column| column.contains(',') && column.split(',').any(stepped))
}

#[test]
fn descriptions_read_as_airflow_shows_them() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for case in lines("cron_words.jsonl", include_str!("data/cron_words.jsonl"))
        .into_iter()
        .filter(|case| case[1] == true)
    {
        if steps_from_a_value_in_a_list(case[0].as_str().unwrap()) {
            continue;
        }
        let found = Cron::parse(case[0].as_str().unwrap())
            .map(|cron| cron.description())
            .unwrap_or_default();
        checked += 1;
        if found != case[2].as_str().unwrap() {
            wrong.push(format!("{}\n   found    {found}\n   expected {}", case[0], case[2]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked} wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(40)].join("\n")
    );
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "[0-9a-z*/,#? @-]{0,30}") {
        if let Ok(cron) = Cron::parse(&text) {
            let _ = (cron.description(), cron.next_after(DateTime::MAX), cron.prev_before(DateTime::MIN));
        }
    }

    #[test]
    fn matches_lie_on_the_right_side(
        columns in prop::collection::vec("[0-5]?[0-9]|[*]|[*]/[1-9]|[1-5]-[1-9]|l|[1-9]w|[1-6]#[1-5]|[1-5]/2,7", 5..=7),
        at in -2_000_000_000_i64..4_000_000_000,
    ) {
        let at = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_second(at).unwrap());
        if let Ok(cron) = Cron::parse(&columns.join(" ")) {
            if let Some(next) = cron.next_after(at) {
                prop_assert!(next > at);
                // Going back from just after a match finds that match.
                let after = next.checked_add(jiff::Span::new().microseconds(1)).unwrap();
                prop_assert_eq!(cron.prev_before(after), Some(next));
            }
            if let Some(prev) = cron.prev_before(at) {
                prop_assert!(prev < at);
            }
        }
    }
}
