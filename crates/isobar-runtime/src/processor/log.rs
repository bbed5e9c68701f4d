//! The log of a parse: one file per Dag file and day, appended to by each parse of it, in Airflow's form.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::json;

use super::bundle::FileId;
use crate::masker::Masker;
use crate::supervisor::LineSink;
use crate::tasklog::{Level, Stream, TaskLog};

/// The first part of the logger's name of printed lines, as in Airflow.
const LOGGER: &str = "dag_processor";

/// The log of one parse. Opened with the first line, so that a quiet parse leaves no file.
pub(crate) struct ParseLog {
    folder: PathBuf,
    relative: String,
    logger: &'static str,
    masker: Arc<Masker>,
    log: Mutex<Unopened>,
}

enum Unopened {
    NotYet,
    Open(Box<TaskLog>),
    /// Said once, not per line.
    Failed,
}

impl ParseLog {
    /// The log `<team's log folder>/dag_processor/<date>/<bundle>/<file>.log`.
    pub(super) fn new(log_folder: &Path, id: &FileId, masker: Arc<Masker>) -> Self {
        let day = Timestamp::now().strftime("%Y-%m-%d");
        let relative = format!("dag_processor/{day}/{}/{}.log", id.bundle, id.rel_path);
        Self::at(log_folder, relative, LOGGER, masker)
    }

    /// A log below the team's log folder.
    pub(crate) fn at(log_folder: &Path, relative: String, logger: &'static str, masker: Arc<Masker>) -> Self {
        Self {
            folder: log_folder.to_owned(),
            relative,
            logger,
            masker,
            log: Mutex::new(Unopened::NotYet),
        }
    }

    /// An error of the dag-processor's own.
    pub(super) fn error(&self, event: &str) {
        self.with(|log| log.note(Level::Error, event, json!({})));
        self.pause();
    }

    fn with(&self, write: impl FnOnce(&mut TaskLog)) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*log, Unopened::NotYet) {
            *log = match TaskLog::open(&self.folder, &self.relative, self.logger, Arc::clone(&self.masker)) {
                Ok(opened) => Unopened::Open(Box::new(opened)),
                Err(error) => {
                    tracing::warn!(%error, "a parse is not logged");
                    Unopened::Failed
                }
            };
        }
        if let Unopened::Open(log) = &mut *log {
            write(log);
        }
    }
}

impl LineSink for ParseLog {
    fn line(&self, stream: Stream, line: &[u8]) {
        if !line.is_empty() {
            self.with(|log| log.child_line(stream, line));
        }
    }

    fn pause(&self) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Unopened::Open(log) = &mut *log {
            log.flush();
        }
    }
}
