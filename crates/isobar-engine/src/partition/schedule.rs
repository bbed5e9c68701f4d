//! A Dag that listens to partitions of assets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use isobar_model::dag::{AssetExpr, AssetLeaf, AssetRef, PartitionedAsset};
use jiff::Timestamp;
use serde_json::Value;

use super::mapper::{Mapper, MapperError};
use crate::assets::{AssetKey, Queued, holds};

/// A compiled `PartitionedAssetTimetable`.
#[derive(Clone, Debug)]
pub struct PartitionedAssets {
    condition: AssetExpr,
    default: (Mapper, Value),
    by_name: HashMap<String, (Mapper, Value)>,
    by_uri: HashMap<String, (Mapper, Value)>,
}

/// What arrived of one asset for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The upstream keys.
    pub keys: BTreeSet<String>,
    /// Whether the asset is active; what arrived of others does not count.
    pub active: bool,
}

/// What the team's Python said of a partition, where an asset's mapper is a class of the team's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSaid {
    /// Enough of this asset has arrived.
    pub ready: bool,
    /// The partition's date, where keys of the mapper have one.
    pub date: Option<Timestamp>,
    /// The mapper raised when it was asked for the date: the run has none.
    pub undated: bool,
}

impl PartitionedAssets {
    /// Compiles a Dag's timetable.
    ///
    /// # Errors
    /// A mapper makes no sense.
    pub fn from_model(model: &PartitionedAsset) -> Result<Self, MapperError> {
        let read = |value: &Value| Ok::<_, MapperError>((Mapper::read(value)?, value.clone()));
        let mut this = Self {
            condition: model.condition.clone(),
            default: read(&model.default_mapper)?,
            by_name: HashMap::new(),
            by_uri: HashMap::new(),
        };
        for (expr, value) in &model.mappers {
            let mapper = read(value)?;
            for leaf in expr.leaves() {
                match leaf {
                    AssetLeaf::Asset(asset) => {
                        this.by_name.insert(asset.name.clone(), mapper.clone());
                        this.by_uri.insert(asset.uri.clone(), mapper.clone());
                    }
                    AssetLeaf::Ref(AssetRef::Name(name)) => {
                        this.by_name.insert(name.clone(), mapper.clone());
                    }
                    AssetLeaf::Ref(AssetRef::Uri(uri)) => {
                        this.by_uri.insert(uri.clone(), mapper.clone());
                    }
                    AssetLeaf::Alias(_) => {}
                }
            }
        }
        Ok(this)
    }

    /// The condition.
    #[must_use]
    pub fn condition(&self) -> &AssetExpr {
        &self.condition
    }

    fn entry(&self, name: &str, uri: &str) -> &(Mapper, Value) {
        // As in Airflow, the URI counts only where there is no name.
        let found = if name.is_empty() {
            self.by_uri.get(uri)
        } else {
            self.by_name.get(name)
        };
        found.unwrap_or(&self.default)
    }

    /// The mapper of an asset.
    #[must_use]
    pub fn mapper(&self, name: &str, uri: &str) -> &Mapper {
        &self.entry(name, uri).0
    }

    /// All mappers in use by the condition, as `name|uri` and serialized: what was collected under others counts no more.
    #[must_use]
    pub fn fingerprint(&self) -> Value {
        let mut entries = BTreeMap::new();
        for leaf in self.condition.leaves() {
            let (name, uri) = match leaf {
                AssetLeaf::Asset(asset) => (asset.name.as_str(), asset.uri.as_str()),
                AssetLeaf::Ref(AssetRef::Name(name)) => (name.as_str(), ""),
                AssetLeaf::Ref(AssetRef::Uri(uri)) => ("", uri.as_str()),
                AssetLeaf::Alias(_) => continue,
            };
            entries.insert(format!("{name}|{uri}"), self.entry(name, uri).1.clone());
        }
        Value::Object(entries.into_iter().collect())
    }

    /// The class of the team's plugins that decides for an asset, with the mapper as serialized; none where no class does.
    #[must_use]
    pub fn python(&self, name: &str, uri: &str) -> Option<(&str, &Value)> {
        let (mapper, written) = self.entry(name, uri);
        Some((mapper.python()?, written))
    }

    /// Whether a class of the team's plugins decides for any asset.
    #[must_use]
    pub fn needs_python(&self) -> bool {
        let all = self.by_name.values().chain(self.by_uri.values());
        all.chain([&self.default]).any(|(mapper, _)| mapper.python().is_some())
    }

    /// Whether what arrived for a partition is enough to make its run. `said` is what Python said where it decides.
    #[must_use]
    pub fn ready(
        &self,
        key: &str,
        arrived: &HashMap<AssetKey, Arrived>,
        of_alias: &HashMap<String, Vec<AssetKey>>,
        said: &HashMap<AssetKey, PartitionSaid>,
    ) -> bool {
        let assets: HashSet<AssetKey> = arrived
            .iter()
            .filter(|(asset, arrived)| {
                let mapper = self.mapper(&asset.name, &asset.uri);
                arrived.active
                    && match said.get(asset) {
                        Some(said) => said.ready,
                        None => mapper.satisfied(key, &arrived.keys).unwrap_or(false),
                    }
            })
            .map(|(asset, _)| asset.clone())
            .collect();
        let queued = Queued {
            assets,
            inactive: HashSet::new(),
            of_alias: of_alias.clone(),
        };
        holds(&self.condition, &queued)
    }

    /// The date of the run of a partition: what the assets that arrived agree on; the carried one where none of them has dates.
    #[must_use]
    pub fn date(
        &self,
        key: &str,
        arrived: &HashMap<AssetKey, Arrived>,
        carried: Option<Timestamp>,
        said: &HashMap<AssetKey, PartitionSaid>,
    ) -> Option<Timestamp> {
        let mut dates = BTreeSet::new();
        for (asset, _) in arrived.iter().filter(|(_, arrived)| arrived.active) {
            match said.get(asset) {
                Some(said) if said.undated => return None,
                Some(said) => dates.extend(said.date),
                None => dates.extend(self.mapper(&asset.name, &asset.uri).date(key).ok()?),
            }
        }
        match dates.len() {
            0 => carried,
            1 => dates.first().copied(),
            _ => None,
        }
    }

    /// The date of a partition that a person names: what all assets of the condition agree on.
    ///
    /// # Errors
    /// The key does not fit one of the mappers.
    pub fn date_of_key(&self, key: &str) -> Result<Option<Timestamp>, MapperError> {
        let mut dates = BTreeSet::new();
        for leaf in self.condition.leaves() {
            let mapper = match leaf {
                AssetLeaf::Asset(asset) => self.mapper(&asset.name, &asset.uri),
                AssetLeaf::Ref(AssetRef::Name(name)) => self.mapper(name, ""),
                AssetLeaf::Ref(AssetRef::Uri(uri)) => self.mapper("", uri),
                AssetLeaf::Alias(_) => continue,
            };
            dates.extend(mapper.date(key)?);
        }
        Ok(if dates.len() == 1 { dates.first().copied() } else { None })
    }
}
