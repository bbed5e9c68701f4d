//! Tasks: start, life, end, and what an old dispatch may not do.

mod stage;

use isobar_model::{AirflowTime, Dispatch, TaskState};
use isobar_store::rendered;
use isobar_wire::execution::{Caller, Operation, TaskEnd, TaskFilter};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stage::*;

#[tokio::test]
async fn a_start_answers_with_the_whole_run_context() {
    for stage in stages().await {
        stage.parse(ALPHA, "one.py", vec![dag("one", &["a"])]).await;
        let run = stage.run(ALPHA, "one", "at_2026-01-02T00:00:00Z").await;
        let caller = Caller::Task(stage.queue(ALPHA, &run, "a").await);
        let context = stage.call(&caller, Operation::Run(start())).await.unwrap().body;
        let dag_run = &context["dag_run"];
        assert_eq!(dag_run["logical_date"], "2026-01-02T00:00:00Z");
        assert_eq!(dag_run["team_name"], "alpha");
        assert_eq!(dag_run["consumed_asset_events"], json!([]));
        assert_eq!(dag_run["triggering_user_name"], "ada");
        assert_eq!(context["should_retry"], true);
        assert_eq!(context["max_tries"], 1);
        assert_eq!(context.get("next_method"), None);
        // the SDK's model refuses keys that it does not know
        let mut keys: Vec<&String> = dag_run.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "clear_number",
                "conf",
                "consumed_asset_events",
                "dag_id",
                "data_interval_end",
                "data_interval_start",
                "end_date",
                "logical_date",
                "note",
                "partition_date",
                "partition_key",
                "run_after",
                "run_id",
                "run_type",
                "start_date",
                "state",
                "team_name",
                "triggering_user_name",
            ]
        );
        // the same client may ask twice, another one may not
        assert!(stage.call(&caller, Operation::Run(start())).await.is_ok());
        let other = Operation::Run(isobar_wire::execution::TaskStart { pid: 43, ..start() });
        let refused = stage.call(&caller, other).await.unwrap_err();
        assert_eq!(refused.status, 409);
        assert_eq!(refused.detail["previous_state"], "running");
    }
}

#[tokio::test]
async fn a_task_lives_by_heartbeats_from_its_own_process() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let beat = |pid| Operation::Heartbeat {
            hostname: "host".to_owned(),
            pid,
        };
        assert_eq!(stage.call(&caller, beat(42)).await.unwrap().status, 204);
        let refused = stage.call(&caller, beat(7)).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (409, &json!("running_elsewhere"))
        );
        stage.call(&caller, success()).await.unwrap();
        let refused = stage.call(&caller, beat(42)).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["reason"]),
            (409, &json!("not_running"))
        );
        assert_eq!(refused.detail["current_state"], "success");
    }
}

#[tokio::test]
async fn an_end_is_written_once_and_says_so_when_repeated() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        assert_eq!(stage.call(&caller, success()).await.unwrap().status, 204);
        assert_eq!(stage.row(&caller).await.state, Some(TaskState::Success));
        assert_eq!(stage.call(&caller, success()).await.unwrap().status, 200);
        let failed = Operation::State(TaskEnd::Failed {
            end_date: now(),
            rendered_map_index: None,
        });
        let refused = stage.call(&caller, failed).await.unwrap_err();
        assert_eq!(
            (refused.status, &refused.detail["previous_state"]),
            (409, &json!("success"))
        );
    }
}

#[tokio::test]
async fn a_retry_archives_the_try_and_the_old_token_only_reads_for_a_while() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let link = set(xcom(&caller, "_link_Docs"), json!("http://x"));
        let retry = Operation::State(TaskEnd::UpForRetry {
            end_date: now(),
            retry_delay_seconds: Some(3.0),
            retry_reason: Some("policy".to_owned()),
            rendered_map_index: None,
        });
        assert_eq!(stage.call(&caller, retry).await.unwrap().status, 204);
        let row = stage.row(&caller).await;
        assert_eq!(row.state, Some(TaskState::UpForRetry));
        assert_eq!(row.retry_delay_override, Some(3.0));
        let Caller::Task(task) = &caller else { unreachable!() };
        assert_ne!(row.id, task.ti_id, "a new try has a new id");
        // finishing: own links and reads, nothing else
        stage.call(&caller, link).await.unwrap();
        let read = get(xcom(&caller, "_link_Docs"));
        assert_eq!(stage.call(&caller, read).await.unwrap().body["value"], "http://x");
        let write = Operation::PutVariable {
            key: "k".to_owned(),
            value: Some("v".to_owned()),
            description: None,
        };
        assert_eq!(stage.call(&caller, write).await.unwrap_err().status, 403);
        let result = set(xcom(&caller, "return_value"), json!(1));
        assert_eq!(stage.call(&caller, result).await.unwrap_err().status, 403);
        let beat = Operation::Heartbeat {
            hostname: "host".to_owned(),
            pid: 42,
        };
        assert_eq!(stage.call(&caller, beat).await.unwrap_err().status, 410);
    }
}

