//! What goes over Isobar's wires: frames and messages to the Task SDK, workloads, and the traits through which
//! team-side machinery talks to the control plane.
//!
//! Floor 1: shapes and codecs only, no behaviour.

pub mod agent;
pub mod answers;
pub mod execution;
pub mod frames;
pub mod listeners;
pub mod messages;
pub mod msgpack;
pub mod questions;
pub mod startup;
pub mod triggers;
pub mod wake;
pub mod workload;
