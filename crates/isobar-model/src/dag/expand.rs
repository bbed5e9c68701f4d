//! What a mapped task or group is mapped over (AIP-42).

use indexmap::IndexMap;
use serde_json::Value;

use super::encoding::{bare, plain, tagged};
use super::error::{DagError, Problem, Read, excerpt};
use super::graph::TaskIdx;
use super::read::{each, kind, object, optional, required, string, strings, text};

/// Finds a task by its id, while the Dag is being read.
pub(crate) type FindTask<'a> = &'a dyn Fn(&str) -> Option<TaskIdx>;

/// The argument of `expand()` or `expand_kwargs()`.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpandInput {
    /// `expand(a=.., b=..)`: one instance for each combination; the length is the product.
    DictOfLists(IndexMap<String, ExpandArg>),
    /// `expand_kwargs(..)`: one instance for each item.
    ListOfDicts(ExpandArg),
}

/// One thing to map over.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpandArg {
    /// Written in the Dag file.
    Literal {
        /// How many items it has.
        len: usize,
        /// Results of tasks inside the items of a list; they do not change the length.
        references: Vec<XComArg>,
    },
    /// The result of tasks; its length is known when they have ended.
    XCom(XComArg),
    /// An argument of the enclosing mapped group. Airflow does not map over one; its length is never known.
    GroupArgument {
        /// The group argument's name.
        key: String,
    },
}

/// A reference to the results of tasks.
#[derive(Clone, Debug, PartialEq)]
pub enum XComArg {
    /// What one task pushed under a key.
    Plain {
        /// The task.
        task: TaskIdx,
        /// The XCom key, `return_value` mostly.
        key: String,
    },
    /// Another reference, each item passed through functions; as long as the other.
    Map {
        /// The other reference.
        arg: Box<XComArg>,
        /// The functions' source text, for show.
        callables: Vec<String>,
    },
    /// References side by side: as long as the shortest, or as the longest if there is a fill value.
    Zip {
        /// The references.
        args: Vec<XComArg>,
        /// What fills up the shorter ones.
        fillvalue: Option<Value>,
    },
    /// References end to end: as long as all together.
    Concat {
        /// The references.
        args: Vec<XComArg>,
    },
}

impl XComArg {
    /// Every task and key it refers to.
    #[must_use]
    pub fn references(&self) -> Vec<(TaskIdx, &str)> {
        match self {
            Self::Plain { task, key } => vec![(*task, key.as_str())],
            Self::Map { arg, .. } => arg.references(),
            Self::Zip { args, .. } | Self::Concat { args } => args.iter().flat_map(Self::references).collect(),
        }
    }

    /// Its length, given the lengths of single results; none where one of those is not known yet.
    pub fn length(&self, of: &dyn Fn(TaskIdx, &str) -> Option<usize>) -> Option<usize> {
        let all = |args: &[Self]| args.iter().map(|arg| arg.length(of)).collect::<Option<Vec<_>>>();
        match self {
            Self::Plain { task, key } => of(*task, key),
            Self::Map { arg, .. } => arg.length(of),
            Self::Zip { args, fillvalue: None } => all(args)?.into_iter().min(),
            Self::Zip { args, .. } => all(args)?.into_iter().max(),
            Self::Concat { args } => all(args)?.into_iter().try_fold(0_usize, usize::checked_add),
        }
    }

    fn read(value: &Value, find: FindTask<'_>) -> Read<Self> {
        let fields = object(bare(value))?;
        let args = || required(fields, "args", |v| each(v, |arg| Self::read(arg, find)));
        match optional(fields, "type", text)?.unwrap_or_default() {
            "" => Ok(Self::Plain {
                task: required(fields, "task_id", |v| {
                    let id = text(v)?;
                    find(id).ok_or_else(|| DagError::here(Problem::UnknownTask(excerpt(id))))
                })?,
                key: required(fields, "key", string)?,
            }),
            "map" => Ok(Self::Map {
                arg: Box::new(required(fields, "arg", |v| Self::read(v, find))?),
                callables: required(fields, "callables", strings)?,
            }),
            "zip" => Ok(Self::Zip {
                args: args()?,
                fillvalue: fields
                    .get("fillvalue")
                    .filter(|v| tagged(v).is_none_or(|(tag, _)| tag != "arg_not_set"))
                    .map(plain),
            }),
            "concat" => Ok(Self::Concat { args: args()? }),
            other => Err(DagError::here(crate::UnknownName {
                what: "kind of XCom reference",
                word: excerpt(other),
            })
            .under("type")),
        }
    }
}

