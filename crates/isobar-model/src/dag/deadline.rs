//! Deadlines of runs (AIP-86), as a freshly parsed Dag carries them.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::encoding::bare;
use super::error::{DagError, Problem, Read};
use super::read::{Object, instant, kind, object, optional, or, real, required, seconds, small, string, text};

/// From when a deadline is counted.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadlineReference {
    /// From when the run was queued.
    QueuedAt,
    /// From the run's logical date.
    LogicalDate,
    /// From a fixed moment.
    Fixed(Timestamp),
    /// From the run's start plus the average length of its last runs.
    AverageRuntime {
        /// How many runs to look at.
        max_runs: i32,
        /// How many there must be.
        min_runs: i32,
    },
    /// A class of the team's; refused where it needs a database session.
    Custom(Value),
}

/// How long after the reference.
#[derive(Clone, Debug, PartialEq)]
pub enum DeadlineInterval {
    /// A fixed length.
    Fixed(SignedDuration),
    /// The seconds held by an Airflow variable with this key.
    Variable(String),
}

/// What to do when the deadline passes.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadlineCallback {
    /// Whether it runs in the triggerer (`AsyncCallback`) rather than in an executor (`SyncCallback`).
    pub is_async: bool,
    /// The import path of the function.
    pub path: String,
    /// The executor of a synchronous callback.
    pub executor: Option<String>,
    /// All of it as serialized (`__classname__`, `__version__`, `__data__`), for the process that calls it.
    pub encoded: Value,
}

/// One deadline.
#[derive(Clone, Debug, PartialEq)]
pub struct Deadline {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// From when it is counted.
    pub reference: DeadlineReference,
    /// How long.
    pub interval: DeadlineInterval,
    /// What happens then.
    pub callback: DeadlineCallback,
}

impl Deadline {
    /// Reads a list, a single one, or nothing. A list of UUIDs, which Airflow keeps in its own database, holds none.
    pub(crate) fn read_all(value: &Value) -> Read<Vec<Self>> {
        match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .filter(|(_, item)| !item.is_string())
                .map(|(index, item)| Self::read(item).map_err(|e| e.at(index)))
                .collect(),
            one => Self::read(one).map(|one| vec![one]),
        }
    }

    fn read(value: &Value) -> Read<Self> {
        let fields = object(bare(value))?;
        Ok(Self {
            name: optional(fields, "name", string)?,
            reference: required(fields, "reference", DeadlineReference::read)?,
            interval: required(fields, "interval", DeadlineInterval::read)?,
            callback: required(fields, "callback", DeadlineCallback::read)?,
        })
    }
}

impl DeadlineReference {
    fn read(value: &Value) -> Read<Self> {
        let fields = object(value)?;
        let custom = || Ok(Self::Custom(value.clone()));
        if fields.contains_key("__class_path") {
            return custom();
        }
        match required(fields, "reference_type", text)? {
            "DagRunQueuedAtDeadline" => Ok(Self::QueuedAt),
            "DagRunLogicalDateDeadline" => Ok(Self::LogicalDate),
            "FixedDatetimeDeadline" => required(fields, "datetime", instant).map(Self::Fixed),
            "AverageRuntimeDeadline" => {
                let max_runs = or(fields, "max_runs", 10, small)?;
                Ok(Self::AverageRuntime {
                    max_runs,
                    min_runs: or(fields, "min_runs", max_runs, small)?,
                })
            }
            _ => custom(),
        }
    }
}

/// The class and data of a value in the Task SDK's own serialization.
fn serde_parts(value: &Value) -> Read<(&str, &Value)> {
    let fields = object(value)?;
    Ok((
        required(fields, "__classname__", text)?,
        fields.get("__data__").unwrap_or(&Value::Null),
    ))
}

impl DeadlineInterval {
    /// The length that a variable holds: a whole number of seconds, and nothing else.
    #[must_use]
    pub fn of_variable(value: &str) -> Option<SignedDuration> {
        value.trim().parse().ok().map(SignedDuration::from_secs)
    }

    fn read(value: &Value) -> Read<Self> {
        if value.is_number() {
            return seconds(value).map(Self::Fixed);
        }
        let (class, data) = serde_parts(value)?;
        match data {
            Value::Object(fields) if class.ends_with("VariableInterval") => {
                required(fields, "key", string).map(Self::Variable)
            }
            number => {
                real(number).map_err(|e| e.under("__data__"))?;
                seconds(number).map(Self::Fixed).map_err(|e| e.under("__data__"))
            }
        }
    }
}

impl DeadlineCallback {
    fn read(value: &Value) -> Read<Self> {
        let (class, data) = serde_parts(value)?;
        let fields: &Object = match data {
            Value::Object(fields) => fields,
            other => {
                return Err(DagError::here(Problem::WrongType {
                    expected: "an object",
                    found: kind(other),
                })
                .under("__data__"));
            }
        };
        Ok(Self {
            is_async: class.ends_with("AsyncCallback"),
            path: required(fields, "path", string).map_err(|e| e.under("__data__"))?,
            executor: optional(fields, "executor", string).map_err(|e| e.under("__data__"))?,
            encoded: value.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_holds_whole_seconds() {
        assert_eq!(
            DeadlineInterval::of_variable(" 90\n"),
            Some(SignedDuration::from_secs(90))
        );
        for wrong in ["1.5", "", "soon", "PT1S"] {
            assert_eq!(DeadlineInterval::of_variable(wrong), None, "{wrong}");
        }
    }
}
