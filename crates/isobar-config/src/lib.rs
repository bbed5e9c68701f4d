//! Configuration: TOML files and environment layers, checked, with the place and the remedy of every fault.
//!
//! Floor 1: knows files and environment variables, and nothing of stores, servers or Python.

mod auth;
mod secret;
mod seeds;
mod settings;
mod team;

pub use auth::{Auth, AuthManagerKind, OrgRole, TeamRole, User};
pub use secret::Secret;
pub use seeds::{Connection, Pool, Variable};
pub use settings::{
    Config, ConnectionSource, Connections, Core, Database, LogLevel, Logging, Parsing, Scheduler, Server, Shared, Tasks,
};
pub use team::{
    Consent, ConsentAction, DefaultPool, Executor, ExecutorKind, Isolation, Python, Requirements, Team, Tunable,
};