impl ExpandInput {
    /// Its arguments in the order written.
    pub fn args(&self) -> impl Iterator<Item = &ExpandArg> {
        let (many, one) = match self {
            Self::DictOfLists(args) => (Some(args.values()), None),
            Self::ListOfDicts(arg) => (None, Some(arg)),
        };
        many.into_iter().flatten().chain(one)
    }

    /// Every task and key whose result is needed to map.
    #[must_use]
    pub fn references(&self) -> Vec<(TaskIdx, &str)> {
        self.args()
            .flat_map(|arg| match arg {
                ExpandArg::XCom(xcom) => xcom.references(),
                ExpandArg::Literal { references, .. } => references.iter().flat_map(XComArg::references).collect(),
                ExpandArg::GroupArgument { .. } => Vec::new(),
            })
            .collect()
    }

    /// How many instances, if the Dag file alone tells.
    #[must_use]
    pub fn literal_length(&self) -> Option<usize> {
        self.length(&|_, _| None)
    }

    /// How many instances, given the lengths of single results; none where one of those is not known yet.
    /// `expand()` without arguments makes none.
    pub fn length(&self, of: &dyn Fn(TaskIdx, &str) -> Option<usize>) -> Option<usize> {
        let one = |arg: &ExpandArg| match arg {
            ExpandArg::Literal { len, .. } => Some(*len),
            ExpandArg::XCom(xcom) => xcom.length(of),
            ExpandArg::GroupArgument { .. } => None,
        };
        match self {
            Self::ListOfDicts(arg) => one(arg),
            Self::DictOfLists(args) if args.is_empty() => Some(0),
            Self::DictOfLists(args) => args
                .values()
                .map(one)
                .try_fold(1_usize, |product, len| len.map(|len| product.saturating_mul(len))),
        }
    }

    pub(crate) fn read(value: &Value, find: FindTask<'_>) -> Read<Self> {
        let fields = object(value)?;
        match required(fields, "type", text)? {
            "dict-of-lists" => required(fields, "value", |v| {
                let mut args = IndexMap::new();
                for (name, item) in object(bare(v))? {
                    args.insert(name.clone(), ExpandArg::read(item, find).map_err(|e| e.under(name))?);
                }
                Ok(Self::DictOfLists(args))
            }),
            "list-of-dicts" => required(fields, "value", |v| ExpandArg::read(v, find)).map(Self::ListOfDicts),
            other => Err(DagError::here(crate::UnknownName {
                what: "kind of expansion",
                word: excerpt(other),
            })
            .under("type")),
        }
    }
}

impl ExpandArg {
    fn read(value: &Value, find: FindTask<'_>) -> Read<Self> {
        match tagged(value) {
            Some(("xcomref", var)) => XComArg::read(var, find).map(Self::XCom).map_err(|e| e.under("__var")),
            Some(("mapped_argument", var)) => Ok(Self::GroupArgument {
                key: required(object(var)?, "key", string)?,
            }),
            _ => Self::literal(bare(value), find),
        }
    }

    fn literal(value: &Value, find: FindTask<'_>) -> Read<Self> {
        let len = match value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            Value::String(text) => text.chars().count(),
            other => {
                return Err(DagError::here(Problem::WrongType {
                    expected: "something with a length",
                    found: kind(other),
                }));
            }
        };
        let mut references = Vec::new();
        collect_references(value, find, &mut references)?;
        Ok(Self::Literal { len, references })
    }
}

/// XCom references anywhere inside a literal.
fn collect_references(value: &Value, find: FindTask<'_>, into: &mut Vec<XComArg>) -> Read<()> {
    match tagged(value) {
        Some(("xcomref", var)) => {
            into.push(XComArg::read(var, find)?);
            Ok(())
        }
        _ => match value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| collect_references(item, find, into).map_err(|e| e.at(index))),
            Value::Object(map) => map
                .iter()
                .try_for_each(|(key, item)| collect_references(item, find, into).map_err(|e| e.under(key))),
            _ => Ok(()),
        },
    }
}
