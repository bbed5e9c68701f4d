//! Assets, aliases and references to them, as tasks and schedules name them.

use serde_json::{Value, json};

use super::encoding::{plain, tagged_object};
use super::error::{DagError, Read, excerpt};
use super::read::{Object, boolean, each, object, optional, or, required, string, strings};

/// An asset as a Dag file defines it; its identity is the pair of name and URI.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
    /// Its group, `asset` where none is given.
    pub group: String,
    /// Whatever the author attached, an object.
    pub extra: Value,
    /// What outside the system announces changes of it.
    pub watchers: Vec<AssetWatcher>,
    /// Which teams may produce and consume it; none where the author said nothing.
    pub access_control: Option<AssetAccess>,
}

/// A trigger which turns outside events into asset events.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetWatcher {
    /// Its name, unique for the asset.
    pub name: String,
    /// The import path of the trigger.
    pub classpath: String,
    /// The trigger's arguments, still in Airflow's tagged encoding.
    pub kwargs: Value,
}

/// Which teams may produce and consume an asset (AIP-67).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetAccess {
    /// Teams whose events are accepted besides the own team's.
    pub producer_teams: Vec<String>,
    /// Teams that may consume; none means every team that names it.
    pub consumer_teams: Option<Vec<String>>,
    /// Whether events from Dags without a team are accepted.
    pub allow_global: bool,
}

/// A name under which tasks announce assets that are known only when they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetAlias {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
}

/// An asset by name or URI alone, to be looked up when it is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AssetRef {
    /// The active asset of this name.
    Name(String),
    /// The active asset with this URI.
    Uri(String),
}

/// A condition over assets, or one asset-like thing.
#[derive(Clone, Debug, PartialEq)]
pub enum AssetExpr {
    /// One asset.
    Asset(Asset),
    /// Whatever an alias stands for.
    Alias(AssetAlias),
    /// An asset to be looked up.
    Ref(AssetRef),
    /// All of these.
    All(Vec<AssetExpr>),
    /// Any of these.
    Any(Vec<AssetExpr>),
}

/// A leaf of an [`AssetExpr`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AssetLeaf<'a> {
    /// One asset.
    Asset(&'a Asset),
    /// An alias.
    Alias(&'a AssetAlias),
    /// A reference.
    Ref(&'a AssetRef),
}

impl AssetExpr {
    /// Every leaf, left to right; a leaf named twice comes twice.
    #[must_use]
    pub fn leaves(&self) -> Vec<AssetLeaf<'_>> {
        fn collect<'a>(expr: &'a AssetExpr, into: &mut Vec<AssetLeaf<'a>>) {
            match expr {
                AssetExpr::Asset(asset) => into.push(AssetLeaf::Asset(asset)),
                AssetExpr::Alias(alias) => into.push(AssetLeaf::Alias(alias)),
                AssetExpr::Ref(name) => into.push(AssetLeaf::Ref(name)),
                AssetExpr::All(parts) | AssetExpr::Any(parts) => parts.iter().for_each(|part| collect(part, into)),
            }
        }
        let mut found = Vec::new();
        collect(self, &mut found);
        found
    }

    /// Whether the condition holds, given which leaves do. An empty `all` holds and an empty `any` does not.
    pub fn holds(&self, leaf: &dyn Fn(AssetLeaf<'_>) -> bool) -> bool {
        match self {
            Self::Asset(asset) => leaf(AssetLeaf::Asset(asset)),
            Self::Alias(alias) => leaf(AssetLeaf::Alias(alias)),
            Self::Ref(name) => leaf(AssetLeaf::Ref(name)),
            Self::All(parts) => parts.iter().all(|part| part.holds(leaf)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(leaf)),
        }
    }

    /// The condition as the REST API shows it in `asset_expression`.
    #[must_use]
    pub fn as_expression(&self) -> Value {
        let all = |parts: &[Self]| parts.iter().map(Self::as_expression).collect::<Vec<_>>();
        match self {
            Self::Asset(asset) => json!({"asset": {"uri": asset.uri, "name": asset.name, "group": asset.group}}),
            Self::Alias(alias) => json!({"alias": {"name": alias.name, "group": alias.group}}),
            Self::Ref(AssetRef::Name(name)) => json!({"asset_ref": {"name": name}}),
            Self::Ref(AssetRef::Uri(uri)) => json!({"asset_ref": {"uri": uri}}),
            Self::All(parts) => json!({"all": all(parts)}),
            Self::Any(parts) => json!({"any": all(parts)}),
        }
    }

    pub(crate) fn read(value: &Value) -> Read<Self> {
        let (tag, fields) = tagged_object(value)?;
        match tag {
            "asset" => Asset::read(fields).map(Self::Asset),
            "asset_alias" => Ok(Self::Alias(AssetAlias {
                name: required(fields, "name", string)?,
                group: or(fields, "group", String::new(), string)?,
            })),
            "asset_ref" => match optional(fields, "name", string)? {
                Some(name) => Ok(Self::Ref(AssetRef::Name(name))),
                None => required(fields, "uri", string).map(|uri| Self::Ref(AssetRef::Uri(uri))),
            },
            "asset_all" => required(fields, "objects", |v| each(v, Self::read)).map(Self::All),
            "asset_any" => required(fields, "objects", |v| each(v, Self::read)).map(Self::Any),
            other => Err(DagError::here(crate::UnknownName {
                what: "kind of asset",
                word: excerpt(other),
            })
            .under("__type")),
        }
    }
}

impl Asset {
    fn read(fields: &Object) -> Read<Self> {
        let uri = required(fields, "uri", string)?;
        Ok(Self {
            name: or(fields, "name", uri.clone(), string)?,
            uri,
            group: or(fields, "group", "asset".to_owned(), string)?,
            extra: optional(fields, "extra", |v| Ok(plain(v)))?.unwrap_or_else(|| json!({})),
            watchers: or(fields, "watchers", Vec::new(), |v| each(v, AssetWatcher::read))?,
            access_control: optional(fields, "access_control", |v| {
                let access = object(v)?;
                if access.is_empty() {
                    return Ok(None);
                }
                Ok(Some(AssetAccess {
                    producer_teams: or(access, "producer_teams", Vec::new(), strings)?,
                    consumer_teams: optional(access, "consumer_teams", strings)?,
                    allow_global: or(access, "allow_global", true, boolean)?,
                }))
            })?
            .flatten(),
        })
    }
}

impl AssetWatcher {
    fn read(value: &Value) -> Read<Self> {
        let watcher = object(value)?;
        let name = required(watcher, "name", string)?;
        required(watcher, "trigger", |v| {
            let trigger = object(v)?;
            Ok(Self {
                name,
                classpath: required(trigger, "classpath", string)?,
                kwargs: required(trigger, "kwargs", |v| Ok(v.clone()))?,
            })
        })
    }
}

/// The asset-like items of a task's inlets or outlets. Other items mean something to the task alone and are left out.
pub(crate) fn read_lets(value: &Value) -> Read<Vec<AssetExpr>> {
    let is_asset = |item: &Value| {
        item.get("__type")
            .and_then(Value::as_str)
            .is_some_and(|tag| tag.starts_with("asset") && !tag.contains("unique_key") && !tag.contains("event"))
    };
    each(value, |item| {
        if is_asset(item) {
            AssetExpr::read(item).map(Some)
        } else {
            Ok(None)
        }
    })
    .map(|found| found.into_iter().flatten().collect())
}
