//! Configuration: TOML files and environment layers, checked, with the place and the remedy of every fault.
//!
//! Floor 1: knows files and environment variables, and nothing of stores, servers or Python.

mod airflow_keys;
mod airflow_team_variables;
mod auth;
mod connection_uri;
pub mod convert;
mod environment;
mod folders;
mod include;
mod indirection;
mod layout;
mod load;
mod problem;
mod read_auth;
mod read_executors;
mod read_seeds;
mod read_settings;
mod read_team;
mod reader;
mod reading;
mod secret;
mod seeds;
mod settings;
mod show;
mod team;
mod teams_plan;
mod tree;
mod wording;

pub use auth::{Auth, AuthManagerKind, OrgRole, TeamRole, User};
pub use load::{Loaded, find_file, load, process_environment};
pub use problem::{Origin, Problem, Problems};
pub use secret::Secret;
pub use seeds::{Connection, Pool, Variable};
pub use settings::{
    Config, ConnectionSource, Connections, Core, Database, LogLevel, Logging, Parsing, Scheduler, Server, Shared,
    Tasks, Triggerer,
};
pub use team::{
    Consent, ConsentAction, DefaultPool, Executor, ExecutorKind, Isolation, Launch, Python, Requirements, Team,
    Tunable, variable_of_env,
};
pub use teams_plan::{KnownTeam, Refused, Step, TeamsPlan};
