//! Whether the Task SDK's own models accept our answers. Runs where `ISOBAR_TEST_AIRFLOW` names a Python with Airflow 3.3.2.

mod stage;

use std::io::Write as _;
use std::process::{Command, Stdio};

use isobar_wire::execution::{Caller, Operation, TaskFilter};
use serde_json::{Value, json};
use stage::*;

/// Reads lines `{"model", "body"}` and reads each body with that model of the SDK.
const CHECK: &str = r#"
import json, sys
from pydantic import TypeAdapter
import airflow.sdk.api.datamodels._generated as models
for line in sys.stdin:
    item = json.loads(line)
    getattr(models, item["model"]).model_validate_json(json.dumps(item["body"]))
"#;

#[tokio::test]
async fn the_task_sdk_reads_what_we_answer() {
    let Ok(python) = std::env::var("ISOBAR_TEST_AIRFLOW") else {
        return;
    };
    let stage = stages().await.remove(0);
    let mut producer = with_outlet(dag("one", &["a", "b"]), asset("thing", "s3://thing"));
    producer["dag"]["tags"] = json!(["x"]);
    stage.parse(ALPHA, "one.py", vec![producer]).await;
    let run = stage.run(ALPHA, "one", "at_2026-01-02T00:00:00Z").await;
    let caller = Caller::Task(stage.queue(ALPHA, &run, "a").await);
    let mut answers: Vec<(&str, Value)> = Vec::new();
    let context = stage.call(&caller, Operation::Run(start())).await.unwrap().body;
    answers.push(("TIRunContext", context));
    stage.call(&caller, set(xcom(&caller, "k"), json!([1]))).await.unwrap();
    let put = Operation::PutVariable {
        key: "v".to_owned(),
        value: Some("1".to_owned()),
        description: None,
    };
    stage.call(&caller, put).await.unwrap();
    let (dag_id, run_id) = ("one".to_owned(), run.run_id.to_string());
    let filter = TaskFilter {
        dag_id: dag_id.clone(),
        ..TaskFilter::default()
    };
    let ask = json!({"options": ["yes"], "subject": "?"});
    let Caller::Task(task) = &caller else { unreachable!() };
    let asked = [
        ("XComResponse", get(xcom(&caller, "k"))),
        ("VariableResponse", Operation::GetVariable { key: "v".to_owned() }),
        (
            "VariableKeysResponse",
            Operation::VariableKeys {
                prefix: None,
                limit: 5,
                offset: 0,
            },
        ),
        (
            "DagRun",
            Operation::GetDagRun {
                dag_id: dag_id.clone(),
                run_id: run_id.clone(),
            },
        ),
        (
            "DagRunStateResponse",
            Operation::DagRunState {
                dag_id: dag_id.clone(),
                run_id: run_id.clone(),
            },
        ),
        ("DagResponse", Operation::GetDag { dag_id: dag_id.clone() }),
        ("TaskStatesResponse", Operation::TaskStates(filter)),
        (
            "TaskBreadcrumbsResponse",
            Operation::TaskBreadcrumbs {
                dag_id: dag_id.clone(),
                run_id,
            },
        ),
        ("PrevSuccessfulDagRunResponse", Operation::PreviousSuccessfulDagRun),
        ("InactiveAssetsResponse", Operation::ValidateInletsAndOutlets),
        (
            "AssetResponse",
            Operation::AssetByName {
                name: "thing".to_owned(),
            },
        ),
        (
            "PreviousTIResponse",
            Operation::PreviousTask {
                dag_id,
                task_id: "a".to_owned(),
                logical_date: None,
                run_id: None,
                map_index: -1,
                state: None,
            },
        ),
        ("HITLDetailRequest", Operation::CreateHitlDetail(ask)),
        (
            "HITLDetailResponse",
            Operation::GetHitlDetail {
                ti_id: task.ti_id.to_string(),
            },
        ),
    ];
    for (model, operation) in asked {
        let body = stage
            .call(&caller, operation)
            .await
            .unwrap_or_else(|error| panic!("{model}: {error}"))
            .body;
        answers.push((model, body));
    }
    stage
        .call(
            &caller,
            Operation::State(isobar_wire::execution::TaskEnd::Success {
                end_date: now(),
                task_outlets: vec![json!({"name": "thing", "uri": "s3://thing", "type": "Asset"})],
                outlet_events: Vec::new(),
                rendered_map_index: None,
            }),
        )
        .await
        .unwrap();
    let events = Operation::AssetEventsByAsset {
        name: Some("thing".to_owned()),
        uri: None,
        after: None,
        before: None,
        ascending: true,
        limit: None,
        partition_key: None,
    };
    answers.push(("AssetEventsResponse", stage.call(&caller, events).await.unwrap().body));

    let mut child = Command::new(python)
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = child.stdin.take().unwrap();
    for (model, body) in answers {
        writeln!(lines, "{}", json!({"model": model, "body": body})).unwrap();
    }
    drop(lines);
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
