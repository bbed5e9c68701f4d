//! Dags serialized by Airflow 3.3.2 must all be read, and what Isobar computes from them must be what Airflow computes.
//!
//! The data is recorded by `data/serialize_dags.py`; beside each Dag stand the facts that Airflow's own scheduler sees.

#![expect(clippy::unwrap_used, reason = "a test stops where its data are wrong")]

use std::collections::BTreeMap;

use isobar_model::dag::{AssetExpr, SerializedDag, TaskIdx, TaskWeightRule};
use serde_json::{Map, Value, json};

fn recorded() -> Vec<(Value, Value)> {
    [
        include_str!("data/recorded.jsonl"),
        include_str!("data/recorded_client_defaults.jsonl"),
    ]
    .iter()
    .flat_map(|file| file.lines())
    .map(|line| {
        let mut record: Map<String, Value> = serde_json::from_str(line).unwrap();
        (record["data"].take(), record["facts"].take())
    })
    .collect()
}

fn ids(dag: &SerializedDag, tasks: &[TaskIdx]) -> Vec<String> {
    let mut ids: Vec<_> = tasks.iter().map(|t| dag.task(*t).task_id.to_string()).collect();
    ids.sort();
    ids
}

fn task_facts(dag: &SerializedDag, idx: TaskIdx) -> Value {
    let task = dag.task(idx);
    let groups: Vec<_> = dag
        .groups()
        .mapped_around(idx)
        .map(|(group, _)| dag.groups().get(group).group_id.clone())
        .collect();
    json!({
        "upstream": ids(dag, dag.graph().upstream(idx)),
        "downstream": ids(dag, dag.graph().downstream(idx)),
        "weight": dag.priority(idx),
        "trigger_rule": task.trigger_rule.as_str(),
        "retries": task.retries,
        "retry_delay": task.retry_delay.as_secs_f64(),
        "retry_exponential_backoff": task.retry_exponential_backoff,
        "pool": task.pool,
        "pool_slots": task.pool_slots,
        "queue": task.queue,
        "executor": task.executor,
        "owner": task.owner,
        "is_setup": task.is_setup,
        "is_teardown": task.is_teardown,
        "depends_on_past": task.depends_on_past,
        "wait_for_downstream": task.wait_for_downstream,
        "max_active_tis_per_dag": task.max_active_tis_per_dag,
        "start_date": task.start_date.map(|at| isobar_model::to_micros(at) as f64 / 1e6),
        "needs_expansion": task.needs_expansion,
        "mapped_groups": groups,
        "display_name": task.display_name(),
        "execution_timeout": task.execution_timeout.map(|t| t.as_secs_f64()),
        "operator_name": task.operator_name,
        "is_mapped": task.is_mapped(),
    })
}

fn facts(dag: &SerializedDag) -> Value {
    let params: BTreeMap<_, _> = dag.params.iter().map(|p| (p.name.clone(), p.default.clone())).collect();
    let tasks: BTreeMap<_, _> = dag
        .tasks()
        .map(|idx| (dag.task(idx).task_id.to_string(), task_facts(dag, idx)))
        .collect();
    json!({
        "roots": ids(dag, &dag.roots()),
        "timetable_type": dag.timetable.type_name(),
        "timetable_periodic": dag.timetable.is_periodic(),
        "can_be_scheduled": dag.timetable.can_be_scheduled(),
        "max_active_runs": dag.max_active_runs,
        "max_active_tasks": dag.max_active_tasks,
        "catchup": dag.catchup,
        "display_name": dag.display_name(),
        "fail_fast": dag.fail_fast,
        "timezone": dag.timezone.name(),
        "tags": dag.tags,
        "params": params,
        "asset_condition": dag.timetable.asset_condition().map(AssetExpr::as_expression),
        "tasks": tasks,
    })
}

/// Numbers alike, whether Python wrote `0` or `0.0`.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(n) => json!(n.as_f64()),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), normal(v))).collect(),
        other => other.clone(),
    }
}

/// Airflow does not clip the sum of weights to 32 bits and a database then refuses it; we clip.
fn clip_weights(facts: &mut Value) {
    for task in facts["tasks"].as_object_mut().unwrap().values_mut() {
        if let Some(sum) = task["weight"].as_i64() {
            task["weight"] = json!(sum.clamp(i32::MIN.into(), i32::MAX.into()));
        }
    }
}

#[test]
fn every_recorded_dag_is_read_and_means_what_airflow_says() {
    let records = recorded();
    assert!(records.len() > 130, "only {} Dags are recorded", records.len());
    for (data, mut expected) in records {
        let dag_id = data["dag"]["dag_id"].as_str().unwrap().to_owned();
        let dag = SerializedDag::read(data).unwrap_or_else(|error| panic!("{dag_id}: {error}"));
        clip_weights(&mut expected);
        let found = facts(&dag);
        for (key, value) in found.as_object().unwrap() {
            if key == "tasks" {
                for (task_id, task) in value.as_object().unwrap() {
                    for (name, fact) in task.as_object().unwrap() {
                        assert_eq!(
                            normal(fact),
                            normal(&expected[key][task_id][name]),
                            "{dag_id}.{task_id}: {name}"
                        );
                    }
                }
                continue;
            }
            assert_eq!(normal(value), normal(&expected[key]), "{dag_id}: {key}");
        }
    }
}

