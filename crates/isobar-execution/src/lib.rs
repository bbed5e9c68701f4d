//! What the Task Execution API and the agent API mean: one function per operation, on an identity that was checked.
//!
//! Floor 3. [`Execution`] implements [`isobar_wire::execution::ExecutionApi`] and [`isobar_wire::agent::AgentApi`]; HTTP
//! and the in-process supervisor call the same code. Nothing here is answered before its commit.
//!
//! Every call begins with the caller's standing ([`standing`]): a task of an older dispatch changes nothing, one that has
//! ended reads for a while and then nothing. Names of other teams go through [`names`]; without consent they are answered
//! exactly as made-up ones.

mod across;
mod answers;
mod asset_changes;
mod assets;
pub mod backfills;
mod connections;
mod dag_runs;
mod deadlines;
mod ends;
mod execution;
mod hitl;
mod listeners;
mod names;
mod new_run;
pub mod param_schema;
mod parses;
mod partition_key;
mod questions;
mod record;
mod run_context;
mod settings;
mod standing;
mod stores;
mod task_reads;
mod tasks;
mod trigger;
mod trigger_news;
mod triggers;
mod variables;
pub mod waiting;
mod xcoms;

pub use execution::Execution;
pub use new_run::{NewRuns, random_tail};
pub use partition_key::{PartitionKeyError, partition_date};
pub use questions::{ManualAsk, ManualRun, Unanswered, python_timetable};
pub use settings::{Settings, TeamSettings};
