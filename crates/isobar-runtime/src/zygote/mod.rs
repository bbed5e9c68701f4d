//! The team's Python process: started once, forked once per task or parse.
//!
//! One zygote per team and OS user. It is single-threaded, holds the team's lock file while it lives, and kills all
//! its descendants when this side closes the control socket, whether on purpose or because this process died.

mod agent_files;
mod child;
mod control;
mod held;
mod prepared;
mod startup;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use agent_files::install_agent;
use child::Reaped;
pub(crate) use child::pair;
pub use child::{Child, Exit, Sockets};
use control::{Control, Order};
use held::{Held, Parent};
pub use prepared::{DagFile, Examined, Files};

/// Takes the command that starts Python, complete but for its standard descriptors, and gives back the command to
/// run: changed, or wrapped in another program that confines itself and then executes it.
pub type Confine = Arc<dyn Fn(Command) -> io::Result<Command> + Send + Sync>;

/// How to start a team's Python.
#[derive(Clone)]
pub struct PythonSpec {
    /// Whose it is; for logs and errors only.
    pub team: String,
    /// The interpreter of the team's environment, which has Airflow 3.3.2.
    pub python: PathBuf,
    /// The folder that [`install_agent`] gave.
    pub agent: PathBuf,
    /// The whole environment of the process. Nothing of this process's own environment is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Locked while a zygote of the team lives. Made if missing; the confined process must be able to write it.
    pub lock_file: PathBuf,
    /// Confinement, applied before Python starts; none where `isolation = "none"` is written down.
    pub confine: Option<Confine>,
    /// Whether to import before the first fork.
    pub launch: Launch,
    /// How long imports may take before the start is given up.
    pub start_timeout: Duration,
}

/// Whether children find their imports done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Launch {
    /// Airflow is imported once, before the first fork: a task starts in some 20 ms.
    #[default]
    Warm,
    /// Each child imports for itself, in some 1.5 s: for environments whose imports start threads.
    Cold,
}

/// What a fork runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The Task SDK's task runner; its first frame is `StartupDetails`.
    Task,
    /// A reading of one Dag file under watch.
    Examine,
    /// Airflow's parse of one file; its first frame is `DagFileParseRequest`.
    Parse,
    /// One function of the team's, by its import path; its first frame is `RunCallback`.
    Callback,
    /// The team's helper, which asks for questions and answers them.
    Helper,
    /// The team's listeners, which say what they hear and are told.
    Listeners,
    /// Airflow's runner of triggers; its first frame is `StartTriggerer`.
    Triggers,
}

impl Target {
    fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Examine => "examine",
            Self::Parse => "parse",
            Self::Callback => "callback",
            Self::Helper => "helper",
            Self::Listeners => "listeners",
            Self::Triggers => "triggers",
        }
    }
}

