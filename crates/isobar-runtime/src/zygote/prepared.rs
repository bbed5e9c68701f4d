//! Zygotes that have read one Dag file, for bursts of its tasks.
//!
//! A task reads its whole Dag file before it begins. Where a file's tasks come close together, the file is examined once
//! in a process that is thrown away: does reading it depend on nothing but files? If so, a fork of the team's zygote
//! reads it, and the next tasks are forked from there, until one of those files changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::control::{Order, Report};
use super::{Child, Exit, Target, Zygote, ZygoteError, startup};

/// So many tasks of a file within [`BURST`] are worth reading it twice more.
const BURST_TASKS: usize = 3;
/// See [`BURST_TASKS`].
const BURST: Duration = Duration::from_secs(5);
/// How long a prepared zygote stays without a task.
const IDLE: Duration = Duration::from_secs(15);
/// How long one is used at all.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How many there are at most of one team.
const MOST: usize = 8;
/// How long a file that is unfit is not examined again.
const UNFIT_FOR: Duration = Duration::from_secs(600);
/// How long it may take to look whether files have changed.
const LOOK: Duration = Duration::from_secs(1);
/// Longest answer of an examination.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Longest time for one reading.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files beyond which old ones are forgotten.
const REMEMBERED: usize = 1000;

/// One Dag file of a team's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DagFile {
    /// The bundle's name.
    pub bundle: String,
    /// The bundle's version, where it has one.
    pub version: Option<String>,
    /// The file's path below the bundle.
    pub path: String,
}

/// What reading a Dag file depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// On these files and folders alone.
    Fit(Files),
    /// On something else, or it must happen in each task: this.
    Unfit(String),
}

/// Files and folders as they were when they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(Arc<HashMap<String, (u64, u64, i128)>>);

impl Files {
    /// Whether all of them still are as they were. The paths are the team's choice, so that looking may take its time:
    /// what cannot be said at once counts as a change.
    async fn are_unchanged(&self) -> bool {
        let files = self.clone();
        let looking = tokio::task::spawn_blocking(move || files.look());
        matches!(tokio::time::timeout(LOOK, looking).await, Ok(Ok(true)))
    }

    fn look(&self) -> bool {
        self.0.iter().all(|(path, was)| {
            fs::metadata(path).is_ok_and(|now| {
                let modified = i128::from(now.mtime()) * 1_000_000_000 + i128::from(now.mtime_nsec());
                (now.ino(), now.size(), modified) == *was
            })
        })
    }

    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What is known of the Dag files whose tasks were forked lately.
#[derive(Default)]
pub(super) struct Prepared(Mutex<HashMap<DagFile, Known>>);

struct Known {
    /// When the last tasks began, at most [`BURST_TASKS`].
    begun: Vec<Instant>,
    standing: Standing,
}

enum Standing {
    /// Nothing yet, or what was known is no longer true.
    Unknown,
    /// Being examined or read.
    Busy,
    /// Not to be read ahead.
    Unfit(Instant),
    /// Fit, and not read ahead now.
    Fit(Files),
    /// Read ahead.
    Ready(Ready),
}

#[derive(Clone)]
struct Ready {
    zygote: Zygote,
    files: Files,
    since: Instant,
}

/// What to do for a task that begins.
enum Choice {
    /// Fork it from there, unless something changed.
    From(Ready),
    Alone,
    /// Fork it alone, and read the file ahead for the next.
    Prepare(Option<Files>),
}

impl Prepared {
    fn state(&self) -> std::sync::MutexGuard<'_, HashMap<DagFile, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, file: &DagFile) -> Choice {
        let now = Instant::now();
        let mut state = self.state();
        if state.len() >= REMEMBERED && !state.contains_key(file) {
            state.retain(|_, known| known.is_of_use(now));
        }
        let known = match state.entry(file.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Known {
                begun: Vec::with_capacity(BURST_TASKS),
                standing: Standing::Unknown,
            }),
        };
        known.begun.retain(|begun| now - *begun < BURST);
        if known.begun.len() == BURST_TASKS {
            known.begun.remove(0);
        }
        known.begun.push(now);
        known.refresh(now);
        match &known.standing {
            Standing::Ready(ready) => return Choice::From(ready.clone()),
            Standing::Busy | Standing::Unfit(_) => return Choice::Alone,
            Standing::Unknown | Standing::Fit(_) if known.begun.len() < BURST_TASKS => return Choice::Alone,
            Standing::Unknown | Standing::Fit(_) => {}
        }
        match std::mem::replace(&mut known.standing, Standing::Busy) {
            Standing::Fit(files) => Choice::Prepare(Some(files)),
            _ => Choice::Prepare(None),
        }
    }

    fn set(&self, file: &DagFile, standing: Standing) {
        let mut state = self.state();
        let full = state.values().filter(|known| known.is_ready()).count() >= MOST;
        if full && matches!(standing, Standing::Ready(_)) {
            // The one whose tasks began longest ago makes room. Its children keep it until they end.
            let oldest = state.values_mut().filter(|known| known.is_ready());
            if let Some(oldest) = oldest.min_by_key(|known| known.begun.last().copied()) {
                oldest.rest();
            }
        }
        if let Some(known) = state.get_mut(file) {
            known.standing = standing;
        }
    }

    /// Lets go of a prepared zygote whose tasks have stopped coming; false while it is in use.
    fn retire_idle(&self, file: &DagFile) -> bool {
        let mut state = self.state();
        let Some(known) = state.get_mut(file).filter(|known| known.is_ready()) else {
            return true;
        };
        let idle = known.begun.last().is_none_or(|begun| begun.elapsed() >= IDLE);
        if idle {
            known.rest();
        }
        idle
    }

    /// What was found out of a file is no longer true.
    fn forget(&self, file: &DagFile, outdated: &Zygote) {
        let mut state = self.state();
        if let Some(known) = state.get_mut(file)
            && matches!(&known.standing, Standing::Ready(ready) if ready.zygote.pid() == outdated.pid())
        {
            known.standing = Standing::Unknown;
        }
    }

    pub(super) fn clear(&self) {
        self.state().clear();
    }
}

