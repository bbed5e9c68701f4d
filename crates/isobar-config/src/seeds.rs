//! Pools, connections and variables that the configuration makes.

use crate::Secret;

/// `[[team.pool]]` or `[[shared.pool]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name inside the team.
    pub name: String,
    /// Slots; -1 = without bound.
    pub slots: i32,
    /// What it is for.
    pub description: Option<String>,
    /// Deferred tasks hold their slots.
    pub include_deferred: bool,
}

/// `[team.connections]` or `[shared.connections]`, one entry. A connection given as a URI arrives here taken apart,
/// by Airflow's rules for `AIRFLOW_CONN_*`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Connection {
    /// Its id inside the team.
    pub id: String,
    /// `postgres`, `http`, …
    pub conn_type: String,
    /// What it is for.
    pub description: Option<String>,
    /// Host name.
    pub host: Option<String>,
    /// Schema or database.
    pub schema: Option<String>,
    /// User name.
    pub login: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Port.
    pub port: Option<u16>,
    /// Anything more: a JSON object as text.
    pub extra: Option<Secret>,
}

/// `[team.variables]` or `[shared.variables]`, one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its key inside the team.
    pub key: String,
    /// Its value; tables and arrays of the file arrive as JSON text.
    pub value: Secret,
    /// What it is for.
    pub description: Option<String>,
}
