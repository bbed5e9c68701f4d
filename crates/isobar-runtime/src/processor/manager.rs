//! The loop of one team's dag-processor: what changed, what is read next, what was found.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::agent::{AgentApi, KnownFile};
use isobar_wire::execution::ExecutionApi;
use tokio::sync::{mpsc, watch as cell};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bundle::{FileId, Stamp};
use super::callbacks::{self, CallbackJob};
use super::changes::{self, Kind};
use super::listing::{self, Rules, Verdicts};
use super::queue::{Queue, Urgency};
use super::reading::{Reader, Reading, Work};
use super::report::{self, Report, insist};
use super::watch::{Changes, Watch};
use super::{Order, ProcessorSpec, ProcessorState};
use crate::zygote::Zygote;

/// Reports that may wait for the control plane before reading pauses.
const REPORTS_AHEAD: usize = 256;
/// How often files that merely may be concerned are read again at most; Airflow reads every file so often.
const PERHAPS_INTERVAL: Duration = Duration::from_secs(30);
/// How often folders are listed where they cannot be watched.
const UNWATCHED_RESCAN: Duration = Duration::from_secs(30);
/// A file whose zygote died under it this often is held to be the cause.
const LOST_LIMIT: u32 = 3;

/// What is known of one Dag file.
#[derive(Default)]
struct Entry {
    /// As it was when it was last read; none before.
    read: Option<Stamp>,
    /// As it is.
    now: Option<Stamp>,
    reading: bool,
    /// It is to be read once more when the reading is over.
    again: bool,
    lost: u32,
    /// Its result depends on variables or connections.
    asked: bool,
}

/// The state of one team's dag-processor.
pub(super) struct Manager {
    spec: Arc<ProcessorSpec>,
    agent: Arc<dyn AgentApi>,
    reader: Arc<Reader>,
    zygotes: cell::Receiver<Option<Zygote>>,
    tell_state: cell::Sender<ProcessorState>,
    stop: CancellationToken,
    files: HashMap<FileId, Entry>,
    queue: Queue,
    callbacks: VecDeque<CallbackJob>,
    readings: JoinSet<Reading>,
    verdicts: Verdicts,
    /// Bundles of which everything is to be read again, once [`PERHAPS_INTERVAL`] has passed since the last time.
    perhaps: HashSet<Arc<str>>,
    perhaps_done: Option<Instant>,
    /// A zygote that is on its way out; nothing more is asked of it.
    gone_zygote: Option<i32>,
    parsed: u64,
    listed: bool,
    /// Whether every folder could be read the last time.
    readable: bool,
}

impl Manager {
    pub(super) fn new(
        spec: ProcessorSpec,
        api: Arc<dyn ExecutionApi>,
        agent: Arc<dyn AgentApi>,
        zygotes: cell::Receiver<Option<Zygote>>,
        tell_state: cell::Sender<ProcessorState>,
        stop: CancellationToken,
    ) -> Self {
        let spec = Arc::new(spec);
        Self {
            reader: Arc::new(Reader::new(Arc::clone(&spec), api, stop.clone())),
            spec,
            agent,
            zygotes,
            tell_state,
            stop,
            files: HashMap::new(),
            queue: Queue::default(),
            callbacks: VecDeque::new(),
            readings: JoinSet::new(),
            verdicts: Verdicts::new(),
            perhaps: HashSet::new(),
            perhaps_done: None,
            gone_zygote: None,
            parsed: 0,
            listed: false,
            readable: true,
        }
    }