/// Why a team's Python did not start or did not fork.
#[derive(Debug, thiserror::Error)]
pub enum ZygoteError {
    /// The process could not be executed at all.
    #[error("could not start `{python}` for team `{team}`: {source}; check the team's `python` setting")]
    Spawn {
        /// The team.
        team: String,
        /// The interpreter.
        python: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended, or said nothing, before it was ready.
    #[error("the Python process of team `{team}` did not become ready: {reason}; its last output was:\n{output}")]
    NotReady {
        /// The team.
        team: String,
        /// What happened.
        reason: String,
        /// The end of its standard output and error.
        output: String,
    },
    /// Its imports failed, or left behind what a fork must not share; started [`Launch::Cold`] it may do.
    #[error("the Python of team `{team}` cannot be warmed: {reason}")]
    NotWarm {
        /// The team.
        team: String,
        /// What it said.
        reason: String,
    },
    /// It has ended; start another.
    #[error("the Python process of team `{0}` has ended")]
    Gone(String),
    /// It would not fork.
    #[error("the Python process of team `{team}` could not fork: {reason}")]
    Refused {
        /// The team.
        team: String,
        /// What it said.
        reason: String,
    },
    /// Sockets could not be made.
    #[error("could not make the sockets of a child of team `{team}`: {source}")]
    Sockets {
        /// The team.
        team: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A running zygote. Cheap to clone; when the last clone and the last [`Child`] are gone it is shut down.
#[derive(Clone)]
pub struct Zygote {
    shared: Arc<Shared>,
    _alive: Arc<DropGuard>,
    /// What this one was forked from, where it has read a Dag file.
    parent: Option<Box<Zygote>>,
}

struct Shared {
    team: String,
    control: Control,
    next_id: AtomicU64,
    /// Whether a spare is being forked.
    sparing: AtomicBool,
    state: Mutex<State>,
    /// Forks of it that have read a Dag file each.
    prepared: prepared::Prepared,
    stop: CancellationToken,
    gone: watch::Sender<bool>,
    process: Parent,
    shapes_instances: Option<bool>,
}

#[derive(Default)]
struct State {
    forking: HashMap<u64, oneshot::Sender<Result<Forked, String>>>,
    running: HashMap<i32, Running>,
    /// A child that waits for a task. Its parts only: a whole [`Child`] would keep the zygote alive.
    spare: Option<Spare>,
    ended: bool,
}

/// A child, and whom to tell of its end.
struct Running {
    tell: oneshot::Sender<Reaped>,
    held: Option<Held>,
}

type Spare = (Forked, Sockets);

impl State {
    fn keep(&mut self, spare: Spare) {
        if !self.ended {
            self.spare = Some(spare);
        }
    }
}

struct Forked {
    pid: i32,
    started_at: Timestamp,
    exit: oneshot::Receiver<Reaped>,
}

impl Zygote {
    /// Starts Python, waits for its imports, gives a zygote that is ready to fork.
    ///
    /// # Errors
    /// Says whether the interpreter could not run, or ended or hung before it was ready, with its last output.
    pub async fn start(spec: &PythonSpec) -> Result<Self, ZygoteError> {
        startup::start(spec).await
    }

    /// Forks one child. `env` is added to the team's environment for this child alone.
    ///
    /// A task without an `env` of its own gets a child that was forked ahead, where one waits: the fork is then off
    /// its path.
    ///
    /// # Errors
    /// [`ZygoteError::Gone`] where the zygote has ended meanwhile; otherwise what the fork said.
    pub async fn fork(&self, target: Target, env: &[(String, String)]) -> Result<Child, ZygoteError> {
        let ahead = target == Target::Task && env.is_empty();
        let (mut forked, sockets) = match ahead.then(|| self.shared.take_spare()).flatten() {
            Some(spare) => spare,
            None => self.shared.fork(target, env).await?,
        };
        if ahead {
            // Also that of a spare: it is now that the child has something to do.
            forked.started_at = Timestamp::now();
            self.fork_spare();
        }
        Ok(Child::new(
            forked.pid,
            forked.started_at,
            sockets,
            forked.exit,
            self.clone(),
        ))
    }

    /// Forks a child for the next task, in the background. Costs no more than forking it then.
    fn fork_spare(&self) {
        if self.shared.sparing.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        tokio::spawn(async move {
            let Some(shared) = shared.upgrade() else { return };
            match shared.fork(Target::Task, &[]).await {
                Ok(spare) => shared.state().keep(spare),
                Err(error) => tracing::debug!(%error, "no child could be forked ahead"),
            }
            shared.sparing.store(false, Ordering::Release);
        });
    }

    /// The zygote's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.shared.process.pid()
    }

    /// Whether the team's cluster policy has a `task_instance_mutation_hook`; none where only a fork can tell (a cold launch).
    #[must_use]
    pub fn shapes_instances(&self) -> Option<bool> {
        self.shared.shapes_instances
    }

    /// Whether it can still fork.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.shared.state().ended
    }

    /// Returns when the zygote process has ended and, with it, everything it had started; after a
    /// [`shutdown`](Self::shutdown) without what the kernel does not let end.
    pub async fn gone(&self) {
        let mut gone = self.shared.gone.subscribe();
        // An error means the sender is gone, and then so is the zygote.
        let _ = gone.wait_for(|gone| *gone).await;
    }

    /// Kills every descendant, ends the zygote and waits until it has ended. Tasks get no `SIGTERM`: cancel those
    /// first.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.gone().await;
    }

