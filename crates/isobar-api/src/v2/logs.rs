//! Task logs, as a list of messages or as lines of JSON.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use isobar_auth::{Action, Resource};
use isobar_model::{TaskState, TeamId, parse_time, render_time};
use isobar_store::lists::task_instances::InstanceRow;
use isobar_store::lists::{task_instances, tries};
use serde_json::{Map, Value, json};

use crate::errors::{Answer, ok};
use crate::extract::Ask;
use crate::{ApiError, AppState};

pub(super) fn routes() -> Router<AppState> {
    const TASK: &str = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}";
    Router::new()
        .route(&format!("{TASK}/logs/{{try_number}}"), get(get_log))
        .route(&format!("{TASK}/externalLogUrl/{{try_number}}"), get(external_url))
}

/// How far a log was read: what a continuation token holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    lines: usize,
    begun: bool,
}

impl Position {
    fn encode(self) -> String {
        URL_SAFE_NO_PAD.encode(json!({"log_pos": self.lines}).to_string())
    }

    fn decode(token: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        let position = value.as_object()?.get("log_pos");
        let lines = match position {
            Some(lines) => Some(usize::try_from(lines.as_u64()?).ok()?),
            None => None,
        };
        Some(Self {
            lines: lines.unwrap_or(0),
            begun: lines.is_some(),
        })
    }
}

async fn get_log(mut ask: Ask) -> Answer {
    let target = ask.dag(Resource::Log, Action::Read)?;
    let try_number = ask.number("try_number")?;
    if try_number < 0 {
        return Err(ApiError::unprocessable(vec![json!({
            "type": "greater_than_equal",
            "loc": ["path", "try_number"],
            "msg": "Input should be greater than or equal to 0",
            "input": ask.part("try_number"),
            "ctx": {"ge": 0},
        })]));
    }
    ask.query.flag("full_content");
    let map_index = ask.query.int("map_index").unwrap_or(-1);
    ask.query.done()?;
    let position = match ask.query.text("token").filter(|token| !token.is_empty()) {
        None => Position::default(),
        Some(token) => Position::decode(&token)
            .ok_or_else(|| ApiError::bad_request("Bad Signature. Please use only the tokens provided by the API."))?,
    };
    let row = {
        let mut tx = ask.state.store.read().await?;
        tries::get(
            &mut tx,
            target.scope,
            &target.dag_id(),
            &ask.run_id(),
            &ask.task_id(),
            i32::try_from(map_index).unwrap_or(i32::MIN),
            try_number,
        )
        .await?
        .ok_or_else(|| ApiError::not_found("TaskInstance not found"))?
    };
    let current = {
        let mut tx = ask.state.store.read().await?;
        let rows = task_instances::of_task(
            &mut tx,
            target.scope,
            &row.dag_id,
            &row.run_id,
            &row.task_id,
            Some(row.map_index),
        );
        rows.await?.first().map(|current| current.id)
    };
    let ended = current != Some(row.id) || !matches!(row.state, Some(TaskState::Running | TaskState::Deferred));
    let (messages, lines) = if try_number == 0 {
        (never_started(&row), 0)
    } else {
        read(&ask.state, &row, position).await
    };
    let wants_lines = ask
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.to_ascii_lowercase().starts_with("application/x-ndjson"));
    let next = Position { lines, begun: true };
    if wants_lines {
        let text: String = messages
            .iter()
            .map(|message| format!("{}\n", with_timestamp(message)))
            .collect();
        let headers = [(CONTENT_TYPE, "application/x-ndjson".to_owned())];
        let token = (!ended).then(|| [("airflow-continuation-token", next.encode())]);
        return Ok(match token {
            Some(token) => (headers, token, text).into_response(),
            None => (headers, text).into_response(),
        });
    }
    let token = (!ended && try_number != 0).then(|| next.encode());
    ok(&json!({"content": messages, "continuation_token": token}))
}

async fn external_url(ask: Ask) -> Answer {
    ask.dag(Resource::Log, Action::Read)?;
    Err(ApiError::bad_request(
        "Task log handler does not support external logs.",
    ))
}

/// In lines of JSON every message has a timestamp, if only null.
fn with_timestamp(message: &Value) -> Value {
    match message {
        Value::Object(map) if !map.contains_key("timestamp") => {
            let mut whole = Map::new();
            whole.insert("timestamp".to_owned(), Value::Null);
            whole.extend(map.clone());
            whole.into()
        }
        other => other.clone(),
    }
}

/// What stands in place of the log of a task that never ran.
fn never_started(row: &InstanceRow) -> Vec<Value> {
    let event = match row.state {
        Some(TaskState::Skipped) => "Task was skipped — no logs available.",
        Some(TaskState::UpstreamFailed) => "Task did not run because upstream task(s) failed.",
        _ => "No logs available for this task.",
    };
    let at = row.end_date.or(row.start_date).unwrap_or_else(jiff::Timestamp::now);
    vec![
        json!({"timestamp": null, "event": "::group::Log message source details"}),
        json!({"timestamp": null, "event": "::endgroup::"}),
        json!({"timestamp": render_time(at), "event": event}),
    ]
}

