//! What a team's Python makes of task instances: custom weight rules and `task_instance_mutation_hook`.
//!
//! Such an instance is not offered to admission before the helper has said its pool, queue, priority and executor. All
//! instances of a run are asked about in one question; what was said stays in their rows.

use std::collections::{HashMap, HashSet};

use isobar_engine::admission::DagKey;
use isobar_model::{MapIndex, RunId, RunKey, TaskId, TaskKey, render_time};
use isobar_store::StoreError;
use isobar_store::questions::{self, NewQuestion, Shape};
use isobar_store::task_instances::{self, TaskInstance};
use isobar_wire::questions::{QuestionKind, Said};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::asking::TASK_PROBLEM;
use crate::memory::{LiveRun, RunRef};
use crate::pass::Pass;

/// What is known of a run's instances.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    /// What was said.
    pub known: HashMap<TaskKey, Shape>,
    /// What was asked about since the run was read.
    asked: HashSet<TaskKey>,
    /// Ready, and not offered to admission yet.
    waiting: HashSet<TaskKey>,
}

/// One instance in a helper's answer.
#[derive(Deserialize)]
struct ShapeSaid {
    task_id: TaskId,
    map_index: MapIndex,
    pool: String,
    pool_slots: u16,
    queue: String,
    priority_weight: f64,
    executor: Option<String>,
    #[serde(default)]
    executor_config: Option<Value>,
    max_tries: i32,
}

impl ShapeSaid {
    #[expect(clippy::cast_possible_truncation, reason = "Airflow too stores it in 32 bits")]
    fn read(self) -> Shape {
        Shape {
            key: TaskKey {
                task_id: self.task_id,
                map_index: self.map_index,
            },
            pool: self.pool,
            pool_slots: i32::from(self.pool_slots.max(1)),
            queue: self.queue,
            priority_weight: self.priority_weight as i32,
            executor: self.executor.filter(|executor| !executor.is_empty()),
            executor_config: self.executor_config.map(|config| config.to_string()),
            max_tries: self.max_tries,
        }
    }
}

fn shape_of(ti: &TaskInstance) -> Shape {
    Shape {
        key: ti.task_key(),
        pool: ti.pool.clone(),
        pool_slots: ti.pool_slots,
        queue: ti.queue.clone().unwrap_or_default(),
        priority_weight: i32::try_from(ti.priority_weight).unwrap_or(i32::MAX),
        executor: ti.executor.clone(),
        executor_config: ti.executor_config.clone(),
        max_tries: ti.max_tries,
    }
}

