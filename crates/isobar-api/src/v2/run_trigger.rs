//! Making a run by hand.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_execution::partition_date;
use isobar_model::dag::SerializedDag;
use isobar_model::{RunId, RunTrigger, RunType};
use isobar_store::lists::dags::{self, DagRow};
use isobar_store::lists::{runs as run_list, versions};
use isobar_store::runs::NewRun;
use isobar_store::{StoreError, audit};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::run_dates::{self, Dates, Given};
use super::run_json::run;
use super::stored_dag;
use super::task_instance_json::python_text;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};

/// What the body asks for.
#[derive(Clone)]
pub(super) struct Asked {
    run_id: Option<String>,
    interval: Option<(Timestamp, Timestamp)>,
    logical_date: Option<Timestamp>,
    run_after: Timestamp,
    /// The client left it to us when the run is after, and so which id it gets.
    moment_is_ours: bool,
    conf: Option<Map<String, Value>>,
    note: Option<String>,
    partition_key: Option<String>,
}

impl Asked {
    pub(super) fn read(body: &Bytes, kind: RunType) -> Result<Self, ApiError> {
        let mut fields = Fields::of_body(body)?;
        let run_id = fields.text("dag_run_id", None);
        let start = fields.time("data_interval_start", true);
        let end = fields.time("data_interval_end", true);
        if kind == RunType::Manual {
            fields.require("logical_date");
        }
        let logical_date = fields.time("logical_date", true);
        let run_after = fields.time("run_after", false);
        let conf_given = fields.has("conf");
        let conf = fields.object("conf");
        let note = fields.text("note", None);
        let partition_key = fields.text("partition_key", None);
        if fields.is_sound() && start.is_some() != end.is_some() {
            fields.refuse(
                None,
                "Either both data_interval_start and data_interval_end must be provided or both must be None",
            );
        }
        fields.done()?;
        Ok(Self {
            moment_is_ours: run_id.is_none() && run_after.is_none(),
            run_id,
            interval: start.zip(end),
            logical_date,
            run_after: run_after.unwrap_or_else(Timestamp::now),
            conf: if conf_given { conf } else { Some(Map::new()) },
            note,
            partition_key,
        })
    }
}

/// `POST /dags/{dag_id}/dagRuns`
pub(super) async fn trigger(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::Run, Action::Create)?;
    let asked = Asked::read(&body, RunType::Manual)?;
    let dag_id = target.dag_id();
    let row = {
        let mut tx = ask.state.store.read().await?;
        let row = dags::get(&mut tx, target.scope, &dag_id)
            .await?
            .filter(|row| !row.is_stale)
            .ok_or_else(|| ApiError::not_found(format!("Dag with dag_id: '{}' not found", target.written)))?;
        if row.has_import_errors {
            return Err(ApiError::bad_request(format!(
                "Dag with dag_id: '{}' has import errors and cannot be triggered",
                target.written
            )));
        }
        row
    };
    make(&ask, &target, row, asked, RunType::Manual, "trigger_dag_run").await
}

