//! Partition mappers: from a key of an upstream asset to keys of the Dag that listens, and back to what must arrive.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::moment::Moment;
use super::temporal::{Period, Temporal};
use super::wait::Wait;
use super::window::Window;

/// Why a key cannot be mapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapperError {
    /// The key does not fit the mapper.
    #[error("{0}")]
    Key(String),
    /// A class of the team's plugins: its helper must be asked.
    #[error("`{path}` is Python code of the team; its helper must be asked")]
    NeedsPython {
        /// The import path of the class.
        path: String,
    },
    /// The mapper cannot do what is asked of it.
    #[error("{0}")]
    Broken(String),
}

impl MapperError {
    pub(super) fn key(key: &str, format: &str) -> Self {
        // Python's own words, which people know.
        Self::Key(format!("time data '{key}' does not match format '{format}'"))
    }

    pub(super) fn unknown(what: &str, path: &str) -> Self {
        Self::Broken(format!("there is no {what} `{path}`"))
    }
}

/// Makes [`MapperError::Broken`].
pub(super) struct Broken;

impl Broken {
    #[expect(clippy::new_ret_no_self, reason = "it stands for the error it makes")]
    pub(super) fn new(problem: &str) -> MapperError {
        MapperError::Broken(problem.to_owned())
    }
}

/// What a key means to a mapper.
#[derive(Clone, Debug)]
pub(super) enum Decoded {
    Text(String),
    Moment(Moment),
}

/// To which keys a key is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// To one.
    One(String),
    /// To several, or to what might be several.
    Many(Vec<String>),
}

impl Keys {
    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(key) => vec![key],
            Self::Many(keys) => keys,
        }
    }
}

/// A compiled partition mapper.
#[derive(Clone, Debug)]
pub struct Mapper {
    rule: Rule,
    most: Option<u32>,
}

#[derive(Clone, Debug)]
enum Rule {
    Identity,
    Allowed(Vec<String>),
    Fixed(String),
    Chain(Vec<Mapper>),
    Product {
        delimiter: String,
        mappers: Vec<Mapper>,
    },
    Temporal(Box<Temporal>),
    FanOut {
        upstream: Box<Mapper>,
        window: Window,
        downstream: Box<Mapper>,
    },
    Rollup {
        upstream: Box<Mapper>,
        window: Window,
        wait: Wait,
    },
    Python(String),
}

/// The import path, the class where it is Airflow's own, and the fields of a serialized object.
pub(super) fn class_of(value: &Value) -> Result<(&str, Option<&str>, &Value), MapperError> {
    let path = value["__type"]
        .as_str()
        .ok_or_else(|| Broken::new("a mapper's class is missing"))?;
    let own = path
        .strip_prefix("airflow.partition_mappers.")
        .or_else(|| path.strip_prefix("airflow.sdk.definitions.partition_mappers."));
    let class = own.map(|own| own.rsplit('.').next().unwrap_or(own));
    Ok((path, class, &value["__var"]))
}

pub(super) fn text_list(value: &Value) -> Result<Vec<String>, MapperError> {
    let items = value
        .as_array()
        .ok_or_else(|| Broken::new("a list of keys is missing"))?;
    items
        .iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| Broken::new("keys are texts"))
}

/// As deep as mappers may be nested.
const DEEPEST: usize = 20;

impl Mapper {
    /// Compiles a serialized mapper.
    ///
    /// # Errors
    /// It makes no sense. One of the team's own classes is no error here; asking it is.
    pub fn read(value: &Value) -> Result<Self, MapperError> {
        Self::read_nested(value, 0)
    }

