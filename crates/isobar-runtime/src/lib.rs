//! Team-side machinery: the Python zygote, the task supervisor, the dag-processor, the helper, the sandbox.
//!
//! Talks to the control plane through [`isobar_wire::execution::ExecutionApi`], [`isobar_wire::agent::AgentApi`] and
//! [`isobar_wire::questions::QuestionApi`] only; never to the store.

pub mod channel;
pub mod environment;
pub mod helper;
pub mod masker;
pub mod processor;
pub mod sandbox;
pub mod supervisor;
pub mod tasklog;
pub mod triggerer;
pub mod zygote;