/// Makes a run of a kind that people may start.
///
/// # Errors
/// 400 and 404 in Airflow's words, 409 where the run is there, 503 where only Python could say its data interval.
pub(super) async fn make(
    ask: &Ask,
    target: &Target,
    row: DagRow,
    mut asked: Asked,
    kind: RunType,
    event: &'static str,
) -> Answer {
    let dag_id = target.dag_id();
    let allows = |types: &Vec<Value>| types.iter().any(|one| one == kind.as_str());
    if row.allowed_run_types.as_array().is_some_and(|types| !allows(types)) {
        return Err(ApiError::bad_request(format!(
            "Dag with dag_id: '{}' does not allow {} runs",
            target.written,
            kind.as_str().replace('_', " ")
        )));
    }
    let (dag, version_id) = {
        let mut tx = ask.state.store.read().await?;
        let content = versions::content(&mut tx, target.scope, &dag_id, None).await?;
        let content = content.ok_or_else(|| stored_dag::missing(target))?;
        let dag = ask
            .state
            .dags
            .read(&content)
            .ok_or_else(|| stored_dag::missing(target))?;
        (dag, content.id)
    };
    let (mut tx, new) = loop {
        let new = checked(&dag, target, asked.clone(), kind, ask).await?;
        let new = NewRun {
            bundle_version: row.bundle_version.clone().filter(|_| !dag.disable_bundle_versioning),
            version_id: Some(version_id),
            ..new
        };
        let mut tx = ask.state.store.begin().await?;
        let execution = &ask.state.execution;
        let team = ask.names.directory.by_id(target.scope.team());
        let team = team.as_ref().map_or("", |team| team.name.as_str());
        let problem = execution.problem_of_deadlines(&mut tx, target.scope, team, &dag.deadlines);
        if let Some(problem) = problem.await? {
            return Err(ApiError::bad_request(problem));
        }
        match execution
            .new_runs()
            .create(&mut tx, target.scope, &new, Timestamp::now())
            .await
        {
            Ok(_) => break (tx, new),
            Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let same_id = run_list::get(&mut tx, target.scope, &dag_id, &new.run_id)
            .await?
            .is_some();
        if !same_id {
            return Err(ApiError::not_unique("dag_run", "dag_id, dag_run.logical_date"));
        }
        if !asked.moment_is_ours {
            return Err(ApiError::not_unique("dag_run", "dag_id, dag_run.run_id"));
        }
        // Another client's run has the same microsecond in its id; time has moved since.
        asked.run_after = Timestamp::now();
    };
    let record = audit::Record::new(event, ask.caller.name())
        .dag(&dag_id)
        .run(&new.run_id)
        .extra(json!({"conf": new.conf, "run_id": new.run_id}));
    audit::write(&mut tx, target.scope, &[record]);
    let made = run_list::get(&mut tx, target.scope, &dag_id, &new.run_id).await?;
    tx.commit().await?;
    let made = made.ok_or_else(|| stored_dag::missing(target))?;
    ok(&run(&made, &ask.names))
}

async fn checked(
    dag: &SerializedDag,
    target: &Target,
    asked: Asked,
    kind: RunType,
    ask: &Ask,
) -> Result<NewRun, ApiError> {
    let bad = |text: String| Err(ApiError::bad_request(text));
    let key = asked.partition_key.as_deref();
    let partition_date =
        partition_date(dag, &target.written, key).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let given = Given {
        run_id: asked.run_id.as_deref(),
        interval: asked.interval,
        logical_date: asked.logical_date,
        run_after: asked.run_after,
        partition_key: key,
        partition_date,
    };
    let Dates {
        interval,
        run_id,
        partition_date,
    } = run_dates::of_run(ask, target, dag, &given, kind).await?;
    if let Some(problem) = problem_of_run_id(&run_id, kind) {
        return bad(problem);
    }
    if let Some(problem) = problem_of_conf(dag, asked.conf.as_ref()) {
        return bad(problem);
    }
    let by_page = ask.headers.contains_key(axum::http::header::REFERER);
    let user = ask.caller.name().to_owned();
    Ok(NewRun {
        triggered_by: Some(if by_page { RunTrigger::Ui } else { RunTrigger::RestApi }),
        triggering_user: Some(user),
        conf: asked.conf.map_or(Value::Null, Value::Object),
        note: asked.note.filter(|note| !note.is_empty()),
        logical_date: asked.logical_date,
        interval,
        partition_key: asked.partition_key,
        partition_date,
        ..NewRun::new(dag.dag_id.clone(), RunId::from(run_id), kind, asked.run_after)
    })
}

/// What Airflow has against a run id of a run that somebody made.
pub(super) fn problem_of_run_id(run_id: &str, kind: RunType) -> Option<String> {
    if run_id.contains("..") {
        return Some(format!(
            "The run_id '{run_id}' must not contain '..' to prevent path traversal"
        ));
    }
    let mut characters = run_id.chars();
    let starts_well = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphanumeric() || "_.~:+-".contains(c));
    let well = starts_well && characters.all(|c| c.is_ascii_alphanumeric() || "_.~:+-".contains(c));
    let typed = RunType::ALL.iter().any(|kind| {
        run_id
            .strip_prefix(kind.as_str())
            .is_some_and(|rest| rest.starts_with("__") && rest.len() > 2)
    });
    if !well && !typed {
        return Some(format!(
            "The run_id provided '{run_id}' does not match regex pattern '^[A-Za-z0-9_.~:+-]+$' or \
             '^(?:manual|scheduled|asset_triggered)__(?:\\d{{4}}-\\d{{2}}-\\d{{2}}T\\d{{2}}:\\d{{2}}:\\d{{2}}\\+00:00)$'"
        ));
    }
    let claimed = RunType::from_run_id(run_id);
    (kind == RunType::Manual && claimed != RunType::Manual)
        .then(|| format!("A manual DAG run cannot use ID '{run_id}' since it is reserved for {claimed} runs"))
}

