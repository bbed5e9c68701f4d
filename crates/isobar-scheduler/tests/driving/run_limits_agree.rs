//! Runs are made, started and given up as by Airflow's own scheduler: `max_active_runs` with scheduled, manual and backfill runs and
//! their order, `max_consecutive_failed_dag_runs`, `dagrun_timeout`, pausing, clearing, marking, deleting (recorded by
//! `data/record_run_limits.py`).
//!
//! All cases are told side by side, step by step; no task ever starts.

use std::collections::BTreeMap;
use std::time::Duration;

use isobar_auth::ReadScope;
use isobar_engine::timetable::{Bound, Timetable};
use isobar_execution::backfills::{Date, Plan};
use isobar_model::dag::SerializedDag;
use isobar_model::{DagId, Reprocess, RunKey, RunState, RunType, TaskKey, TaskState};
use isobar_store::backfills::{self, NewBackfill};
use isobar_store::clearing::{self, Clear, ClearTask};
use isobar_store::lists::Page;
use isobar_store::lists::runs::{self as run_list, RunFilter};
use isobar_store::runs::{self, NewRun};
use isobar_store::{callbacks, dag_changes, loading};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::ground::{Ground, settled, store};

/// 2026-01-01.
const START: i64 = 1_767_225_600;
const DAY: i64 = 86_400;
const TASKS: [&str; 3] = ["a", "b", "c"];

struct Case {
    recorded: Value,
    dag: Value,
    dag_id: DagId,
    /// How the runs should be now.
    expected: BTreeMap<String, String>,
    wrong: Option<String>,
}

