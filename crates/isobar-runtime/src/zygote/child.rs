//! One supervised Python process, forked from a zygote.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::Zygote;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code. A handled failure of a task is 0 too.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Its parent died first, so that nobody knows; it is dead.
    Lost,
}

/// This side's ends of a child's four sockets.
#[derive(Debug)]
pub struct Sockets {
    /// Frames, both ways (the child's standard input).
    pub requests: UnixStream,
    /// What the child prints.
    pub stdout: UnixStream,
    /// What the child prints as errors.
    pub stderr: UnixStream,
    /// The child's structured log, JSON lines.
    pub logs: UnixStream,
}

/// The child's ends, to be handed over and closed here.
pub(super) struct ChildEnds {
    requests: StdStream,
    stdout: StdStream,
    stderr: StdStream,
    logs: StdStream,
}

impl ChildEnds {
    pub(super) fn into_fds(self) -> [OwnedFd; 4] {
        [
            self.requests.into(),
            self.stdout.into(),
            self.stderr.into(),
            self.logs.into(),
        ]
    }
}

/// Makes the four pairs; both ends close on exec, only ours does not block.
pub(super) fn socket_pairs() -> io::Result<(Sockets, ChildEnds)> {
    let (requests, child_requests) = pair()?;
    let (stdout, child_stdout) = pair()?;
    let (stderr, child_stderr) = pair()?;
    let (logs, child_logs) = pair()?;
    Ok((
        Sockets {
            requests,
            stdout,
            stderr,
            logs,
        },
        ChildEnds {
            requests: child_requests,
            stdout: child_stdout,
            stderr: child_stderr,
            logs: child_logs,
        },
    ))
}

/// One pair: an end for this runtime, and a blocking end for a child.
pub(crate) fn pair() -> io::Result<(UnixStream, StdStream)> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

/// A running child: its number, its sockets, its end.
pub struct Child {
    pid: i32,
    started_at: Timestamp,
    sockets: Option<Sockets>,
    exit: ExitOf,
    zygote: Zygote,
}

enum ExitOf {
    Running(oneshot::Receiver<Reaped>),
    Ended(Reaped),
}

/// What is known of a child when it has been reaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaped {
    pub(super) exit: Exit,
    pub(super) cpu: Duration,
}

impl Child {
    pub(super) fn new(
        pid: i32,
        started_at: Timestamp,
        sockets: Sockets,
        exit: oneshot::Receiver<Reaped>,
        zygote: Zygote,
    ) -> Self {
        Self {
            pid,
            started_at,
            sockets: Some(sockets),
            exit: ExitOf::Running(exit),
            zygote,
        }
    }

    /// Its process id, which is also its process group's.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When the fork was reported.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Takes the sockets; none the second time. Dropping them ends the child at its next read or write.
    pub fn take_sockets(&mut self) -> Option<Sockets> {
        self.sockets.take()
    }

    /// Whether it has ended, as far as is known now.
    pub fn has_ended(&mut self) -> bool {
        if let ExitOf::Running(reaped) = &mut self.exit {
            let ended = match reaped.try_recv() {
                Ok(reaped) => reaped,
                Err(oneshot::error::TryRecvError::Empty) => return false,
                Err(oneshot::error::TryRecvError::Closed) => Reaped {
                    exit: Exit::Lost,
                    cpu: Duration::ZERO,
                },
            };
            self.exit = ExitOf::Ended(ended);
        }
        true
    }

    /// Waits for the end. Cancel-safe, and answers again when asked again.
    pub async fn wait(&mut self) -> Exit {
        let reaped = match &mut self.exit {
            ExitOf::Ended(reaped) => return reaped.exit,
            ExitOf::Running(reaped) => reaped.await.unwrap_or(Reaped {
                exit: Exit::Lost,
                cpu: Duration::ZERO,
            }),
        };
        self.exit = ExitOf::Ended(reaped);
        reaped.exit
    }

    /// The processor time that it and those of its children that it waited for took; zero until it has ended.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        match &self.exit {
            ExitOf::Running(_) => Duration::ZERO,
            ExitOf::Ended(reaped) => reaped.cpu,
        }
    }

    /// Signals the child's whole process group. Nothing happens where it has ended.
    pub async fn kill_group(&self, signal: Signal) {
        self.signal(signal, true).await;
    }

    /// Signals the child alone.
    pub async fn kill_one(&self, signal: Signal) {
        self.signal(signal, false).await;
    }

    async fn signal(&self, signal: Signal, group: bool) {
        self.zygote.kill(self.pid, signal, group).await;
    }
}