    fn read_nested(value: &Value, depth: usize) -> Result<Self, MapperError> {
        if depth > DEEPEST {
            return Err(Broken::new("mappers are nested too deeply"));
        }
        let (path, class, fields) = class_of(value)?;
        let most = fields["max_downstream_keys"].as_u64();
        let nested = |key: &str| Self::read_nested(&fields[key], depth + 1).map(Box::new);
        let list = || -> Result<Vec<Self>, MapperError> {
            let items = fields["mappers"]
                .as_array()
                .ok_or_else(|| Broken::new("`mappers` is missing"))?;
            items.iter().map(|item| Self::read_nested(item, depth + 1)).collect()
        };
        let rule = match class {
            None => Rule::Python(path.to_owned()),
            Some("IdentityMapper") => Rule::Identity,
            Some("AllowedKeyMapper") => Rule::Allowed(text_list(&fields["allowed_keys"])?),
            Some("FixedKeyMapper") => {
                let key = fields["downstream_key"].as_str();
                Rule::Fixed(
                    key.ok_or_else(|| Broken::new("`downstream_key` is missing"))?
                        .to_owned(),
                )
            }
            Some("ChainMapper") => Rule::Chain(list()?),
            Some("ProductMapper") => Rule::Product {
                delimiter: fields["delimiter"].as_str().unwrap_or("|").to_owned(),
                mappers: list()?,
            },
            Some("FanOutMapper") => Rule::FanOut {
                upstream: nested("upstream_mapper")?,
                window: Window::read(&fields["window"])?,
                downstream: nested("downstream_mapper")?,
            },
            Some("RollupMapper") => Rule::Rollup {
                upstream: nested("upstream_mapper")?,
                window: Window::read(&fields["window"])?,
                wait: Wait::read(&fields["wait_policy"])?,
            },
            Some(other) => match Period::of_class(other) {
                Some(period) => Rule::Temporal(Box::new(Temporal::read(period, fields)?)),
                None => return Err(MapperError::unknown("partition mapper", path)),
            },
        };
        Ok(Self {
            rule,
            most: most.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        })
    }

    /// Whether one downstream key waits for several upstream keys.
    #[must_use]
    pub fn is_rollup(&self) -> bool {
        matches!(self.rule, Rule::Rollup { .. })
    }

    /// The class of the team's plugins that decides, where one does.
    #[must_use]
    pub fn python(&self) -> Option<&str> {
        match &self.rule {
            Rule::Python(path) => Some(path),
            Rule::Chain(mappers) | Rule::Product { mappers, .. } => mappers.iter().find_map(Self::python),
            Rule::FanOut {
                upstream,
                window,
                downstream,
            } => upstream.python().or(downstream.python()).or(match window {
                Window::Python(path) => Some(path),
                _ => None,
            }),
            Rule::Rollup { upstream, window, .. } => upstream.python().or(match window {
                Window::Python(path) => Some(path),
                _ => None,
            }),
            Rule::Identity | Rule::Allowed(_) | Rule::Fixed(_) | Rule::Temporal(_) => None,
        }
    }

    /// How many downstream keys one upstream key may have, where the author says.
    #[must_use]
    pub fn most_downstream_keys(&self) -> Option<u32> {
        self.most
    }

    /// The downstream keys of an upstream key.
    ///
    /// # Errors
    /// The key does not fit.
    pub fn downstream(&self, key: &str) -> Result<Keys, MapperError> {
        match &self.rule {
            Rule::Identity => Ok(Keys::One(key.to_owned())),
            Rule::Allowed(keys) if keys.iter().any(|allowed| allowed == key) => Ok(Keys::One(key.to_owned())),
            Rule::Allowed(keys) => Err(MapperError::Key(format!(
                "the key `{key}` is none of the allowed keys `{}`",
                keys.join("`, `")
            ))),
            Rule::Fixed(fixed) => Ok(Keys::One(fixed.clone())),
            Rule::Temporal(temporal) => temporal.downstream(key).map(Keys::One),
            Rule::Chain(mappers) => {
                let mut keys = vec![key.to_owned()];
                for mapper in mappers {
                    let mut next = Vec::new();
                    for key in &keys {
                        next.extend(mapper.downstream(key)?.into_vec());
                    }
                    keys = next;
                }
                Ok(match <[String; 1]>::try_from(keys) {
                    Ok([one]) => Keys::One(one),
                    Err(keys) => Keys::Many(keys),
                })
            }
            Rule::Product { delimiter, mappers } => {
                let segments = segments(key, delimiter, mappers.len()).ok_or_else(|| {
                    MapperError::Key(format!("the key `{key}` does not have {} segments", mappers.len()))
                })?;
                let mut mapped = Vec::new();
                for (mapper, segment) in mappers.iter().zip(segments) {
                    match mapper.downstream(segment)? {
                        Keys::One(key) => mapped.push(key),
                        Keys::Many(_) => return Err(Broken::new("a segment of a product has one key, not several")),
                    }
                }
                Ok(Keys::One(mapped.join(delimiter)))
            }
            Rule::FanOut {
                upstream,
                window,
                downstream,
            } => {
                let Keys::One(coarse) = upstream.downstream(key)? else {
                    return Err(Broken::new("what fans out comes from one key, not from several"));
                };
                let parts = window.parts(&upstream.decode(&coarse)?)?;
                let keys: Result<_, _> = parts.iter().map(|part| downstream.format(part)).collect();
                Ok(Keys::Many(keys?))
            }
            Rule::Rollup { upstream, .. } => upstream.downstream(key),
            Rule::Python(path) => Err(MapperError::NeedsPython { path: path.clone() }),
        }
    }

