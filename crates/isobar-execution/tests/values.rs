//! XComs, connections, stores, questions to people, assets.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on should stop"
)]

mod stage;

use isobar_auth::MasterKey;
use isobar_model::TeamId;
use isobar_store::connections::{self, Connection};
use isobar_wire::execution::{AssetRef, Caller, Operation, TaskEnd};
use jiff::Timestamp;
use serde_json::{Value, json};
use stage::*;

#[tokio::test]
async fn xcoms_are_read_by_index_item_and_slice() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        for index in 0..5 {
            let write = Operation::SetXCom {
                xcom: xcom(&caller, "k"),
                value: json!({"n": index}),
                map_index: Some(index),
                dag_result: false,
                mapped_length: None,
            };
            assert_eq!(stage.call(&caller, write).await.unwrap().status, 201);
        }
        let count = stage
            .call(
                &caller,
                Operation::CountXCom {
                    xcom: xcom(&caller, "k"),
                },
            )
            .await
            .unwrap();
        assert_eq!(count.count, Some(5));
        let item = Operation::XComItem {
            xcom: xcom(&caller, "k"),
            offset: -1,
        };
        assert_eq!(stage.call(&caller, item).await.unwrap().body, json!({"n": 4}));
        let slice = Operation::XComSlice {
            xcom: xcom(&caller, "k"),
            start: Some(-2),
            stop: None,
            step: None,
            include_prior_dates: false,
        };
        assert_eq!(
            stage.call(&caller, slice).await.unwrap().body,
            json!([{"n": 3}, {"n": 4}])
        );
        let missing = stage.call(&caller, get(xcom(&caller, "k"))).await.unwrap_err();
        assert_eq!(
            missing.detail["message"],
            "XCom with key='k' map_index=-1 not found for task 'a' in DAG run 'at_2026-01-02T00:00:00Z' of 'one'"
        );
        let null = set(xcom(&caller, "none"), Value::Null);
        stage.call(&caller, null).await.unwrap();
        let read = stage.call(&caller, get(xcom(&caller, "none"))).await.unwrap().body;
        assert_eq!(read, json!({"key": "none", "value": null}));
    }
}

#[tokio::test]
async fn prior_dates_are_read_where_asked_for() {
    for stage in stages().await {
        let earlier = stage.running(ALPHA, "one").await;
        stage
            .call(&earlier, set(xcom(&earlier, "k"), json!("old")))
            .await
            .unwrap();
        let run = stage.run(ALPHA, "one", "at_2026-01-03T00:00:00Z").await;
        let later = stage.start(ALPHA, &run, "a").await;
        let read = |include_prior_dates| Operation::GetXCom {
            xcom: xcom(&later, "k"),
            map_index: None,
            include_prior_dates,
            offset: None,
        };
        assert_eq!(stage.call(&later, read(false)).await.unwrap_err().status, 404);
        assert_eq!(stage.call(&later, read(true)).await.unwrap().body["value"], "old");
    }
}

#[tokio::test]
async fn a_result_too_long_to_map_over_is_refused() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let push = |length| Operation::SetXCom {
            xcom: xcom(&caller, "return_value"),
            value: json!([]),
            map_index: None,
            dag_result: false,
            mapped_length: Some(length),
        };
        assert_eq!(stage.call(&caller, push(1024)).await.unwrap().status, 201);
        let refused = stage.call(&caller, push(1025)).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (400, &json!("unmappable_return_value_length"))
        );
    }
}

#[tokio::test]
async fn a_connection_comes_back_whole_and_lies_sealed() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let master = MasterKey::from_text(&"k".repeat(32)).unwrap();
        let connection = Connection {
            conn_id: "db".to_owned(),
            conn_type: "postgres".to_owned(),
            description: None,
            host: Some("h".to_owned()),
            schema: Some("s".to_owned()),
            login: Some("l".to_owned()),
            password: Some("hunter22".to_owned()),
            port: Some(5432),
            extra: Some("{\"a\": 1}".to_owned()),
        };
        let mut tx = stage.store.begin().await.unwrap();
        connections::put(&mut tx, stage.scope(ALPHA), &master, &[connection], Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let read = || Operation::GetConnection {
            conn_id: "db".to_owned(),
        };
        let body = stage.call(&caller, read()).await.unwrap().body;
        assert_eq!(
            body,
            json!({"conn_id": "db", "conn_type": "postgres", "host": "h", "schema": "s", "login": "l",
            "password": "hunter22", "port": 5432, "extra": "{\"a\": 1}"})
        );
        assert_eq!(stage.call(&parser(BETA, "beta"), read()).await.unwrap_err().status, 404);
        // another master key opens nothing, and says so without the secret
        let other = MasterKey::from_text(&"x".repeat(32)).unwrap();
        let mut tx = stage.store.read().await.unwrap();
        let error = connections::get(&mut tx, stage.scope(ALPHA), &other, "db")
            .await
            .unwrap_err();
        assert!(!error.to_string().contains("hunter22"));
    }
}

