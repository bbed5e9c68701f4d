//! Where the lines of a triggerer go: those of a task's trigger into a file beside the task's log, all others into the
//! server's own log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isobar_model::TeamName;
use serde_json::Value;
use tokio::time::Instant;

use crate::masker::Masker;
use crate::supervisor::LineSink;
use crate::tasklog::{Stream, TaskLog};

/// How long a trigger's log stays open after its end: its last lines may still be on their way.
const AFTER_END: Duration = Duration::from_secs(10);

/// The logs of one fork.
#[derive(Clone)]
pub(super) struct Logs {
    team: TeamName,
    folder: PathBuf,
    masker: Arc<Masker>,
    open: Arc<Mutex<HashMap<i64, Log>>>,
}

struct Log {
    path: String,
    file: Option<TaskLog>,
    ended: Option<Instant>,
}

impl Logs {
    pub(super) fn new(team: TeamName, folder: PathBuf, masker: Arc<Masker>) -> Self {
        Self {
            team,
            folder,
            masker,
            open: Arc::default(),
        }
    }

    /// Lines of this trigger go to this file from now on. It is made with the first line.
    pub(super) fn begin(&self, trigger: i64, path: String) {
        let log = Log {
            path,
            file: None,
            ended: None,
        };
        self.open().insert(trigger, log);
    }

    /// A trigger has ended; its log is closed a little later.
    pub(super) fn end(&self, trigger: i64) {
        if let Some(log) = self.open().get_mut(&trigger) {
            log.ended = Some(Instant::now());
        }
    }

    /// Closes what ended a while ago.
    pub(super) fn tidy(&self) {
        self.open()
            .retain(|_, log| log.ended.is_none_or(|ended| ended.elapsed() < AFTER_END));
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i64, Log>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event into its trigger's log; false where it is nobody's.
    fn of_trigger(&self, line: &[u8]) -> bool {
        let Ok(Value::Object(mut event)) = serde_json::from_slice(line) else {
            return false;
        };
        let Some(trigger) = event.get("trigger_id").and_then(Value::as_i64) else {
            return false;
        };
        let mut open = self.open();
        let Some(log) = open.get_mut(&trigger) else {
            return false;
        };
        if log.file.is_none() {
            match TaskLog::open(&self.folder, &log.path, "trigger", Arc::clone(&self.masker)) {
                Ok(file) => log.file = Some(file),
                Err(error) => {
                    tracing::error!(team = %self.team, %error, "a trigger's log cannot be written");
                    return false;
                }
            }
        }
        event.shift_remove("trigger_id");
        if let Some(file) = &mut log.file {
            file.child_line(Stream::Log, Value::Object(event).to_string().as_bytes());
        }
        true
    }
}

impl LineSink for Logs {
    fn line(&self, stream: Stream, line: &[u8]) {
        if stream == Stream::Log && self.of_trigger(line) {
            return;
        }
        let text = String::from_utf8_lossy(line);
        let text = self.masker.redact_text(text.trim_end());
        tracing::info!(team = %self.team, stream = ?stream, line = %text, "triggerer");
    }

    fn pause(&self) {
        for log in self.open().values_mut() {
            if let Some(file) = &mut log.file {
                file.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_trigger_go_to_its_tasks_log_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(TeamName::default_team(), folder.path().to_owned(), Arc::default());
        logs.begin(7, "t/attempt=1.log.trigger.3.log".to_owned());
        logs.line(
            Stream::Log,
            br#"{"level":"info","event":"mine","trigger_id":7,"timestamp":"2026-01-01T00:00:00Z"}"#,
        );
        logs.line(Stream::Log, br#"{"level":"info","event":"another's","trigger_id":8}"#);
        logs.line(Stream::Stdout, b"printed");
        logs.pause();
        let written = std::fs::read_to_string(folder.path().join("t/attempt=1.log.trigger.3.log")).unwrap();
        assert_eq!(
            written,
            "{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"info\",\"event\":\"mine\",\"logger\":\"trigger\"}\n"
        );
    }
}
