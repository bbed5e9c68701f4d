//! One child while it is supervised: its requests, its log, and what it has said about its end.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isobar_wire::answers::{Reply, Request, names_other_task, plan, server_error};
use isobar_wire::execution::{Operation, Refusal, TaskEnd};
use isobar_wire::messages::ToSupervisor;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::pump::LineSink;
use super::serve::{Server, unserved};
use crate::channel::{Channel, ChannelError};
use crate::masker::Masker;
use crate::tasklog::{Level, Stream, TaskLog};
use crate::zygote::pair;

/// What is shared by the parts that watch one child.
pub(super) struct Session {
    pub(super) server: Server,
    pub(super) masker: Arc<Masker>,
    own_id: String,
    log: Mutex<TaskLog>,
    ending: Mutex<Ending>,
    /// Told when the child first says that it ends.
    pub(super) ends: Notify,
    more_logs: mpsc::UnboundedSender<UnixStream>,
    activity: AtomicU64,
    serving: AtomicBool,
}

/// What the child has said about its end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The control plane knows it.
    pub(super) reported: Option<&'static str>,
    /// The control plane was told and refused or failed; told once more after the exit.
    pub(super) undelivered: Option<TaskEnd>,
    /// To be reported when the child has ended.
    pub(super) at_exit: Option<TaskEnd>,
    /// When the child first said that it ends: overtime counts from here.
    pub(super) since: Option<Instant>,
}

impl Session {
    /// A session, and where sockets of further log channels will come.
    pub(super) fn new(
        server: Server,
        masker: Arc<Masker>,
        own_id: String,
        log: TaskLog,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<UnixStream>) {
        let (more_logs, coming) = mpsc::unbounded_channel();
        let session = Self {
            server,
            masker,
            own_id,
            log: Mutex::new(log),
            ending: Mutex::default(),
            ends: Notify::new(),
            more_logs,
            activity: AtomicU64::new(0),
            serving: AtomicBool::new(false),
        };
        (Arc::new(session), coming)
    }

    pub(super) fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into the task's log, at once.
    pub(super) fn note(&self, level: Level, event: &str, fields: serde_json::Value) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.note(level, event, fields);
        log.flush();
    }

    /// A number that moves when anything is read from the child.
    pub(super) fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// Whether the control plane is being asked right now.
    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Serves requests until the child closes its socket.
    ///
    /// # Errors
    /// Where the child sent what cannot be read: nothing of it can be trusted any more.
    pub(super) async fn serve(&self, mut channel: Channel) -> Result<(), ChannelError> {
        while let Some(request) = channel.next().await? {
            self.activity.fetch_add(1, Ordering::Relaxed);
            self.serving.store(true, Ordering::Relaxed);
            let served = match ToSupervisor::read(request.body) {
                Ok(message) => {
                    self.answer(&mut channel, request.id, message, request.lost_numbers)
                        .await
                }
                Err(error) => {
                    self.note(Level::Error, &error.to_string(), json!({}));
                    channel.answer(request.id, &unserved(&error.to_string())).await
                }
            };
            self.serving.store(false, Ordering::Relaxed);
            if let Err(error) = served {
                // The child died while it waited; its exit tells the rest.
                tracing::debug!(%error, "an answer could not be delivered");
            }
        }
        Ok(())
    }

    async fn answer(
        &self,
        channel: &mut Channel,
        id: i64,
        message: ToSupervisor,
        lost_numbers: bool,
    ) -> Result<(), ChannelError> {
        if lost_numbers && matches!(message, ToSupervisor::SetXCom(_)) {
            let reply =
                unserved("Out of range float values are not JSON compliant: an XCom cannot hold NaN or Infinity");
            return channel.answer(id, &reply).await;
        }
        if names_other_task(&message, &self.own_id) {
            let refusal = Refusal::new(403, "a task may name only its own task instance here");
            return channel.answer(id, &Reply::Error(server_error(&refusal))).await;
        }
        let reply = match plan(message) {
            Request::Ask(operation, shape) => self.server.ask(operation, shape).await,
            Request::Trigger { operation, reset } => self.server.trigger(operation, reset).await,
            Request::End(end) => self.end(end).await,
            Request::EndAtExit(end) => {
                let mut ending = self.ending();
                ending.since.get_or_insert_with(Instant::now);
                ending.at_exit = Some(end);
                drop(ending);
                self.ends.notify_one();
                Reply::Body(None)
            }
            Request::Mask { value, name } => {
                self.masker.add(&value, name.as_deref());
                Reply::Body(None)
            }
            Request::NotForTasks(..) => unserved("Unhandled request"),
            Request::ResendLog => return self.resend_log(channel, id).await,
        };
        channel.answer(id, &reply).await
    }

    /// Tells the control plane about the end as soon as the child says it.
    async fn end(&self, end: TaskEnd) -> Reply {
        {
            let mut ending = self.ending();
            ending.since.get_or_insert_with(Instant::now);
            ending.undelivered = Some(end.clone());
        }
        self.ends.notify_one();
        let name = state_name(&end);
        match self.server.call(Operation::State(end)).await {
            Ok(_) => {
                let mut ending = self.ending();
                ending.undelivered = None;
                ending.reported = Some(name);
                Reply::Body(None)
            }
            Err(refusal) => Reply::Error(server_error(&refusal)),
        }
    }

    /// Gives the child, or a grandchild that took over its socket, a log channel of its own.
    async fn resend_log(&self, channel: &mut Channel, id: i64) -> Result<(), ChannelError> {
        let (ours, theirs) = pair()?;
        // Nobody listens only where the child has been given up already.
        let _ = self.more_logs.send(ours);
        channel
            .answer_with_fd(id, &json!({"type": "SentFDs", "fds": [0]}), theirs.as_fd())
            .await
    }
}

impl LineSink for Arc<Session> {
    fn line(&self, stream: Stream, line: &[u8]) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.child_line(stream, line);
    }

    fn pause(&self) {
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.log.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

/// Airflow's name of the state.
pub(super) fn state_name(end: &TaskEnd) -> &'static str {
    match end {
        TaskEnd::Success { .. } => "success",
        TaskEnd::UpForRetry { .. } => "up_for_retry",
        TaskEnd::Failed { .. } => "failed",
        TaskEnd::Skipped { .. } => "skipped",
        TaskEnd::Removed { .. } => "removed",
        TaskEnd::Deferred(_) => "deferred",
        TaskEnd::UpForReschedule { .. } => "up_for_reschedule",
        TaskEnd::AwaitingInput(_) => "awaiting_input",
    }
}