#[tokio::test]
async fn stores_keep_values_by_task_and_by_asset() {
    for stage in stages().await {
        let mut with = dag("one", &["a", "b"]);
        with = with_outlet(with, asset("thing", "s3://thing"));
        stage.parse(ALPHA, "one.py", vec![with]).await;
        let run = stage.run(ALPHA, "one", "r").await;
        let caller = stage.start(ALPHA, &run, "a").await;
        let key = || "k/1".to_owned();
        let put = Operation::SetTaskStore {
            key: key(),
            value: json!([1]),
            expires_at: None,
        };
        assert_eq!(stage.call(&caller, put).await.unwrap().status, 204);
        let read = || Operation::GetTaskStore { key: key() };
        assert_eq!(stage.call(&caller, read()).await.unwrap().body, json!({"value": [1]}));
        stage.call(&caller, Operation::ClearTaskStore).await.unwrap();
        assert_eq!(stage.call(&caller, read()).await.unwrap_err().status, 404);
        let by_name = || AssetRef::Name("thing".to_owned());
        let put = Operation::SetAssetStore {
            asset: by_name(),
            key: key(),
            value: json!("x"),
        };
        stage.call(&caller, put).await.unwrap();
        let by_uri = Operation::GetAssetStore {
            asset: AssetRef::Uri("s3://thing".to_owned()),
            key: key(),
        };
        assert_eq!(stage.call(&caller, by_uri).await.unwrap().body, json!({"value": "x"}));
        let null = Operation::SetAssetStore {
            asset: by_name(),
            key: key(),
            value: Value::Null,
        };
        assert_eq!(stage.call(&caller, null).await.unwrap_err().status, 422);
    }
}

#[tokio::test]
async fn a_question_is_put_and_answered_once() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let Caller::Task(task) = &caller else { unreachable!() };
        let ask = Operation::CreateHitlDetail(
            json!({"ti_id": task.ti_id.to_string(), "options": ["yes", "no"], "subject": "?"}),
        );
        let answer = stage.call(&caller, ask).await.unwrap();
        assert_eq!((answer.status, &answer.body["multiple"]), (201, &json!(false)));
        let ti_id = task.ti_id.to_string();
        let read = Operation::GetHitlDetail { ti_id: ti_id.clone() };
        let open = stage.call(&caller, read).await.unwrap().body;
        assert_eq!(
            open,
            json!({"response_received": false, "responded_by_user": null, "responded_at": null,
            "chosen_options": [], "params_input": {}})
        );
        let respond = || Operation::UpdateHitlDetail {
            ti_id: ti_id.clone(),
            body: json!({"chosen_options": ["yes"]}),
        };
        let done = stage.call(&caller, respond()).await.unwrap().body;
        assert_eq!(
            (&done["response_received"], &done["chosen_options"]),
            (&json!(true), &json!(["yes"]))
        );
        assert_eq!(stage.call(&caller, respond()).await.unwrap_err().status, 409);
    }
}

