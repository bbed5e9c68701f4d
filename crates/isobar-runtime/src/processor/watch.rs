//! Waiting for files to change, without looking at them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::bundle::Bundle;

/// A batch is handed on after this long without news, so that a half-written file is not read.
const QUIET: Duration = Duration::from_millis(150);
/// A batch is handed on at the latest after this long, however much is going on.
const LONGEST: Duration = Duration::from_secs(2);

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Files and folders that were made, changed, renamed or removed.
    pub(super) paths: BTreeSet<PathBuf>,
    /// Events were lost: anything may have changed.
    pub(super) anything: bool,
}

/// Watches the folders of a team.
pub(super) struct Watch {
    _watcher: Option<RecommendedWatcher>,
    events: mpsc::UnboundedReceiver<notify::Result<Event>>,
    /// Whether every folder is watched; else only sweeps find changes.
    pub(super) complete: bool,
}

impl Watch {
    /// Begins. What cannot be watched is warned of, with what to do, and left to the sweeps.
    pub(super) fn begin(bundles: &[Bundle]) -> Self {
        let (tell, events) = mpsc::unbounded_channel();
        let handler = move |event: notify::Result<Event>| {
            let matters = match &event {
                Ok(event) => matters(event.kind),
                Err(_) => true,
            };
            if matters {
                let _ = tell.send(event);
            }
        };
        let mut watcher = match RecommendedWatcher::new(handler, Config::default()) {
            Ok(watcher) => watcher,
            Err(error) => {
                warn("(all)", &error);
                return Self {
                    _watcher: None,
                    events,
                    complete: false,
                };
            }
        };
        let mut complete = true;
        for bundle in bundles {
            if let Err(error) = watcher.watch(&bundle.folder, RecursiveMode::Recursive) {
                warn(&bundle.name, &error);
                complete = false;
            }
        }
        Self {
            _watcher: Some(watcher),
            events,
            complete,
        }
    }

    /// The next batch of changes; never returns where nothing is watched. Cancel-safe only before the first event
    /// of a batch: what a cancelled call had collected is in `pending`.
    pub(super) async fn next(&mut self, pending: &mut Changes) -> Changes {
        if pending.is_empty() {
            loop {
                match self.events.recv().await {
                    Some(event) => pending.add(event),
                    None => std::future::pending().await,
                }
                if !pending.is_empty() {
                    break;
                }
            }
        }
        let begun = Instant::now();
        loop {
            let until = (Instant::now() + QUIET).min(begun + LONGEST);
            match timeout_at(until, self.events.recv()).await {
                Ok(Some(event)) if begun.elapsed() < LONGEST => pending.add(event),
                Ok(Some(event)) => {
                    pending.add(event);
                    break;
                }
                _ => break,
            }
        }
        std::mem::take(pending)
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.anything
    }

    fn add(&mut self, event: notify::Result<Event>) {
        match event {
            Ok(event) => {
                self.anything |= event.need_rescan();
                self.paths.extend(event.paths);
            }
            Err(error) => {
                tracing::warn!(%error, "watching Dag folders: an event was lost");
                self.anything = true;
            }
        }
    }
}

/// Opening and reading a file changes nothing.
fn matters(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn warn(bundle: &str, error: &notify::Error) {
    tracing::warn!(
        bundle,
        %error,
        "changes in this Dag folder are found by sweeps only; hint: raise `fs.inotify.max_user_watches` and \
         `fs.inotify.max_user_instances`"
    );
}
