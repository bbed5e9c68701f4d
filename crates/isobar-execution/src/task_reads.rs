//! Questions about other task instances: how many, in which states, the one before.

use isobar_auth::TeamScope;
use isobar_config::ConsentAction;
use isobar_model::dag::SerializedDag;
use isobar_model::{AirflowTime, MapIndex, TaskKey};
use isobar_store::task_calls::{self, InstanceFilter, InstanceState};
use isobar_store::{Tx, dags};
use isobar_wire::execution::{Answer, Caller, Refusal, TaskFilter};
use serde_json::{Map, Value, json};

use crate::answers::{broken, not_found, time};
use crate::execution::{Execution, Outcome};
use crate::standing::may_read;

fn filter_of(filter: &TaskFilter, dag_id: &str) -> InstanceFilter {
    let states = filter.states.clone().unwrap_or_default();
    let without_state = states.iter().any(|state| state == "null");
    InstanceFilter {
        dag_id: dag_id.to_owned(),
        map_index: filter.map_index,
        task_ids: filter.task_ids.clone().unwrap_or_default(),
        logical_dates: filter.logical_dates.iter().flatten().map(|date| date.0).collect(),
        run_ids: filter.run_ids.clone().unwrap_or_default(),
        states: states.into_iter().filter(|state| state != "null").collect(),
        without_state,
        pairs: None,
    }
}

/// The instances of a task group's tasks that the other restrictions leave.
async fn group_instances(
    tx: &mut Tx,
    scope: TeamScope,
    shown: &str,
    group: &str,
    filter: &InstanceFilter,
) -> Result<Vec<InstanceState>, Refusal> {
    let json = dags::version_json(tx, scope, &filter.dag_id, None)
        .await
        .map_err(broken)?
        .ok_or_else(|| not_found(format!("The Dag with ID: `{shown}` was not found")))?;
    let missing = || not_found(format!("Task group {group} not found in DAG {shown}"));
    let dag = SerializedDag::read(json).map_err(|_| missing())?;
    let index = dag.groups().find(group).ok_or_else(missing)?;
    let inside: Vec<String> = dag
        .groups()
        .tasks_inside(index)
        .into_iter()
        .map(|task| dag.task(task).task_id.to_string())
        .collect();
    if inside.is_empty() {
        return Ok(Vec::new());
    }
    let of_group = InstanceFilter {
        task_ids: inside,
        states: Vec::new(),
        without_state: false,
        pairs: None,
        ..filter.clone()
    };
    task_calls::states(tx, scope, &of_group).await.map_err(broken)
}

impl Execution {
    pub(crate) async fn count_tasks(&self, caller: &Caller, asked: TaskFilter) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &asked.dag_id, ConsentAction::Read).await).map_err(broken)?;
        let mut filter = filter_of(&asked, &meant.dag_id);
        if let Some(group) = asked.task_group_id.as_deref().filter(|group| !group.is_empty()) {
            let inside = group_instances(&mut tx, meant.scope, &asked.dag_id, group, &filter).await?;
            let mut pairs: Vec<(String, MapIndex)> = inside.into_iter().map(|ti| (ti.task_id, ti.map_index)).collect();
            pairs.sort();
            pairs.dedup();
            if pairs.is_empty() {
                // A group may be named like a task; Airflow then counts that task.
                pairs.push((group.to_owned(), isobar_model::UNMAPPED));
            }
            filter.pairs = Some(pairs);
        }
        let count = task_calls::count(&mut tx, meant.scope, &filter).await.map_err(broken)?;
        Ok(Answer::ok(json!(count)))
    }

    pub(crate) async fn task_states(&self, caller: &Caller, asked: TaskFilter) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &asked.dag_id, ConsentAction::Read).await).map_err(broken)?;
        let filter = InstanceFilter {
            states: Vec::new(),
            without_state: false,
            ..filter_of(&asked, &meant.dag_id)
        };
        let group = asked.task_group_id.as_deref().filter(|group| !group.is_empty());
        let mut found = if group.is_some() && filter.task_ids.is_empty() {
            Vec::new()
        } else {
            task_calls::states(&mut tx, meant.scope, &filter)
                .await
                .map_err(broken)?
        };
        if let Some(group) = group {
            found.extend(group_instances(&mut tx, meant.scope, &asked.dag_id, group, &filter).await?);
        }
        let mut by_run: Map<String, Value> = Map::new();
        for ti in found {
            let name = if ti.map_index < 0 {
                ti.task_id
            } else {
                format!("{}_{}", ti.task_id, ti.map_index)
            };
            by_run.entry(ti.run_id).or_insert_with(|| json!({}))[name] = json!(ti.state);
        }
        Ok(Answer::ok(json!({"task_states": by_run})))
    }

    pub(crate) async fn task_breadcrumbs(&self, caller: &Caller, dag_id: &str, run_id: &str) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let crumbs = task_calls::breadcrumbs(&mut tx, meant.scope, &meant.dag_id, run_id)
            .await
            .map_err(broken)?;
        Ok(Answer::ok(json!({"breadcrumbs": crumbs})))
    }

    pub(crate) async fn previous_task(
        &self,
        caller: &Caller,
        dag_id: &str,
        task_id: &str,
        before: Option<AirflowTime>,
        map_index: MapIndex,
        state: Option<&str>,
    ) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let key = TaskKey {
            task_id: task_id.into(),
            map_index,
        };
        let found = task_calls::previous(&mut tx, meant.scope, &meant.dag_id, &key, before.map(|at| at.0), state)
            .await
            .map_err(broken)?;
        let body = found.map_or(Value::Null, |(ti, logical_date)| {
            json!({
                "task_id": ti.task_id.as_str(),
                "dag_id": dag_id,
                "run_id": ti.run_id.as_str(),
                "logical_date": time(logical_date),
                "start_date": time(ti.start_date),
                "end_date": time(ti.end_date),
                "state": ti.state.map(isobar_model::TaskState::as_str),
                "try_number": ti.try_number,
                "map_index": ti.map_index,
                "duration": ti.duration,
            })
        });
        Ok(Answer::ok(body))
    }
}
