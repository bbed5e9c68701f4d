//! Admission: the one place that hands out slots, for the whole organisation.
//!
//! Candidates (instances in state `scheduled`) wait here until the team's share, the executor, the pool and the Dag's and task's
//! limits have room. Then a [`Command::Queue`] says so, and they count as occupying from that moment.

mod event;
mod queue;
mod resource;
mod share;

pub use event::{
    Candidate, Command, DagKey, DagLimits, Event, ExecutorKey, ExecutorSlots, Holder, InstanceKey, PoolKey, PoolLimits,
    TeamShare, Waiting,
};