    /// What a downstream key means.
    fn decode(&self, key: &str) -> Result<Decoded, MapperError> {
        match &self.rule {
            Rule::Temporal(temporal) => temporal.decode(key).map(Decoded::Moment),
            Rule::Python(path) => Err(MapperError::NeedsPython { path: path.clone() }),
            _ => Ok(Decoded::Text(key.to_owned())),
        }
    }

    /// The upstream key of a part of a window.
    fn encode(&self, part: &Decoded) -> Result<String, MapperError> {
        match (&self.rule, part) {
            (Rule::Temporal(temporal), Decoded::Moment(moment)) => temporal.encode(moment),
            (Rule::Python(path), _) => Err(MapperError::NeedsPython { path: path.clone() }),
            (_, Decoded::Text(text)) => Ok(text.clone()),
            (_, Decoded::Moment(_)) => Err(Broken::new("only a mapper of dates can write a date")),
        }
    }

    /// Writes a part of a window as a downstream key.
    fn format(&self, part: &Decoded) -> Result<String, MapperError> {
        match (&self.rule, part) {
            (Rule::Temporal(temporal), Decoded::Moment(moment)) => temporal.format(moment),
            (Rule::Temporal(_), Decoded::Text(_)) => Err(Broken::new("a mapper of dates cannot write a name")),
            (Rule::Python(path), _) => Err(MapperError::NeedsPython { path: path.clone() }),
            (_, Decoded::Moment(moment)) => Ok(moment.iso()),
            (_, Decoded::Text(text)) => Ok(text.clone()),
        }
    }

    /// The upstream keys that a downstream key waits for; none where one event of any key is enough.
    ///
    /// # Errors
    /// The key does not fit.
    pub fn expected(&self, key: &str) -> Result<Option<BTreeSet<String>>, MapperError> {
        let Rule::Rollup { upstream, window, .. } = &self.rule else {
            return match &self.rule {
                Rule::Python(path) => Err(MapperError::NeedsPython { path: path.clone() }),
                _ => Ok(None),
            };
        };
        let parts = window.parts(&upstream.decode(key)?)?;
        let keys: Result<_, _> = parts.iter().map(|part| upstream.encode(part)).collect();
        keys.map(Some)
    }

    /// Whether what arrived for a downstream key is enough.
    ///
    /// # Errors
    /// The key does not fit.
    pub fn satisfied(&self, key: &str, arrived: &BTreeSet<String>) -> Result<bool, MapperError> {
        match (&self.rule, self.expected(key)?) {
            (Rule::Rollup { wait, .. }, Some(expected)) => Ok(wait.satisfied(arrived, &expected)),
            _ => Ok(true),
        }
    }

    /// The date of a downstream key; none where keys are no dates.
    ///
    /// # Errors
    /// The key does not fit.
    pub fn date(&self, key: &str) -> Result<Option<Timestamp>, MapperError> {
        match &self.rule {
            Rule::Temporal(temporal) => temporal
                .date(key)?
                .instant()
                .map(Some)
                .ok_or_else(|| Broken::new("outside the years 1 to 9999")),
            Rule::Rollup { upstream, .. } => upstream.date(key),
            Rule::FanOut { downstream, .. } => downstream.date(key),
            Rule::Chain(mappers) => mappers.last().map_or(Ok(None), |last| last.date(key)),
            Rule::Product { delimiter, mappers } => {
                let Some(segments) = segments(key, delimiter, mappers.len()) else {
                    return Ok(None);
                };
                let mut dates = Vec::new();
                for (mapper, segment) in mappers.iter().zip(segments) {
                    dates.extend(mapper.date(segment)?);
                }
                Ok(match dates.as_slice() {
                    [one] => Some(*one),
                    _ => None,
                })
            }
            Rule::Python(path) => Err(MapperError::NeedsPython { path: path.clone() }),
            Rule::Identity | Rule::Allowed(_) | Rule::Fixed(_) => Ok(None),
        }
    }

    /// The date of the producing run's partition, where the consumer's partition is the same.
    #[must_use]
    pub fn carried(&self, date: Option<Timestamp>) -> Option<Timestamp> {
        match self.rule {
            Rule::Identity => date,
            _ => None,
        }
    }
}

fn segments<'a>(key: &'a str, delimiter: &str, count: usize) -> Option<Vec<&'a str>> {
    let segments: Vec<&str> = if delimiter.is_empty() {
        return None;
    } else {
        key.split(delimiter).collect()
    };
    (segments.len() == count).then_some(segments)
}
