//! The dag-processor of one team: finds the team's Dag files, has changed ones read by forks of the team's zygote, and
//! tells the control plane what they hold.
//!
//! Driven by file events: nothing is spent while no file changes, but for one listing every few minutes in case an
//! event was lost. Each file is read in a process of its own, so that a broken or endless one harms no other, within
//! a number of processes that is the team's, so that a team with many files harms no other team.

mod bundle;
mod callbacks;
mod changes;
mod ignore;
mod listing;
mod log;
mod manager;
mod parse;
mod queue;
mod reading;
mod report;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_config::{Config, Team};
use isobar_model::{TeamId, TeamName};
use isobar_wire::agent::AgentApi;
use isobar_wire::execution::ExecutionApi;
use tokio::sync::{mpsc, watch as cell};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use bundle::Bundle;
pub use ignore::IgnoreSyntax;
pub(crate) use log::ParseLog;
pub(crate) use parse::answer as answer_dag_file;

use crate::masker::MaskerConfig;
use crate::zygote::Zygote;

/// What one team's dag-processor is to do.
#[derive(Clone, Debug)]
pub struct ProcessorSpec {
    /// The team.
    pub team: TeamId,
    /// Its name.
    pub team_name: TeamName,
    /// Its Dag folders.
    pub bundles: Vec<Bundle>,
    /// [`crate::environment::Environment::fingerprint`]: a file parsed under another one is parsed again.
    pub fingerprint: String,
    /// Files read at once, at least 1.
    pub processes: u32,
    /// Time one file may take before its process is killed.
    pub timeout: Duration,
    /// How often the folders are listed in case a file event was lost.
    pub rescan_interval: Duration,
    /// Skip Python files that mention neither Dags nor assets, or not Airflow.
    pub safe_mode: bool,
    /// How the team's `.airflowignore` files are written.
    pub ignore_syntax: IgnoreSyntax,
    /// The team's log folder, which its children cannot write.
    pub log_folder: PathBuf,
    /// What its logs hide.
    pub masking: MaskerConfig,
}

impl ProcessorSpec {
    /// The specification that follows from the configuration.
    #[must_use]
    pub fn from_config(config: &Config, team: &Team, number: TeamId, fingerprint: &str) -> Self {
        Self {
            team: number,
            team_name: team.name.clone(),
            bundles: Bundle::of_team(team),
            fingerprint: fingerprint.to_owned(),
            processes: config.parsing.processes.max(1),
            timeout: config.parsing.timeout,
            rescan_interval: config.parsing.rescan_interval,
            safe_mode: config.parsing.safe_mode,
            ignore_syntax: IgnoreSyntax::Glob,
            log_folder: config.log_folder(team),
            masking: MaskerConfig::from_config(config),
        }
    }
}

/// What the manager can be asked for while it runs.
enum Order {
    LookForCallbacks,
}

/// A running dag-processor. Dropping it stops it without waiting.
pub struct DagProcessor {
    orders: mpsc::UnboundedSender<Order>,
    stop: CancellationToken,
    state: cell::Receiver<ProcessorState>,
    manager: Option<JoinHandle<()>>,
}

/// What a dag-processor is about, for health pages and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessorState {
    /// Whether the first listing is done.
    pub listed: bool,
    /// Dag files that exist.
    pub files: usize,
    /// Files that wait to be read.
    pub waiting: usize,
    /// Files being read.
    pub reading: usize,
    /// Files read since the start.
    pub parsed: u64,
}

impl DagProcessor {
    /// Starts. `zygotes` holds the team's zygote; while there is none, or the one there has ended, files wait. Where
    /// its sender is dropped the dag-processor stops.
    ///
    /// Needs a tokio runtime.
    #[must_use]
    pub fn start(
        spec: ProcessorSpec,
        api: Arc<dyn ExecutionApi>,
        agent: Arc<dyn AgentApi>,
        zygotes: cell::Receiver<Option<Zygote>>,
    ) -> Self {
        let (orders, take_orders) = mpsc::unbounded_channel();
        let (tell_state, state) = cell::channel(ProcessorState::default());
        let stop = CancellationToken::new();
        let manager = manager::Manager::new(spec, api, agent, zygotes, tell_state, stop.clone());
        Self {
            orders,
            stop,
            state,
            manager: Some(tokio::spawn(manager.run(take_orders))),
        }
    }

    /// Says that callbacks wait: the answer to [`isobar_wire::wake::Wake::Callbacks`].
    pub fn look_for_callbacks(&self) {
        let _ = self.orders.send(Order::LookForCallbacks);
    }

    /// What it is about; can be waited on for changes.
    #[must_use]
    pub fn state(&self) -> cell::Receiver<ProcessorState> {
        self.state.clone()
    }

    /// Kills what is being read, tells the control plane what was read before, and waits until that is done.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(manager) = self.manager.take() {
            // A panic was reported where it happened.
            let _ = manager.await;
        }
    }
}

impl Drop for DagProcessor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
