//! Running one task: a forked child, its questions, its log, its end.

mod outcome;
mod pump;
mod serve;
mod session;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_model::AirflowTime;
use isobar_wire::execution::{Caller, ExecutionApi, Operation, Refusal, TaskStart};
use isobar_wire::startup::startup_details;
use isobar_wire::workload::Workload;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::masker::{Masker, MaskerConfig};
use crate::tasklog::{Level, TaskLog};
use crate::zygote::{DagFile, Exit, Zygote};
use outcome::{Verdict, describe, verdict};
pub use pump::{LineSink, pump};
pub use serve::{Server, unserved};
use session::{Session, state_name};

/// How long things may take; the defaults are Airflow's.
#[derive(Clone, Debug)]
pub struct Timers {
    /// `[workers] min_heartbeat_interval`. The start itself counts as the first beat.
    pub heartbeat: Duration,
    /// `[workers] max_failed_heartbeats`: the child is killed after so many failures in a row.
    pub max_failed_heartbeats: u32,
    /// `[core] task_success_overtime`: callbacks and listeners after the task's end.
    pub overtime: Duration,
    /// From SIGTERM to SIGKILL.
    pub kill_escalation: Duration,
    /// `[workers] socket_cleanup_timeout`: how long the output of what a task left behind is still logged.
    pub socket_cleanup: Duration,
    /// Pauses before a call that failed with 500 or above is tried again.
    pub retries: Arc<[Duration]>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            max_failed_heartbeats: 3,
            overtime: Duration::from_secs(20),
            kill_escalation: Duration::from_secs(5),
            socket_cleanup: Duration::from_secs(60),
            retries: [200, 1_000, 4_000, 10_000].map(Duration::from_millis).into(),
        }
    }
}

/// What all tasks of a supervisor share.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// `[logging] base_log_folder`; no child may be able to write it.
    pub base_log_folder: PathBuf,
    /// The name of this host.
    pub hostname: String,
    /// The operating system's user that tasks run as.
    pub unixname: String,
    /// Largest frame that a child may send, in bytes.
    pub frame_limit: usize,
    /// What counts as secret in logs.
    pub masker: MaskerConfig,
    /// How long things may take.
    pub timers: Timers,
}

/// How a task's run ended here. The task's state is what the control plane was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The state that the control plane accepted; none where nothing was reported or it refused.
    pub reported: Option<&'static str>,
    /// How the process ended; none where it never ran.
    pub exit: Option<Exit>,
    /// What went wrong with the process or the report; none for any task that ended by its own word, well or badly.
    pub failure: Option<String>,
    /// Whether the process died before its callbacks could run, so that another process must run them.
    pub callbacks_lost: bool,
    /// The processor time that the process took.
    pub cpu: Duration,
}

/// Runs tasks through the zygotes of their teams.
#[derive(Clone)]
pub struct Supervisor {
    api: Arc<dyn ExecutionApi>,
    config: Arc<SupervisorConfig>,
}

impl Supervisor {
    /// A supervisor that reports to `api`.
    #[must_use]
    pub fn new(api: Arc<dyn ExecutionApi>, config: SupervisorConfig) -> Self {
        Self {
            api,
            config: Arc::new(config),
        }
    }

    /// Runs one workload to its end. Cancelling sends SIGTERM, so that `on_kill` runs, then SIGKILL; the end is
    /// reported as ever. Dropping the future kills nothing at once, but closes the child's sockets.
    pub async fn run(&self, zygote: &Zygote, workload: &Workload, cancel: CancellationToken) -> Ended {
        match self.try_run(zygote, workload, &cancel).await {
            Ok(ended) => ended,
            Err(failure) => {
                tracing::warn!(ti = %workload.identity.ti_id, failure, "a task did not run");
                Ended {
                    failure: Some(failure),
                    ..Ended::default()
                }
            }
        }
    }

