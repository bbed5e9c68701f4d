//! HTTP: `/api/v2` (Airflow's public REST API), `/execution` (its Task Execution API), `/auth`, and the first page.
//!
//! Floor 4. Handlers read names and parameters, ask for a scope, and call the store or the execution service; there is no
//! SQL and no scheduling decision here. A route's answer to what its caller may not read is its answer to what does not
//! exist (invariant 9): see [`extract::Ask`].

pub mod auth;
mod dag_cache;
mod denials;
mod errors;
mod execution;
pub mod extract;
mod names;
mod page;
mod router;
mod state;
mod v2;

pub use errors::ApiError;
pub use router::router;
pub use state::AppState;
