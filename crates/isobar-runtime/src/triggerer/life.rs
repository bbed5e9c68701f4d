//! When a fork is needed, and what happens between one and the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::execution::{Caller, ExecutionApi, Refusal};
use isobar_wire::triggers::{Assigned, Beat, TriggerApi};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::TriggererSpec;
use super::process::{self, Ended};
use crate::zygote::Zygote;

/// The triggerer from its start to its stop.
pub(super) struct Life {
    pub(super) spec: Arc<TriggererSpec>,
    pub(super) caller: Arc<Caller>,
    pub(super) api: Arc<dyn ExecutionApi>,
    pub(super) triggers: Arc<dyn TriggerApi>,
    zygotes: watch::Receiver<Option<Zygote>>,
    pub(super) look: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Life {
    pub(super) fn new(
        spec: TriggererSpec,
        api: Arc<dyn ExecutionApi>,
        triggers: Arc<dyn TriggerApi>,
        zygotes: watch::Receiver<Option<Zygote>>,
        look: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        let caller = Arc::new(Caller::Trigger {
            team: spec.team,
            team_name: spec.team_name.clone(),
        });
        Self {
            spec: Arc::new(spec),
            caller,
            api,
            triggers,
            zygotes,
            look,
            stop,
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(assigned) = self.first_need().await {
            if let Some(triggerer) = self.work(assigned).await
                && let Err(error) = self.triggers.triggerer_leaves(&self.caller, triggerer).await
            {
                tracing::warn!(team = %self.spec.team_name, %error, "triggers could not be given up; others take them a little later");
            }
        }
    }

    /// Sleeps until there is a trigger to run; none where it is to stop.
    async fn first_need(&self) -> Option<Assigned> {
        loop {
            let wait = match self.beat(None, BTreeSet::new()).await {
                Ok(assigned) if assigned.triggerer.is_some() => return Some(assigned),
                Ok(_) => self.spec.timers.sweep,
                Err(error) => {
                    tracing::warn!(team = %self.spec.team_name, %error, "the triggerer cannot ask what to run");
                    self.spec.timers.beat
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = self.look.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Keeps a fork running until there is nothing to run; answers the number to give back.
    async fn work(&mut self, mut assigned: Assigned) -> Option<i64> {
        let mut pause = self.spec.timers.restart.0;
        loop {
            let triggerer = assigned.triggerer?;
            let began = Instant::now();
            let zygote = tokio::select! {
                zygote = alive(&mut self.zygotes) => zygote,
                () = self.stop.cancelled() => return Some(triggerer),
            };
            match process::run(self, &zygote?, triggerer, assigned).await {
                Ended::Idle | Ended::Stopped => return Some(triggerer),
                // Others may have its triggers by now.
                Ended::GivenUp(news) => assigned = news,
                Ended::Died(why) => {
                    tracing::error!(team = %self.spec.team_name, why, "the team's triggerer ended; its triggers start anew");
                    if began.elapsed() > self.spec.timers.restart.1 {
                        pause = self.spec.timers.restart.0;
                    }
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.stop.cancelled() => return Some(triggerer),
                    }
                    pause = (pause * 2).min(self.spec.timers.restart.1);
                    assigned = self.again(triggerer).await?;
                }
            }
        }
    }

    /// What to run, asked until there is an answer.
    async fn again(&self, triggerer: i64) -> Option<Assigned> {
        loop {
            match self.beat(Some(triggerer), BTreeSet::new()).await {
                Ok(assigned) => return Some(assigned),
                Err(error) => {
                    tracing::warn!(team = %self.spec.team_name, %error, "the triggerer cannot ask what to run");
                }
            }
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    pub(super) async fn beat(&self, triggerer: Option<i64>, running: BTreeSet<i64>) -> Result<Assigned, Refusal> {
        let beat = Beat {
            triggerer,
            hostname: self.spec.hostname.clone(),
            holder: self.spec.holder.clone(),
            capacity: self.spec.capacity,
            at_once: self.spec.at_once,
            running,
        };
        self.triggers.beat(&self.caller, beat).await
    }
}

/// The team's zygote, waited for; none where there will not be one any more.
async fn alive(zygotes: &mut watch::Receiver<Option<Zygote>>) -> Option<Zygote> {
    let found = zygotes
        .wait_for(|zygote| zygote.as_ref().is_some_and(Zygote::is_alive))
        .await;
    found.ok().and_then(|zygote| zygote.clone())
}