#[tokio::test]
async fn a_task_of_an_older_dispatch_changes_nothing() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        stage.call(&caller, set(xcom(&caller, "k"), json!(1))).await.unwrap();
        let Caller::Task(task) = &caller else { unreachable!() };
        let mut older = task.clone();
        older.dispatch = Dispatch(task.dispatch.0 - 1);
        let older = Caller::Task(older);
        let fields = json!({"command": "x"});
        let all = vec![
            success(),
            Operation::Heartbeat {
                hostname: "host".to_owned(),
                pid: 42,
            },
            set(xcom(&caller, "k"), json!(2)),
            Operation::DeleteXCom {
                xcom: xcom(&caller, "k"),
                map_index: None,
            },
            Operation::PutVariable {
                key: "v".to_owned(),
                value: None,
                description: None,
            },
            Operation::DeleteVariable { key: "v".to_owned() },
            Operation::SetRenderedFields(fields),
            Operation::SetRenderedMapIndex("x".to_owned()),
            Operation::SkipDownstream {
                tasks: vec![json!("b")],
            },
            Operation::SetTaskStore {
                key: "s".to_owned(),
                value: json!(1),
                expires_at: None,
            },
            Operation::ClearTaskStore,
            Operation::TriggerDagRun {
                dag_id: "one".to_owned(),
                run_id: "new".to_owned(),
                body: json!({}),
            },
            Operation::ClearDagRun {
                dag_id: "one".to_owned(),
                run_id: "at_2026-01-02T00:00:00Z".to_owned(),
            },
            Operation::CreateHitlDetail(json!({"options": ["yes"], "subject": "?"})),
            // nor does it read
            get(xcom(&caller, "k")),
            Operation::GetVariable { key: "v".to_owned() },
            Operation::GetConnection {
                conn_id: "c".to_owned(),
            },
        ];
        let before = stage.row(&caller).await;
        for operation in all {
            let shown = format!("{operation:?}");
            let refused = stage.call(&older, operation).await;
            let refused = refused.err().unwrap_or_else(|| panic!("{shown} was carried out"));
            assert!(matches!(refused.status, 403 | 404 | 410), "{shown}: {refused}");
        }
        assert_eq!(stage.row(&caller).await, before);
        assert_eq!(
            stage.call(&caller, get(xcom(&caller, "k"))).await.unwrap().body["value"],
            1
        );
        let count = Operation::CountDagRuns {
            dag_id: "one".to_owned(),
            logical_dates: None,
            run_ids: None,
            states: None,
        };
        assert_eq!(stage.call(&caller, count).await.unwrap().body, json!(1));
    }
}

#[tokio::test]
async fn a_deferred_task_resumes_with_what_it_left() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let first = stage.row(&caller).await.start_date;
        let body = json!({"classpath": "x.Trigger", "trigger_kwargs": {"a": 1}, "trigger_timeout": "PT30S",
            "next_method": "execute_complete", "next_kwargs": {"x": [1]}, "queue": null});
        stage
            .call(&caller, Operation::State(TaskEnd::Deferred(body)))
            .await
            .unwrap();
        let row = stage.row(&caller).await;
        assert_eq!(row.state, Some(TaskState::Deferred));
        assert!(row.trigger_id.is_some() && row.trigger_timeout.is_some());
        let Caller::Task(task) = &caller else { unreachable!() };
        let run = isobar_model::RunKey {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
        };
        let again = Caller::Task(stage.queue(ALPHA, &run, "a").await);
        let context = stage.call(&again, Operation::Run(start())).await.unwrap().body;
        assert_eq!(context["next_method"], "execute_complete");
        assert_eq!(context["next_kwargs"], json!({"x": [1]}));
        assert_eq!(context["start_date"], json!(first.map(AirflowTime)));
    }
}