    /// Writes into the log of a try what the control plane did to it. A log that cannot be opened costs the line.
    pub fn explain(&self, log_path: &str, said: &str) {
        let masker = Arc::new(Masker::new(self.config.masker.clone()));
        match TaskLog::open(&self.config.base_log_folder, log_path, "task", masker) {
            Ok(mut log) => log.note(Level::Error, said, serde_json::json!({})),
            Err(error) => tracing::warn!(%error, said, "a task's log could not be told why it ended"),
        }
    }

    async fn try_run(&self, zygote: &Zygote, workload: &Workload, cancel: &CancellationToken) -> Result<Ended, String> {
        let config = &self.config;
        let masker = Arc::new(Masker::new(config.masker.clone()));
        let log = TaskLog::open(&config.base_log_folder, &workload.log_path, "task", Arc::clone(&masker))
            .map_err(|error| error.to_string())?;
        let caller = Caller::Task(workload.identity.clone());
        let server = Server::new(
            Arc::clone(&self.api),
            caller,
            Arc::clone(&masker),
            Arc::clone(&config.timers.retries),
        );
        let mut child = zygote
            .fork_task(&DagFile {
                bundle: workload.bundle.clone(),
                version: workload.bundle_version.clone(),
                path: workload.dag_rel_path.clone(),
            })
            .await
            .map_err(|error| error.to_string())?;
        let start = Operation::Run(TaskStart {
            hostname: config.hostname.clone(),
            unixname: config.unixname.clone(),
            pid: child.pid(),
            start_date: AirflowTime(child.started_at()),
        });
        let context = match server.call(start).await {
            Ok(answer) => answer.body,
            Err(refusal) => {
                child.kill_group(Signal::SIGKILL).await;
                child.wait().await;
                return Err(not_started(&refusal));
            }
        };
        let sockets = child.take_sockets().expect("the sockets of a new child are there");
        let should_retry = context["should_retry"].as_bool().unwrap_or_default();
        let first_frame = startup_details(workload, &context, Timestamp::now());
        let own_id = workload.identity.ti_id.to_string();
        let (session, more_logs) = Session::new(server, masker, own_id, log);
        let watched = watch::watch(&session, config, child, sockets, more_logs, first_frame, cancel).await;
        Ok(settle(&session, &watched, should_retry).await)
    }
}

fn not_started(refusal: &Refusal) -> String {
    if refusal.status == 409 && refusal.detail["previous_state"] == "running" {
        return "the task is already running elsewhere".to_owned();
    }
    format!("the control plane refused to start the task: {refusal}")
}

/// Reports what the child could not, and says in its log why.
async fn settle(session: &Session, watched: &watch::Watched, should_retry: bool) -> Ended {
    let mut ended = Ended {
        exit: Some(watched.exit),
        cpu: watched.cpu,
        ..Ended::default()
    };
    let (verdict, said_its_end) = {
        let mut ending = session.ending();
        ended.reported = ending.reported;
        let said_its_end = ending.since.is_some();
        (
            verdict(&mut ending, watched, should_retry, Timestamp::now()),
            said_its_end,
        )
    };
    let unusual = describe(watched, said_its_end);
    if let Some((level, text, fields)) = &unusual {
        session.note(*level, text, fields.clone());
    }
    let end = match verdict {
        Verdict::Settled => return ended,
        Verdict::Report(end) => end,
        Verdict::Died(end) => {
            ended.callbacks_lost = true;
            ended.failure = unusual.map(|(_, text, _)| text);
            end
        }
    };
    let name = state_name(&end);
    match session.server.call(Operation::State(end)).await {
        Ok(_) => ended.reported = Some(name),
        Err(refusal) => {
            session.note(
                crate::tasklog::Level::Error,
                "The end of the task could not be reported.",
                json!({"state": name, "status_code": refusal.status, "detail": Value::clone(&refusal.detail)}),
            );
            ended.failure = Some(format!("`{name}` could not be reported: {refusal}"));
        }
    }
    ended
}
