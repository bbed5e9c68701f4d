//! Between teams: without consent another team's names are answered as made-up ones.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on should stop"
)]

mod stage;

use isobar_model::MapIndex;
use isobar_store::events::{self, EventKind};
use isobar_store::loading;
use isobar_wire::execution::{Answer, Operation, Refusal, TaskFilter, XComKey};
use serde_json::{Value, json};
use stage::*;

/// The answer with the name that was asked for taken out.
fn without_name(answer: Result<Answer, Refusal>, name: &str) -> String {
    let text = match answer {
        Ok(answer) => format!("{} {} {:?}", answer.status, answer.body, answer.count),
        Err(refusal) => format!("{} {}", refusal.status, refusal.detail),
    };
    text.replace(name, "NAME")
}

fn operations(dag_id: &str, run_id: &str) -> Vec<Operation> {
    let dag_id = dag_id.to_owned();
    let run_id = run_id.to_owned();
    let xcom = XComKey {
        dag_id: dag_id.clone(),
        run_id: run_id.clone(),
        task_id: "a".to_owned(),
        key: "return_value".to_owned(),
    };
    let filter = TaskFilter {
        dag_id: dag_id.clone(),
        ..TaskFilter::default()
    };
    let group = TaskFilter {
        task_group_id: Some("g".to_owned()),
        ..filter.clone()
    };
    let index: Option<MapIndex> = None;
    vec![
        Operation::GetDag { dag_id: dag_id.clone() },
        Operation::GetDagRun {
            dag_id: dag_id.clone(),
            run_id: run_id.clone(),
        },
        Operation::DagRunState {
            dag_id: dag_id.clone(),
            run_id: run_id.clone(),
        },
        Operation::CountDagRuns {
            dag_id: dag_id.clone(),
            logical_dates: None,
            run_ids: None,
            states: None,
        },
        Operation::PreviousDagRun {
            dag_id: dag_id.clone(),
            logical_date: now(),
            state: None,
        },
        Operation::CountTasks(filter.clone()),
        Operation::TaskStates(filter),
        Operation::CountTasks(group.clone()),
        Operation::TaskStates(group),
        Operation::TaskBreadcrumbs {
            dag_id: dag_id.clone(),
            run_id: run_id.clone(),
        },
        Operation::PreviousTask {
            dag_id: dag_id.clone(),
            task_id: "a".to_owned(),
            logical_date: None,
            run_id: None,
            map_index: -1,
            state: None,
        },
        Operation::TriggerDagRun {
            dag_id: dag_id.clone(),
            run_id: "new".to_owned(),
            body: json!({}),
        },
        Operation::TriggerDagRun {
            dag_id: dag_id.clone(),
            run_id: run_id.clone(),
            body: json!({}),
        },
        Operation::ClearDagRun { dag_id, run_id },
        get(xcom.clone()),
        Operation::CountXCom { xcom: xcom.clone() },
        Operation::XComItem {
            xcom: xcom.clone(),
            offset: 0,
        },
        Operation::XComSlice {
            xcom: xcom.clone(),
            start: None,
            stop: None,
            step: None,
            include_prior_dates: false,
        },
        set(xcom.clone(), json!("stolen")),
        Operation::DeleteXCom { xcom, map_index: index },
    ]
}

#[tokio::test]
async fn a_foreign_name_is_answered_as_a_made_up_one() {
    for stage in stages().await {
        let mine = stage.running(ALPHA, "mine").await;
        let theirs = stage.running(BETA, "secret").await;
        stage
            .call(&theirs, set(xcom(&theirs, "return_value"), json!("treasure")))
            .await
            .unwrap();
        let run = "at_2026-01-02T00:00:00Z";
        // as prefixed, and as plain names of another team's Dag
        for (real, made_up) in [
            ("beta:secret", "beta:nosuch"),
            ("beta:secret", "nosuch:x"),
            ("secret", "nosuch"),
        ] {
            for (one, other) in operations(real, run).into_iter().zip(operations(made_up, run)) {
                let shown = format!("{one:?}");
                let one = without_name(stage.call(&mine, one).await, real);
                let other = without_name(stage.call(&mine, other).await, made_up);
                assert_eq!(one, other, "{shown}");
            }
        }
        // and nothing happened to them
        let value = stage
            .call(&theirs, get(xcom(&theirs, "return_value")))
            .await
            .unwrap()
            .body["value"]
            .take();
        assert_eq!(value, "treasure");
        let count = Operation::CountDagRuns {
            dag_id: "secret".to_owned(),
            logical_dates: None,
            run_ids: None,
            states: None,
        };
        assert_eq!(stage.call(&theirs, count).await.unwrap().body, json!(1));
    }
}

