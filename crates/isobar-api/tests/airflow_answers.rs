//! Airflow's own answers, recorded by `tools/compare_rest.py --record`, asked of us again: status, values and order of keys.
//!
//! What differs by nature (ids, times, tokens) was made equal when recording and is made equal here in the same way.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod client;
mod support;

use axum::http::{Method, StatusCode};
use client::Client;
use regex::Regex;
use serde_json::{Map, Value, json};
use support::World;

const ANSWERS: &str = include_str!("data/airflow_answers.jsonl");

/// What becomes of runs (`--cases compare_life_cases.py`), and the Dags for it.
const LIFE: &str = include_str!("data/life_answers.jsonl");
const LIFE_DAGS: &str = include_str!("data/life_dags.json");

/// What differs by nature and what on purpose; `tools/compare_rest.py` says what is what and reads it too.
const WHAT_DIFFERS: &str = include_str!("data/what_differs.json");

#[derive(serde::Deserialize)]
struct WhatDiffers {
    /// Names of values that no two servers share.
    free: Vec<String>,
    /// Path of the request, place in the body, why.
    on_purpose: Vec<(String, String, String)>,
}

fn what_differs() -> WhatDiffers {
    serde_json::from_str(WHAT_DIFFERS).unwrap()
}

struct Plain {
    uuid: Regex,
    time: Regex,
    log_id: Regex,
    random: Regex,
    /// A Python set, whose order is that of hashes.
    set: Regex,
    free: Vec<String>,
    /// Lists whose order differs by nature.
    any_order: Vec<String>,
}

impl Plain {
    fn new() -> Self {
        let hex = "[0-9a-f]";
        Self {
            uuid: Regex::new(&format!("{hex}{{8}}-{hex}{{4}}-{hex}{{4}}-{hex}{{4}}-{hex}{{12}}")).unwrap(),
            time: Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)").unwrap(),
            log_id: Regex::new(r"when you look for ID \w+").unwrap(),
            set: Regex::new(r"\{('[^{}:]*')\}").unwrap(),
            random: Regex::new("^(backfill__.*__)[A-Za-z0-9]{8}$").unwrap(),
            any_order: Vec::new(),
            free: what_differs().free,
        }
    }

    /// The value with everything that differs by nature made equal.
    fn of(&self, value: &Value, name: &str) -> Value {
        match value {
            Value::Object(map) => Value::Object(
                map.iter()
                    .map(|(key, value)| (key.clone(), self.of(value, key)))
                    .collect::<Map<_, _>>(),
            ),
            Value::Array(items) if name == "downstream_task_ids" => {
                let mut sorted: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                sorted.sort_unstable();
                json!(sorted)
            }
            Value::Array(items) if self.any_order.iter().any(|known| known == name) => {
                let mut sorted: Vec<&Value> = items.iter().collect();
                sorted.sort_by_cached_key(|item| place(item));
                sorted.into_iter().map(|item| self.of(item, "")).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.of(item, name)).collect(),
            Value::Null => Value::Null,
            Value::Bool(_) if self.is_free(name) => "<bool>".into(),
            Value::Number(_) if self.is_free(name) => "<number>".into(),
            Value::String(_) if self.is_free(name) => "<str>".into(),
            #[expect(clippy::cast_possible_truncation, reason = "whole numbers of the answers are small")]
            Value::Number(number) => match number.as_f64() {
                Some(real) if real.fract() == 0.0 && real.abs() < 9e15 => json!(real as i64),
                _ => value.clone(),
            },
            Value::String(text) => {
                let text = self.set.replace_all(text, |found: &regex::Captures<'_>| {
                    let mut ids: Vec<&str> = found[1].split(", ").collect();
                    ids.sort_unstable();
                    format!("{{{}}}", ids.join(", "))
                });
                let text = self.random.replace(&text, "$1<random>");
                let text = self.uuid.replace_all(&text, "<uuid>");
                let text = self.time.replace_all(&text, "<time>");
                self.log_id
                    .replace_all(&text, "when you look for ID <id>")
                    .into_owned()
                    .into()
            }
            Value::Bool(_) => value.clone(),
        }
    }

    fn is_free(&self, name: &str) -> bool {
        self.free.iter().any(|free| free == name)
    }
}

