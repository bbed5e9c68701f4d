//! The listeners of one team: what the control plane did is told to the team's plugins, one call after the other, in a process of
//! the team's own.
//!
//! That process is forked once to see which hooks the plugins have; only of those anything is written down. It stays while there
//! is something to tell, and a little longer. A listener that hangs or ends the process loses that one call, never another's.

mod control;
mod talk;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_config::{Config, Team};
use isobar_model::{TeamId, TeamName};
use isobar_wire::execution::ExecutionApi;
use isobar_wire::listeners::{Hook, ListenerApi, PendingCall};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::masker::MaskerConfig;
use crate::plugins;
use crate::processor::Bundle;
use crate::zygote::Zygote;
use control::Control;
use talk::{Lost, Talk};

/// Calls claimed at once.
const BATCH: u32 = 64;
/// How long calls that were made may wait until that is written: what a killed server would tell again.
const GATHER: Duration = Duration::from_millis(100);
/// Calls are claimed anew after this, so that a slow listener's claim does not run out.
const CLAIM_AGAIN: Duration = Duration::from_secs(60);
/// How long a call that is being made may still take when the server stops; it is made again after the next start.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a failed start, growing to the second.
const START_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often to look for changed plugins, and for calls where a hint may have been lost.
const SWEEP: Duration = Duration::from_secs(30);
/// How long the team's Python is kept waiting for its plugins to be looked at: one of them may hang, or a call take long. They are
/// looked at all the same then.
const MEET_PATIENCE: Duration = Duration::from_secs(10);

/// What one team's listeners are to do.
#[derive(Clone, Debug)]
pub struct ListenersSpec {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub team_name: TeamName,
    /// The team's Dag folders.
    pub bundles: Vec<Bundle>,
    /// Of this host and state folder only one process at a time has a Python of the team: what one that was killed had claimed is the
    /// next one's at once.
    pub holder: String,
    /// How long one call may take before the process is killed.
    pub patience: Duration,
    /// How long its start may take, the team's plugins among it.
    pub start_timeout: Duration,
    /// How long the process waits for another call before it ends.
    pub linger: Duration,
    /// A change below here starts it again.
    pub plugins: Option<PathBuf>,
    /// The team's log folder, which its children cannot write.
    pub log_folder: PathBuf,
    /// What its log hides.
    pub masking: MaskerConfig,
}

impl ListenersSpec {
    /// The specification that follows from the configuration.
    #[must_use]
    pub fn from_config(config: &Config, team: &Team, number: TeamId, hostname: &str) -> Self {
        Self {
            team: number,
            team_name: team.name.clone(),
            bundles: Bundle::of_team(team),
            holder: format!("{hostname}:{}", config.home.display()),
            patience: Duration::from_secs(60),
            start_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(60),
            plugins: team.plugins_folder.clone(),
            log_folder: config.log_folder(team),
            masking: MaskerConfig::from_config(config),
        }
    }
}

/// A zygote whose plugins are to be looked at, and who waits until they were.
type Meeting = (Zygote, oneshot::Sender<()>);

