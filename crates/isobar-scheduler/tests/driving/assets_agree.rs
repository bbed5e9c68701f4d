//! Asset events make the runs that Airflow's own scheduler made of them: conditions, references, aliases, queues, the window of
//! consumed events, pausing, full Dags, partitions and their mappers (recorded by `data/record_assets.py`).
//!
//! All cases are told side by side, step by step; no task ever starts.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::ReadScope;
use isobar_model::{DagId, TaskKey, TaskState, TeamName};
use isobar_store::assets::{self, Change, partitions};
use isobar_store::lists::runs as run_list;
use isobar_store::lists::runs::RunFilter;
use isobar_store::lists::{Page, runs::RunRow};
use isobar_store::{clearing, dag_changes, loading, run_calls};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ground::{Ground, settled, store};

struct Case {
    recorded: Value,
    number: usize,
    events: usize,
    /// The runs of each consumer: after which step, what they consumed, partition and date.
    made: [Vec<Value>; 2],
}

impl Case {
    fn dag_id(&self, consumer: usize) -> DagId {
        DagId::from(format!("c{}_d{consumer}", self.number))
    }
}

fn recorded() -> Vec<Case> {
    let path = std::env::var("ISOBAR_RECORDED_ASSETS").ok();
    let text = path.map_or_else(
        || include_str!("../data/assets.jsonl").to_owned(),
        |path| std::fs::read_to_string(path).unwrap(),
    );
    text.lines()
        .enumerate()
        .map(|(number, line)| Case {
            recorded: serde_json::from_str(line).unwrap(),
            number,
            events: 0,
            made: [Vec::new(), Vec::new()],
        })
        .collect()
}

