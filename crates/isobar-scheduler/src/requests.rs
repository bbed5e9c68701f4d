//! What one team asks of another by consent (rule 20): carried out here, under the organisation's scope, while the caller waits.

use isobar_model::{DagId, RunId, RunTrigger, RunType, parse_time};
use isobar_store::events::StoredEvent;
use isobar_store::runs::{self, NewRun};
use isobar_store::{StoreError, loading};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::memory::RunRef;
use crate::pass::Pass;

impl Pass<'_> {
    /// Carries out a request and writes its answer. The consent was checked by whoever wrote the request.
    pub(crate) async fn answer_request(&mut self, event: &StoredEvent) -> Result<(), StoreError> {
        let id = event
            .body
            .get("id")
            .and_then(Value::as_str)
            .and_then(|id| Uuid::parse_str(id).ok());
        let Some(id) = id else { return Ok(()) };
        let Some(request) = loading::open_request(self.tx, &self.setting.org, id).await? else {
            return Ok(());
        };
        let answer = match request.kind.as_str() {
            "trigger" => self.trigger_for(request.team, request.target, &request.body).await?,
            other => json!({"status": 400, "detail": format!("`{other}` is nothing that a team can ask of another")}),
        };
        loading::answer_request(self.tx, &self.setting.org, id, &answer).await
    }

    /// Body: `dag_id`, `run_id`, and `logical_date`, `run_after`, `conf`, `note`, `interval_start`, `interval_end` where given.
    async fn trigger_for(
        &mut self,
        team: isobar_model::TeamId,
        target: isobar_model::TeamId,
        body: &Value,
    ) -> Result<Value, StoreError> {
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let time = |key: &str| text(key).and_then(parse_time);
        let (Some(dag_id), Some(run_id)) = (text("dag_id"), text("run_id")) else {
            return Ok(json!({"status": 422, "detail": "a trigger names `dag_id` and `run_id`"}));
        };
        let scope = self.setting.org.team(target);
        let dag_id = DagId::from(dag_id);
        let Some(dag) = loading::dag(self.tx, scope, &dag_id).await?.filter(|dag| !dag.is_stale) else {
            return Ok(json!({"status": 404, "detail": {"reason": "not_found", "message": "Dag not found"}}));
        };
        if dag.has_import_errors {
            return Ok(
                json!({"status": 400, "detail": {"reason": "import_errors", "message": "the Dag has import errors"}}),
            );
        }
        let new = NewRun {
            triggered_by: Some(RunTrigger::Operator),
            conf: body
                .get("conf")
                .filter(|conf| !conf.is_null())
                .cloned()
                .unwrap_or_else(|| json!({})),
            note: text("note").map(str::to_owned),
            logical_date: time("logical_date"),
            interval: time("interval_start").zip(time("interval_end")),
            version_id: dag.current_version_id,
            requested_by_team: Some(team),
            ..NewRun::new(
                dag_id,
                RunId::from(run_id),
                RunType::OperatorTriggered,
                time("run_after").unwrap_or(self.now),
            )
        };
        match runs::insert(self.tx, scope, &new, self.now).await {
            Ok(row) => {
                let run = RunRef::of(&row);
                self.memory.stale.insert(run);
                Ok(json!({"status": 204}))
            }
            Err(StoreError::Exists { .. }) => {
                Ok(json!({"status": 409, "detail": {"reason": "already_exists", "message": "the run exists already"}}))
            }
            Err(error) => Err(error),
        }
    }
}