    pub(crate) async fn kill(&self, pid: i32, signal: nix::sys::signal::Signal, group: bool) {
        let order = Order::Kill {
            pid,
            signal: signal as i32,
            group,
        };
        if let Err(error) = self.shared.control.send(&order, &[]).await {
            tracing::debug!(team = self.shared.team, pid, %error, "the zygote is gone and cannot signal its child");
        }
    }
}

impl Shared {
    async fn fork(&self, target: Target, env: &[(String, String)]) -> Result<(Forked, Sockets), ZygoteError> {
        let team = || self.team.clone();
        let (sockets, ends) = child::socket_pairs().map_err(|source| ZygoteError::Sockets { team: team(), source })?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state();
            if state.ended {
                return Err(ZygoteError::Gone(team()));
            }
            state.forking.insert(id, tell);
        }
        let order = Order::Fork {
            id,
            target: target.as_str(),
            env,
        };
        let ends: [OwnedFd; 4] = ends.into_fds();
        let fds = [ends[0].as_fd(), ends[1].as_fd(), ends[2].as_fd(), ends[3].as_fd()];
        if self.control.send(&order, &fds).await.is_err() {
            self.state().forking.remove(&id);
            return Err(ZygoteError::Gone(team()));
        }
        drop(ends);
        let forked = told
            .await
            .map_err(|_| ZygoteError::Gone(team()))?
            .map_err(|reason| ZygoteError::Refused { team: team(), reason })?;
        Ok((forked, sockets))
    }

    /// A child that was forked ahead and still lives.
    fn take_spare(&self) -> Option<Spare> {
        let (mut forked, sockets) = self.state().spare.take()?;
        let lives = matches!(forked.exit.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        lives.then_some((forked, sockets))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forked(&self, id: u64, pid: i32) {
        let mut state = self.state();
        let Some(asker) = state.forking.remove(&id) else {
            return;
        };
        let (tell, exit) = oneshot::channel();
        let held = Held::of(pid, &self.process);
        state.running.insert(pid, Running { tell, held });
        drop(state);
        let started_at = Timestamp::now();
        // Where the asker has gone away the sockets are closed by now, and the child ends at its first read.
        let _ = asker.send(Ok(Forked { pid, started_at, exit }));
    }

    fn refused(&self, id: u64, message: String) {
        if let Some(asker) = self.state().forking.remove(&id) {
            let _ = asker.send(Err(message));
        }
    }

    fn exited(&self, pid: i32, code: i32, cpu: f64) {
        if let Some(Running { tell, .. }) = self.state().running.remove(&pid) {
            let exit = if code < 0 {
                Exit::Signal(-code)
            } else {
                Exit::Code(code)
            };
            let cpu = Duration::try_from_secs_f64(cpu).unwrap_or_default();
            let _ = tell.send(Reaped { exit, cpu });
        }
    }

    /// From here on nothing is forked: who waits for a fork is told.
    fn forks_no_more(&self) {
        let mut state = self.state();
        state.ended = true;
        state.forking.clear();
        state.spare = None;
        drop(state);
        self.prepared.clear();
    }

    /// Kills what the zygote has left behind. Each is given up as lost only when it runs no more: its dropped sender
    /// reads as [`Exit::Lost`]. Of one that does not end before the server does, nothing is said.
    async fn outlive_children(&self) {
        let left = |(pid, running): (&i32, &mut Running)| (*pid, running.held.take());
        let left: Vec<_> = self.state().running.iter_mut().map(left).collect();
        let ends = left.into_iter().map(async |(pid, held)| {
            let lost = match held {
                Some(held) => held.die(&self.team, &self.stop).await,
                None => true,
            };
            if lost {
                self.state().running.remove(&pid);
            }
        });
        join_all(ends).await;
    }
}
