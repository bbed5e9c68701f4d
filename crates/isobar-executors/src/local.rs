//! The local executor: forks of the team's warm zygote on this machine.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isobar_model::{Dispatch, TiId};
use isobar_wire::execution::TaskIdentity;
use isobar_wire::workload::{Workload, WorkloadEnded};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{Executor, Reports};

/// How one run of a workload ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunEnded {
    /// What went wrong with its process, none where nothing did.
    pub failure: Option<String>,
    /// Whether the process died before its callbacks could run.
    pub callbacks_lost: bool,
}

/// A workload that is being run.
pub type Running<'a> = Pin<Box<dyn Future<Output = RunEnded> + Send + 'a>>;

/// Runs one workload to its end, whatever happens. Cancelled, it ends the process and then returns.
pub trait RunTask: Send + Sync + 'static {
    /// Runs it.
    fn run<'a>(&'a self, workload: &'a Workload, cancel: CancellationToken) -> Running<'a>;

    /// Writes into a try's log; see [`Executor::explain`].
    fn explain(&self, log_path: &str, said: &str);
}

/// One handing-out of one try.
type Handed = (TiId, Dispatch);

/// A team's local executor.
pub struct LocalExecutor {
    runner: Arc<dyn RunTask>,
    slots: Option<u32>,
    waiting: mpsc::UnboundedSender<(Workload, CancellationToken)>,
    held: Held,
}

type Held = Arc<Mutex<HashMap<Handed, CancellationToken>>>;

impl LocalExecutor {
    /// An executor with this many slots; none is without bound. Must be made inside a tokio runtime.
    #[must_use]
    pub fn new(runner: Arc<dyn RunTask>, slots: Option<u32>, reports: Reports) -> Self {
        let (waiting, queue) = mpsc::unbounded_channel();
        let held = Held::default();
        let hands = Hands {
            runner: Arc::clone(&runner),
            free: Arc::new(Semaphore::new(
                slots.map_or(Semaphore::MAX_PERMITS, |slots| slots as usize),
            )),
            held: Arc::clone(&held),
            reports,
        };
        tokio::spawn(hands.work(queue));
        Self {
            runner,
            slots,
            waiting,
            held,
        }
    }
}

fn lock(held: &Held) -> MutexGuard<'_, HashMap<Handed, CancellationToken>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What starts workloads, one after the other.
struct Hands {
    runner: Arc<dyn RunTask>,
    free: Arc<Semaphore>,
    held: Held,
    reports: Reports,
}

impl Hands {
    async fn work(self, mut queue: mpsc::UnboundedReceiver<(Workload, CancellationToken)>) {
        while let Some((workload, cancel)) = queue.recv().await {
            let slot = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                slot = Arc::clone(&self.free).acquire_owned() => slot.ok(),
            };
            let (runner, held, reports) = (Arc::clone(&self.runner), Arc::clone(&self.held), self.reports.clone());
            tokio::spawn(async move {
                let ended = match slot {
                    Some(_slot) => runner.run(&workload, cancel).await,
                    None => RunEnded {
                        failure: Some("it was cancelled before it started".to_owned()),
                        callbacks_lost: false,
                    },
                };
                lock(&held).remove(&(workload.identity.ti_id, workload.identity.dispatch));
                let _ = reports.send(WorkloadEnded {
                    identity: workload.identity,
                    failure: ended.failure,
                    callbacks_lost: ended.callbacks_lost,
                });
            });
        }
    }
}

impl Executor for LocalExecutor {
    fn submit(&self, workload: Workload) {
        let cancel = CancellationToken::new();
        let handed = (workload.identity.ti_id, workload.identity.dispatch);
        if lock(&self.held).insert(handed, cancel.clone()).is_some() {
            tracing::warn!(task = %workload.identity.task_id, "the same workload was handed over twice; it runs once");
            return;
        }
        let _ = self.waiting.send((workload, cancel));
    }

    fn cancel(&self, task: &TaskIdentity) {
        if let Some(cancel) = lock(&self.held).get(&(task.ti_id, task.dispatch)) {
            cancel.cancel();
        }
    }

    fn explain(&self, log_path: &str, said: &str) {
        self.runner.explain(log_path, said);
    }

    fn cancel_all(&self) {
        lock(&self.held).values().for_each(CancellationToken::cancel);
    }

    fn slots(&self) -> Option<u32> {
        self.slots
    }

    fn dies_with_the_scheduler(&self) -> bool {
        true
    }

    fn held(&self) -> usize {
        lock(&self.held).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::{TeamId, TeamName};
    use tokio::sync::Notify;

    /// Notes who starts, and ends a task when told to or when cancelled.
    struct Notes {
        started: mpsc::UnboundedSender<String>,
        end: Notify,
    }

    impl RunTask for Notes {
        fn run<'a>(&'a self, workload: &'a Workload, cancel: CancellationToken) -> Running<'a> {
            Box::pin(async move {
                let _ = self.started.send(workload.identity.task_id.to_string());
                let failure = tokio::select! {
                    () = self.end.notified() => None,
                    () = cancel.cancelled() => Some("cancelled".to_owned()),
                };
                RunEnded {
                    failure,
                    callbacks_lost: false,
                }
            })
        }

        fn explain(&self, _log_path: &str, _said: &str) {}
    }

    fn workload(task: &str) -> Workload {
        Workload {
            identity: TaskIdentity {
                team: TeamId(1),
                team_name: TeamName::default_team(),
                dag_id: "d".into(),
                run_id: "r".into(),
                task_id: task.into(),
                map_index: -1,
                try_number: 1,
                ti_id: TiId::fresh(),
                dispatch: Dispatch(1),
            },
            dag_version_id: uuid::Uuid::nil(),
            dag_rel_path: "d.py".to_owned(),
            bundle: "b".to_owned(),
            bundle_version: None,
            log_path: String::new(),
            queue: "default".to_owned(),
            executor: "local".to_owned(),
            pool_slots: 1,
            priority_weight: 1,
        }
    }

    #[tokio::test]
    async fn tasks_start_in_the_order_they_were_handed_over() {
        let (started, mut starts) = mpsc::unbounded_channel();
        let (reports, mut ended) = mpsc::unbounded_channel();
        let notes = Arc::new(Notes {
            started,
            end: Notify::new(),
        });
        let executor = LocalExecutor::new(notes.clone(), Some(1), reports);
        for task in ["a", "b", "c"] {
            executor.submit(workload(task));
        }
        for task in ["a", "b", "c"] {
            assert_eq!(starts.recv().await.as_deref(), Some(task));
            notes.end.notify_one();
            assert_eq!(ended.recv().await.unwrap().failure, None);
        }
        assert_eq!(executor.held(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_task_reports_also_where_it_never_started() {
        let (started, mut starts) = mpsc::unbounded_channel();
        let (reports, mut ended) = mpsc::unbounded_channel();
        let notes = Arc::new(Notes {
            started,
            end: Notify::new(),
        });
        let executor = LocalExecutor::new(notes, Some(1), reports);
        let (first, second) = (workload("a"), workload("b"));
        executor.submit(first.clone());
        executor.submit(second.clone());
        assert_eq!(starts.recv().await.as_deref(), Some("a"));
        executor.cancel(&second.identity);
        let report = ended.recv().await.unwrap();
        assert_eq!(report.identity.task_id.as_str(), "b");
        executor.cancel(&first.identity);
        assert_eq!(ended.recv().await.unwrap().failure.as_deref(), Some("cancelled"));
    }
}