impl Pass<'_> {
    /// Whether the team's Python has a say in an instance.
    fn is_shaped(&self, run: &RunRef, live: &LiveRun, task_id: &TaskId) -> bool {
        self.memory.shaping.contains(&run.team) || live.version.custom_weights.contains(task_id)
    }

    /// Whether the team's Python has a say in any instance of the run.
    fn may_be_shaped(&self, run: &RunRef) -> bool {
        self.memory
            .runs
            .get(run)
            .is_some_and(|live| self.memory.shaping.contains(&run.team) || !live.version.custom_weights.is_empty())
    }

    /// Reads what was said from the rows of a run that is loaded; what was not said is asked at the end of the pass.
    pub(crate) fn note_shapes(&mut self, run: &RunRef, instances: &[TaskInstance]) {
        if !self.may_be_shaped(run) {
            return;
        }
        let Some(live) = self.memory.runs.get_mut(run) else {
            return;
        };
        let current = Some(live.row.clear_number);
        for ti in instances {
            // One that holds slots holds those of its row, whatever was said since.
            let holds = ti.state.is_some_and(isobar_model::TaskState::occupies_slot);
            if ti.shaped_for == current || holds {
                live.shapes.known.insert(ti.task_key(), shape_of(ti));
            }
        }
        self.to_shape.insert(run.clone());
    }

    /// Whether an instance that became ready must wait for the team's Python; then it is asked.
    pub(crate) fn waits_for_shape(&mut self, run: &RunRef, key: &TaskKey) -> bool {
        let Some(live) = self.memory.runs.get(run) else {
            return false;
        };
        if live.shapes.known.contains_key(key) || !self.is_shaped(run, live, &key.task_id) {
            return false;
        }
        let Some(live) = self.memory.runs.get_mut(run) else {
            return false;
        };
        live.shapes.waiting.insert(key.clone());
        if !live.shapes.asked.contains(key) {
            self.to_shape.insert(run.clone());
        }
        true
    }

    /// Asks about all instances of the noted runs that the team's Python has not said anything about.
    pub(crate) async fn ask_shapes(&mut self) -> Result<(), StoreError> {
        for run in std::mem::take(&mut self.to_shape) {
            self.ask_shapes_of(&run).await?;
        }
        Ok(())
    }

    async fn ask_shapes_of(&mut self, run: &RunRef) -> Result<(), StoreError> {
        let scope = self.setting.org.team(run.team);
        let instances = task_instances::of_run(self.tx, scope, &run.key).await?;
        let hook = self.memory.shaping.contains(&run.team);
        let Some(live) = self.memory.runs.get(run) else {
            return Ok(());
        };
        let unsaid: Vec<&TaskInstance> = instances
            .iter()
            .filter(|ti| {
                !ti.state
                    .is_some_and(|state| state.is_finished() || state.occupies_slot())
            })
            .filter(|ti| ti.shaped_for != Some(live.row.clear_number))
            .filter(|ti| self.is_shaped(run, live, &ti.task_id))
            .collect();
        // Said before, and not read since.
        let is_said = |ti: &TaskInstance| {
            ti.shaped_for == Some(live.row.clear_number) && live.shapes.waiting.contains(&ti.task_key())
        };
        if instances.iter().any(is_said) {
            // Offered in the next pass: this one has asked admission already.
            self.memory.stale.insert(run.clone());
        }
        if unsaid.is_empty() {
            return Ok(());
        }
        let (row, version) = (&live.row, live.version.id);
        let interval = row.interval_start.zip(row.interval_end);
        let question = NewQuestion {
            kind: QuestionKind::Instances,
            dag_id: run.key.dag_id.clone(),
            subject: run.key.run_id.to_string(),
            body: json!({
                "ask": QuestionKind::Instances.as_str(),
                "version": version.to_string(),
                "hook": hook,
                "run": {
                    "run_id": run.key.run_id,
                    "run_type": row.run_type.as_str(),
                    "state": row.state.as_str(),
                    "logical_date": row.logical_date.map(render_time),
                    "run_after": render_time(row.run_after),
                    "data_interval": interval.map(|(start, end)| [render_time(start), render_time(end)]),
                    "conf": row.conf,
                },
                "instances": unsaid.iter().map(|ti| json!({
                    "task_id": ti.task_id,
                    "map_index": ti.map_index,
                    // A task that waits for its first try has had none, even where it is scheduled.
                    "try_number": tries_had(ti),
                    "max_tries": ti.max_tries,
                })).collect::<Vec<_>>(),
            }),
            version_id: Some(version),
            wanted_until: None,
        };
        let keys: Vec<TaskKey> = unsaid.iter().map(|ti| ti.task_key()).collect();
        questions::ask(self.tx, scope, &question, self.now).await?;
        if let Some(live) = self.memory.runs.get_mut(run) {
            live.shapes.asked.extend(keys);
        }
        Ok(())
    }

    /// Writes what was said of a run's instances and offers to admission those that waited for it.
    pub(crate) async fn take_shapes(&mut self, dag: &DagKey, run_id: &RunId, said: Said) -> Result<(), StoreError> {
        let run = RunRef {
            team: dag.team,
            key: RunKey {
                dag_id: dag.dag_id.clone(),
                run_id: run_id.clone(),
            },
        };
        let answer = match said {
            Said::Answer(answer) => serde_json::from_value::<Vec<ShapeSaid>>(answer["instances"].clone())
                .map_err(|error| format!("the answer of the team's Python cannot be used: {error}")),
            Said::Problem(reason) | Said::Later(reason) => Err(reason),
        };
        let shapes: Vec<Shape> = match answer {
            Ok(said) => said.into_iter().map(ShapeSaid::read).collect(),
            Err(reason) => {
                tracing::warn!(team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, reason, "tasks wait for the team's Python");
                let problem = format!(
                    "tasks of run {run_id} wait for what the team's weight rule or task_instance_mutation_hook says: {reason}"
                );
                return self.show_problem(dag, TASK_PROBLEM, Some(&problem)).await;
            }
        };
        let Some(live) = self.memory.runs.get_mut(&run) else {
            return Ok(());
        };
        let clear_number = live.row.clear_number;
        let mut offered = Vec::new();
        for shape in &shapes {
            if live.shapes.waiting.remove(&shape.key) {
                offered.push(shape.key.clone());
            }
            live.shapes.known.insert(shape.key.clone(), shape.clone());
        }
        let scope = self.setting.org.team(run.team);
        questions::shape(self.tx, scope, &run.key, clear_number, &shapes).await?;
        for key in offered {
            if let Some(candidate) = self.offer(&run, &key) {
                self.admission.ready(candidate);
            } else {
                self.fail_without_executor(&run, key);
            }
        }
        self.show_problem(dag, TASK_PROBLEM, None).await
    }

    /// Reads again which teams' policies shape task instances.
    pub(crate) async fn load_shaping(&mut self) -> Result<(), StoreError> {
        let teams = questions::shaping_teams(self.tx, &self.setting.org).await?;
        self.memory.shaping = teams.into_iter().collect();
        Ok(())
    }
}

/// How many tries an instance has had, as Airflow counts them before the next one is queued.
fn tries_had(ti: &TaskInstance) -> i32 {
    let counted = ti.state == Some(isobar_model::TaskState::Scheduled);
    (ti.try_number - i32::from(counted)).max(0)
}
