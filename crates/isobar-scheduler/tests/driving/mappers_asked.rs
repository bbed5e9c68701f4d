//! Partition mappers that only the team's Python knows, and a helper whose answer is of no use.

use std::collections::BTreeSet;
use std::time::Duration;

use isobar_auth::ReadScope;
use isobar_model::TeamName;
use isobar_store::assets::{self, Change};
use isobar_store::lists::runs as run_list;
use isobar_store::lists::{Page, runs::RunFilter};
use isobar_store::questions;
use isobar_wire::questions::Said;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::ground::Ground;

/// Answers the open questions as a helper does that looks when the first pause is over; whether there were any.
async fn answer(ground: &Ground, said: impl Fn(&Value) -> Value) -> bool {
    let (scope, minute) = (ground.scope(), SignedDuration::from_mins(1));
    let mut tx = ground.store.begin().await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_secs(6);
    let open = questions::claim(&mut tx, scope, 64, later, minute).await.unwrap();
    let said: Vec<(i64, Said)> = open
        .iter()
        .map(|question| (question.id, Said::Answer(said(&question.body))))
        .collect();
    questions::said(&mut tx, scope, &said, Timestamp::now()).await.unwrap();
    tx.commit().await.unwrap();
    !said.is_empty()
}

async fn runs_of(ground: &Ground, dag_id: &str) -> Vec<Option<String>> {
    let filter = RunFilter {
        dag_id: Some(dag_id.into()),
        ..RunFilter::default()
    };
    let order = run_list::ORDER.order(&["id".into()]).unwrap();
    let page = Page { limit: 10, offset: 0 };
    let scope = ReadScope::from(ground.scope());
    let mut tx = ground.store.read().await.unwrap();
    let found = run_list::list(&mut tx, &scope, &filter, &order, page).await.unwrap();
    found.rows.into_iter().map(|run| run.partition_key).collect()
}

driving!(what_arrived_is_asked_about_again_after_an_answer_of_no_use, |ground| {
    let asset = json!({"__type": "asset", "name": "n", "uri": "u", "group": "asset", "extra": {}});
    let timetable = json!({"__type": "airflow.timetables.simple.PartitionedAssetTimetable", "__var": {
        "asset_condition": asset, "default_partition_mapper": {"__type": "acme.Mapper", "__var": {}},
    }});
    ground
        .dag("listens", &[("hang", &[], json!({}))], json!({"timetable": timetable}))
        .await;
    let at = ground.start(1);
    let change = Change {
        name: "n".to_owned(),
        uri: "u".to_owned(),
        asset_extra: json!({}),
        extra: json!({}),
        aliases: BTreeSet::new(),
        partition_key: Some("k".to_owned()),
        partition_date: None,
        consumer_teams: None,
    };
    let mut tx = ground.store.begin().await.unwrap();
    let (scope, team) = (ground.scope(), TeamName::default_team());
    assets::register(&mut tx, scope, &ground.org, &team, None, &[change], Timestamp::now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let of_no_use = |_: &Value| json!({"keys": [], "partitions": []});
    let of_use = |question: &Value| {
        let each = |what: &str, said: Value| vec![said; question[what].as_array().unwrap().len()];
        json!({
            "keys": each("keys", json!({"keys": ["p"], "most": null, "carried": null})),
            "partitions": each("partitions", json!({"ready": true, "date": null, "undated": true})),
        })
    };
    let listening = async {
        while !answer(ground, of_no_use).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while runs_of(ground, "listens").await.is_empty() {
            answer(ground, of_use).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let listened = tokio::time::timeout(Duration::from_secs(20), listening).await;
    assert!(listened.is_ok(), "what arrived waits for ever");
    assert_eq!(runs_of(ground, "listens").await, [Some("p".to_owned())]);
    at.kill().await;
});
