//! Waiting for a run to end: lines of JSON, one for each look.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use isobar_auth::{Action, Resource, TeamScope};
use isobar_model::{DagId, RunId};
use isobar_store::lists::{runs, xcoms};
use serde_json::{Map, Value, json};

use super::runs::missing;
use crate::errors::Answer;
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/dags/{dag_id}/dagRuns/{dag_run_id}/wait", get(wait))
}

struct Waiting {
    state: AppState,
    scope: TeamScope,
    dag_id: DagId,
    run_id: RunId,
    interval: Duration,
    tasks: Option<Vec<String>>,
    first: bool,
    done: bool,
}

async fn wait(ask: Ask) -> Answer {
    let target = ask.dag(Resource::Run, Action::Read)?;
    let interval = ask.query.text("interval").unwrap_or_default();
    let seconds: f64 = interval.parse().unwrap_or(0.0);
    if !(seconds > 0.0 && seconds.is_finite()) {
        return Err(bad_interval(&ask));
    }
    let tasks = ask.query.texts("result");
    let mut tx = ask.state.store.read().await?;
    if runs::get(&mut tx, target.scope, &target.dag_id(), &ask.run_id())
        .await?
        .is_none()
    {
        return Err(missing(&target.written, ask.part("dag_run_id")));
    }
    drop(tx);
    let waiting = Waiting {
        state: ask.state.clone(),
        scope: target.scope,
        dag_id: target.dag_id(),
        run_id: ask.run_id(),
        interval: Duration::from_secs_f64(seconds.min(86_400.0)),
        tasks: (!tasks.is_empty()).then_some(tasks),
        first: true,
        done: false,
    };
    let lines = stream::unfold(waiting, |mut waiting| async move {
        if waiting.done {
            return None;
        }
        if !std::mem::take(&mut waiting.first) {
            tokio::time::sleep(waiting.interval).await;
        }
        let line = waiting.look().await;
        Some((Ok::<_, Infallible>(Bytes::from(line)), waiting))
    });
    let headers = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok(Response::into_response(
        (headers, Body::from_stream(lines)).into_response(),
    ))
}

fn bad_interval(ask: &Ask) -> ApiError {
    let problem = match ask.query.text("interval") {
        None => json!({"type": "missing", "loc": ["query", "interval"], "msg": "Field required", "input": null}),
        Some(text) if text.parse::<f64>().is_ok() => json!({
            "type": "greater_than",
            "loc": ["query", "interval"],
            "msg": "Input should be greater than 0",
            "input": text,
            "ctx": {"gt": 0.0},
        }),
        Some(text) => json!({
            "type": "float_parsing",
            "loc": ["query", "interval"],
            "msg": "Input should be a valid number, unable to parse string as a number",
            "input": text,
        }),
    };
    ApiError::unprocessable(vec![problem])
}

impl Waiting {
    /// One line; the last where the run has ended, or is gone.
    async fn look(&mut self) -> String {
        match self.read().await {
            Ok(Some(line)) => format!("{line}\n"),
            Ok(None) | Err(_) => {
                self.done = true;
                String::new()
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Value>, ApiError> {
        let mut tx = self.state.store.read().await?;
        let Some(run) = runs::get(&mut tx, self.scope, &self.dag_id, &self.run_id).await? else {
            return Ok(None);
        };
        let mut line = json!({"state": run.state});
        if run.state.is_finished() {
            self.done = true;
            let found = xcoms::results(&mut tx, self.scope, &self.dag_id, &self.run_id, self.tasks.as_deref()).await?;
            let mut results: Map<String, Value> = Map::new();
            for (task_id, map_index, value) in found {
                if map_index < 0 {
                    results.insert(task_id.to_string(), value);
                } else if let Value::Array(all) = results
                    .entry(task_id.to_string())
                    .or_insert_with(|| Value::Array(Vec::new()))
                {
                    all.push(value);
                }
            }
            if !results.is_empty() {
                line["results"] = results.into();
            }
        }
        Ok(Some(line))
    }
}
