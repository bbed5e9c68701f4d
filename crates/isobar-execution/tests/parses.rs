//! Parse results: versions, what vanishes, what is refused, and that one bad file spoils no other.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on should stop"
)]

mod stage;

use std::time::Instant;

use isobar_model::TeamId;
use isobar_store::{dags, pools};
use isobar_wire::agent::{AgentApi, ParsedFile};
use isobar_wire::execution::{Caller, Operation};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use stage::*;

async fn head(stage: &Stage, team: TeamId, dag_id: &str) -> Option<dags::DagHead> {
    let mut tx = stage.store.read().await.unwrap();
    dags::head(&mut tx, stage.scope(team), dag_id).await.unwrap()
}

async fn definition(stage: &Stage, team: TeamId, dag_id: &str) -> Option<Value> {
    let mut tx = stage.store.read().await.unwrap();
    dags::version_json(&mut tx, stage.scope(team), dag_id, None)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_changed_dag_gets_a_new_version_only_where_the_old_one_was_used() {
    for stage in stages().await {
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a"])]).await;
        let first = head(&stage, ALPHA, "one").await.unwrap();
        assert!(first.is_paused && !first.is_stale);
        assert_eq!(first.tags, ["one", "two"]);
        // unused: replaced in place, under another id, since others keep what an id stands for
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a", "b"])]).await;
        let second = head(&stage, ALPHA, "one").await.unwrap();
        assert_ne!(second.current_version_id, first.current_version_id);
        assert_eq!(
            definition(&stage, ALPHA, "one").await.unwrap()["dag"]["tasks"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        // the same again: nothing changes
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a", "b"])]).await;
        assert_eq!(head(&stage, ALPHA, "one").await.unwrap(), second);
        // used: the old one stays
        stage.run(ALPHA, "one", "r").await;
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a"])]).await;
        let third = head(&stage, ALPHA, "one").await.unwrap();
        assert_ne!(third.current_version_id, second.current_version_id);
        let mut tx = stage.store.read().await.unwrap();
        let old = dags::version_json(&mut tx, stage.scope(ALPHA), "one", second.current_version_id)
            .await
            .unwrap();
        assert_eq!(old.unwrap()["dag"]["tasks"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn dags_vanish_with_their_definition_their_file_or_an_import_error() {
    for stage in stages().await {
        stage
            .parse(ALPHA, "two.py", vec![dag("one", &["a"]), dag("two", &["a"])])
            .await;
        stage.parse(ALPHA, "two.py", vec![dag("one", &["a"])]).await;
        assert!(head(&stage, ALPHA, "two").await.unwrap().is_stale);
        assert!(!head(&stage, ALPHA, "one").await.unwrap().is_stale);
        // an import error: stale, with the last good version
        let broken = ParsedFile {
            import_errors: vec![("/dags/two.py".to_owned(), "Traceback".to_owned())],
            ..file("two.py", Vec::new())
        };
        stage.api.files_parsed(ALPHA, vec![broken]).await.unwrap();
        let one = head(&stage, ALPHA, "one").await.unwrap();
        assert!(one.is_stale && one.has_import_errors);
        assert!(definition(&stage, ALPHA, "one").await.is_some());
        // mended
        stage.parse(ALPHA, "two.py", vec![dag("one", &["a"])]).await;
        let one = head(&stage, ALPHA, "one").await.unwrap();
        assert!(!one.is_stale && !one.has_import_errors);
        // the file moves: the new one takes the Dag over before the old one is reported gone
        stage.parse(ALPHA, "moved.py", vec![dag("one", &["a"])]).await;
        stage
            .api
            .files_gone(ALPHA, vec![("dags-folder".to_owned(), "two.py".to_owned())])
            .await
            .unwrap();
        let one = head(&stage, ALPHA, "one").await.unwrap();
        assert_eq!((one.is_stale, one.rel_path.as_str()), (false, "moved.py"));
        let known = stage.api.known_files(ALPHA).await.unwrap();
        assert_eq!(
            known.iter().map(|file| file.rel_path.as_str()).collect::<Vec<_>>(),
            ["moved.py"]
        );
    }
}

#[tokio::test]
async fn a_dag_belongs_to_the_team_that_reported_it() {
    for stage in stages().await {
        stage.parse(ALPHA, "one.py", vec![dag("same", &["a"])]).await;
        stage.parse(BETA, "one.py", vec![dag("same", &["a", "b"])]).await;
        let size = |json: Option<Value>| json.unwrap()["dag"]["tasks"].as_array().unwrap().len();
        assert_eq!(size(definition(&stage, ALPHA, "same").await), 1);
        assert_eq!(size(definition(&stage, BETA, "same").await), 2);
        stage
            .api
            .files_gone(BETA, vec![("dags-folder".to_owned(), "one.py".to_owned())])
            .await
            .unwrap();
        assert!(!head(&stage, ALPHA, "same").await.unwrap().is_stale);
    }
}

#[tokio::test]
async fn a_foreign_pool_is_an_import_error_and_the_last_good_version_stays() {
    for stage in stages().await {
        let mut tx = stage.store.begin().await.unwrap();
        pools::create(&mut tx, stage.scope(BETA), "heavy", 3, None, false, Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let mut heavy = dag("one", &["a"]);
        heavy["dag"]["tasks"][0]["__var"]["pool"] = json!("heavy");
        stage.parse(BETA, "one.py", vec![heavy.clone()]).await;
        assert!(!head(&stage, BETA, "one").await.unwrap().is_stale);
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a", "b"])]).await;
        stage.parse(ALPHA, "one.py", vec![heavy]).await;
        let one = head(&stage, ALPHA, "one").await.unwrap();
        assert!(one.has_import_errors);
        let kept = definition(&stage, ALPHA, "one").await.unwrap();
        assert_eq!(kept["dag"]["tasks"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn stored_dags_are_checked_again_when_pools_change() {
    for stage in stages().await {
        let mut heavy = dag("one", &["a"]);
        heavy["dag"]["tasks"][0]["__var"]["pool"] = json!("heavy");
        stage.parse(ALPHA, "one.py", vec![heavy, dag("other", &["a"])]).await;
        assert!(head(&stage, ALPHA, "one").await.is_none());
        assert!(head(&stage, ALPHA, "other").await.unwrap().has_import_errors);
        let scope = stage.scope(ALPHA);
        let mut tx = stage.store.begin().await.unwrap();
        pools::create(&mut tx, scope, "heavy", 3, None, false, Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        stage.api.pools_changed(scope, "heavy").await.unwrap();
        assert!(!head(&stage, ALPHA, "one").await.unwrap().is_stale);
        assert!(!head(&stage, ALPHA, "other").await.unwrap().has_import_errors);
        let mut tx = stage.store.begin().await.unwrap();
        assert!(pools::delete(&mut tx, scope, "heavy", Timestamp::now()).await.unwrap());
        tx.commit().await.unwrap();
        stage.api.pools_changed(scope, "heavy").await.unwrap();
        let one = head(&stage, ALPHA, "one").await.unwrap();
        assert!(one.has_import_errors && definition(&stage, ALPHA, "one").await.is_some());
        // and back again
        let mut tx = stage.store.begin().await.unwrap();
        pools::create(&mut tx, scope, "heavy", 3, None, false, Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        stage.api.pools_changed(scope, "heavy").await.unwrap();
        assert!(!head(&stage, ALPHA, "one").await.unwrap().has_import_errors);
    }
}

#[tokio::test]
async fn one_bad_file_of_a_batch_spoils_no_other() {
    for stage in stages().await {
        let mut nul = dag("nul", &["a"]);
        nul["dag"]["description"] = json!("a\u{0}b");
        let files = vec![
            file("good.py", vec![dag("good", &["a"])]),
            file("bad.py", vec![json!({"__version": 3, "dag": {"dag_id": "bad"}})]),
            file("nul.py", vec![nul]),
            ParsedFile {
                source: "x\u{0}".to_owned(),
                ..file("fine.py", vec![dag("fine", &["a"])])
            },
        ];
        stage.api.files_parsed(ALPHA, files).await.unwrap();
        assert!(head(&stage, ALPHA, "good").await.is_some());
        assert!(head(&stage, ALPHA, "fine").await.is_some());
        assert!(head(&stage, ALPHA, "bad").await.is_none());
        assert_eq!(stage.api.known_files(ALPHA).await.unwrap().len(), 4);
    }
}

#[tokio::test]
async fn variables_are_the_teams_at_parse_time_too() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let put = Operation::PutVariable {
            key: "k".to_owned(),
            value: Some("v".to_owned()),
            description: None,
        };
        stage.call(&caller, put).await.unwrap();
        let get = || Operation::GetVariable { key: "k".to_owned() };
        let own: Caller = parser(ALPHA, "alpha");
        assert_eq!(stage.call(&own, get()).await.unwrap().body["value"], "v");
        assert_eq!(stage.call(&parser(BETA, "beta"), get()).await.unwrap_err().status, 404);
    }
}

#[tokio::test]
async fn a_thousand_files_are_stored_in_two_seconds() {
    for stage in stages().await {
        let batch = |tasks: &[&str]| -> Vec<ParsedFile> {
            (0..1000)
                .map(|n| file(&format!("f{n}.py"), vec![dag(&format!("dag_{n}"), tasks)]))
                .collect()
        };
        for (what, tasks) in [
            ("new", &["a", "b"][..]),
            ("same", &["a", "b"][..]),
            ("changed", &["a"][..]),
        ] {
            let files = batch(tasks);
            let begun = Instant::now();
            stage.api.files_parsed(ALPHA, files).await.unwrap();
            let took = begun.elapsed();
            println!("{:?} {what}: {took:?}", stage.store.dialect());
            // Built without optimisation and beside other builds, so the bound here is wide.
            assert!(took.as_secs() < 10, "{what} took {took:?}");
        }
    }
}

/// Serialized Dags that Airflow wrote.
fn recorded() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../isobar-model/tests/data/recorded.jsonl");
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].take())
        .collect()
}

/// The pools that the recorded Dags name.
async fn pools_of_recorded(stage: &Stage) {
    let mut tx = stage.store.begin().await.unwrap();
    for pool in ["p", "mp"] {
        pools::create(&mut tx, stage.scope(ALPHA), pool, 3, None, false, Timestamp::now())
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn all_that_airflow_serializes_can_be_stored() {
    for stage in stages().await {
        pools_of_recorded(&stage).await;
        let files: Vec<ParsedFile> = recorded()
            .into_iter()
            .enumerate()
            .map(|(n, dag)| file(&format!("r{n}.py"), vec![dag]))
            .collect();
        let ids: Vec<String> = files
            .iter()
            .map(|file| file.dags[0]["dag"]["dag_id"].as_str().unwrap().to_owned())
            .collect();
        stage.api.files_parsed(ALPHA, files).await.unwrap();
        let mut refused = Vec::new();
        for id in &ids {
            if head(&stage, ALPHA, id).await.is_none() {
                refused.push(id);
            }
        }
        assert_eq!(refused, Vec::<&String>::new());
    }
}

/// Puts something odd at one place of a JSON value, found by walking.
fn spoil(value: &mut Value, mut place: usize, odd: &Value) {
    fn walk(value: &mut Value, place: &mut usize, odd: &Value) -> bool {
        if *place == 0 {
            *value = odd.clone();
            return true;
        }
        *place -= 1;
        match value {
            Value::Array(items) => items.iter_mut().any(|item| walk(item, place, odd)),
            Value::Object(map) => map.values_mut().any(|item| walk(item, place, odd)),
            _ => false,
        }
    }
    walk(value, &mut place, odd);
}

/// A serialized Dag without the keys that tell only where its file is.
fn without_place(mut dag: Value) -> Value {
    if let Some(keys) = dag["dag"].as_object_mut() {
        keys.remove("fileloc");
        keys.remove("_processor_dags_folder");
    }
    dag
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_malformed_dag_is_refused_or_stored_whole_and_its_neighbours_stay(
        which in 0_usize..138,
        place in 1_usize..120,
        odd in prop_oneof![
            Just(json!(null)), Just(json!(-1)), Just(json!("")), Just(json!([[]])), Just(json!({"__type": "x"})),
            Just(json!(1e300)), Just(json!("a\u{0}b")), Just(json!("x".repeat(3000))),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = stages().await.remove(0);
            pools_of_recorded(&stage).await;
            stage.parse(ALPHA, "good.py", vec![dag("good", &["a"])]).await;
            let before = head(&stage, ALPHA, "good").await;
            let mut all = recorded();
            let original = all.swap_remove(which % all.len());
            let id = original["dag"]["dag_id"].as_str().unwrap().to_owned();
            stage.parse(ALPHA, "r.py", vec![original.clone()]).await;
            let mut spoilt = original.clone();
            spoil(&mut spoilt, place, &odd);
            stage.parse(ALPHA, "r.py", vec![spoilt.clone()]).await;
            assert_eq!(head(&stage, ALPHA, "good").await, before);
            // either the new definition stands whole, or the last good one with an import error;
            // a Dag that is only said to be in another place is no new one
            let row = head(&stage, ALPHA, &id).await.unwrap();
            let now = definition(&stage, ALPHA, &id).await.unwrap();
            let unchanged = without_place(original.clone()) == without_place(spoilt.clone());
            assert!(
                now == spoilt || (now == original && (unchanged || row.has_import_errors || row.is_stale)),
                "neither the old nor the new definition of {id}"
            );
        });
    }
}