impl Known {
    fn is_ready(&self) -> bool {
        matches!(self.standing, Standing::Ready(_))
    }

    fn is_of_use(&self, now: Instant) -> bool {
        match self.standing {
            Standing::Busy | Standing::Ready(_) => true,
            Standing::Unfit(since) => now - since <= UNFIT_FOR,
            Standing::Unknown | Standing::Fit(_) => self.begun.last().is_some_and(|begun| now - *begun < BURST),
        }
    }

    /// Gives the zygote away and keeps what was found out.
    fn rest(&mut self) {
        self.standing = match std::mem::replace(&mut self.standing, Standing::Unknown) {
            Standing::Ready(ready) => Standing::Fit(ready.files),
            other => other,
        };
    }

    /// Drops what has had its time.
    fn refresh(&mut self, now: Instant) {
        let outdated = match &self.standing {
            Standing::Unknown | Standing::Busy | Standing::Fit(_) => false,
            Standing::Unfit(since) => now - *since > UNFIT_FOR,
            Standing::Ready(ready) => !ready.zygote.is_alive() || now - ready.since > MAX_AGE,
        };
        if outdated {
            self.standing = Standing::Unknown;
        }
    }
}

/// What the examining process says.
#[derive(Deserialize)]
struct Finding {
    unfit: Option<String>,
    files: Option<HashMap<String, (u64, u64, i128)>>,
}

impl Zygote {
    /// Forks a child for a task of this Dag file: from a process that has read the file already, where there is one.
    ///
    /// # Errors
    /// As [`Zygote::fork`].
    pub async fn fork_task(&self, file: &DagFile) -> Result<Child, ZygoteError> {
        // A version of a bundle is a folder that comes and goes; a cold process has nothing to pass on.
        if file.version.is_some() || self.shared.shapes_instances.is_none() {
            return self.fork(Target::Task, &[]).await;
        }
        match self.shared.prepared.choose(file) {
            Choice::From(ready) if ready.files.are_unchanged().await => {
                match ready.zygote.of(self).fork(Target::Task, &[]).await {
                    // It may have ended in this moment.
                    Err(ZygoteError::Gone(_)) => {}
                    forked => return forked,
                }
            }
            Choice::From(ready) => self.shared.prepared.forget(file, &ready.zygote),
            Choice::Alone => {}
            Choice::Prepare(files) => {
                let (zygote, file) = (self.clone(), file.clone());
                tokio::spawn(async move { zygote.prepare(file, files).await });
            }
        }
        self.fork(Target::Task, &[]).await
    }

