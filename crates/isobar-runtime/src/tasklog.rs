//! A task's log file: JSON lines with the keys and the order of Airflow's own.

use std::fs::{File, OpenOptions, create_dir_all};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use isobar_model::{parse_time, render_time};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::masker::Masker;

/// Which of a child's streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What it printed.
    Stdout,
    /// What it printed as errors.
    Stderr,
    /// Its structured log.
    Log,
}

/// Where logs go that are not lines of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the levels of every logger")]
pub enum Level {
    Info,
    Warning,
    Error,
    Critical,
}

/// A log path that would leave the log folder.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It is absolute or climbs.
    #[error("log path `{0}` does not stay inside the log folder")]
    Escapes(String),
    /// The file system refused.
    #[error("cannot open log file `{path}`: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// The log of one try. Lines are masked, gathered and written together by [`TaskLog::flush`]; never synced.
#[derive(Debug)]
pub struct TaskLog {
    file: File,
    lines: Vec<u8>,
    masker: Arc<Masker>,
    prefix: &'static str,
}

impl TaskLog {
    /// Opens `folder`/`relative` for appending and makes its folders: a resumed try continues its first part.
    ///
    /// The folder must be one that no child can write. `prefix` is the first part of the logger's name of printed
    /// lines: `task` gives `task.stdout`.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(folder: &Path, relative: &str, prefix: &'static str, masker: Arc<Masker>) -> Result<Self, LogError> {
        let inside = Path::new(relative);
        if relative.is_empty() || !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(LogError::Escapes(relative.to_owned()));
        }
        let path = folder.join(inside);
        let opened = path
            .parent()
            .map_or(Ok(()), create_dir_all)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        let file = opened.map_err(|source| LogError::Open { path, source })?;
        Ok(Self {
            file,
            lines: Vec::new(),
            masker,
            prefix,
        })
    }

    /// Takes one line of the child, without its line end.
    pub fn child_line(&mut self, stream: Stream, line: &[u8]) {
        match stream {
            Stream::Stdout => self.printed(line, "info", "stdout"),
            Stream::Stderr => self.printed(line, "error", "stderr"),
            Stream::Log => match serde_json::from_slice(line) {
                Ok(Value::Object(event)) => self.event(event),
                // Not JSON: nothing that a child says is lost.
                _ => self.printed(line, "warning", "log"),
            },
        }
    }

    fn printed(&mut self, line: &[u8], level: &str, stream: &str) {
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        let logger = format!("{}.{stream}", self.prefix);
        self.write(json!({
            "timestamp": render_time(Timestamp::now()), "level": level, "event": text, "logger": logger,
        }));
    }

    fn event(&mut self, mut event: Map<String, Value>) {
        let Some(level) = event
            .shift_remove("level")
            .and_then(|level| level.as_str().and_then(level_name))
        else {
            return;
        };
        let timestamp = match event.shift_remove("timestamp") {
            Some(Value::String(text)) => parse_time(&text).map_or(text, render_time),
            _ => render_time(Timestamp::now()),
        };
        let text = event
            .shift_remove("event")
            .filter(|text| !text.is_null())
            .unwrap_or_else(|| "".into());
        let exception = event.shift_remove("exception").filter(|exception| !exception.is_null());
        let mut line = Map::with_capacity(event.len() + 4);
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), level.into());
        line.insert("event".to_owned(), text);
        line.append(&mut event);
        if let Some(exception) = exception {
            line.insert("error_detail".to_owned(), exception);
        }
        if !line.contains_key("logger") {
            line.insert("logger".to_owned(), self.prefix.into());
        }
        self.write(Value::Object(line));
    }

    /// Writes a line of the supervisor's own into the task's log.
    pub fn note(&mut self, level: Level, event: &str, fields: Value) {
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
        };
        let mut line = json!({"timestamp": render_time(Timestamp::now()), "level": level, "event": event});
        if let (Value::Object(line), Value::Object(mut fields)) = (&mut line, fields) {
            line.append(&mut fields);
            line.insert("logger".to_owned(), self.prefix.into());
        }
        self.write(line);
    }

    fn write(&mut self, mut line: Value) {
        self.masker.redact(&mut line);
        // Writing to memory cannot fail, and every value here has a JSON form.
        if serde_json::to_writer(&mut self.lines, &line).is_ok() {
            self.lines.push(b'\n');
        }
    }

    /// Writes what was gathered. A full disk costs the lines, never the task.
    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Err(error) = self.file.write_all(&self.lines) {
            tracing::error!(%error, "a task's log lines could not be written and are lost");
        }
        self.lines.clear();
    }
}

impl Drop for TaskLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The level's name in the file; lines of unknown levels are dropped, as Airflow drops them.
fn level_name(level: &str) -> Option<&'static str> {
    Some(match level {
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warning",
        "error" | "exception" => "error",
        "critical" | "fatal" => "critical",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[(Stream, &str)]) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let masker = Arc::new(Masker::default());
        masker.add(&json!("s3cr3t-value"), None);
        let mut log = TaskLog::open(folder.path(), "team/dag_id=d/attempt=1.log", "task", masker).unwrap();
        for (stream, line) in lines {
            log.child_line(*stream, line.as_bytes());
        }
        drop(log);
        let text = std::fs::read_to_string(folder.path().join("team/dag_id=d/attempt=1.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_childs_event_keeps_its_keys_and_begins_with_three() {
        let line = r#"{"logger":"x","level":"warn","timestamp":"2026-01-01T00:00:00.250000+00:00","exception":[{"a":1}],"event":"hi s3cr3t-value","n":1}"#;
        let lines = written(&[(Stream::Log, line)]);
        assert_eq!(
            lines[0].to_string(),
            r#"{"timestamp":"2026-01-01T00:00:00.250000Z","level":"warning","event":"hi ***","logger":"x","n":1,"error_detail":[{"a":1}]}"#
        );
    }

    #[test]
    fn printed_lines_carry_their_stream() {
        let lines = written(&[
            (Stream::Stdout, "out s3cr3t-value  "),
            (Stream::Stderr, "err"),
            (Stream::Log, "not json"),
        ]);
        let keys: Vec<_> = lines[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["timestamp", "level", "event", "logger"]);
        assert_eq!(
            (&lines[0]["event"], &lines[0]["logger"]),
            (&json!("out ***"), &json!("task.stdout"))
        );
        assert_eq!(
            (&lines[1]["level"], &lines[1]["logger"]),
            (&json!("error"), &json!("task.stderr"))
        );
        assert_eq!(lines[2]["event"], "not json");
    }

    #[test]
    fn a_log_path_cannot_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x.log", "/etc/x.log", "a/../../x.log", ""] {
            let opened = TaskLog::open(folder.path(), path, "task", Arc::default());
            assert!(matches!(opened, Err(LogError::Escapes(_))), "{path}");
        }
    }
}
