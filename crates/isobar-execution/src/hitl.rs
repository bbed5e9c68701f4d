//! Questions that tasks put to people (human in the loop).

use isobar_model::TiId;
use isobar_store::hitl::{self, HitlDetail};
use isobar_wire::execution::{Answer, Caller, Refusal};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::answers::{broken, invalid, not_found, time};
use crate::execution::{Execution, Outcome};
use crate::standing::{may_read, may_write, task_of};

fn missing() -> Refusal {
    not_found("HITLDetail not found. This happens most likely due to clearing task instance before receiving response.")
}

/// The question with its defaults filled in, `ti_id` first.
fn question(ti_id: TiId, body: &Value) -> Result<Value, Refusal> {
    let options = body["options"].as_array().filter(|options| !options.is_empty());
    if options.is_none_or(|options| !options.iter().all(Value::is_string)) {
        return Err(invalid(
            "options",
            "List should have at least 1 item after validation",
            &body["options"],
        ));
    }
    if !body["subject"].is_string() {
        return Err(invalid("subject", "Input should be a valid string", &body["subject"]));
    }
    let or = |key: &str, default: Value| match &body[key] {
        Value::Null => default,
        value => value.clone(),
    };
    let fields: Map<String, Value> = [
        ("ti_id", json!(ti_id.to_string())),
        ("options", body["options"].clone()),
        ("subject", body["subject"].clone()),
        ("body", body["body"].clone()),
        ("defaults", body["defaults"].clone()),
        ("multiple", or("multiple", json!(false))),
        ("params", or("params", json!({}))),
        ("assigned_users", or("assigned_users", json!([]))),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    Ok(Value::Object(fields))
}

fn response(detail: &HitlDetail) -> Value {
    let list = |value: &Value| if value.is_array() { value.clone() } else { json!([]) };
    let map = |value: &Value| if value.is_object() { value.clone() } else { json!({}) };
    json!({
        "response_received": detail.responded_at.is_some(),
        "responded_by_user": detail.response["responded_by_user"],
        "responded_at": time(detail.responded_at),
        "chosen_options": list(&detail.response["chosen_options"]),
        "params_input": map(&detail.response["params_input"]),
    })
}

impl Execution {
    pub(crate) async fn create_hitl_detail(&self, caller: &Caller, body: Value) -> Outcome {
        let task = task_of(caller)?;
        let asked = question(task.ti_id, &body)?;
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        hitl::ask(&mut tx, scope, task.ti_id, &asked, Timestamp::now())
            .await
            .map_err(broken)?;
        let stored = hitl::get(&mut tx, scope, task.ti_id).await.map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::created(stored.map_or(asked, |stored| stored.detail)))
    }

    pub(crate) async fn update_hitl_detail(&self, caller: &Caller, ti_id: &str, body: &Value) -> Outcome {
        let ti_id = named_try(caller, ti_id)?;
        if body["chosen_options"].as_array().is_none_or(Vec::is_empty) {
            let problem = "List should have at least 1 item after validation";
            return Err(invalid("chosen_options", problem, &body["chosen_options"]));
        }
        let answer = json!({"chosen_options": body["chosen_options"], "params_input": body["params_input"]});
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        let answered = hitl::answer(&mut tx, scope, ti_id, &answer, Timestamp::now())
            .await
            .map_err(broken)?;
        let stored = hitl::get(&mut tx, scope, ti_id)
            .await
            .map_err(broken)?
            .ok_or_else(missing)?;
        if !answered {
            return Err(Refusal::new(
                409,
                format!("Human-in-the-loop detail for Task Instance with id {ti_id} already exists."),
            ));
        }
        tx.commit().await.map_err(broken)?;
        Ok(Answer::ok(response(&stored)))
    }

    pub(crate) async fn get_hitl_detail(&self, caller: &Caller, ti_id: &str) -> Outcome {
        let ti_id = named_try(caller, ti_id)?;
        let scope = self.own(caller);
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, scope, caller).await?;
        let stored = hitl::get(&mut tx, scope, ti_id)
            .await
            .map_err(broken)?
            .ok_or_else(missing)?;
        Ok(Answer::ok(response(&stored)))
    }
}

/// The try that is meant: a task means itself; the team's triggerer may name any of its team.
fn named_try(caller: &Caller, ti_id: &str) -> Result<TiId, Refusal> {
    let named = ti_id
        .parse()
        .map(TiId)
        .map_err(|_| invalid("task_instance_id", "Input should be a valid UUID", &json!(ti_id)))?;
    match caller {
        Caller::Task(task) if task.ti_id != named => Err(missing()),
        _ => Ok(named),
    }
}