    /// Reads a Dag file under watch, in a process that is thrown away.
    ///
    /// # Errors
    /// The fork failed.
    pub async fn examine(&self, file: &DagFile) -> Result<Examined, ZygoteError> {
        let order = serde_json::json!({"bundle": file.bundle, "version": file.version, "path": file.path});
        let env = [("ISOBAR_EXAMINE".to_owned(), order.to_string())];
        let mut child = self.fork(Target::Examine, &env).await?;
        let mut sockets = child.take_sockets().expect("the sockets of a new child are there");
        let mut said = Vec::new();
        let mut answer = (&mut sockets.requests).take(ANSWER_LIMIT);
        // Whatever it has said: it is of no use any more.
        let in_time = tokio::time::timeout(PATIENCE, answer.read_to_end(&mut said))
            .await
            .is_ok();
        if !in_time || answer.limit() == 0 {
            child.kill_group(Signal::SIGKILL).await;
        }
        let exit = child.wait().await;
        let finding = serde_json::from_slice::<Finding>(&said);
        Ok(match finding {
            Ok(Finding {
                files: Some(files),
                unfit: None,
            }) => Examined::Fit(Files(Arc::new(files))),
            Ok(Finding { unfit: Some(unfit), .. }) => Examined::Unfit(unfit),
            _ if exit == Exit::Signal(Signal::SIGSYS as i32) => {
                Examined::Unfit("it connects, or starts a program".to_owned())
            }
            _ => Examined::Unfit(format!("its examination ended without an answer: {exit:?}")),
        })
    }

    async fn prepare(self, file: DagFile, known: Option<Files>) {
        let standing = match self.try_prepare(&file, known).await {
            Ok(ready) => {
                let (team, path) = (&self.shared.team, &file.path);
                tracing::debug!(team, path, "a Dag file was read ahead of its tasks");
                Standing::Ready(ready)
            }
            Err(reason) => {
                tracing::debug!(
                    team = self.shared.team,
                    path = file.path,
                    reason,
                    "a Dag file is read by each task"
                );
                Standing::Unfit(Instant::now())
            }
        };
        let ready = matches!(standing, Standing::Ready(_));
        self.shared.prepared.set(&file, standing);
        let shared = Arc::downgrade(&self.shared);
        // What waits here must not keep the team's zygote.
        drop(self);
        if ready {
            loop {
                tokio::time::sleep(IDLE / 3).await;
                if shared.upgrade().is_none_or(|shared| shared.prepared.retire_idle(&file)) {
                    break;
                }
            }
        }
    }

    async fn try_prepare(&self, file: &DagFile, known: Option<Files>) -> Result<Ready, String> {
        let files = match known {
            Some(files) if files.are_unchanged().await => files,
            _ => match self.examine(file).await.map_err(|error| error.to_string())? {
                Examined::Fit(files) => files,
                Examined::Unfit(reason) => return Err(reason),
            },
        };
        let (control, theirs) = startup::control_sockets().map_err(|error| error.to_string())?;
        let order = Order::Prepare {
            bundle: &file.bundle,
            version: file.version.as_deref(),
            path: &file.path,
        };
        let sent = self.shared.control.send(&order, &[theirs.as_fd()]).await;
        sent.map_err(|error| error.to_string())?;
        drop(theirs);
        let process = match control.receive().await {
            Ok(Some(Report::Reading { pid })) => self.shared.process.child(pid).ok_or_else(|| {
                format!("process {pid}, which is said to read it, cannot be held as a child of the team's Python")
            })?,
            other => return Err(format!("no process to read it: {other:?}")),
        };
        match tokio::time::timeout(PATIENCE, control.receive()).await {
            Ok(Ok(Some(Report::Prepared))) => {}
            Ok(Ok(Some(Report::Unfit { reason }))) => return Err(reason),
            Ok(other) => return Err(format!("reading it ended: {other:?}")),
            Err(_) => {
                self.kill(process.pid(), Signal::SIGKILL, true).await;
                return Err(format!("it was not read within {} s", PATIENCE.as_secs()));
            }
        }
        Ok(Ready {
            zygote: startup::listening(&self.shared.team, control, process, self.shared.shapes_instances, None),
            files,
            since: Instant::now(),
        })
    }

    /// This prepared zygote, holding the one that it came from: that must not end before what runs here.
    fn of(mut self, parent: &Self) -> Self {
        self.parent = Some(Box::new(parent.clone()));
        self
    }
}