/// Airflow's layout below the team's name (rule 29).
fn path_of(state: &AppState, row: &InstanceRow) -> PathBuf {
    let plain = |text: &str| text.replace('/', "_");
    let mut path = state.log_folder.join(team_folder(state, row.team));
    path.push(format!("dag_id={}", plain(row.dag_id.as_str())));
    path.push(format!("run_id={}", plain(row.run_id.as_str())));
    path.push(format!("task_id={}", plain(row.task_id.as_str())));
    if row.map_index >= 0 {
        path.push(format!("map_index={}", row.map_index));
    }
    path.push(format!("attempt={}.log", row.try_number));
    path
}

fn team_folder(state: &AppState, team: TeamId) -> String {
    state
        .auth
        .directory()
        .by_id(team)
        .map_or_else(|| format!("team-{team}"), |team| team.name.to_string())
}

/// The messages after a position, and how many lines there are by now.
async fn read(state: &AppState, row: &InstanceRow, position: Position) -> (Vec<Value>, usize) {
    let files = files_of(&path_of(state, row)).await;
    let mut messages = Vec::new();
    if !position.begun {
        messages.push(json!({"event": "::group::Log message source details"}));
        if files.is_empty() {
            let nothing = "No log file of this try was found; it was not written yet, or it was deleted";
            messages.push(json!({"event": nothing}));
        }
        messages.extend(
            files
                .iter()
                .map(|(path, _)| json!({"event": path.display().to_string()})),
        );
        messages.push(json!({"event": "::endgroup::"}));
    }
    let lines = interleaved(files.iter().map(|(_, text)| text.as_str()));
    messages.extend(lines.iter().skip(position.lines).cloned());
    (messages, lines.len())
}

/// The log of a try and those of triggers that it waited for, with what is in them.
async fn files_of(path: &Path) -> Vec<(PathBuf, String)> {
    let mut paths = vec![path.to_owned()];
    if let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(std::ffi::OsStr::to_str))
        && let Ok(mut beside) = tokio::fs::read_dir(folder).await
    {
        let prefix = format!("{name}.trigger.");
        while let Ok(Some(entry)) = beside.next_entry().await {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                paths.push(entry.path());
            }
        }
    }
    paths[1..].sort();
    let mut files = Vec::new();
    for path in paths {
        if let Ok(bytes) = tokio::fs::read(&path).await {
            files.push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    files
}

/// The messages of all files in the order of their times. One without a time follows the one before it in its file.
fn interleaved<'t>(files: impl Iterator<Item = &'t str>) -> Vec<Value> {
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut count = 0;
    for text in files {
        count += 1;
        // The last line may still be on its way to the disk.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut last = String::new();
        for line in whole.lines() {
            let message = message(line);
            if let Some(at) = message["timestamp"].as_str() {
                at.clone_into(&mut last);
            }
            all.push((last.clone(), message));
        }
    }
    // One file is in the order in which it was written, whatever its clock did.
    if count > 1 {
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    all.into_iter().map(|(_, message)| message).collect()
}

/// One line: a structured message, or a line of text.
fn message(line: &str) -> Value {
    let Ok(Value::Object(mut map)) = serde_json::from_str::<Value>(line) else {
        return json!({"event": line});
    };
    let Some(event) = map.shift_remove("event") else {
        return json!({"event": line});
    };
    let mut whole = Map::new();
    match map.shift_remove("timestamp") {
        Some(Value::String(text)) => {
            let shown = parse_time(&text).map_or(text, render_time);
            whole.insert("timestamp".to_owned(), shown.into());
        }
        Some(other) => {
            whole.insert("timestamp".to_owned(), other);
        }
        None => {}
    }
    let event = match event {
        Value::String(_) => event,
        other => other.to_string().into(),
    };
    whole.insert("event".to_owned(), event);
    whole.extend(map);
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_message_with_its_time_first() {
        let read = message(r#"{"level":"info","event":"hi","timestamp":"2026-01-01T00:00:00.5+00:00"}"#);
        assert_eq!(
            read.to_string(),
            r#"{"timestamp":"2026-01-01T00:00:00.500000Z","event":"hi","level":"info"}"#
        );
        assert_eq!(message("plain text"), json!({"event": "plain text"}));
    }

    #[test]
    fn a_triggers_lines_stand_between_those_of_the_task() {
        let task = "{\"event\":\"defers\",\"timestamp\":\"2026-01-01T00:00:01Z\"}\nTraceback\n\
                    {\"event\":\"resumes\",\"timestamp\":\"2026-01-01T00:00:03Z\"}\nhalf a li";
        let trigger = "{\"event\":\"waits\",\"timestamp\":\"2026-01-01T00:00:02Z\"}\n";
        let read = interleaved([task, trigger].into_iter());
        let events: Vec<_> = read.iter().map(|message| message["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["defers", "Traceback", "waits", "resumes"]);
    }

    #[test]
    fn a_token_is_read_back_and_nonsense_is_not() {
        let position = Position { lines: 7, begun: true };
        assert_eq!(Position::decode(&position.encode()), Some(position));
        assert_eq!(Position::decode("nonsense!"), None);
    }
}