#[tokio::test]
async fn secrets_of_another_team_are_missing() {
    for stage in stages().await {
        let mine = stage.running(ALPHA, "mine").await;
        let theirs = stage.running(BETA, "secret").await;
        let put = |value: &str| Operation::PutVariable {
            key: "k".to_owned(),
            value: Some(value.to_owned()),
            description: None,
        };
        let read = |key: &str| Operation::GetVariable { key: key.to_owned() };
        stage.call(&theirs, put("theirs")).await.unwrap();
        let foreign = without_name(stage.call(&mine, read("k")).await, "'k'");
        let made_up = without_name(stage.call(&mine, read("z")).await, "'z'");
        assert_eq!(foreign, made_up);
        stage.call(&mine, put("mine")).await.unwrap();
        assert_eq!(stage.call(&theirs, read("k")).await.unwrap().body["value"], "theirs");
        let delete = Operation::DeleteVariable { key: "k".to_owned() };
        assert_eq!(stage.call(&mine, delete).await.unwrap().status, 204);
        assert_eq!(stage.call(&theirs, read("k")).await.unwrap().body["value"], "theirs");
        let keys = Operation::VariableKeys {
            prefix: None,
            limit: 10,
            offset: 0,
        };
        assert_eq!(
            stage.call(&mine, keys).await.unwrap().body,
            json!({"keys": [], "total_entries": 0})
        );
    }
}

#[tokio::test]
async fn consent_of_a_dag_or_its_team_opens_what_it_names() {
    for stage in stages().await {
        let mine = stage.running(ALPHA, "mine").await;
        let theirs = stage.running(BETA, "open_door").await; // the team's configuration consents to `open_*`
        stage.call(&theirs, success()).await.unwrap();
        let run = "at_2026-01-02T00:00:00Z".to_owned();
        let state = Operation::DagRunState {
            dag_id: "beta:open_door".to_owned(),
            run_id: run.clone(),
        };
        assert_eq!(stage.call(&mine, state).await.unwrap().body, json!({"state": "queued"}));
        let filter = TaskFilter {
            dag_id: "beta:open_door".to_owned(),
            ..TaskFilter::default()
        };
        let states = stage.call(&mine, Operation::TaskStates(filter)).await.unwrap().body;
        assert_eq!(states["task_states"][&run]["a"], "success");
        // not named: clear
        let clear = Operation::ClearDagRun {
            dag_id: "beta:open_door".to_owned(),
            run_id: run,
        };
        assert_eq!(stage.call(&mine, clear).await.unwrap_err().status, 404);
        // consent in the Dag's own file
        let mut control = dag("by_file", &["a"]);
        control["dag"]["access_control"] = json!({"__type": "dict", "__var": {"team:alpha":
            {"__type": "dict", "__var": {"DAGs": {"__type": "set", "__var": ["can_read"]}}}}});
        stage.parse(BETA, "by_file.py", vec![control]).await;
        let get_dag = Operation::GetDag {
            dag_id: "beta:by_file".to_owned(),
        };
        let body = stage.call(&mine, get_dag).await.unwrap().body;
        assert_eq!(body["dag_id"], "beta:by_file");
    }
}

/// Answers one request as a scheduler would.
async fn schedule_one(stage: &Stage, answer: Value) -> Value {
    for _ in 0..200 {
        let mut tx = stage.store.begin().await.unwrap();
        for event in events::claim(&mut tx, &stage.org, 100).await.unwrap() {
            let Some(id) = event.body["id"].as_str().filter(|_| event.kind == EventKind::Request) else {
                continue;
            };
            let id = id.parse().unwrap();
            let request = loading::open_request(&mut tx, &stage.org, id).await.unwrap().unwrap();
            assert_eq!((request.team, request.target), (ALPHA, BETA));
            loading::answer_request(&mut tx, &stage.org, id, &answer).await.unwrap();
            tx.commit().await.unwrap();
            return request.body;
        }
        tx.commit().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody asked anything");
}

#[tokio::test]
async fn another_teams_dag_is_triggered_by_a_request_that_a_scheduler_carries_out() {
    for stage in stages().await {
        let mine = stage.running(ALPHA, "mine").await;
        stage.parse(BETA, "open_door.py", vec![dag("open_door", &["a"])]).await;
        let trigger = || Operation::TriggerDagRun {
            dag_id: "beta:open_door".to_owned(),
            run_id: "r".to_owned(),
            body: json!({"conf": {"k": 1}}),
        };
        let (asked, answered) = tokio::join!(
            schedule_one(&stage, json!({"status": 204})),
            stage.call(&mine, trigger())
        );
        assert_eq!(answered.unwrap().status, 204);
        assert_eq!(
            (&asked["dag_id"], &asked["conf"]),
            (&json!("open_door"), &json!({"k": 1}))
        );
        let taken = json!({"status": 409, "detail": {"reason": "already_exists", "message": "x"}});
        let (_, answered) = tokio::join!(schedule_one(&stage, taken), stage.call(&mine, trigger()));
        let refused = answered.unwrap_err();
        assert_eq!(refused.status, 409);
        assert_eq!(
            refused.detail["message"],
            "A run already exists for Dag 'beta:open_door' with run_id 'r'"
        );
        // nobody schedules: it says so, and the request is gone
        let refused = stage.call(&mine, trigger()).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (503, &json!("no_scheduler"))
        );
    }
}

