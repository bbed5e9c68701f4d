//! Starting and clearing runs from a task, in the own team or, by consent, in another.
//!
//! Another team's run is made by a scheduler, which carries out the request that is written here ([`crate::across`]); the
//! run notes which team asked for it.

use std::sync::Arc;

use isobar_config::ConsentAction;
use isobar_engine::timetable::Timetable;
use isobar_model::dag::{Param, SerializedDag};
use isobar_model::{AirflowTime, RunKey, RunState, RunTrigger, RunType};
use isobar_store::clearing::{self, Clear, Cleared};
use isobar_store::dags::{self, DagHead};
use isobar_store::runs::{self, NewRun};
use isobar_store::task_instances::TaskInstance;
use isobar_store::{StoreError, Tx, requests, task_instances};
use isobar_wire::execution::{Answer, Caller, Refusal};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answers::{broken, not_found, refusal, time};
use crate::execution::{Execution, Outcome};
use crate::names::Meant;
use crate::param_schema;
use crate::partition_key::{PartitionKeyError, partition_date};
use crate::questions::{ManualAsk, ManualRun, Unanswered, python_timetable};
use crate::standing::{may_change_runs, run_of};

/// The body of the route. Unknown keys are refused, as in Airflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TriggerBody {
    #[serde(default)]
    logical_date: Option<AirflowTime>,
    #[serde(default)]
    run_after: Option<AirflowTime>,
    #[serde(default)]
    conf: Map<String, Value>,
    /// The client clears the run itself where it exists.
    #[serde(default, rename = "reset_dag_run")]
    _reset_dag_run: bool,
    #[serde(default)]
    partition_key: Option<String>,
    #[serde(default)]
    note: Option<String>,
}

fn value_error(message: impl Into<String>) -> Refusal {
    refusal(400, "value_error", message)
}

impl Execution {
    pub(crate) async fn trigger_dag_run(&self, caller: &Caller, dag_id: &str, run_id: &str, body: Value) -> Outcome {
        let body: TriggerBody = serde_json::from_value(body).map_err(|error| {
            Refusal::new(
                422,
                json!([{"type": "value_error", "loc": ["body"], "msg": error.to_string()}]),
            )
        })?;
        let mut tx = self.store.begin().await.map_err(broken)?;
        let (mut meant, mut head, mut dag) = self.triggerable(&mut tx, caller, dag_id).await?;
        let mut asked = None;
        let key = body.partition_key.as_deref();
        partition_date(&dag, &meant.dag_id, key).map_err(|error| key_refusal(&meant, error))?;
        if let Some(question) = python_timetable(&dag, key.is_some())
            && (body.logical_date.is_some() || key.is_some())
        {
            // Nobody else may be kept from writing while the team's Python thinks.
            drop(tx);
            asked = Some(self.asked_dates(&meant, &dag, question, &body).await?);
            tx = self.store.begin().await.map_err(broken)?;
            (meant, head, dag) = self.triggerable(&mut tx, caller, dag_id).await?;
        }
        let run = self
            .new_run(&mut tx, caller, &meant, &head, &dag, run_id, body, asked)
            .await?;
        if meant.foreign {
            let ours = self.own(caller);
            let id = requests::ask(
                &mut tx,
                ours,
                meant.scope.team(),
                "trigger",
                &request_body(&run),
                Timestamp::now(),
            )
            .await
            .map_err(broken)?;
            tx.commit().await.map_err(broken)?;
            return self
                .answer_of(ours, id)
                .await
                .map_err(|refusal| shown_as(refusal, dag_id, run_id));
        }
        match self.new_runs.create(&mut tx, meant.scope, &run, Timestamp::now()).await {
            Ok(_) => {}
            Err(StoreError::Exists { .. }) => return Err(already_exists(dag_id, run_id)),
            Err(error) => return Err(broken(error)),
        }
        tx.commit().await.map_err(broken)?;
        Ok(Answer::done())
    }

    /// The Dag that is meant, where the caller may start it.
    async fn triggerable(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        dag_id: &str,
    ) -> Result<(Meant, DagHead, Arc<SerializedDag>), Refusal> {
        may_change_runs(tx, self.own(caller), caller).await?;
        let meant = (self.meant(tx, caller, dag_id, ConsentAction::Trigger).await).map_err(broken)?;
        let head = usable(tx, &meant, dag_id).await?;
        let allowed = head.allowed_run_types.as_array();
        if allowed.is_some_and(|types| !types.iter().any(|word| word == RunType::OperatorTriggered.as_str())) {
            return Err(refusal(
                400,
                "denied_run_type",
                format!("Dag with dag_id '{dag_id}' does not allow operator-triggered runs"),
            ));
        }
        let dag = definition(tx, &meant, dag_id).await?;
        Ok((meant, head, dag))
    }