async fn unpause(stage: &Stage, team: TeamId, dag_id: &str) {
    let mut tx = stage.store.begin().await.unwrap();
    isobar_store::dag_changes::set_paused(&mut tx, stage.scope(team), &[dag_id.into()], false)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

fn ends_with(outlets: Value, events: Value) -> Operation {
    Operation::State(TaskEnd::Success {
        end_date: now(),
        task_outlets: outlets.as_array().unwrap().clone(),
        outlet_events: events.as_array().unwrap().clone(),
        rendered_map_index: None,
    })
}

#[tokio::test]
async fn success_registers_events_for_consumers_of_the_own_team_and_of_those_that_list_it() {
    for stage in stages().await {
        let thing = || asset("thing", "s3://thing");
        let mut listed = thing();
        listed["access_control"] = json!({"producer_teams": ["al*"], "allow_global": true});
        let mut older = thing();
        older["extra"] = json!({"allow_triggering_by_teams": ["alpha"]});
        let consumer = |id: &str, on: Value| scheduled_by(dag(id, &["a"]), on);
        stage.parse(ALPHA, "own.py", vec![consumer("own", thing())]).await;
        stage
            .parse(
                BETA,
                "theirs.py",
                vec![
                    consumer("listed", listed),
                    consumer("older", older),
                    consumer("unlisted", thing()),
                ],
            )
            .await;
        for (team, id) in [(ALPHA, "own"), (BETA, "listed"), (BETA, "older"), (BETA, "unlisted")] {
            unpause(&stage, team, id).await;
        }
        let producer = with_outlet(dag("producer", &["a"]), thing());
        stage.parse(ALPHA, "producer.py", vec![producer]).await;
        let run = stage.run(ALPHA, "producer", "r").await;
        let caller = stage.start(ALPHA, &run, "a").await;
        let key = json!({"name": "thing", "uri": "s3://thing"});
        let end = ends_with(
            json!([{"name": "thing", "uri": "s3://thing", "type": "Asset"}]),
            json!([{"dest_asset_key": key, "extra": {"rows": 3}}]),
        );
        stage.call(&caller, end).await.unwrap();
        let queued = |team: TeamId, id: &'static str| {
            let stage = &stage;
            async move {
                let mut tx = stage.store.read().await.unwrap();
                isobar_store::assets::queued_for(&mut tx, stage.scope(team), id)
                    .await
                    .unwrap()
            }
        };
        assert_eq!(queued(ALPHA, "own").await, 1);
        assert_eq!(queued(BETA, "listed").await, 1);
        assert_eq!(queued(BETA, "older").await, 1);
        assert_eq!(queued(BETA, "unlisted").await, 0);
        // the token is finishing: it still reads
        let read = Operation::AssetEventsByAsset {
            name: Some("thing".to_owned()),
            uri: None,
            after: None,
            before: None,
            ascending: true,
            limit: None,
            partition_key: None,
        };
        let events = stage.call(&caller, read).await.unwrap().body;
        assert_eq!(events["asset_events"][0]["extra"], json!({"rows": 3}));
        assert_eq!(events["asset_events"][0]["source_task_id"], "a");
        // the other team's asset of that URI is another asset
        let theirs = Operation::AssetEventsByAsset {
            name: Some("thing".to_owned()),
            uri: None,
            after: None,
            before: None,
            ascending: true,
            limit: None,
            partition_key: None,
        };
        let events = stage.call(&parser(BETA, "beta"), theirs).await.unwrap().body;
        assert_eq!(events["asset_events"], json!([]));
    }
}

#[tokio::test]
async fn an_alias_makes_the_asset_it_stands_for() {
    for stage in stages().await {
        let alias = json!({"__type": "asset_alias", "name": "any", "group": ""});
        stage
            .parse(ALPHA, "c.py", vec![scheduled_by(dag("c", &["a"]), alias.clone())])
            .await;
        unpause(&stage, ALPHA, "c").await;
        stage
            .parse(ALPHA, "p.py", vec![with_outlet(dag("p", &["a"]), alias)])
            .await;
        let run = stage.run(ALPHA, "p", "r").await;
        let caller = stage.start(ALPHA, &run, "a").await;
        let end = ends_with(
            json!([{"name": "any", "uri": null, "type": "AssetAlias"}]),
            json!([{"source_alias_name": "any", "dest_asset_key": {"name": "new", "uri": "s3://new"},
                "dest_asset_extra": {"k": 1}, "extra": {}}]),
        );
        stage.call(&caller, end).await.unwrap();
        let by_alias = Operation::AssetsByAlias {
            alias: "any".to_owned(),
        };
        let assets = stage.call(&caller, by_alias).await.unwrap().body;
        assert_eq!(
            assets,
            json!([{"name": "new", "uri": "s3://new", "group": "asset", "extra": {"k": 1}}])
        );
        let mut tx = stage.store.read().await.unwrap();
        assert_eq!(
            isobar_store::assets::queued_for(&mut tx, stage.scope(ALPHA), "c")
                .await
                .unwrap(),
            1
        );
    }
}

#[tokio::test]
async fn an_impossible_partition_key_stops_the_whole_success() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let end = ends_with(
            json!([]),
            json!([{"dest_asset_key": {"name": "n", "uri": "u"}, "extra": {}, "partition_key": " "}]),
        );
        let refused = stage.call(&caller, end).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (422, &json!("invalid_partition_key"))
        );
        assert_eq!(stage.row(&caller).await.state, Some(isobar_model::TaskState::Running));
    }
}
