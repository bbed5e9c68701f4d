//! The triggerer of one team: Airflow's own runner of triggers in a long-lived fork of the team's zygote, told what to run
//! and asked what became of it.
//!
//! Nothing is spent while the team waits for nothing: the fork is made when there is a first trigger, and ends a while after
//! the last. Nobody polls: the fork's question is kept until there is something to start or to stop. With each sign of life it
//! has to ask once more: what blocks Python's event loop would show in nothing else.

mod life;
mod logs;
mod news;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_model::{TeamId, TeamName};
use isobar_wire::execution::ExecutionApi;
use isobar_wire::triggers::TriggerApi;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::masker::MaskerConfig;
use crate::zygote::Zygote;

/// What one team's triggerer is to do.
#[derive(Clone, Debug)]
pub struct TriggererSpec {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub team_name: TeamName,
    /// The name of this host.
    pub hostname: String,
    /// This server process, so that another can see that it is dead.
    pub holder: String,
    /// Triggers at once (`[triggerer] capacity`).
    pub capacity: u32,
    /// Triggers taken before others of the team have had a chance (`[triggerer] max_trigger_to_select_per_loop`).
    pub at_once: u32,
    /// `[logging] base_log_folder`; no child may be able to write it.
    pub base_log_folder: PathBuf,
    /// What its logs hide.
    pub masking: MaskerConfig,
    /// How long things may take.
    pub timers: TriggererTimers,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub struct TriggererTimers {
    /// Between two signs of life. Three may be missed before others take its triggers.
    pub beat: Duration,
    /// How often to look, while there is nothing to run, for triggers that no hint told of.
    pub sweep: Duration,
    /// How long the fork stays when there is nothing to run any more.
    pub idle: Duration,
    /// From SIGTERM to SIGKILL.
    pub end: Duration,
    /// How long Python may be silent before the triggerer counts as stuck; none where it never does.
    pub stuck: Option<Duration>,
    /// How soon after its start a watcher that has ended is started again.
    pub watcher: Duration,
    /// Pause before a fork that died is replaced, growing to the second.
    pub restart: (Duration, Duration),
    /// Pauses before a call that failed with 500 or above is tried again.
    pub retries: Arc<[Duration]>,
}

impl TriggererTimers {
    /// Those of a triggerer that counts as dead after `silence`, and does not say that it lives where its Python says
    /// nothing for `stuck`.
    #[must_use]
    pub fn with_silence(silence: Duration, stuck: Duration) -> Self {
        Self {
            beat: silence.mul_f64(0.27).max(Duration::from_millis(250)),
            stuck: (!stuck.is_zero()).then_some(stuck),
            ..Self::default()
        }
    }
}

impl Default for TriggererTimers {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(8),
            sweep: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            end: Duration::from_secs(10),
            stuck: Some(Duration::from_secs(30)),
            watcher: Duration::from_secs(1),
            restart: (Duration::from_millis(200), Duration::from_secs(30)),
            retries: [200, 1_000, 4_000].map(Duration::from_millis).into(),
        }
    }
}

/// A running triggerer. Dropping it stops it without waiting.
pub struct Triggerer {
    look: Arc<Notify>,
    stop: CancellationToken,
    life: Option<JoinHandle<()>>,
}

impl Triggerer {
    /// Starts. `zygotes` holds the team's zygote; while there is none, triggers wait.
    ///
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start(
        spec: TriggererSpec,
        api: Arc<dyn ExecutionApi>,
        triggers: Arc<dyn TriggerApi>,
        zygotes: watch::Receiver<Option<Zygote>>,
    ) -> Self {
        let (look, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let life = life::Life::new(spec, api, triggers, zygotes, Arc::clone(&look), stop.clone());
        Self {
            look,
            stop,
            life: Some(tokio::spawn(life.run())),
        }
    }

    /// Says that triggers came or went: the answer to [`isobar_wire::wake::Wake::Triggers`].
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Ends the fork, which lets its triggers clean up, and gives them to others.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(life) = self.life.take() {
            // A panic was reported where it happened.
            let _ = life.await;
        }
    }
}

impl Drop for Triggerer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