fn recorded_dag(dag_id: &str) -> std::sync::Arc<SerializedDag> {
    let (data, _) = recorded()
        .into_iter()
        .find(|(data, _)| data["dag"]["dag_id"] == dag_id)
        .unwrap();
    SerializedDag::read(data).unwrap()
}

#[test]
fn tasks_come_after_all_that_they_depend_on() {
    for (data, _) in recorded() {
        let dag = SerializedDag::read(data).unwrap();
        for task in dag.tasks() {
            assert!(dag.graph().upstream(task).iter().all(|up| *up < task));
            assert!(dag.graph().downstream(task).iter().all(|down| *down > task));
        }
    }
}

#[test]
fn a_task_finds_its_json() {
    let dag = recorded_dag("corner_attributes");
    for task in dag.tasks() {
        assert_eq!(dag.task_json(task)["task_id"], dag.task(task).task_id.as_str());
    }
    let mapped = recorded_dag("corner_mapped");
    let classic = mapped.find_task("classic").unwrap();
    assert_eq!(mapped.task_attribute(classic, "queue"), Some(&json!("mq")));
    assert!(mapped.task(classic).callbacks.failure);
    assert_eq!(mapped.task(classic).outlets.len(), 1);
    assert_eq!(
        mapped.task(classic).weight_rule,
        TaskWeightRule::BuiltIn(isobar_model::WeightRule::Absolute)
    );
}

#[test]
fn lengths_of_mapped_tasks_follow_their_references() {
    let dag = recorded_dag("corner_mapped");
    let length_of = |task_id: &str| {
        let numbers = dag.find_task("numbers").unwrap();
        let letters = dag.find_task("letters").unwrap();
        let known = move |task, key: &str| match (task, key) {
            (task, "return_value") if task == numbers => Some(2),
            (task, "return_value") if task == letters => Some(1),
            _ => None,
        };
        let task = dag.task_by_id(task_id).unwrap();
        let input = &task.mapping.as_ref().unwrap().input;
        (input.literal_length(), input.length(&known))
    };
    assert_eq!(length_of("both"), (None, Some(4)));
    assert_eq!(length_of("one"), (None, Some(1)));
    assert_eq!(length_of("filled"), (None, Some(2)));
    assert_eq!(length_of("joined"), (None, Some(3)));
    assert_eq!(length_of("kwargs"), (Some(2), Some(2)));
    assert_eq!(length_of("kwargs_xcom"), (None, Some(2)));
    assert_eq!(length_of("dicts"), (Some(2), Some(2)));
    assert_eq!(length_of("classic"), (Some(3), Some(3)));
    assert_eq!(length_of("of_mapped"), (None, None));
    let inside = dag.find_task("og.in_group").unwrap();
    let (group, input) = dag.groups().mapped_around(inside).next().unwrap();
    assert_eq!(dag.groups().get(group).group_id.as_deref(), Some("og"));
    assert_eq!(input.references().len(), 1);
    assert_eq!(dag.groups().tasks_inside(group), [inside]);
}

#[test]
fn group_ids_have_the_prefixes_that_groups_ask_for() {
    let dag = recorded_dag("corner_groups");
    let ids: Vec<_> = dag
        .groups()
        .iter()
        .map(|(_, g)| g.group_id.clone().unwrap_or_default())
        .collect();
    assert_eq!(ids, ["", "outer", "outer.inner", "deep"]);
    let second = dag.find_task("second").unwrap();
    let around: Vec<_> = dag
        .groups()
        .chain(dag.groups().of_task(second))
        .map(|g| ids[g.index()].as_str())
        .collect();
    assert_eq!(around, ["outer.inner", "outer", ""]);
    assert_eq!(
        dag.groups()
            .find("deep")
            .map(|g| dag.groups().get(g).label().to_owned()),
        Some("deep".to_owned())
    );
}

#[test]
fn teardowns_decide_a_run_only_when_they_say_so() {
    let dag = recorded_dag("corner_setup_teardown");
    assert_eq!(ids(&dag, &dag.deciding_tasks()), ["t2"]);
    let ignored = recorded_dag("example_setup_teardown");
    assert!(ignored.deciding_tasks().iter().all(|t| !ignored.task(*t).is_teardown));
    let only = recorded_dag("corner_only_teardowns");
    assert_eq!(ids(&only, &only.deciding_tasks()), ["b"]);
}

#[test]
fn deadlines_params_and_permissions_are_typed() {
    let dag = recorded_dag("corner_attributes");
    assert_eq!(dag.deadlines.len(), 1);
    assert!(dag.deadlines[0].callback.is_async);
    assert_eq!(dag.edge_label("heavy", "all_set"), Some("then"));
    assert_eq!(
        dag.access_control,
        Some(json!({"Op": {"DAGs": ["can_edit", "can_read"]}}))
    );
    let typed = dag.params.iter().find(|p| p.name == "typed").unwrap();
    assert_eq!(
        Value::Object(typed.schema.clone()),
        json!({"type": ["null", "string"], "maxLength": 5})
    );
    assert_eq!(dag.default_args["retry_delay"], json!(60.0));
}
