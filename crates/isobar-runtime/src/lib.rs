//! Team-side machinery: the Python zygote, the task supervisor, the dag-processor, the sandbox.
//!
//! Talks to the control plane through [`isobar_wire::execution::ExecutionApi`] and [`isobar_wire::agent::AgentApi`]
//! only; never to the store.

pub mod environment;
pub mod sandbox;
pub mod zygote;
