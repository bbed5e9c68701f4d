//! What handlers take: who asks, where, for what.

mod ask;
mod body;
mod params;
mod problems;

pub use ask::Ask;
pub(crate) use ask::{Inside, Target};
pub(crate) use body::{Fields, json_body};
pub(crate) use params::Params;
pub(crate) use problems::Problem;
