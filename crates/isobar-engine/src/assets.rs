//! Assets: whether an event reaches another team, and when what is queued for a Dag is enough to make a run.
//!
//! Every team has its own assets. Inside a team an event reaches whoever names the asset; across teams assets are joined by URI
//! alone, and both sides must agree: the consumer lists the producing team, and the producer does not leave the consumer out
//! (rule 19). Aliases and references never reach across teams: they cannot list anybody.

use std::collections::{HashMap, HashSet};

use globset::Glob;
use isobar_model::dag::{AssetExpr, AssetLeaf, AssetRef};
use serde::{Deserialize, Serialize};

/// An asset's identity inside its team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssetKey {
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
}

/// Whether an event of one team reaches a Dag of another: the consumer lists the producing team, and the producer, where it
/// restricts consumers at all, does not leave that team out. Both write names or globs.
#[must_use]
pub fn consents(producer: &str, consumer: &str, accepted: &[String], allowed: Option<&[String]>) -> bool {
    names(accepted, producer) && allowed.is_none_or(|teams| names(teams, consumer))
}

fn names(patterns: &[String], team: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, team))
}

/// A name or a glob. What is not a valid glob can only be meant as a name.
fn matches(pattern: &str, team: &str) -> bool {
    pattern == team || Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(team))
}

/// What is queued for one Dag, in its own team's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Assets with a queued event.
    pub assets: HashSet<AssetKey>,
    /// Those of them that are not active: references do not mean them.
    pub inactive: HashSet<AssetKey>,
    /// The assets that each alias of the schedule stands for.
    pub of_alias: HashMap<String, Vec<AssetKey>>,
}

/// Whether what is queued satisfies a Dag's condition. Nothing queued never does.
#[must_use]
pub fn ready(condition: &AssetExpr, queued: &Queued) -> bool {
    !queued.assets.is_empty() && holds(condition, queued)
}

/// Whether a condition holds for what is queued.
#[must_use]
pub fn holds(condition: &AssetExpr, queued: &Queued) -> bool {
    let meant = |is: &dyn Fn(&AssetKey) -> bool| {
        let active = queued.assets.iter().filter(|key| !queued.inactive.contains(*key));
        active.into_iter().any(is)
    };
    condition.holds(&|leaf| match leaf {
        AssetLeaf::Asset(asset) => queued
            .assets
            .iter()
            .any(|key| key.name == asset.name && key.uri == asset.uri),
        AssetLeaf::Ref(AssetRef::Name(name)) => meant(&|key| key.name == *name),
        AssetLeaf::Ref(AssetRef::Uri(uri)) => meant(&|key| key.uri == *uri),
        AssetLeaf::Alias(alias) => {
            let stands_for = queued.of_alias.get(&alias.name);
            stands_for.is_some_and(|keys| keys.iter().any(|key| queued.assets.contains(key)))
        }
    })
}

#[cfg(test)]
mod tests {
    use isobar_model::dag::{Asset, AssetAlias};
    use serde_json::json;

    use super::*;

    fn key(name: &str, uri: &str) -> AssetKey {
        AssetKey {
            name: name.to_owned(),
            uri: uri.to_owned(),
        }
    }

    fn asset(name: &str, uri: &str) -> Asset {
        Asset {
            name: name.to_owned(),
            uri: uri.to_owned(),
            group: "asset".to_owned(),
            extra: json!({}),
            watchers: Vec::new(),
            access_control: None,
        }
    }

    fn teams(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn across_teams_the_consumer_must_list_the_producer_by_name_or_glob() {
        let reaches = |listed: &[&str]| consents("data-eng", "analytics", &teams(listed), None);
        assert!(!reaches(&[]));
        assert!(reaches(&["data-eng"]));
        assert!(reaches(&["data-*"]));
        assert!(reaches(&["[data-eng", "*"]));
        assert!(!reaches(&["dat", "[data-eng", "DATA-ENG"]));
    }

    #[test]
    fn a_producer_can_leave_consumers_out() {
        let reaches = |consumer| {
            consents(
                "data-eng",
                consumer,
                &teams(&["*"]),
                Some(&teams(&["science", "lab-?"])),
            )
        };
        assert!(!reaches("analytics"));
        assert!(reaches("science"));
        assert!(reaches("lab-1"));
        assert!(!consents("data-eng", "science", &teams(&["*"]), Some(&[])));
    }

    #[test]
    fn a_reference_means_an_active_asset() {
        let condition = AssetExpr::Ref(AssetRef::Name("b".to_owned()));
        let mut queued = Queued {
            assets: HashSet::from([key("b", "u")]),
            ..Queued::default()
        };
        assert!(ready(&condition, &queued));
        queued.inactive.insert(key("b", "u"));
        assert!(!ready(&condition, &queued));
    }

    #[test]
    fn a_condition_holds_by_what_is_queued() {
        let both = AssetExpr::All(vec![
            AssetExpr::Asset(asset("a", "a")),
            AssetExpr::Any(vec![
                AssetExpr::Ref(AssetRef::Name("b".to_owned())),
                AssetExpr::Alias(AssetAlias {
                    name: "al".to_owned(),
                    group: String::new(),
                }),
            ]),
        ]);
        let queued = |keys: &[AssetKey]| Queued {
            assets: keys.iter().cloned().collect(),
            inactive: HashSet::new(),
            of_alias: HashMap::from([("al".to_owned(), vec![key("c", "c")])]),
        };
        assert!(!ready(&both, &queued(&[key("a", "a")])));
        assert!(ready(&both, &queued(&[key("a", "a"), key("b", "u")])));
        assert!(ready(&both, &queued(&[key("a", "a"), key("c", "c")])));
        assert!(!ready(&AssetExpr::All(Vec::new()), &queued(&[])));
    }
}
