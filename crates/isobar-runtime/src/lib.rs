//! Team-side machinery: the Python zygote, the task supervisor, the dag-processor, the helper, the listeners, the
//! sandbox.
//!
//! Talks to the control plane through [`isobar_wire::execution::ExecutionApi`], [`isobar_wire::agent::AgentApi`] and
//! the traits of
//! [`isobar_wire::questions`], [`isobar_wire::triggers`] and [`isobar_wire::listeners`] only; never to the store.

pub mod channel;
mod conversation;
pub mod environment;
pub mod helper;
pub mod listeners;
pub mod masker;
mod plugins;
pub mod processor;
pub mod sandbox;
pub mod supervisor;
pub mod tasklog;
pub mod triggerer;
pub mod zygote;