/// By what lists without an order are sorted, as PLACE in the tool.
fn place(item: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    };
    match item {
        Value::Object(map) => ["dag_id", "dag_run_id", "task_id", "map_index", "try_number"]
            .iter()
            .map(|key| text(map.get(*key).unwrap_or(&Value::Null)))
            .collect(),
        other => vec![text(other)],
    }
}

fn differences(airflow: &Value, isobar: &Value, place: &str, found: &mut Vec<(String, String)>) {
    match (airflow, isobar) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let keys = |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>().join(" ");
            if keys(theirs) != keys(ours) {
                found.push((format!("{place} (keys)"), format!("{} | {}", keys(theirs), keys(ours))));
            }
            for (key, value) in theirs {
                if let Some(other) = ours.get(key) {
                    differences(value, other, &format!("{place}.{key}"), found);
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if theirs.len() != ours.len() {
                found.push((
                    format!("{place} (length)"),
                    format!("{} | {}", theirs.len(), ours.len()),
                ));
            }
            for (index, (value, other)) in theirs.iter().zip(ours).enumerate() {
                differences(value, other, &format!("{place}[{index}]"), found);
            }
        }
        _ if airflow != isobar => found.push((place.to_owned(), format!("{airflow} | {isobar}"))),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_answer_of_airflow_is_ours_too() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::on_each_database(folder.path(), false).await {
        ask_again(&world, ANSWERS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_runs_is_answered_as_airflow_does() {
    let folder = tempfile::tempdir().unwrap();
    for world in World::with_dags_on_each_database(folder.path(), false, LIFE_DAGS).await {
        ask_again(&world, LIFE).await;
    }
}

/// What only a scheduler or a worker could bring about, by hand: the tables and columns that both servers have.
async fn change(world: &World, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    if world.url.starts_with("sqlite") {
        let pool = sqlx::SqlitePool::connect(&world.url).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    } else {
        let pool = sqlx::PgPool::connect(&world.url).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

/// Recorded on SQLite, which orders nulls first; PostgreSQL orders them last, under Airflow as here.
const NULLS_FIRST: [&str; 2] = ["/variables?order_by=description", "/connections?order_by=-port"];

async fn ask_again(world: &World, answers: &str) {
    let nulls_last = world.state.store.dialect() == isobar_store::Dialect::Postgres;
    let admin = Client::login(world, "admin").await;
    let on_purpose: Vec<(Regex, Regex)> = what_differs()
        .on_purpose
        .iter()
        .map(|(path, place, _)| {
            (
                Regex::new(path).unwrap(),
                Regex::new(&format!("^(?:{place})$")).unwrap(),
            )
        })
        .collect();
    let mut plain = Plain::new();
    let mut wrong = Vec::new();
    for line in answers.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if case["method"] == "SQL" {
            change(world, case["path"].as_str().unwrap()).await;
            continue;
        }
        if let Some(names) = case["any_order"].as_array() {
            plain.any_order = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        }
        for name in case["free"].as_array().unwrap() {
            plain.free.push(name.as_str().unwrap().to_owned());
        }
        let (method, path) = (case["method"].as_str().unwrap(), case["path"].as_str().unwrap());
        let got = admin
            .send_raw(method.parse::<Method>().unwrap(), path, &case["body"], &case["headers"])
            .await;
        let ours = match serde_json::from_slice::<Value>(&got.body) {
            Ok(value) => value,
            Err(_) if got.body.is_empty() => Value::Null,
            Err(_) => Value::from(got.text()),
        };
        if nulls_last && NULLS_FIRST.iter().any(|order| path.contains(order)) {
            continue;
        }
        let mut found = Vec::new();
        let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
        if got.status != StatusCode::from_u16(status).unwrap() {
            found.push(("status".to_owned(), format!("{status} | {}", got.status)));
        }
        differences(&case["answer"], &plain.of(&ours, ""), "", &mut found);
        found.retain(|(place, _)| {
            !on_purpose
                .iter()
                .any(|(at, what)| at.is_match(path) && what.is_match(place))
        });
        for (place, values) in found {
            wrong.push(format!("{method} {path} {}\n    {place}: {values}", case["body"]));
        }
    }
    assert!(wrong.is_empty(), "airflow | isobar:\n{}", wrong.join("\n"));
}
