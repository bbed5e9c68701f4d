//! The loop: hold the lease, wait for something to happen, run a pass. Nothing here ticks while nothing happens.

use std::time::Duration;

use isobar_store::leases::{self, Lease};
use isobar_store::{Store, StoreError, events};
use isobar_wire::wake::Wake;
use isobar_wire::workload::WorkloadEnded;
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;

use crate::holder::Holder;
use crate::memory::{AllHeld, Memory};
use crate::setting::Setting;
use crate::{load, losses, pass, waits};

/// The lease under which one scheduler of an organisation works.
const LEASE: &str = "scheduler";
/// How long to wait before another try after an error.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long the lease of a scheduler lasts that no other process can compete with.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The longest sleep until a timer: clocks may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Why a scheduler ended, other than being asked to.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// Every executor is gone: this process is ending.
    #[error("the executors went away")]
    ExecutorsGone,
}

/// A scheduler.
pub struct Scheduler {
    store: Store,
    setting: Setting,
    reports: mpsc::UnboundedReceiver<WorkloadEnded>,
    /// What executors of this process hold: outlives the memory, which is loaded again after an error.
    held: AllHeld,
}

/// What happened while nothing was done.
enum Happened {
    Events,
    Reports(Vec<WorkloadEnded>),
    Timer,
    Sweep,
    Renew,
    Shutdown,
}

impl Scheduler {
    /// A scheduler; `reports` is where its executors report.
    #[must_use]
    pub fn new(store: Store, setting: Setting, reports: mpsc::UnboundedReceiver<WorkloadEnded>) -> Self {
        Self {
            store,
            setting,
            reports,
            held: AllHeld::new(),
        }
    }

