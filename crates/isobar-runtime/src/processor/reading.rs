//! One unit of work around a parse child: the file's stamp and source before, the report after.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use isobar_model::AirflowTime;
use isobar_wire::agent::{AgentApi, KnownFile, ParsedFile};
use isobar_wire::execution::{Caller, ExecutionApi};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::ProcessorSpec;
use super::bundle::{Bundle, FileId, Stamp, read_source};
use super::callbacks::{self, CallbackJob};
use super::log::ParseLog;
use super::parse::{self, Door, Found, Job, Outcome};
use crate::masker::Masker;
use crate::zygote::Zygote;

/// What a parse child is started for.
pub(super) enum Work {
    Read(FileId),
    Callbacks(CallbackJob),
}

/// What came of it.
pub(super) enum Reading {
    /// The file was read, well or badly.
    Read {
        id: FileId,
        file: Box<ParsedFile>,
        asked: bool,
    },
    /// The file is gone, or cannot be read by us.
    Vanished(FileId),
    /// The zygote ended under it.
    Lost(FileId),
    /// The zygote with this process id was gone already.
    NotBegun(FileId, i32),
    /// Callbacks ran, and that is acknowledged.
    Callbacks,
    /// The zygote with this process id ended before or under them.
    CallbacksLost(CallbackJob, i32),
}

/// What all readings of a team share.
pub(super) struct Reader {
    spec: Arc<ProcessorSpec>,
    api: Arc<dyn ExecutionApi>,
    stop: CancellationToken,
    folders: Vec<PathBuf>,
}

impl Reader {
    pub(super) fn new(spec: Arc<ProcessorSpec>, api: Arc<dyn ExecutionApi>, stop: CancellationToken) -> Self {
        let folders = spec.bundles.iter().map(|bundle| bundle.folder.clone()).collect();
        Self {
            spec,
            api,
            stop,
            folders,
        }
    }

    /// Where a file lies; none where its bundle is not the team's.
    pub(super) fn path(&self, id: &FileId) -> Option<PathBuf> {
        Some(self.bundle(id)?.folder.join(&*id.rel_path))
    }

    pub(super) async fn work(&self, zygote: &Zygote, work: Work, agent: &Arc<dyn AgentApi>) -> Reading {
        match work {
            Work::Read(id) => self.read(zygote, id).await,
            Work::Callbacks(job) => self.call_back(zygote, job, agent).await,
        }
    }

    async fn read(&self, zygote: &Zygote, id: FileId) -> Reading {
        // The source first: where the file changes meanwhile, its stamp is the older one, and the event that follows
        // has it read again.
        let (stamp, source) = match self.source(&id).await {
            Ok(read) => read,
            Err(error) => {
                tracing::info!(file = &*id.rel_path, %error, "a Dag file can no longer be read");
                return Reading::Vanished(id);
            }
        };
        let parsed_at = Timestamp::now();
        let begun = Instant::now();
        let outcome = self.parse(zygote, &id, Vec::new()).await;
        let found = match outcome {
            Outcome::Lost => return Reading::Lost(id),
            Outcome::NotBegun => return Reading::NotBegun(id, zygote.pid()),
            Outcome::Parsed(found) => found,
            Outcome::Failed(reason) => blamed(&id, reason),
            Outcome::Quiet => blamed(&id, "The process that read the file ended without a result.".to_owned()),
        };
        let asked = found.asked;
        let mut file = self.parsed_file(&id, stamp, source, found);
        file.parsed_at = AirflowTime(parsed_at);
        file.seconds = begun.elapsed().as_secs_f64();
        Reading::Read {
            id,
            file: Box::new(file),
            asked,
        }
    }

    async fn call_back(&self, zygote: &Zygote, job: CallbackJob, agent: &Arc<dyn AgentApi>) -> Reading {
        let requests = job.callbacks.iter().map(|callback| callback.request.clone()).collect();
        match self.parse(zygote, &job.file, requests).await {
            Outcome::Lost | Outcome::NotBegun => return Reading::CallbacksLost(job, zygote.pid()),
            Outcome::Failed(reason) => {
                tracing::warn!(file = &*job.file.rel_path, reason, "callbacks did not run to their end");
            }
            Outcome::Parsed(_) | Outcome::Quiet => {}
        }
        callbacks::done(
            self.spec.team,
            agent,
            job.callbacks.iter().map(|callback| callback.id).collect(),
        )
        .await;
        Reading::Callbacks
    }

    async fn parse(&self, zygote: &Zygote, id: &FileId, callbacks: Vec<serde_json::Value>) -> Outcome {
        let Some(bundle) = self.bundle(id) else {
            return Outcome::Failed(format!("The team has no bundle `{}` any more.", id.bundle));
        };
        let masker = Arc::new(Masker::new(self.spec.masking.clone()));
        let log = Arc::new(ParseLog::new(&self.spec.log_folder, id, Arc::clone(&masker)));
        let door = Door {
            api: Arc::clone(&self.api),
            caller: Caller::Parse {
                team: self.spec.team,
                team_name: self.spec.team_name.clone(),
                bundle: id.bundle.to_string(),
            },
            masker,
        };
        let job = Job {
            file: bundle.folder.join(&*id.rel_path),
            bundle_path: bundle.folder.clone(),
            bundle: Arc::clone(&bundle.name),
            callbacks,
            timeout: self.spec.timeout,
        };
        parse::run(zygote, &job, &door, &log, &self.stop).await
    }

    /// The report on a file under which the zygote ended again and again.
    pub(super) fn blame(&self, id: &FileId) -> Option<Box<ParsedFile>> {
        let (stamp, source) = read_source(&self.path(id)?, &self.folders).ok()?;
        let reason = "The team's Python process ended each time that this file was read.".to_owned();
        Some(Box::new(self.parsed_file(id, stamp, source, blamed(id, reason))))
    }

    fn parsed_file(&self, id: &FileId, stamp: Stamp, source: String, found: Found) -> ParsedFile {
        ParsedFile {
            file: KnownFile {
                bundle: id.bundle.to_string(),
                rel_path: id.rel_path.to_string(),
                mtime_ns: stamp.mtime_ns,
                size: stamp.size,
                fingerprint: self.spec.fingerprint.clone(),
            },
            fileloc: self.path(id).unwrap_or_default().display().to_string(),
            source,
            dags: found.dags,
            warnings: found.warnings,
            import_errors: found.import_errors,
            parsed_at: AirflowTime(Timestamp::now()),
            seconds: 0.0,
        }
    }

    async fn source(&self, id: &FileId) -> io::Result<(Stamp, String)> {
        let path = self.path(id).ok_or_else(|| io::Error::other("its bundle is gone"))?;
        let folders = self.folders.clone();
        tokio::task::spawn_blocking(move || read_source(&path, &folders))
            .await
            .map_err(io::Error::other)?
    }

    fn bundle(&self, id: &FileId) -> Option<&Bundle> {
        self.spec.bundles.iter().find(|bundle| bundle.name == id.bundle)
    }
}

/// A whole-file failure: one import error for the file itself.
fn blamed(id: &FileId, reason: String) -> Found {
    Found {
        import_errors: vec![(id.rel_path.to_string(), reason)],
        ..Found::default()
    }
}
