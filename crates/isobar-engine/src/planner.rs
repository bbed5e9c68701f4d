//! The planner of one run: which task instances exist, which may start, which are decided without starting,
//! and when the run has ended.
//!
//! Feed it what changed, carry out what it commands. It takes its commands as done: if committing them fails (the run's
//! `rev` moved, the lease is lost), throw the planner away and load the run again.

mod command;
mod event;

pub use command::{Command, Decision, NewInstance, RunEnd, WhyEnded, WhyState};
pub use event::{
    Changes, Event, Instance, MapLength, PastFacts, PreviousRun, PreviousTask, RunFacts, RunSnapshot, SkipChoice,
};