    /// What the owner's Python says of the data interval and the partition. Another team learns nothing of why there is no answer.
    async fn asked_dates(
        &self,
        meant: &Meant,
        dag: &SerializedDag,
        timetable: Value,
        body: &TriggerBody,
    ) -> Result<ManualRun, Refusal> {
        let run_after = body.run_after.map_or_else(Timestamp::now, |at| at.0);
        let ask = ManualAsk {
            dag_id: dag.dag_id.as_str(),
            timetable,
            at: body.logical_date.map(|_| run_after),
            interval: None,
            run_after,
            kind: RunType::OperatorTriggered,
            partition_key: body.partition_key.as_deref(),
        };
        match self.ask_manual_run(meant.scope, &ask).await {
            Ok(run) => Ok(run),
            Err(Unanswered::Refused(reason)) => Err(key_refusal(meant, PartitionKeyError::Invalid(reason))),
            Err(Unanswered::Store(error)) => Err(broken(error)),
            Err(Unanswered::Python(_)) if meant.foreign => Err(refusal(
                503,
                "no_answer",
                "The custom timetable of the other team's Dag did not answer; it is safe to try again",
            )),
            Err(Unanswered::Python(reason)) => Err(refusal(503, "no_answer", reason)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a run is made of all of these")]
    async fn new_run(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        meant: &Meant,
        head: &DagHead,
        dag: &SerializedDag,
        run_id: &str,
        body: TriggerBody,
        asked: Option<ManualRun>,
    ) -> Result<NewRun, Refusal> {
        check_run_id(run_id)?;
        let by_rule = partition_date(dag, &meant.dag_id, body.partition_key.as_deref())
            .map_err(|error| key_refusal(meant, error))?;
        let run_after = body.run_after.map_or_else(Timestamp::now, |at| at.0);
        let timetable = Timetable::from_model(&dag.timetable).map_err(|error| value_error(error.to_string()))?;
        let partition_date = asked.as_ref().and_then(|run| run.partition_date).or(by_rule);
        let interval = match (body.logical_date, asked) {
            (None, _) => None,
            (Some(_), Some(run)) => run.interval,
            (Some(_), None) => Some(
                timetable
                    .manual_interval(run_after)
                    .map_err(|error| value_error(error.to_string()))?,
            ),
        };
        check_params(&dag.params, &body.conf)?;
        let user = match caller {
            Caller::Task(task) => runs::get(tx, self.own(caller), &run_of(task))
                .await
                .map_err(broken)?
                .and_then(|run| run.triggering_user),
            Caller::Parse { .. } | Caller::Trigger { .. } => None,
        };
        Ok(NewRun {
            triggered_by: Some(RunTrigger::Operator),
            triggering_user: user,
            conf: Value::Object(body.conf),
            note: body.note,
            logical_date: body.logical_date.map(|at| at.0),
            interval,
            version_id: head.current_version_id,
            partition_key: body.partition_key,
            partition_date,
            requested_by_team: meant.foreign.then(|| caller.team()),
            ..NewRun::new(
                meant.dag_id.as_str().into(),
                run_id.into(),
                RunType::OperatorTriggered,
                run_after,
            )
        })
    }

    pub(crate) async fn clear_dag_run(&self, caller: &Caller, dag_id: &str, run_id: &str) -> Outcome {
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_change_runs(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Clear).await).map_err(broken)?;
        let head = usable(&mut tx, &meant, dag_id).await?;
        let key = RunKey {
            dag_id: meant.dag_id.as_str().into(),
            run_id: run_id.into(),
        };
        let no_run = || not_found(format!("Dag run with run_id: '{run_id}' not found"));
        let run = runs::get(&mut tx, meant.scope, &key)
            .await
            .map_err(broken)?
            .ok_or_else(no_run)?;
        let current = definition(&mut tx, &meant, dag_id).await?;
        let on_latest = self.settings.runs_again_on_latest(None, &current, false);
        // Runs of an unversioned bundle follow the newest version anyway.
        let bound = run
            .created_version_id
            .filter(|_| !on_latest && run.bundle_version.is_some());
        let instances = task_instances::of_run(&mut tx, meant.scope, &key)
            .await
            .map_err(broken)?;
        let keys = instances.iter().map(TaskInstance::task_key);
        let version_id = bound.or(head.current_version_id);
        let tasks = (self.new_runs)
            .to_clear(&mut tx, meant.scope, &key.dag_id, version_id, keys)
            .await
            .map_err(broken)?;
        let clear = Clear {
            tasks: &tasks,
            run_state: Some(RunState::Queued),
            prevent_running: false,
            version_id: on_latest.then_some(head.current_version_id).flatten(),
            actor: None,
        };
        let cleared = clearing::clear(&mut tx, meant.scope, &key, &clear, Timestamp::now())
            .await
            .map_err(broken)?;
        match cleared {
            Cleared::Done(..) => tx.commit().await.map_err(broken)?,
            Cleared::NoRun | Cleared::Running(_) => return Err(no_run()),
        }
        Ok(Answer::done())
    }
}

/// What is wrong with a partition key. Why a key is none of the Dag's is said in words of its mappers, built in or the owner's own
/// classes: another team does not hear them.
fn key_refusal(meant: &Meant, error: PartitionKeyError) -> Refusal {
    match error {
        PartitionKeyError::NotPartitioned(_) => refusal(400, "not_partitioned", error.to_string()),
        PartitionKeyError::Invalid(_) if meant.foreign => {
            refusal(400, "invalid_partition_key", "The Dag has no such partition")
        }
        PartitionKeyError::Invalid(reason) => refusal(400, "invalid_partition_key", reason),
    }
}

fn already_exists(dag_id: &str, run_id: &str) -> Refusal {
    refusal(
        409,
        "already_exists",
        format!("A run already exists for Dag '{dag_id}' with run_id '{run_id}'"),
    )
}

/// A run as the request to another team describes it.
fn request_body(run: &NewRun) -> Value {
    json!({
        "dag_id": run.dag_id.as_str(),
        "run_id": run.run_id.as_str(),
        "logical_date": time(run.logical_date),
        "run_after": time(Some(run.run_after)),
        "conf": run.conf,
        "note": run.note,
        "interval_start": time(run.interval.map(|(start, _)| start)),
        "interval_end": time(run.interval.map(|(_, end)| end)),
    })
}

/// A refusal of the other side, in the words that the caller's own team would get.
fn shown_as(refused: Refusal, dag_id: &str, run_id: &str) -> Refusal {
    match refused.status {
        409 => already_exists(dag_id, run_id),
        404 => not_found(format!("Dag with dag_id: '{dag_id}' not found")),
        _ => refused,
    }
}

/// A Dag that can be run: there, not stale, importable.
async fn usable(tx: &mut Tx, meant: &Meant, name: &str) -> Result<DagHead, Refusal> {
    let head = dags::head(tx, meant.scope, &meant.dag_id)
        .await
        .map_err(broken)?
        .filter(|head| !head.is_stale)
        .ok_or_else(|| not_found(format!("Dag with dag_id: '{name}' not found")))?;
    if head.has_import_errors {
        return Err(refusal(
            400,
            "import_errors",
            format!("Dag with dag_id '{name}' has import errors and cannot be triggered"),
        ));
    }
    Ok(head)
}

async fn definition(tx: &mut Tx, meant: &Meant, name: &str) -> Result<Arc<SerializedDag>, Refusal> {
    let json = dags::version_json(tx, meant.scope, &meant.dag_id, None)
        .await
        .map_err(broken)?;
    json.and_then(|json| SerializedDag::read(json).ok())
        .ok_or_else(|| not_found(format!("Dag with dag_id: '{name}' not found")))
}

/// What Airflow's `allowed_run_id_pattern` takes by default.
fn check_run_id(run_id: &str) -> Result<(), Refusal> {
    if run_id.contains("..") {
        return Err(value_error(format!(
            "The run_id '{run_id}' must not contain '..' to prevent path traversal"
        )));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.~:+-".contains(c);
    if run_id.is_empty() || run_id.len() > 250 || !run_id.chars().all(plain) {
        return Err(value_error(format!(
            "The run_id provided '{run_id}' does not match regex pattern '^[A-Za-z0-9_.~:+-]+$'"
        )));
    }
    Ok(())
}

/// The values that a run would have must meet the schemas of the Dag's params.
fn check_params(params: &[Param], conf: &Map<String, Value>) -> Result<(), Refusal> {
    for param in params {
        let value = conf.get(&param.name).unwrap_or(&param.default);
        if param.schema.is_empty() {
            continue;
        }
        let schema = Value::Object(param.schema.clone());
        let validator = param_schema::validator(&schema)
            .map_err(|error| value_error(format!("Invalid schema of param {}: {error}", param.name)))?;
        if let Err(error) = validator.validate(value) {
            return Err(value_error(format!("Invalid input for param {}: {error}", param.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_airflows() {
        assert!(check_run_id("manual__2026-01-01T00:00:00+00:00").is_ok());
        for bad in ["", "a b", "../x", "ä", "x/y"] {
            assert_eq!(check_run_id(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    #[test]
    fn conf_meets_the_params_schemas() {
        let param = Param {
            name: "n".to_owned(),
            default: json!(1),
            description: None,
            schema: json!({"type": "integer", "minimum": 1}).as_object().cloned().unwrap(),
            source: None,
        };
        let check = |conf: Value| check_params(std::slice::from_ref(&param), conf.as_object().unwrap());
        assert!(check(json!({})).is_ok());
        assert!(check(json!({"n": 3, "other": "x"})).is_ok());
        assert_eq!(check(json!({"n": 0})).unwrap_err().status, 400);
    }
}