/// The team's listeners, their process running or not. Dropping it stops that without waiting.
pub struct Listeners {
    look: mpsc::UnboundedSender<()>,
    meet: mpsc::Sender<Meeting>,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Listeners {
    /// Starts to look for calls. `zygotes` holds the team's zygote; while there is none, calls wait.
    ///
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start(
        spec: ListenersSpec,
        api: Arc<dyn ExecutionApi>,
        listeners: Arc<dyn ListenerApi>,
        zygotes: watch::Receiver<Option<Zygote>>,
    ) -> Self {
        let (look, looks) = mpsc::unbounded_channel();
        let (meet, meetings) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let control = Control {
            api: listeners,
            team: spec.team,
            team_name: spec.team_name.clone(),
            holder: spec.holder.clone(),
            stop: stop.clone(),
        };
        let manager = Manager {
            spec,
            api,
            control,
            zygotes,
            looks,
            meetings,
            stop: stop.clone(),
            talk: None,
            looked_at: None,
            hooks: BTreeSet::new(),
            pause: START_PAUSE.0,
            rests_until: None,
            last_call: Instant::now(),
        };
        tracker.spawn(manager.run());
        tracker.close();
        Self {
            look,
            meet,
            stop,
            tracker,
        }
    }

    /// Says that there is something to tell: the answer to [`isobar_wire::wake::Wake::Listeners`].
    pub fn look_for_calls(&self) {
        let _ = self.look.send(());
    }

    /// Looks at the plugins of a new zygote, and returns once the control plane knows what they listen to, or that takes too long.
    /// To be called before anything is done with that zygote that they might want to hear of.
    pub async fn meet(&self, zygote: &Zygote) {
        let (tell, met) = oneshot::channel();
        let meeting = async {
            if self.meet.send((zygote.clone(), tell)).await.is_ok() {
                // An error: we are stopping.
                let _ = met.await;
            }
        };
        let _ = tokio::time::timeout(MEET_PATIENCE, meeting).await;
    }

    /// Lets listeners finish what they have begun, and ends their process.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tracker.wait().await;
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Manager {
    spec: ListenersSpec,
    api: Arc<dyn ExecutionApi>,
    control: Control,
    zygotes: watch::Receiver<Option<Zygote>>,
    looks: mpsc::UnboundedReceiver<()>,
    meetings: mpsc::Receiver<Meeting>,
    stop: CancellationToken,
    talk: Option<Talk>,
    /// The zygote and the plugins that were looked at last.
    looked_at: Option<(i32, u64)>,
    /// What they listen to.
    hooks: BTreeSet<Hook>,
    pause: Duration,
    /// After a failed start.
    rests_until: Option<Instant>,
    last_call: Instant,
}

impl Manager {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            self.work().await;
        }
        if let Some(talk) = self.talk.take() {
            talk.stop().await;
        }
    }

    async fn work(&mut self) {
        self.rests_until.take_if(|until| *until <= Instant::now());
        let resting = self.rests_until.is_some();
        if !resting {
            self.follow_plugins().await;
        }
        if resting || self.hooks.is_empty() || !self.tell_all().await {
            self.wait().await;
        }
    }

    /// Until there may be something to tell, or to look at again.
    async fn wait(&mut self) {
        let mut until = Instant::now() + SWEEP;
        if let Some(rest) = self.rests_until {
            until = until.min(rest);
        }
        if self.talk.is_some() {
            until = until.min(self.last_call + self.spec.linger);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            Some((zygote, met)) = self.meetings.recv() => {
                // One that was not waited for is found where it was announced.
                if !met.is_closed() {
                    self.rests_until = None;
                    self.look_at(&zygote).await;
                    let _ = met.send(());
                }
            }
            Ok(()) = self.zygotes.changed() => self.follow_zygote().await,
            Some(()) = self.looks.recv() => {}
            () = tokio::time::sleep_until(until) => if !self.hooks.is_empty() {
                // A host that has not these plugins may have said that there are none.
                self.control.found(&self.hooks, false).await;
            }
        }
        while self.looks.try_recv().is_ok() {}
        if self.last_call.elapsed() >= self.spec.linger
            && let Some(talk) = self.talk.take()
        {
            talk.stop().await;
        }
    }

    /// Ends the process of a zygote that was replaced, which it would keep alive.
    async fn follow_zygote(&mut self) {
        let pid = self.zygotes.borrow_and_update().as_ref().map(Zygote::pid);
        if let Some(talk) = self.talk.take_if(|talk| Some(talk.zygote) != pid) {
            talk.stop().await;
        }
    }