#[tokio::test]
async fn another_team_hears_no_words_of_a_mapper_that_refuses_a_key() {
    for stage in stages().await {
        let (theirs, own) = (stage.running(ALPHA, "mine").await, stage.running(BETA, "of_beta").await);
        let mut target = dag("open_door", &["a"]);
        target["dag"]["timetable"] = json!({"__type": "airflow.timetables.simple.PartitionedAssetTimetable", "__var": {
            "asset_condition": asset("n", "u"),
            "default_partition_mapper": {"__type": "airflow.partition_mappers.temporal.StartOfDayMapper",
                "__var": {"timezone": "UTC", "input_format": "%Y-%m-%dT%H", "output_format": "acquisition %Y-%m-%d"}},
        }});
        stage.parse(BETA, "open_door.py", vec![target]).await;
        let trigger = |dag_id: &str| Operation::TriggerDagRun {
            dag_id: dag_id.to_owned(),
            run_id: "r".to_owned(),
            body: json!({"partition_key": "merger"}),
        };
        let to_own = stage.call(&own, trigger("open_door")).await.unwrap_err();
        let message = to_own.detail["message"].as_str().unwrap();
        assert!(message.contains("acquisition"), "{message}");
        let to_theirs = stage.call(&theirs, trigger("beta:open_door")).await.unwrap_err();
        assert_eq!(
            (to_theirs.status, to_theirs.detail),
            (
                400,
                json!({"reason": "invalid_partition_key", "message": "The Dag has no such partition"})
            )
        );
    }
}

#[tokio::test]
async fn a_run_is_triggered_once_and_its_conf_is_checked() {
    for stage in stages().await {
        let mine = stage.running(ALPHA, "mine").await;
        let mut target = dag("target", &["a", "b"]);
        target["dag"]["params"] = json!([["n", {"__class": "airflow.sdk.definitions.param.Param", "default": 1,
            "description": null, "schema": {"__type": "dict", "__var": {"type": "integer"}}, "source": null}]]);
        stage.parse(ALPHA, "target.py", vec![target]).await;
        let trigger = |body: Value| Operation::TriggerDagRun {
            dag_id: "target".to_owned(),
            run_id: "r1".to_owned(),
            body,
        };
        let refused = stage
            .call(&mine, trigger(json!({"conf": {"n": "x"}})))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (400, &json!("value_error"))
        );
        assert_eq!(
            stage.call(&mine, trigger(json!({"nope": 1}))).await.unwrap_err().status,
            422
        );
        let good = json!({"conf": {"n": 2}, "logical_date": "2026-02-03T00:00:00Z", "note": "hello"});
        assert_eq!(stage.call(&mine, trigger(good.clone())).await.unwrap().status, 204);
        let refused = stage.call(&mine, trigger(good)).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (409, &json!("already_exists"))
        );
        let read = Operation::GetDagRun {
            dag_id: "target".to_owned(),
            run_id: "r1".to_owned(),
        };
        let run = stage.call(&mine, read).await.unwrap().body;
        assert_eq!(run["run_type"], "operator_triggered");
        assert_eq!(run["conf"], json!({"n": 2}));
        assert_eq!(run["triggering_user_name"], "ada");
        let count = TaskFilter {
            dag_id: "target".to_owned(),
            ..TaskFilter::default()
        };
        assert_eq!(
            stage.call(&mine, Operation::CountTasks(count)).await.unwrap().body,
            json!(2)
        );
        let clear = Operation::ClearDagRun {
            dag_id: "target".to_owned(),
            run_id: "r1".to_owned(),
        };
        assert_eq!(stage.call(&mine, clear).await.unwrap().status, 204);
    }
}
