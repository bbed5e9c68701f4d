//! Partition mappers answer what Airflow's answer (recorded by `data/record_partitions.py`): formats, zones, changes of the
//! clocks, windows, wait policies, and all of them nested.

use std::collections::BTreeSet;

use isobar_engine::partition::{Keys, Mapper};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

fn print(keys: &[String]) -> Value {
    let digest = Sha1::digest(keys.join("\n").as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    json!([keys.len(), hex])
}

fn mapped(mapper: &Mapper, key: &str) -> Value {
    match mapper.downstream(key) {
        Err(_) => Value::Null,
        Ok(Keys::One(key)) => json!(key),
        Ok(Keys::Many(keys)) if keys.len() > 8 => print(&keys),
        Ok(Keys::Many(keys)) => json!(keys),
    }
}

fn waited_for(mapper: &Mapper, key: &str) -> Value {
    match mapper.expected(key) {
        Err(_) => Value::Null,
        Ok(None) => json!("any"),
        Ok(Some(keys)) => print(&keys.into_iter().collect::<Vec<_>>()),
    }
}

fn date(mapper: &Mapper, key: &str) -> Value {
    match mapper.date(key) {
        Err(_) => json!("error"),
        Ok(None) => Value::Null,
        Ok(Some(at)) => json!(at.as_microsecond()),
    }
}

#[test]
fn mappers_answer_what_airflows_answer() {
    // `make conformance` records afresh.
    let path = std::env::var("ISOBAR_RECORDED_PARTITIONS").ok();
    let recorded = path.map_or_else(
        || include_str!("data/partitions.jsonl").to_owned(),
        |path| std::fs::read_to_string(path).unwrap(),
    );
    let (mut checked, mut wrong) = (0, Vec::new());
    for line in recorded.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mapper = Mapper::read(&case["mapper"]).unwrap();
        assert_eq!(json!(mapper.is_rollup()), case["rollup"]);
        let mut compare = |what: &str, key: &str, ours: Value, theirs: &Value| {
            checked += 1;
            if ours != *theirs {
                wrong.push(format!(
                    "{what} of `{key}` by {}: {ours}, Airflow: {theirs}",
                    case["mapper"]
                ));
            }
        };
        for pair in case["down"].as_array().unwrap() {
            let key = pair[0].as_str().unwrap();
            compare("keys", key, mapped(&mapper, key), &pair[1]);
        }
        for item in case["up"].as_array().unwrap() {
            let key = item[0].as_str().unwrap();
            compare("expected", key, waited_for(&mapper, key), &item[1]);
            compare("date", key, date(&mapper, key), &item[2]);
            let arrived: BTreeSet<String> = serde_json::from_value(item[3].clone()).unwrap();
            let enough = mapper.satisfied(key, &arrived).unwrap_or(false);
            compare("verdict", key, json!(enough), &item[4]);
        }
    }
    assert!(
        checked > 5 * recorded.lines().count(),
        "only {checked} answers were compared"
    );
    assert!(
        wrong.is_empty(),
        "{} of {checked} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(25)].join("\n")
    );
}

#[test]
fn a_mapper_of_the_teams_own_needs_its_helper() {
    let own = json!({"__type": "plugins.mine.Strip", "__var": {"prefix": "x"}});
    assert_eq!(Mapper::read(&own).unwrap().python(), Some("plugins.mine.Strip"));
    let nested = json!({"__type": "airflow.partition_mappers.chain.ChainMapper", "__var": {"mappers": [own, own]}});
    assert!(Mapper::read(&nested).unwrap().downstream("k").is_err());
}