async fn take_step(ground: &Ground, case: &mut Case, at: usize) {
    let step = &case.recorded["steps"][at];
    if let Some(event) = step["event"].as_array() {
        let text = |at: usize| event[at].as_str().map(str::to_owned);
        let change = Change {
            name: text(0).unwrap(),
            uri: text(1).unwrap(),
            asset_extra: json!({}),
            extra: json!({"n": case.events}),
            aliases: serde_json::from_value(event[2].clone()).unwrap(),
            partition_key: text(3),
            partition_date: event[4].as_i64().map(|at| Timestamp::from_second(at).unwrap()),
            consumer_teams: None,
        };
        case.events += 1;
        let mut tx = ground.store.begin().await.unwrap();
        let (scope, team) = (ground.scope(), TeamName::default_team());
        assets::register(&mut tx, scope, &ground.org, &team, None, &[change], Timestamp::now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    } else if let Some(pause) = step["pause"].as_array() {
        let dags = [DagId::from(pause[0].as_str().unwrap())];
        let mut tx = ground.store.begin().await.unwrap();
        let paused = pause[1].as_bool().unwrap();
        dag_changes::set_paused(&mut tx, ground.scope(), &dags, paused)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    } else {
        let dag_id = DagId::from(step["finish"].as_str().unwrap());
        for run in runs_of(ground, &dag_id).await {
            if run.state.is_finished() {
                continue;
            }
            let task = TaskKey {
                task_id: "t".into(),
                map_index: -1,
            };
            let key = isobar_model::RunKey {
                dag_id: dag_id.clone(),
                run_id: run.run_id.clone(),
            };
            let mut tx = ground.store.begin().await.unwrap();
            let (scope, now) = (ground.scope(), Timestamp::now());
            clearing::mark(&mut tx, scope, &key, &[task], TaskState::Success, None, now)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
    }
}

async fn runs_of(ground: &Ground, dag_id: &DagId) -> Vec<RunRow> {
    let filter = RunFilter {
        dag_id: Some(dag_id.clone()),
        ..RunFilter::default()
    };
    let order = run_list::ORDER.order(&["id".into()]).unwrap();
    let page = Page { limit: 1000, offset: 0 };
    let mut tx = ground.store.read().await.unwrap();
    let scope = ReadScope::from(ground.scope());
    run_list::list(&mut tx, &scope, &filter, &order, page)
        .await
        .unwrap()
        .rows
}

/// Notes which runs are new after a step.
async fn look(ground: &Ground, case: &mut Case, steps: usize) {
    for consumer in 0..2 {
        let dag_id = case.dag_id(consumer);
        let mut fresh = Vec::new();
        for run in runs_of(ground, &dag_id)
            .await
            .into_iter()
            .skip(case.made[consumer].len())
        {
            let key = isobar_model::RunKey {
                dag_id: dag_id.clone(),
                run_id: run.run_id.clone(),
            };
            let mut tx = ground.store.read().await.unwrap();
            let consumed = run_calls::consumed_events(&mut tx, ground.scope(), &ground.org, &key)
                .await
                .unwrap();
            let numbers: BTreeSet<i64> = consumed
                .iter()
                .map(|event| event.extra["n"].as_i64().unwrap())
                .collect();
            assert_eq!(numbers.len(), consumed.len(), "an event was consumed twice by {key:?}");
            let date = run.partition_date.map(Timestamp::as_second);
            fresh.push(json!([steps, numbers, run.partition_key, date]));
        }
        case.made[consumer].extend(fresh);
    }
}

/// The runs of one consumer in an order that does not depend on which of one pass came first.
fn in_order(runs: &[Value]) -> Vec<String> {
    let mut runs: Vec<(u64, String)> = runs
        .iter()
        .map(|run| (run[0].as_u64().unwrap(), run.to_string()))
        .collect();
    runs.sort();
    runs.into_iter().map(|(_, run)| run).collect()
}

async fn differences(ground: &Ground, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            wrong.push(format!(
                "case {}: {what}\n  ours:    {ours}\n  Airflow: {theirs}",
                case.number
            ));
        }
    };
    let (mut waiting, mut pending) = (Vec::new(), Vec::new());
    let mut tx = ground.store.read().await.unwrap();
    for consumer in 0..2 {
        let dag_id = case.dag_id(consumer);
        let theirs = case.recorded["runs"][consumer].as_array().unwrap();
        let shown = |runs: &[Value]| in_order(runs).join(" ");
        compare(&format!("runs of {dag_id}"), shown(&case.made[consumer]), shown(theirs));
        for queued in loading::asset_queue(&mut tx, ground.scope(), &dag_id).await.unwrap() {
            waiting.push(json!([dag_id, queued.name]).to_string());
        }
        for one in partitions::pending(&mut tx, ground.scope(), &dag_id).await.unwrap() {
            let arrived: BTreeSet<(String, String)> =
                one.arrived.into_iter().map(|(name, _, _, key)| (name, key)).collect();
            pending.push(json!([dag_id, one.key, one.date.map(Timestamp::as_second), arrived]).to_string());
        }
    }
    let listed = |name: &str| {
        let mut items: Vec<String> = case.recorded[name]
            .as_array()
            .unwrap()
            .iter()
            .map(Value::to_string)
            .collect();
        items.sort();
        items.join(" ")
    };
    let sorted = |mut items: Vec<String>| {
        items.sort();
        items.join(" ")
    };
    compare("what waits", sorted(waiting), listed("waiting"));
    compare("partitions that wait", sorted(pending), listed("pending"));
    let stands: BTreeMap<String, BTreeSet<String>> = serde_json::from_value(case.recorded["stands"].clone()).unwrap();
    let names: Vec<String> = stands.keys().cloned().collect();
    let ours = loading::alias_assets(&mut tx, ground.scope(), &names).await.unwrap();
    let ours: BTreeMap<String, BTreeSet<String>> = names
        .into_iter()
        .map(|name| {
            let assets = ours.get(&name).into_iter().flatten().map(|(asset, _)| asset.clone());
            let assets = assets.collect();
            (name, assets)
        })
        .collect();
    compare(
        "what aliases stand for",
        json!(ours).to_string(),
        json!(stands).to_string(),
    );
    wrong
}

driving!(asset_events_make_the_runs_that_airflow_makes, |ground| {
    let mut cases = recorded();
    if ground.store.dialect() == isobar_store::Dialect::Postgres {
        // The engine and the driving are the same; here only the SQL is another's.
        cases.truncate(40);
    }
    let dags = |which: std::ops::Range<usize>| -> Vec<Value> {
        let all = cases
            .iter()
            .flat_map(|case| &case.recorded["dags"].as_array().unwrap()[which.clone()]);
        all.cloned().collect()
    };
    let (producers, consumers) = (dags(0..1), dags(1..3));
    let steps = cases[0].recorded["steps"].as_array().unwrap().len();
    store(ground, producers).await;
    let at = ground.start_with(0, |setting| setting.parallelism = 0);
    for step in 0..steps {
        for case in &mut cases {
            take_step(ground, case, step).await;
        }
        if step == 1 {
            store(ground, consumers.clone()).await;
        }
        settled(ground).await;
        for case in &mut cases {
            look(ground, case, step + 1).await;
        }
    }
    at.stop().await;
    let (mut wrong, mut runs) = (Vec::new(), 0);
    for case in &cases {
        runs += case.made.iter().map(Vec::len).sum::<usize>();
        wrong.extend(differences(ground, case).await);
    }
    assert!(runs > cases.len(), "only {runs} runs were made");
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
});