#[tokio::test]
async fn a_rescheduled_sensor_counts_its_pokes() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let reschedule = Operation::State(TaskEnd::UpForReschedule {
            reschedule_date: AirflowTime(Timestamp::now() + SignedDuration::from_secs(60)),
            end_date: now(),
        });
        stage.call(&caller, reschedule).await.unwrap();
        let Caller::Task(task) = &caller else { unreachable!() };
        let run = isobar_model::RunKey {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
        };
        let again = Caller::Task(stage.queue(ALPHA, &run, "a").await);
        let context = stage.call(&again, Operation::Run(start())).await.unwrap().body;
        assert_eq!(context["task_reschedule_count"], 1);
        let first = stage
            .call(&again, Operation::RescheduleStartDate { try_number: None })
            .await
            .unwrap();
        assert!(first.body.is_string());
    }
}

#[tokio::test]
async fn rendered_fields_and_skips_reach_their_rows() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        let fields = json!({"command": "echo", "env": null});
        let answer = stage
            .call(&caller, Operation::SetRenderedFields(fields.clone()))
            .await
            .unwrap();
        assert_eq!(answer.status, 201);
        let Caller::Task(task) = &caller else { unreachable!() };
        let run = isobar_model::RunKey {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
        };
        let key = isobar_model::TaskKey {
            task_id: task.task_id.clone(),
            map_index: -1,
        };
        let mut tx = stage.store.read().await.unwrap();
        assert_eq!(
            rendered::get(&mut tx, stage.scope(ALPHA), &run, &key).await.unwrap(),
            Some(fields)
        );
        drop(tx);
        let empty = stage
            .call(&caller, Operation::SetRenderedMapIndex(String::new()))
            .await
            .unwrap_err();
        assert_eq!(empty.status, 422);
        stage
            .call(&caller, Operation::SetRenderedMapIndex("x".to_owned()))
            .await
            .unwrap();
        stage
            .call(
                &caller,
                Operation::SkipDownstream {
                    tasks: vec![json!("b"), json!(["b", 0])],
                },
            )
            .await
            .unwrap();
        let filter = TaskFilter {
            dag_id: "one".to_owned(),
            ..TaskFilter::default()
        };
        let states = stage
            .call(&caller, Operation::TaskStates(filter.clone()))
            .await
            .unwrap()
            .body;
        let run_states = &states["task_states"]["at_2026-01-02T00:00:00Z"];
        assert_eq!(run_states, &json!({"a": "running", "b": "skipped"}));
        let skipped = TaskFilter {
            states: Some(vec!["skipped".to_owned(), "null".to_owned()]),
            ..filter
        };
        assert_eq!(
            stage.call(&caller, Operation::CountTasks(skipped)).await.unwrap().body,
            json!(1)
        );
        let crumbs = Operation::TaskBreadcrumbs {
            dag_id: "one".to_owned(),
            run_id: task.run_id.to_string(),
        };
        let crumbs = stage.call(&caller, crumbs).await.unwrap().body;
        assert_eq!(crumbs["breadcrumbs"][0]["task_id"], "b");
    }
}

#[tokio::test]
async fn keys_left_by_an_earlier_try_are_to_be_cleared() {
    for stage in stages().await {
        let caller = stage.running(ALPHA, "one").await;
        stage
            .call(&caller, set(xcom(&caller, "return_value"), json!(1)))
            .await
            .unwrap();
        let retry = Operation::State(TaskEnd::UpForRetry {
            end_date: now(),
            retry_delay_seconds: None,
            retry_reason: None,
            rendered_map_index: None,
        });
        stage.call(&caller, retry).await.unwrap();
        let Caller::Task(task) = &caller else { unreachable!() };
        let run = isobar_model::RunKey {
            dag_id: task.dag_id.clone(),
            run_id: task.run_id.clone(),
        };
        let again = stage.queue(ALPHA, &run, "a").await;
        assert_eq!(again.try_number, 2);
        let again = Caller::Task(again);
        let context = stage.call(&again, Operation::Run(start())).await.unwrap().body;
        assert_eq!(context["xcom_keys_to_clear"], json!(["return_value"]));
        assert_eq!(context["should_retry"], false, "the second of two tries is the last");
    }
}
