//! A serialized Dag comes from a process that runs a team's code: whatever it says, reading it answers and never panics.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    reason = "a test stops where its data are wrong"
)]

use isobar_model::dag::{DagError, SerializedDag, Timetable};
use proptest::prelude::*;
use serde_json::{Value, json};

fn minimal(tasks: Value) -> Value {
    json!({"__version": 3, "dag": {"dag_id": "d", "fileloc": "/d.py", "timezone": "UTC", "tasks": tasks,
        "timetable": {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}}}})
}

fn task(fields: Value) -> Value {
    let mut task = json!({"task_id": "t", "task_type": "X"});
    task.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    json!({"__type": "operator", "__var": task})
}

fn refusal(json: Value) -> String {
    SerializedDag::read(json).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn an_error_names_the_place_and_the_problem() {
    let text = refusal(minimal(json!([
        task(json!({})),
        task(json!({"task_id": "u", "retries": "many"}))
    ])));
    assert_eq!(
        text,
        "the serialized Dag cannot be read: at `dag.tasks[1].__var.retries`: a number was expected, a text was found"
    );
    let missing = refusal(json!({"__version": 3, "dag": {}}));
    assert_eq!(
        missing,
        "the serialized Dag cannot be read: at `dag.tasks`: it is missing"
    );
    let mut zone = minimal(json!([]));
    zone["dag"]["timezone"] = json!("Mars/Olympus");
    assert!(refusal(zone).contains("at `dag.timezone`: `Mars/Olympus` is not a time zone"));
    let mut version = minimal(json!([]));
    version["__version"] = json!(1);
    assert!(refusal(version).contains("version 1 of the format is not supported"));
}

#[test]
fn a_circle_of_tasks_is_refused() {
    let circle = json!([
        task(json!({"downstream_task_ids": ["u"]})),
        task(json!({"task_id": "u", "downstream_task_ids": ["t"]})),
    ]);
    assert!(refusal(minimal(circle)).contains("part of a circle"));
}

#[test]
fn tasks_twice_or_nowhere_are_refused() {
    assert!(refusal(minimal(json!([task(json!({})), task(json!({}))]))).contains("`t` appears twice"));
    let astray = json!([task(json!({"downstream_task_ids": ["gone"]}))]);
    assert!(refusal(minimal(astray)).contains("no task `gone`"));
    assert!(refusal(minimal(json!([task(json!({"task_id": "a b"}))]))).contains("not a valid id"));
}

#[test]
fn deep_nesting_is_refused_without_walking_it() {
    let mut deep = json!(1);
    for _ in 0..300 {
        deep = Value::Array(vec![deep]);
    }
    let mut dag = minimal(json!([]));
    dag["dag"]["doc_md"] = deep;
    assert!(refusal(dag).contains("nested deeper"));
}

#[test]
fn a_plugin_timetable_is_kept_as_it_is() {
    let mut dag = minimal(json!([]));
    dag["dag"]["timetable"] = json!({"__type": "acme.Workdays", "__var": {"x": 1}});
    let dag = SerializedDag::read(dag).unwrap();
    assert_eq!(
        dag.timetable,
        Timetable::Custom {
            path: "acme.Workdays".into(),
            var: json!({"x": 1}),
            says: Box::default(),
        }
    );
}

#[test]
fn what_a_plugin_timetable_says_of_itself_is_taken_from_beside_it() {
    let mut dag = minimal(json!([]));
    let asset = json!({"__type": "asset", "name": "a", "uri": "x://a", "group": "asset", "extra": {}});
    let mapper = json!({"__type": "acme.Mapper", "__var": {}});
    dag["dag"]["timetable"] = json!({"__type": "acme.Hot", "__var": {}, "__says": {
        "summary": "hot", "description": "now and then", "periodic": false, "can_be_scheduled": false, "partitioned": true,
        "partitioned_at_runtime": false, "asset_triggered": true, "asset_condition": asset,
        "default_partition_mapper": mapper, "partition_mapper_config": [[asset, mapper]],
    }});
    let dag = SerializedDag::read(dag).unwrap();
    let timetable = &dag.timetable;
    assert!(!timetable.is_periodic() && !timetable.can_be_scheduled() && timetable.is_partitioned());
    assert!(timetable.asset_condition().is_some() && timetable.triggering_condition().is_none());
    assert_eq!(timetable.partitions().unwrap().mappers[0].1, mapper);
    let mut dag = minimal(json!([]));
    dag["dag"]["timetable"] = json!({"__type": "acme.Hot", "__var": {}, "__says": {"periodic": "perhaps"}});
    assert!(refusal(dag).contains("periodic"));
}

#[test]
fn a_chain_of_ten_thousand_tasks_has_its_priorities_at_once() {
    let tasks = (0..10_000_u32)
        .map(|n| task(json!({"task_id": format!("t{n}"), "downstream_task_ids": if n > 0 { vec![format!("t{}", n - 1)] } else { vec![] }})))
        .collect();
    let dag = SerializedDag::read(minimal(tasks)).unwrap();
    assert_eq!(dag.priority(dag.find_task("t9999").unwrap()), 10_000);
    assert_eq!(dag.priority(dag.find_task("t0").unwrap()), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "dict",
            "timedelta",
            "xcomref",
            "operator",
            "taskgroup",
            "dict-of-lists",
            "t",
            "UTC",
            "asset_any"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "__type", "__var", "type", "value", "task_id", "key", "args", "children", "x"
                    ]),
                    inner
                ),
                0..5
            )
            .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// Every place of a value, as JSON pointers.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| places(v, &format!("{at}/{i}"), into)),
        Value::Object(map) => map
            .iter()
            .for_each(|(k, v)| places(v, &format!("{at}/{}", escape(k)), into)),
        _ => {}
    }
}

fn touch_everything(dag: Result<std::sync::Arc<SerializedDag>, DagError>) {
    match dag {
        Err(error) => assert!(error.to_string().len() < 5000),
        Ok(dag) => {
            let _ = (dag.owner(), dag.roots(), dag.deciding_tasks(), dag.content_hash().len());
            for task in dag.tasks() {
                let _ = (dag.priority(task), dag.task_json(task), dag.graph().ancestors(task));
                for (_, input) in dag.groups().mapped_around(task) {
                    let _ = (input.literal_length(), input.references());
                }
            }
        }
    }
}

fn recorded() -> &'static [Value] {
    static DAGS: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    DAGS.get_or_init(|| {
        include_str!("data/recorded_client_defaults.jsonl")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].take())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_json_is_answered(json in any_json()) {
        touch_everything(SerializedDag::read(json));
    }

    #[test]
    fn a_dag_with_any_one_value_replaced_is_answered(which in 0..100_usize, place in 0..100_000_usize, with in any_json()) {
        let dags = recorded();
        let mut dag = dags[which % dags.len()].clone();
        let mut all = Vec::new();
        places(&dag, "", &mut all);
        *dag.pointer_mut(&all[place % all.len()]).unwrap() = with;
        touch_everything(SerializedDag::read(dag));
    }
}
