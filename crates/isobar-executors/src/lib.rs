//! Executors: where a team's tasks run.
//!
//! Floor 3. An executor is handed workloads in admission's order and reports how each ended; it reads no Dag and touches no
//! store. What a task's state is, the Execution API was told; an executor's report only finds losses.

mod local;

use isobar_wire::execution::TaskIdentity;
use isobar_wire::workload::{Workload, WorkloadEnded};
pub use local::{LocalExecutor, RunEnded, RunTask, Running};
use tokio::sync::mpsc;

/// Where executors report how workloads ended.
pub type Reports = mpsc::UnboundedSender<WorkloadEnded>;

/// Runs workloads of one team. Calls return at once and never fail; what goes wrong comes as a report.
pub trait Executor: Send + Sync + 'static {
    /// Takes a workload. Workloads start in the order they are handed over, as far as there are slots.
    fn submit(&self, workload: Workload);

    /// Stops a workload, waiting or running: its process is asked to end, then killed. One that is not here is no error.
    fn cancel(&self, task: &TaskIdentity);

    /// Writes into the log of a try, at `log_path` below the log folder, what the control plane did to it.
    fn explain(&self, log_path: &str, said: &str);

    /// Stops all it holds: this process is ending.
    fn cancel_all(&self);

    /// How many workloads it runs at a time; none is without bound.
    fn slots(&self) -> Option<u32>;

    /// Whether tasks die with this process, so that a restart finds them lost.
    fn dies_with_the_scheduler(&self) -> bool;

    /// Workloads it holds now, waiting ones too.
    fn held(&self) -> usize;
}
