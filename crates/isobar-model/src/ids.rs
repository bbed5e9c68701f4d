//! Identifiers. Each is a type of its own, so that a task id cannot stand where a Dag id belongs.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The immutable number of a team. Names change (`formerly`), the number does not.
///
/// `TeamId(0)` is the built-in team `default`, the only one while multi-team is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TeamId(pub i32);

impl TeamId {
    /// The built-in team that holds everything while `core.multi_team` is off (rule 1).
    pub const DEFAULT: Self = Self(0);
    /// The organisation's own rows that every team may read: shared variables, connections and pools (rule 12).
    /// No team ever has this number.
    pub const SHARED: Self = Self(-1);
}

impl fmt::Display for TeamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a team, checked against the grammar of rule 3.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TeamName(String);

/// Why a team name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTeamName {
    /// Not the grammar of rule 3.
    #[error("team name `{0}` must be 3 to 50 letters, digits, `-` or `_`, and start with a letter or digit")]
    Grammar(String),
    /// As an environment variable the name would be ambiguous.
    #[error("team name `{0}` becomes `{1}` in environment variables, which must hold no `__` and not end in `_`")]
    Environment(String, String),
    /// One of `default`, `shared`, `org`.
    #[error("team name `{0}` is reserved")]
    Reserved(String),
}

impl TeamName {
    /// Checks a name that a person wrote (rule 3).
    ///
    /// # Errors
    /// Says which part of rule 3 the name breaks.
    pub fn parse(name: &str) -> Result<Self, BadTeamName> {
        let grammatical = (3..=50).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if !grammatical {
            return Err(BadTeamName::Grammar(name.to_owned()));
        }
        if ["default", "shared", "org"].contains(&name.to_ascii_lowercase().as_str()) {
            return Err(BadTeamName::Reserved(name.to_owned()));
        }
        let parsed = Self(name.to_owned());
        let variable = parsed.as_variable();
        if variable.contains("__") || variable.ends_with('_') {
            return Err(BadTeamName::Environment(name.to_owned(), variable));
        }
        Ok(parsed)
    }

    /// The built-in team's name.
    #[must_use]
    pub fn default_team() -> Self {
        Self("default".to_owned())
    }

    /// The name as it stands in environment variables: upper case, `-` as `_`.
    #[must_use]
    pub fn as_variable(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }

    /// The name as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name from the store, where it was checked on the way in.
    #[must_use]
    pub fn from_stored(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for TeamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TeamName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "default" {
            return Ok(Self::default_team());
        }
        Self::parse(&name).map_err(serde::de::Error::custom)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The id as written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A Dag's id; unique inside its team only. Cheap to clone.
    DagId
);
text_id!(
    /// A run's id; unique inside its Dag.
    RunId
);
text_id!(
    /// A task's id; unique inside its Dag, task groups included (`group.task`).
    TaskId
);

/// The position of a mapped task instance; [`UNMAPPED`] (-1) where the task is not mapped.
pub type MapIndex = i32;
/// The map index of a task that is not mapped.
pub const UNMAPPED: MapIndex = -1;
/// A run's revision: every change of state in the run adds one.
pub type Rev = i64;

/// The fencing number of one handing-out of a task instance; each `Queue` mints the next.
///
/// A write that carries an older dispatch than the row's is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dispatch(pub i64);

/// The UUID of one try of a task instance; a retry or a clear gives a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TiId(pub Uuid);

impl TiId {
    /// A fresh, time-ordered id (UUID version 7, as Airflow's).
    #[must_use]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for TiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run inside a team. Never enough on its own to reach a row: the store wants a scope beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunKey {
    /// The Dag.
    pub dag_id: DagId,
    /// The run.
    pub run_id: RunId,
}

/// A task instance inside a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskKey {
    /// The task.
    pub task_id: TaskId,
    /// Its map index, [`UNMAPPED`] where it is not mapped.
    pub map_index: MapIndex,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_name_follows_rule_3() {
        for good in ["abc", "data-science", "Team_1", "9lives"] {
            assert_eq!(TeamName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "ab",
            "-abc",
            "a b c",
            "a--b",
            "a-_b",
            "abc_",
            "abc-",
            "shared",
            "Default",
            "org",
            "é".repeat(4).as_str(),
        ] {
            assert!(TeamName::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