    /// Schedules until it is asked to stop. Stands by while another process holds the lease.
    ///
    /// # Errors
    /// See [`SchedulerError`]; a failing database is not one, that is waited for.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), SchedulerError> {
        while !shutdown.is_cancelled() {
            let lease = match self.acquire().await {
                Ok(Some(lease)) => lease,
                Ok(None) => {
                    pause(self.setting.lease / 3, &shutdown).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the scheduler's lease cannot be read");
                    pause(PAUSE_AFTER_ERROR, &shutdown).await;
                    continue;
                }
            };
            match Box::pin(self.lead(&lease, &shutdown)).await {
                Ok(()) => {
                    self.release(&lease).await;
                    return Ok(());
                }
                Err(StoreError::LeaseLost(_)) => {
                    tracing::warn!("another scheduler took the lease; standing by");
                }
                Err(error) => {
                    tracing::error!(%error, "scheduling stopped; everything is loaded again");
                    pause(PAUSE_AFTER_ERROR, &shutdown).await;
                }
            }
        }
        Ok(())
    }

    async fn acquire(&self) -> Result<Option<Lease>, StoreError> {
        let (org, holder) = (&self.setting.org, self.setting.holder.to_string());
        let lasting = if self.setting.alone {
            FOR_EVER
        } else {
            self.setting.lease
        };
        let mut tx = self.store.begin().await?;
        let held_by = leases::holder(&mut tx, org, LEASE).await?;
        if let Some((other, _)) = held_by.filter(|(other, _)| *other != holder)
            && (self.setting.alone || Holder::is_dead(&other))
        {
            // On SQLite whoever held it is dead: the deployment's lock was ours to take.
            leases::expire(&mut tx, org, LEASE, &other).await?;
        }
        let lease = leases::acquire(&mut tx, org, LEASE, &holder, lasting, Timestamp::now()).await?;
        tx.commit().await?;
        Ok(lease)
    }

    async fn release(&self, lease: &Lease) {
        let released = async {
            let mut tx = self.store.begin().await?;
            leases::release(&mut tx, &self.setting.org, lease).await?;
            tx.commit().await
        };
        if let Err(error) = released.await {
            tracing::warn!(%error, "the lease could not be given back; it runs out by itself");
        }
    }

    async fn lead(&mut self, lease: &Lease, shutdown: &CancellationToken) -> Result<(), StoreError> {
        let signals = self.store.signals().subscribe();
        Box::pin(losses::adopt_orphans(&self.store, &self.setting, &self.held)).await?;
        let mut memory = Memory::new();
        memory.held = std::mem::take(&mut self.held);
        let outcome = match load::everything(&self.store, &self.setting, lease, &mut memory).await {
            Ok(()) => self.work(lease, &mut memory, signals, shutdown).await,
            Err(error) => Err(error),
        };
        self.held = memory.held;
        outcome
    }

    async fn work(
        &mut self,
        lease: &Lease,
        memory: &mut Memory,
        mut signals: Receiver<Wake>,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut sweep = interval_at(
            Instant::now() + self.setting.sweep_interval,
            self.setting.sweep_interval,
        );
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let renewing = if self.setting.alone {
            FOR_EVER
        } else {
            self.setting.lease / 3
        };
        let mut renew = interval_at(Instant::now() + renewing, renewing);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What was committed between the orphans and the load is in the event table.
        let mut happened = Happened::Events;
        loop {
            match happened {
                Happened::Shutdown => return Ok(()),
                Happened::Renew => {
                    if self.acquire().await?.as_ref() != Some(lease) {
                        return Err(StoreError::LeaseLost(LEASE.to_owned()));
                    }
                }
                Happened::Sweep => Box::pin(self.sweep(memory, lease)).await?,
                Happened::Reports(reports) => {
                    Box::pin(losses::take_reports(&self.store, &self.setting, memory, reports)).await?;
                }
                Happened::Events | Happened::Timer => {
                    waits::end_overdue(&self.store, &self.setting, memory).await?;
                    self.passes(memory, lease).await?;
                }
            }
            let due = memory.next_timer();
            happened = tokio::select! {
                biased;
                () = shutdown.cancelled() => Happened::Shutdown,
                _ = renew.tick() => Happened::Renew,
                hint = signals.recv() => match hint {
                    Ok(Wake::Events) | Err(RecvError::Lagged(_)) => Happened::Events,
                    Ok(Wake::Callbacks(_) | Wake::Questions(_) | Wake::Triggers(_) | Wake::Listeners(_) | Wake::Definitions) => continue_with_nothing(),
                    Err(RecvError::Closed) => Happened::Shutdown,
                },
                report = self.reports.recv() => match report {
                    Some(first) => Happened::Reports(drain(first, &mut self.reports)),
                    None => Happened::Shutdown,
                },
                () = sleep_until(due) => Happened::Timer,
                _ = sweep.tick() => Happened::Sweep,
            };
        }
    }

    async fn passes(&self, memory: &mut Memory, lease: &Lease) -> Result<(), StoreError> {
        while pass::pass(&self.store, &self.setting, lease, memory).await?.more {}
        Ok(())
    }

    /// Looks for what no hint told of, and counts it.
    async fn sweep(&self, memory: &mut Memory, lease: &Lease) -> Result<(), StoreError> {
        let before = Timestamp::now() - Duration::from_secs(1);
        let mut tx = self.store.read().await?;
        let missed = events::waiting_since(&mut tx, &self.setting.org, before).await?;
        drop(tx);
        if missed > 0 {
            tracing::warn!(missed, "the sweep found events that no hint told of");
            self.passes(memory, lease).await?;
        }
        losses::sweep(&self.store, &self.setting, &memory.held).await
    }
}

/// Something that is no reason to look at events.
fn continue_with_nothing() -> Happened {
    Happened::Reports(Vec::new())
}

fn drain(first: WorkloadEnded, reports: &mut mpsc::UnboundedReceiver<WorkloadEnded>) -> Vec<WorkloadEnded> {
    let mut all = vec![first];
    while let Ok(report) = reports.try_recv() {
        all.push(report);
    }
    all
}

async fn sleep_until(due: Option<Timestamp>) {
    match due {
        Some(at) => {
            let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            sleep(left.min(LONGEST_SLEEP)).await;
        }
        None => std::future::pending().await,
    }
}

async fn pause(lasting: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep(lasting) => {}
        () = shutdown.cancelled() => {}
    }
}