fn recorded() -> Vec<Case> {
    let text = std::env::var("ISOBAR_RECORDED_RUN_LIMITS").map_or_else(
        |_| include_str!("../data/run_limits.jsonl").to_owned(),
        |path| std::fs::read_to_string(path).unwrap(),
    );
    text.lines()
        .map(|line| {
            let recorded: Value = serde_json::from_str(line).unwrap();
            Case {
                dag: recorded["dag"].clone(),
                dag_id: recorded["dag"]["dag_id"].as_str().unwrap().into(),
                expected: BTreeMap::new(),
                wrong: None,
                recorded,
            }
        })
        .collect()
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn task_key(task: &str) -> TaskKey {
    TaskKey {
        task_id: task.into(),
        map_index: -1,
    }
}

impl Case {
    fn run(&self, run_id: &Value) -> RunKey {
        RunKey {
            dag_id: self.dag_id.clone(),
            run_id: run_id.as_str().unwrap().into(),
        }
    }

    async fn take_step(&mut self, ground: &Ground, at: usize) {
        let step = self.recorded["steps"][at].as_object().unwrap().clone();
        let (word, given) = step.iter().next().unwrap();
        let (scope, now) = (ground.scope(), Timestamp::now());
        let mut tx = ground.store.begin().await.unwrap();
        match word.as_str() {
            "trigger" => {
                let date = given[1].as_i64().map(second);
                let new = NewRun {
                    logical_date: date,
                    interval: date.zip(date),
                    ..NewRun::new(
                        self.dag_id.clone(),
                        given[0].as_str().unwrap().into(),
                        RunType::Manual,
                        second(given[2].as_i64().unwrap()),
                    )
                };
                runs::create(&mut tx, scope, &new, now).await.unwrap();
            }
            "end" => {
                for (task, state) in TASKS.iter().zip(given[1].as_array().unwrap()) {
                    let state: TaskState = state.as_str().unwrap().parse().unwrap();
                    let tasks = [task_key(task)];
                    clearing::mark(&mut tx, scope, &self.run(&given[0]), &tasks, state, None, now)
                        .await
                        .unwrap();
                }
            }
            "mark" => {
                let state: RunState = given[1].as_str().unwrap().parse().unwrap();
                clearing::set_run_state(&mut tx, scope, &self.run(&given[0]), state, &|_| false, None, now)
                    .await
                    .unwrap();
            }
            "clear" => {
                let tasks = TASKS.map(|task| ClearTask {
                    key: task_key(task),
                    today: None,
                });
                let clear = Clear {
                    tasks: &tasks,
                    run_state: Some(RunState::Queued),
                    prevent_running: false,
                    version_id: None,
                    actor: None,
                };
                clearing::clear(&mut tx, scope, &self.run(given), &clear, now)
                    .await
                    .unwrap();
            }
            "delete" => {
                runs::delete(&mut tx, scope, &self.run(given), now).await.unwrap();
            }
            "pause" => {
                let dags = [self.dag_id.clone()];
                dag_changes::set_paused(&mut tx, scope, &dags, given.as_bool().unwrap())
                    .await
                    .unwrap();
            }
            "pause_backfill" => {
                let id = backfills::open_of(&mut tx, scope, &self.dag_id).await.unwrap().unwrap();
                let row = backfills::get(&mut tx, &scope.into(), id).await.unwrap().unwrap();
                backfills::set_paused(&mut tx, scope, &row, given.as_bool().unwrap(), now)
                    .await
                    .unwrap();
            }
            "backfill" => {
                let plan = self.backfill(&mut tx, ground, given).await;
                let made = ground.execution.new_runs().backfill(&mut tx, scope, &plan, now).await;
                made.unwrap().unwrap();
            }
            "max_active_runs" => {
                drop(tx);
                self.dag["max_active_runs"] = given.clone();
                return store(ground, vec![self.dag.clone()]).await;
            }
            "late" => {
                drop(tx);
                return self.be_late(ground, given).await;
            }
            other => panic!("no step {other}"),
        }
        tx.commit().await.unwrap();
    }

    async fn backfill(&self, tx: &mut isobar_store::Tx, ground: &Ground, given: &Value) -> Plan {
        let dag = SerializedDag::read(json!({"__version": 3, "dag": self.dag})).unwrap();
        let timetable = Timetable::from_model(&dag.timetable).unwrap();
        let day = |at: usize| second(START + DAY * given[at].as_i64().unwrap());
        let (from, to) = (Bound::utc(day(0)), Bound::utc(day(1)));
        let mut dates = timetable.runs_between(from, to, Timestamp::now()).unwrap();
        if given[3].as_bool().unwrap() {
            dates.reverse();
        }
        let row = loading::dag(tx, ground.scope(), &self.dag_id).await.unwrap().unwrap();
        Plan {
            new: NewBackfill {
                dag_id: self.dag_id.clone(),
                from_date: day(0),
                to_date: day(1),
                conf: Value::Null,
                reprocess: given[4].as_str().unwrap().parse::<Reprocess>().unwrap(),
                max_active_runs: given[2].as_i64().unwrap(),
                triggering_user: "me".to_owned(),
            },
            dates: dates.into_iter().map(Date::of).collect(),
            dag,
            version_id: row.current_version_id.unwrap(),
            bundle_version: None,
            on_latest: false,
        }
    }

    /// The run began two hours ago, and some of its tasks then.
    async fn be_late(&self, ground: &Ground, given: &Value) {
        let run = self.run(&given[0]);
        let place = format!("dag_id = '{}' AND run_id = '{}'", run.dag_id, run.run_id);
        let ago = (Timestamp::now() - SignedDuration::from_hours(2)).as_microsecond();
        let mut statements = vec![format!("UPDATE dag_run SET start_date = {ago} WHERE {place}")];
        for (task, began) in TASKS.iter().zip(given[1].as_array().unwrap()) {
            let state = began[0]
                .as_str()
                .map_or("NULL".to_owned(), |state| format!("'{state}'"));
            let start = began[1].as_i64().map(|hour| (START + hour * 3600) * 1_000_000);
            let start = start.map_or("NULL".to_owned(), |start| start.to_string());
            statements.push(format!(
                "UPDATE task_instance SET state = {state}, start_date = {start} WHERE {place} AND task_id = '{task}'"
            ));
        }
        ground.write(&statements).await;
        // The scheduler reads the run again.
        let mut tx = ground.store.begin().await.unwrap();
        clearing::mark(
            &mut tx,
            ground.scope(),
            &run,
            &[],
            TaskState::Success,
            None,
            Timestamp::now(),
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    /// What Airflow had after a step (none: before the first), and whether the Dag was paused then.
    fn expect(&mut self, at: usize) -> bool {
        let after = &self.recorded["after"][at];
        for (run_id, state) in after[0].as_object().unwrap() {
            match state.as_str().unwrap() {
                "-" => self.expected.remove(run_id),
                state => self.expected.insert(run_id.clone(), state.to_owned()),
            };
        }
        after[1].as_bool().unwrap()
    }

    async fn now(&self, ground: &Ground) -> (BTreeMap<String, String>, bool) {
        let filter = RunFilter {
            dag_id: Some(self.dag_id.clone()),
            ..RunFilter::default()
        };
        let order = run_list::ORDER.order(&["id".into()]).unwrap();
        let page = Page { limit: 1000, offset: 0 };
        let mut tx = ground.store.read().await.unwrap();
        let rows = run_list::list(&mut tx, &ReadScope::from(ground.scope()), &filter, &order, page).await;
        let rows = rows.unwrap().rows.into_iter();
        let dag = loading::dag(&mut tx, ground.scope(), &self.dag_id)
            .await
            .unwrap()
            .unwrap();
        let states = rows.map(|run| (run.run_id.to_string(), run.state.to_string()));
        (states.collect(), dag.is_paused)
    }

    /// Compares; the first difference stays with the case, which then goes no further.
    async fn compare(&mut self, ground: &Ground, at: usize) {
        let paused = self.expect(at);
        let mut now = self.now(ground).await;
        for _ in 0..4000 {
            if now == (self.expected.clone(), paused) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            now = self.now(ground).await;
        }
        let steps = self.recorded["steps"].as_array().unwrap();
        let told: Vec<String> = steps[..at].iter().map(Value::to_string).collect();
        self.wrong = Some(format!(
            "{} {} after {}\n  ours:    {:?} paused {}\n  Airflow: {:?} paused {paused}",
            self.dag_id,
            self.dag,
            told.join(" "),
            now.0,
            now.1,
            self.expected
        ));
    }
}

/// What failure callbacks of runs that took too long are told of, by Dag and run.
async fn causes(ground: &Ground) -> BTreeMap<(String, String), Value> {
    let mut tx = ground.store.begin().await.unwrap();
    let hold = SignedDuration::from_hours(1);
    let all = callbacks::claim(&mut tx, ground.scope(), 100_000, Timestamp::now(), hold)
        .await
        .unwrap();
    let requests = all.into_iter().map(|callback| callback.request);
    let late = requests.filter(|request| request["msg"] == "timed_out");
    late.map(|request| {
        let text = |key: &str| request[key].as_str().unwrap().to_owned();
        let last = request["context_from_server"]["last_ti"]["task_id"].clone();
        ((text("dag_id"), text("run_id")), last)
    })
    .collect()
}

driving!(runs_are_made_started_and_given_up_when_airflow_does, |ground| {
    let mut cases = recorded();
    if ground.store.dialect() == isobar_store::Dialect::Postgres {
        // The engine and the driving are the same; here only the SQL is another's.
        cases.truncate(25);
    }
    store(ground, cases.iter().map(|case| case.dag.clone()).collect()).await;
    let at = ground.start_with(0, |setting| {
        setting.parallelism = 0;
        setting.sweep_interval = Duration::from_secs(3600);
    });
    let steps = cases[0].recorded["steps"].as_array().unwrap().len();
    for step in 0..=steps {
        if step > 0 {
            for case in cases.iter_mut().filter(|case| case.wrong.is_none()) {
                case.take_step(ground, step - 1).await;
            }
        }
        settled(ground).await;
        for case in cases.iter_mut().filter(|case| case.wrong.is_none()) {
            case.compare(ground, step).await;
        }
    }
    at.stop().await;
    let ours = causes(ground).await;
    for case in cases.iter_mut().filter(|case| case.wrong.is_none()) {
        for (run_id, theirs) in case.recorded["causes"].as_object().unwrap() {
            let ours = ours.get(&(case.dag_id.to_string(), run_id.clone()));
            if ours != Some(theirs) {
                case.wrong = Some(format!(
                    "{} {run_id}: told of {ours:?}, Airflow of {theirs}",
                    case.dag_id
                ));
            }
        }
    }
    let wrong: Vec<&String> = cases.iter().filter_map(|case| case.wrong.as_ref()).collect();
    let shown: Vec<&str> = wrong.iter().take(12).map(|text| text.as_str()).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        shown.join("\n")
    );
});
