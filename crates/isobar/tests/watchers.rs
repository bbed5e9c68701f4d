//! Watchers of assets when their Dags change, vanish and come back, and when their triggers end. The built binary, real Python.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod deployment;

use std::fs;

use deployment::{Client, Database, notes, wait_for_notes, with_evidence, with_triggers};
use serde_json::{Value, json};

/// Two assets that are watched alike, one after the other Dag file.
const ONE: &str = r#"
from airflow.sdk import DAG, Asset, AssetWatcher, task
from watching import FolderWatcher

inbox = Asset("inbox", watchers=[AssetWatcher(name="one", trigger=FolderWatcher(__EVIDENCE__, "PREFIX"))])

with DAG(dag_id="reads_one", schedule=[inbox]):
    @task
    def read(triggering_asset_events=None):
        return [event.extra["payload"]["file"] for event in triggering_asset_events[inbox]]
    read()
"#;

const OTHER: &str = r#"
from airflow.sdk import DAG, Asset, AssetWatcher, task
from watching import FolderWatcher, Ends

copy = Asset("copy", watchers=[AssetWatcher(name="other", trigger=FolderWatcher(__EVIDENCE__, "mail"))])
short = Asset("short", watchers=[
    AssetWatcher(name="ends", trigger=Ends(__EVIDENCE__, "ends")),
    AssetWatcher(name="fails", trigger=Ends(__EVIDENCE__, "fails")),
])

with DAG(dag_id="reads_other", schedule=[copy]):
    @task
    def read(): ...
    read()

with DAG(dag_id="reads_short", schedule=[short]):
    @task
    def look(): ...
    look()
"#;

/// The name and the trigger of each watcher of an asset.
fn watchers(client: &Client, asset: &str) -> Vec<(String, i64)> {
    let answer = client
        .get(&format!("/api/v2/assets?name_pattern={asset}&only_active=false"))
        .body;
    let all = answer["assets"][0]["watchers"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|watcher| {
            assert!(watcher["created_date"].is_string(), "{watcher}");
            (
                watcher["name"].as_str().unwrap().to_owned(),
                watcher["trigger_id"].as_i64().unwrap(),
            )
        })
        .collect()
}

fn wait_for_runs(client: &Client, dag: &str, count: i64) -> Value {
    let path = format!("/api/v2/dags/{dag}/dagRuns?state=success&order_by=run_after");
    client
        .wait_for(&path, 90, |answer| answer.body["total_entries"] == json!(count))
        .body
}

#[test]
fn watchers_follow_their_dags_and_those_that_end_begin_again() {
    let place = &mut with_triggers(
        Database::Sqlite,
        &["alpha"],
        &[("one.py", &ONE.replace("PREFIX", "mail")), ("other.py", OTHER)],
    );
    place.start("standalone");
    let (client, evidence) = (place.client("alpha"), place.evidence("alpha"));
    for dag in ["reads_one", "reads_other", "reads_short"] {
        client.wait_for_dag(dag);
    }

    // What two Dag files watch alike is watched once, and both hear of it.
    let begun = evidence.join("watcher.mail");
    wait_for_notes(&begun, 1);
    let (one, other) = (watchers(&client, "inbox"), watchers(&client, "copy"));
    assert_eq!((one[0].0.as_str(), other[0].0.as_str()), ("one", "other"));
    assert_eq!(one[0].1, other[0].1, "they share a trigger");
    fs::write(evidence.join("mail-1"), "").unwrap();
    wait_for_runs(&client, "reads_one", 1);
    wait_for_runs(&client, "reads_other", 1);

    // One that ends, and one that fails, are started again, about once a second.
    wait_for_notes(&evidence.join("watcher.ends"), 3);
    wait_for_notes(&evidence.join("watcher.fails"), 3);

    // One of the two is paused: the other still hears.
    let pause = |paused: bool| client.patch("/api/v2/dags/reads_one", &json!({"is_paused": paused}));
    assert_eq!(pause(true).status, 200);
    assert_eq!(watchers(&client, "inbox"), []);
    fs::write(evidence.join("mail-2"), "").unwrap();
    wait_for_runs(&client, "reads_other", 2);
    assert_eq!(pause(false).status, 200);
    assert_eq!(notes(&begun).len(), 1, "it went on all the time");

    // The Dag watches something else now: another trigger, while the old one stays for the other Dag.
    place.write_dag(
        "alpha",
        "one.py",
        &with_evidence(place, "alpha", &ONE.replace("PREFIX", "post")),
    );
    wait_for_notes(&evidence.join("watcher.post"), 1);
    assert_ne!(watchers(&client, "inbox")[0].1, other[0].1);
    fs::write(evidence.join("post-1"), "").unwrap();
    let runs = wait_for_runs(&client, "reads_one", 2);
    let run = runs["dag_runs"][1]["dag_run_id"].as_str().unwrap();
    assert_eq!(client.xcom("reads_one", run, "read"), json!(["post-1"]));

    // Its file is gone, and with it who watches.
    fs::remove_file(place.dags("alpha").join("other.py")).unwrap();
    wait_for_notes(&evidence.join("gone.mail"), 1);
    assert_eq!(watchers(&client, "copy"), []);
    assert_eq!(notes(&begun).len(), 1);
    // It is back, and watches again.
    place.write_dag("alpha", "other.py", &with_evidence(place, "alpha", OTHER));
    wait_for_notes(&begun, 2);
}