    /// Runs until stopped.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (reports, take_reports) = mpsc::channel(REPORTS_AHEAD);
        let teller = tokio::spawn(report::tell(self.spec.team, Arc::clone(&self.agent), take_reports));
        let (look, take_look) = mpsc::channel(1);
        let (hand_over, mut handed_over) = mpsc::channel(1);
        let claimer = tokio::spawn(callbacks::claim(
            self.spec.team,
            Arc::clone(&self.agent),
            take_look,
            hand_over,
        ));

        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.work(&mut orders, &reports, &look, &mut handed_over) => {}
        }
        self.stop.cancel();
        drop(look);
        claimer.abort();
        // Readings see the stop and kill their children.
        while self.readings.join_next().await.is_some() {}
        drop(reports);
        // What cannot be told now is found again at the next start.
        let abort = teller.abort_handle();
        if tokio::time::timeout(Duration::from_secs(5), teller).await.is_err() {
            abort.abort();
        }
    }

    async fn work(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        reports: &mpsc::Sender<Report>,
        look: &mpsc::Sender<()>,
        handed_over: &mut mpsc::Receiver<CallbackJob>,
    ) {
        // Watching begins before listing, so that nothing falls in between.
        let mut watch = Watch::begin(&self.spec.bundles);
        let mut pending = Changes::default();
        self.take_known(reports).await;
        self.list_all(reports).await;
        self.listed = true;
        let _ = look.try_send(());

        let mut rescan_at = Instant::now() + self.rescan_pause(&watch);
        loop {
            self.start_readings();
            self.publish();
            if !self.readable {
                rescan_at = rescan_at.min(Instant::now() + UNWATCHED_RESCAN);
            }
            let perhaps = self.perhaps_due();
            tokio::select! {
                changes = watch.next(&mut pending) => self.changed(changes, reports).await,
                Some(reading) = self.readings.join_next() => match reading {
                    Ok(reading) => self.finished(reading, reports).await,
                    Err(error) => tracing::error!(%error, "reading a Dag file panicked"),
                },
                order = orders.recv() => match order {
                    Some(Order::LookForCallbacks) => drop(look.try_send(())),
                    None => return,
                },
                Some(job) = handed_over.recv(), if self.callbacks.len() < 64 => self.take(job),
                changed = self.zygotes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(rescan_at) => {
                    if !(watch.complete && self.readable) {
                        // A folder that came back is another one to the kernel.
                        watch = Watch::begin(&self.spec.bundles);
                    }
                    self.list_all(reports).await;
                    self.reread_those_that_asked();
                    let _ = look.try_send(());
                    rescan_at = Instant::now() + self.rescan_pause(&watch);
                }
                () = tokio::time::sleep_until(perhaps.unwrap_or_else(Instant::now)), if perhaps.is_some() => {
                    self.reread_perhaps();
                }
            }
        }
    }

    /// Takes what the control plane knows; what lies in bundles that are no more is gone.
    async fn take_known(&mut self, reports: &mpsc::Sender<Report>) {
        let known = match insist(|| self.agent.known_files(self.spec.team)).await {
            Ok(known) => known,
            Err(refusal) => {
                tracing::error!(team = %self.spec.team_name, %refusal, "what is known of Dag files was refused; reading all");
                Vec::new()
            }
        };
        for file in known {
            let KnownFile {
                bundle,
                rel_path,
                mtime_ns,
                size,
                fingerprint,
            } = file;
            let stamp = Stamp { mtime_ns, size };
            let id = FileId {
                bundle: bundle.as_str().into(),
                rel_path: rel_path.as_str().into(),
            };
            let Some(found) = self.spec.bundles.iter().find(|known| *known.name == *bundle) else {
                self.tell(reports, Report::Gone(id)).await;
                continue;
            };
            self.verdicts.insert(found.folder.join(&rel_path), (stamp, true));
            let read = (fingerprint == self.spec.fingerprint).then_some(stamp);
            self.files.insert(
                id,
                Entry {
                    read,
                    ..Entry::default()
                },
            );
        }
    }

    fn rescan_pause(&self, watch: &Watch) -> Duration {
        if watch.complete && self.readable {
            self.spec.rescan_interval
        } else {
            UNWATCHED_RESCAN.min(self.spec.rescan_interval)
        }
    }

    async fn list_all(&mut self, reports: &mpsc::Sender<Report>) {
        self.readable = true;
        for bundle in self.spec.bundles.clone() {
            let rules = Rules {
                safe_mode: self.spec.safe_mode,
                syntax: self.spec.ignore_syntax,
                folders: self.spec.bundles.iter().map(|bundle| bundle.folder.clone()).collect(),
            };
            let mut verdicts = std::mem::take(&mut self.verdicts);
            let name = Arc::clone(&bundle.name);
            let listing = tokio::task::spawn_blocking(move || {
                let listed = listing::list(&bundle, &rules, &mut verdicts);
                (listed, verdicts)
            });
            let Ok((listed, verdicts)) = listing.await else {
                tracing::error!(bundle = %name, "listing Dag files panicked");
                return;
            };
            self.verdicts = verdicts;
            match listed {
                Ok(listed) => self.take_listing(&name, &listed, reports).await,
                // Nothing is known to be gone: the folder may be on a disk that is away for a moment.
                Err(error) => {
                    tracing::error!(bundle = %name, %error, "a Dag folder cannot be read; its Dags stay as they are");
                    self.readable = false;
                }
            }
        }
    }

    async fn take_listing(
        &mut self,
        bundle: &Arc<str>,
        listed: &BTreeMap<String, Stamp>,
        reports: &mpsc::Sender<Report>,
    ) {
        for (rel_path, stamp) in listed {
            let id = FileId {
                bundle: Arc::clone(bundle),
                rel_path: rel_path.as_str().into(),
            };
            let urgency = if self.listed { Urgency::Now } else { Urgency::New };
            self.seen(&id, *stamp, urgency);
        }
        let gone: Vec<FileId> = (self.files.keys())
            .filter(|id| id.bundle == *bundle && !listed.contains_key(&*id.rel_path))
            .cloned()
            .collect();
        for id in gone {
            self.files.remove(&id);
            self.queue.remove(&id);
            self.tell(reports, Report::Gone(id)).await;
        }
    }

    /// A file exists, with this stamp: it is read where that is news.
    fn seen(&mut self, id: &FileId, stamp: Stamp, urgency: Urgency) {
        let entry = self.files.entry(id.clone()).or_default();
        entry.now = Some(stamp);
        if entry.read != Some(stamp) {
            if entry.reading {
                entry.again = true;
            } else {
                self.queue.add(id, urgency, stamp.mtime_ns);
            }
        }
    }

    async fn changed(&mut self, changes: Changes, reports: &mpsc::Sender<Report>) {
        let known = |id: &FileId| self.files.contains_key(id);
        let sorted = changes::sort(&changes, &self.spec.bundles, known);
        let mut list = sorted.list;
        let mut changed = Vec::new();
        let mut support = Vec::new();
        for (id, kind) in sorted.files {
            match kind {
                Kind::DagFile => match std::fs::metadata(self.path(&id)) {
                    Ok(found) if found.is_file() => {
                        changed.push(id.clone());
                        self.seen(&id, Stamp::of(&found), Urgency::Now);
                    }
                    _ => list = true,
                },
                Kind::Support => support.push(id),
            }
        }
        if list {
            self.list_all(reports).await;
        }
        // What the listing found to be a Dag file is new, and nobody can have used it.
        support.retain(|id| !self.files.contains_key(id));
        self.perhaps.extend(support.into_iter().map(|id| id.bundle));
        self.read_importers_of(&changed).await;
    }

    /// Other Dag files that import a changed one by its name are read too.
    async fn read_importers_of(&mut self, changed: &[FileId]) {
        if changed.is_empty() || self.files.len() == changed.len() {
            return;
        }
        let folders: Vec<PathBuf> = self.spec.bundles.iter().map(|bundle| bundle.folder.clone()).collect();
        let others: Vec<(FileId, PathBuf)> = (self.files.keys())
            .filter(|id| !changed.contains(id))
            .map(|id| (id.clone(), self.path(id)))
            .collect();
        let changed = changed.to_vec();
        let importing = tokio::task::spawn_blocking(move || changes::importers(&changed, others, &folders)).await;
        for id in importing.unwrap_or_default() {
            self.queue_again(&id, Urgency::Now);
        }
    }

    fn queue_again(&mut self, id: &FileId, urgency: Urgency) {
        let Some(entry) = self.files.get_mut(id) else { return };
        if entry.reading {
            entry.again = true;
        } else {
            self.queue.add(id, urgency, entry.now.map_or(0, |stamp| stamp.mtime_ns));
        }
    }

    fn take(&mut self, job: CallbackJob) {
        if !job.asks_for_the_file() {
            self.callbacks.push_back(job);
            return;
        }
        self.queue_again(&job.file, Urgency::Now);
        let (team, agent) = (self.spec.team, Arc::clone(&self.agent));
        let ids = job.callbacks.iter().map(|one| one.id).collect();
        tokio::spawn(async move { callbacks::done(team, &agent, ids).await });
    }

    /// Files that asked for variables or connections may mean something else by now.
    fn reread_those_that_asked(&mut self) {
        let asked: Vec<FileId> = self
            .files
            .iter()
            .filter(|(_, entry)| entry.asked)
            .map(|(id, _)| id.clone())
            .collect();
        for id in asked {
            self.queue_again(&id, Urgency::Perhaps);
        }
    }

    fn perhaps_due(&self) -> Option<Instant> {
        if self.perhaps.is_empty() {
            return None;
        }
        Some(
            self.perhaps_done
                .map_or_else(Instant::now, |done| done + PERHAPS_INTERVAL),
        )
    }

    fn reread_perhaps(&mut self) {
        let bundles = std::mem::take(&mut self.perhaps);
        self.perhaps_done = Some(Instant::now());
        let concerned: Vec<FileId> = self
            .files
            .keys()
            .filter(|id| bundles.contains(&id.bundle))
            .cloned()
            .collect();
        for id in concerned {
            self.queue_again(&id, Urgency::Perhaps);
        }
    }

    fn start_readings(&mut self) {
        let zygote = self.zygotes.borrow_and_update().clone().filter(Zygote::is_alive);
        let Some(zygote) = zygote.filter(|zygote| Some(zygote.pid()) != self.gone_zygote) else {
            return;
        };
        while self.readings.len() < self.spec.processes as usize {
            let work = if let Some(job) = self.callbacks.pop_front() {
                Work::Callbacks(job)
            } else if let Some((id, _)) = self.queue.pop() {
                let Some(entry) = self.files.get_mut(&id) else { continue };
                entry.reading = true;
                entry.again = false;
                Work::Read(id)
            } else {
                return;
            };
            let reader = Arc::clone(&self.reader);
            let agent = Arc::clone(&self.agent);
            let zygote = zygote.clone();
            self.readings
                .spawn(async move { reader.work(&zygote, work, &agent).await });
        }
    }

    async fn finished(&mut self, reading: Reading, reports: &mpsc::Sender<Report>) {
        match reading {
            Reading::Callbacks => {}
            Reading::CallbacksLost(job, zygote) => {
                self.gone_zygote = Some(zygote);
                self.callbacks.push_front(job);
            }
            Reading::NotBegun(id, zygote) => {
                self.gone_zygote = Some(zygote);
                if let Some(entry) = self.files.get_mut(&id) {
                    entry.reading = false;
                    self.queue_again(&id, Urgency::New);
                }
            }
            Reading::Read { id, file, asked } => {
                self.parsed += 1;
                let Some(entry) = self.files.get_mut(&id) else { return };
                let stamp = Stamp {
                    mtime_ns: file.file.mtime_ns,
                    size: file.file.size,
                };
                entry.reading = false;
                entry.lost = 0;
                entry.asked = asked;
                entry.read = Some(stamp);
                if std::mem::take(&mut entry.again) {
                    self.queue_again(&id, Urgency::Now);
                }
                self.tell(reports, Report::Parsed(file)).await;
            }
            Reading::Vanished(id) => {
                self.files.remove(&id);
                self.tell(reports, Report::Gone(id)).await;
            }
            Reading::Lost(id) => {
                let Some(entry) = self.files.get_mut(&id) else { return };
                entry.reading = false;
                entry.lost += 1;
                if entry.lost < LOST_LIMIT {
                    self.queue_again(&id, Urgency::New);
                } else {
                    entry.lost = 0;
                    let reader = Arc::clone(&self.reader);
                    if let Some(file) = reader.blame(&id) {
                        entry.read = Some(Stamp {
                            mtime_ns: file.file.mtime_ns,
                            size: file.file.size,
                        });
                        self.tell(reports, Report::Parsed(file)).await;
                    }
                }
            }
        }
    }

    async fn tell(&self, reports: &mpsc::Sender<Report>, report: Report) {
        // The receiver lives until this sender is dropped.
        let _ = reports.send(report).await;
    }

    fn path(&self, id: &FileId) -> PathBuf {
        self.reader.path(id).unwrap_or_default()
    }

    fn publish(&self) {
        let state = ProcessorState {
            listed: self.listed,
            files: self.files.len(),
            waiting: self.queue.len() + self.callbacks.len(),
            reading: self.readings.len(),
            parsed: self.parsed,
        };
        self.tell_state
            .send_if_modified(|old| std::mem::replace(old, state) != state);
    }
}
