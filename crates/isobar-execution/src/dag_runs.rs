//! Questions about runs and Dags. Starting and clearing runs is in [`crate::trigger`].

use isobar_config::ConsentAction;
use isobar_model::{AirflowTime, RunKey};
use isobar_store::runs::{self, Run};
use isobar_store::{dags, run_calls};
use isobar_wire::execution::{Answer, Caller, Refusal};
use serde_json::{Value, json};

use crate::answers::{broken, not_found, time};
use crate::execution::{Execution, Outcome};
use crate::names::Meant;
use crate::standing::may_read;

impl Execution {
    async fn run_meant(&self, caller: &Caller, dag_id: &str, run_id: &str) -> Result<(Run, Meant), Refusal> {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let key = RunKey {
            dag_id: meant.dag_id.as_str().into(),
            run_id: run_id.into(),
        };
        let run = runs::get(&mut tx, meant.scope, &key)
            .await
            .map_err(broken)?
            .ok_or_else(|| {
                not_found(format!(
                    "Dag run with dag_id '{dag_id}' and run_id '{run_id}' was not found"
                ))
            })?;
        Ok((run, meant))
    }

    /// A run's body, with its Dag named as the caller named it.
    fn shown(&self, run: &Run, caller: &Caller, name: &str) -> Value {
        let mut body = self.dag_run(run, caller, &[]);
        body["dag_id"] = json!(name);
        body["team_name"] = Value::Null;
        body
    }

    pub(crate) async fn get_dag_run(&self, caller: &Caller, dag_id: &str, run_id: &str) -> Outcome {
        let (run, meant) = self.run_meant(caller, dag_id, run_id).await?;
        let mut body = self.shown(&run, caller, dag_id);
        if meant.foreign {
            // Consent to read covers states and times, not what the other team passes to its runs.
            body["conf"] = Value::Null;
            body["note"] = Value::Null;
        }
        Ok(Answer::ok(body))
    }

    pub(crate) async fn dag_run_state(&self, caller: &Caller, dag_id: &str, run_id: &str) -> Outcome {
        let (run, _) = self.run_meant(caller, dag_id, run_id).await?;
        Ok(Answer::ok(json!({"state": run.state.as_str()})))
    }

    pub(crate) async fn count_dag_runs(
        &self,
        caller: &Caller,
        dag_id: &str,
        logical_dates: Option<Vec<AirflowTime>>,
        run_ids: Option<Vec<String>>,
        states: Option<Vec<String>>,
    ) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let dates: Vec<_> = logical_dates.into_iter().flatten().map(|date| date.0).collect();
        let (runs, states) = (run_ids.unwrap_or_default(), states.unwrap_or_default());
        let count = run_calls::count(&mut tx, meant.scope, &meant.dag_id, &dates, &runs, &states)
            .await
            .map_err(broken)?;
        Ok(Answer::ok(json!(count)))
    }

    pub(crate) async fn previous_dag_run(
        &self,
        caller: &Caller,
        dag_id: &str,
        before: AirflowTime,
        state: Option<&str>,
    ) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let found = run_calls::previous(&mut tx, meant.scope, &meant.dag_id, before.0, state)
            .await
            .map_err(broken)?;
        Ok(Answer::ok(
            found.map_or(Value::Null, |run| self.shown(&run, caller, dag_id)),
        ))
    }

    pub(crate) async fn get_dag(&self, caller: &Caller, dag_id: &str) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, dag_id, ConsentAction::Read).await).map_err(broken)?;
        let head = dags::head(&mut tx, meant.scope, &meant.dag_id)
            .await
            .map_err(broken)?
            .ok_or_else(|| not_found(format!("The Dag with dag_id: `{dag_id}` was not found")))?;
        Ok(Answer::ok(json!({
            "dag_id": dag_id,
            "is_paused": head.is_paused,
            "bundle_name": head.bundle,
            "bundle_version": Value::Null,
            "relative_fileloc": head.rel_path,
            "owners": head.owners,
            "tags": head.tags,
            "next_dagrun": time(head.next_logical_date),
        })))
    }
}
