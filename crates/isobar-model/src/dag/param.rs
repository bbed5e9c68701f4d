//! Params: values a run may be given, each with a JSON Schema.

use serde_json::{Map, Value};

use super::encoding::plain;
use super::error::{DagError, Problem, Read};
use super::read::{kind, object, optional, string, text};

/// One param of a Dag or task.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its default; null where none is given.
    pub default: Value,
    /// A description for people.
    pub description: Option<String>,
    /// The JSON Schema a value must meet; empty where anything will do.
    pub schema: Map<String, Value>,
    /// Whether the Dag or the task defined it.
    pub source: Option<String>,
}

impl Param {
    fn read(name: &str, value: &Value) -> Read<Self> {
        let Some(map) = value.as_object().filter(|map| map.contains_key("__class")) else {
            return Ok(Self::bare(name, value));
        };
        let schema = optional(map, "schema", |v| match plain(v) {
            Value::Object(schema) => Ok(schema),
            other => Err(DagError::here(Problem::WrongType {
                expected: "an object",
                found: kind(&other),
            })),
        })?;
        Ok(Self {
            name: name.to_owned(),
            default: map.get("default").map_or(Value::Null, plain),
            description: optional(map, "description", string)?,
            schema: schema.unwrap_or_default(),
            source: optional(map, "source", string)?,
        })
    }

    /// A param written as its default alone, as old files did.
    fn bare(name: &str, value: &Value) -> Self {
        Self {
            name: name.to_owned(),
            default: plain(value),
            description: None,
            schema: Map::new(),
            source: None,
        }
    }

    /// Reads `[[name, param], ..]`, or the object that files before 2.10 wrote.
    pub(crate) fn read_all(value: &Value) -> Read<Vec<Self>> {
        if let Value::Array(pairs) = value {
            return pairs
                .iter()
                .enumerate()
                .map(|(index, pair)| {
                    match pair.as_array().map(Vec::as_slice) {
                        Some([name, param]) => text(name).and_then(|name| Self::read(name, param)),
                        _ => Err(DagError::here(Problem::WrongType {
                            expected: "a pair of a name and a param",
                            found: kind(pair),
                        })),
                    }
                    .map_err(|e| e.at(index))
                })
                .collect();
        }
        object(value)?
            .iter()
            .map(|(name, param)| Self::read(name, param).map_err(|e| e.under(name)))
            .collect()
    }
}