    /// Looks at the plugins again where their files have changed, or where that could not be done before.
    async fn follow_plugins(&mut self) {
        let zygote = self.zygotes.borrow().clone();
        let Some(zygote) = zygote.filter(Zygote::is_alive) else {
            return;
        };
        let print = plugins::print(self.spec.plugins.clone()).await;
        if self.looked_at != Some((zygote.pid(), print)) {
            self.look_at(&zygote).await;
        }
    }

    /// Starts the process from this zygote, and tells the control plane which hooks the plugins have. One without any is ended.
    async fn look_at(&mut self, zygote: &Zygote) -> bool {
        if let Some(talk) = self.talk.take() {
            talk.stop().await;
        }
        let print = plugins::print(self.spec.plugins.clone()).await;
        let started = tokio::select! {
            started = Talk::start(zygote, &self.spec, Arc::clone(&self.api), print) => started,
            () = self.stop.cancelled() => return false,
        };
        let talk = match started {
            Ok(talk) => talk,
            Err(reason) => {
                tracing::error!(team = %self.spec.team_name, reason, pause = ?self.pause, "the team's listeners could not be started");
                self.rests_until = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(START_PAUSE.1);
                return false;
            }
        };
        self.looked_at = Some((zygote.pid(), print));
        (self.pause, self.rests_until) = (START_PAUSE.0, None);
        self.hooks.clone_from(&talk.hooks);
        self.control.found(&self.hooks, talk.has_all).await;
        if self.hooks.is_empty() {
            talk.end().await;
        } else {
            tracing::info!(team = %self.spec.team_name, hooks = self.hooks.len(), "plugins of the team listen");
            self.talk = Some(talk);
            self.last_call = Instant::now();
        }
        true
    }

    /// A process that lives and knows the plugins as they were when last looked at.
    async fn have_a_process(&mut self) -> bool {
        let zygote = self.zygotes.borrow().clone();
        let Some(zygote) = zygote.filter(Zygote::is_alive) else {
            return false;
        };
        if let Some(talk) = &mut self.talk
            && talk.is_alive()
            && talk.zygote == zygote.pid()
            && Some((talk.zygote, talk.plugins)) == self.looked_at
        {
            return true;
        }
        self.look_at(&zygote).await && self.talk.is_some()
    }

    /// Tells what waits, up to a batch; whether there may be more.
    async fn tell_all(&mut self) -> bool {
        if !self.zygotes.borrow().as_ref().is_some_and(Zygote::is_alive) {
            return false;
        }
        let control = self.control.clone();
        let claimed = control.claim(BATCH).await;
        let more = claimed.len() == BATCH as usize;
        let begun = Instant::now();
        let (mut made, mut written) = (Vec::new(), begun);
        for call in &claimed {
            if begun.elapsed() > CLAIM_AGAIN {
                control.made(&mut made).await;
                return true;
            }
            let making = async { !control.stop.is_cancelled() && self.have_a_process().await && self.make(call).await };
            tokio::pin!(making);
            // One that takes long keeps nobody from knowing of those before it.
            let well = tokio::select! {
                well = &mut making => well,
                () = tokio::time::sleep_until(written + GATHER) => {
                    written = Instant::now();
                    tokio::join!(making, control.made(&mut made)).0
                }
            };
            if !well {
                control.made(&mut made).await;
                return false;
            }
            made.push(call.id);
        }
        control.made(&mut made).await;
        more
    }

    /// Makes one call; false where it is to be made again.
    async fn make(&mut self, call: &PendingCall) -> bool {
        let Some(mut talk) = self.talk.take() else { return false };
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        let lost = tokio::select! {
            called = talk.call(call, &self.spec, &*self.control.api) => called.err(),
            () = stopped => Some(Lost::Zygote),
        };
        self.last_call = Instant::now();
        let Some(lost) = lost else {
            self.talk = Some(talk);
            return true;
        };
        talk.end().await;
        if lost == Lost::Zygote {
            return false;
        }
        tracing::error!(team = %self.spec.team_name, hook = call.hook, reason = lost.sentence(&self.spec), "a listener is passed over");
        true
    }
}