/// What the params' schemas have against a conf.
pub(super) fn problem_of_conf(dag: &SerializedDag, conf: Option<&Map<String, Value>>) -> Option<String> {
    for param in &dag.params {
        let given = conf.and_then(|conf| conf.get(&param.name));
        let value = given.unwrap_or(&param.default);
        if param.schema.is_empty() {
            continue;
        }
        let schema = Value::Object(param.schema.clone());
        let schema = match isobar_execution::param_schema::validator(&schema) {
            Ok(schema) => schema,
            Err(error) => return Some(format!("Invalid input for param {}: {error}", param.name)),
        };
        if let Err(error) = schema.validate(value) {
            return Some(format!(
                "Invalid input for param {}: {}",
                param.name,
                explain(&error, &param.schema, value)
            ));
        }
    }
    None
}

/// The refusal in the words of Python's `jsonschema`, for the kinds that params commonly use.
fn explain(error: &jsonschema::ValidationError<'_>, schema: &Map<String, Value>, value: &Value) -> String {
    use jsonschema::error::{TypeKind, ValidationErrorKind};
    let shown = python_text(value);
    let (keyword, problem) = match error.kind() {
        ValidationErrorKind::Type { kind } => {
            let types = match kind {
                TypeKind::Single(one) => format!("'{one}'"),
                TypeKind::Multiple(some) => some.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", "),
            };
            ("type", format!("{shown} is not of type {types}"))
        }
        ValidationErrorKind::Enum { options } => ("enum", format!("{shown} is not one of {}", python_text(options))),
        ValidationErrorKind::Minimum { limit } => ("minimum", format!("{shown} is less than the minimum of {limit}")),
        ValidationErrorKind::Maximum { limit } => {
            ("maximum", format!("{shown} is greater than the maximum of {limit}"))
        }
        ValidationErrorKind::MinLength { .. } => ("minLength", format!("{shown} is too short")),
        ValidationErrorKind::MaxLength { .. } => ("maxLength", format!("{shown} is too long")),
        ValidationErrorKind::Pattern { pattern } => ("pattern", format!("{shown} does not match '{pattern}'")),
        ValidationErrorKind::Format { format } => ("format", format!("{shown} is not a '{format}'")),
        _ => return error.to_string(),
    };
    let schema = python_text(&Value::Object(schema.clone()));
    format!("{problem}\n\nFailed validating '{keyword}' in schema:\n    {schema}\n\nOn instance:\n    {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_run_cannot_take_the_id_of_a_scheduled_one() {
        assert!(problem_of_run_id("scheduled__2026-01-01T00:00:00+00:00", RunType::Manual).is_some());
        assert!(problem_of_run_id("manual__2026-01-01T00:00:00+00:00", RunType::Manual).is_none());
        assert!(problem_of_run_id("b_1763760000000_0", RunType::Manual).is_none());
        assert!(problem_of_run_id("a/../b", RunType::Manual).is_some());
        assert!(problem_of_run_id("a b", RunType::Manual).is_some());
    }
}
