//! Watching one child until it has ended: heartbeats, overtime, cancellation, escalating signals.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use isobar_wire::execution::{Operation, Refusal};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::{SupervisorConfig, Timers, pump};
use crate::channel::Channel;
use crate::tasklog::{Level, Stream};
use crate::zygote::{Child, Exit, Sockets};

/// How often a child that has ended is looked at for what it left in its sockets.
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// How a child ended, and whether that was wanted.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) exit: Exit,
    pub(super) cpu: Duration,
    pub(super) killed: Option<Killed>,
}

/// Why the supervisor ended a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Killed {
    /// Somebody asked for it.
    Cancelled,
    /// The control plane said that this try is no longer the one that counts.
    Disowned,
    /// The control plane could not be reached for too long.
    Unheard,
    /// It went on for too long after it had said that it ends.
    Overtime,
    /// It sent what cannot be read.
    Garbled,
}

type Pumps = FuturesUnordered<BoxFuture<'static, ()>>;

/// Serves and watches `child` until it has ended and what it left in its sockets has been read.
pub(super) async fn watch(
    session: &Arc<Session>,
    config: &SupervisorConfig,
    mut child: Child,
    sockets: Sockets,
    mut more_logs: mpsc::UnboundedReceiver<UnixStream>,
    first_frame: serde_json::Value,
    cancel: &CancellationToken,
) -> Watched {
    let timers = &config.timers;
    let pumps = Pumps::new();
    pumps.push(drain(session, sockets.stdout, Stream::Stdout));
    pumps.push(drain(session, sockets.stderr, Stream::Stderr));
    pumps.push(drain(session, sockets.logs, Stream::Log));
    let mut pumps = pumps;
    let channel = Channel::new(sockets.requests, config.frame_limit);
    let server = Arc::clone(session);
    let mut serving: BoxFuture<'static, _> = Box::pin(async move {
        let mut channel = channel;
        // Where it died before its first frame, its exit tells.
        let _ = channel.start(&first_frame).await;
        server.serve(channel).await
    });
    let mut served = false;
    let mut heartbeats = pin!(heartbeats(session, config, child.pid()));
    let mut heartbeats_over = false;
    let mut killing = Killing::default();

    let exit = loop {
        let overtime = session.ending().since.map(|since| since + timers.overtime);
        tokio::select! {
            exit = child.wait() => break exit,
            result = &mut serving, if !served => {
                served = true;
                if let Err(error) = result {
                    session.note(Level::Critical, &error.to_string(), json!({}));
                    killing.begin(Killed::Garbled, &child, timers).await;
                }
            }
            Some(()) = pumps.next() => {}
            Some(log) = more_logs.recv() => pumps.push(drain(session, log, Stream::Log)),
            verdict = &mut heartbeats, if !heartbeats_over => {
                heartbeats_over = true;
                killing.begin(verdict, &child, timers).await;
            }
            () = session.ends.notified() => {}
            () = cancel.cancelled(), if killing.why.is_none() => {
                killing.begin(Killed::Cancelled, &child, timers).await;
            }
            () = sleep_until(overtime.unwrap_or_else(Instant::now)), if overtime.is_some() && killing.why.is_none() => {
                tracing::warn!(pid = child.pid(), "a task goes on long after its end and is killed");
                killing.begin(Killed::Overtime, &child, timers).await;
            }
            () = killing.due() => killing.escalate(&child, timers).await,
        }
    };

    // What the child left in its sockets is there now; what a grandchild may still write is not waited for.
    let mut seen = session.activity();
    let mut quiet = 0;
    while !(served && pumps.is_empty()) && quiet < 3 {
        tokio::select! {
            _ = &mut serving, if !served => served = true,
            Some(()) = pumps.next() => {}
            () = sleep(DRAIN_STEP) => {
                let now = session.activity();
                quiet = if now == seen && !session.is_serving() { quiet + 1 } else { 0 };
                seen = now;
            }
        }
        while let Ok(log) = more_logs.try_recv() {
            pumps.push(drain(session, log, Stream::Log));
        }
    }
    if !pumps.is_empty() {
        let linger = timers.socket_cleanup;
        tokio::spawn(async move { timeout(linger, async { while pumps.next().await.is_some() {} }).await });
    }
    if killing.why == Some(Killed::Disowned) {
        session.note(Level::Error, "Task killed!", json!({}));
    }
    Watched {
        exit,
        cpu: child.cpu(),
        killed: killing.why,
    }
}

fn drain(session: &Arc<Session>, socket: UnixStream, stream: Stream) -> BoxFuture<'static, ()> {
    let session = Arc::clone(session);
    Box::pin(async move { pump::pump(socket, stream, &session).await })
}

/// Reports that the child lives, until that is no longer wanted or no longer heard. Silent after the child's end.
async fn heartbeats(session: &Session, config: &SupervisorConfig, pid: i32) -> Killed {
    let mut failures = 0;
    loop {
        sleep(config.timers.heartbeat).await;
        if session.ending().since.is_some() {
            std::future::pending::<()>().await;
        }
        let beat = Operation::Heartbeat {
            hostname: config.hostname.clone(),
            pid,
        };
        match session.server.call(beat).await {
            Ok(_) => failures = 0,
            Err(Refusal {
                status: 404 | 409 | 410,
                detail,
            }) => {
                if session.ending().since.is_some() {
                    // It ended while the question was on its way.
                    continue;
                }
                let text = "Server indicated the task shouldn't be running anymore. Terminating process";
                session.note(Level::Error, text, json!({"detail": detail}));
                return Killed::Disowned;
            }
            Err(refusal) => {
                failures += 1;
                tracing::warn!(failures, pid, %refusal, "a heartbeat failed");
                if failures >= config.timers.max_failed_heartbeats {
                    return Killed::Unheard;
                }
            }
        }
    }
}

/// The way from the first signal to the last.
#[derive(Default)]
struct Killing {
    why: Option<Killed>,
    next: Option<Instant>,
}

impl Killing {
    async fn begin(&mut self, why: Killed, child: &Child, timers: &Timers) {
        if self.why.is_some() {
            return;
        }
        self.why = Some(why);
        self.next = Some(Instant::now() + timers.kill_escalation);
        child.kill_group(Signal::SIGTERM).await;
    }

    async fn due(&self) {
        match self.next {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    async fn escalate(&mut self, child: &Child, timers: &Timers) {
        // Again and again: a process that starts new ones may be ahead of one signal.
        self.next = Some(Instant::now() + timers.kill_escalation);
        child.kill_group(Signal::SIGKILL).await;
    }
}
