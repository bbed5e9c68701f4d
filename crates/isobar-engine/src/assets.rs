//! Assets: which Dags an asset event reaches, and when what is queued for a Dag is enough to make a run.
//!
//! Every team has its own assets. Inside a team an event reaches whoever names the asset; across teams assets are joined by URI
//! alone, and both sides must agree: the consumer lists the producing team, and the producer does not leave the consumer out
//! (rule 19). Aliases and references never reach across teams: they cannot list anybody.

use std::collections::{HashMap, HashSet};

use globset::Glob;
use isobar_model::TeamName;
use isobar_model::dag::{Asset, AssetExpr, AssetLeaf, AssetRef};
use serde::{Deserialize, Serialize};

/// An asset's identity inside its team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AssetKey {
    /// Its name.
    pub name: String,
    /// Its URI.
    pub uri: String,
}

/// An asset event, as far as it matters whom it reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetEvent {
    /// The team whose task, client or watcher caused it.
    pub producer: TeamName,
    /// The asset, as that team knows it.
    pub asset: AssetKey,
    /// Aliases through which it was emitted.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Teams that the producer lets consume it, names or globs; none: all. The own team always may.
    #[serde(default)]
    pub consumer_teams: Option<Vec<String>>,
}

/// The parts of a Dag's asset schedule that an event reaches. None: the Dag is not to be told of it.
///
/// Queue, for each asset that comes back, the consumer's own asset: its condition knows no other.
#[must_use]
pub fn reached<'a>(event: &AssetEvent, consumer: &TeamName, schedule: &'a AssetExpr) -> Vec<AssetLeaf<'a>> {
    let mut leaves = schedule.leaves();
    leaves.retain(|leaf| reaches(event, consumer, *leaf));
    leaves
}

/// Whether an event reaches one leaf of a Dag's asset schedule.
#[must_use]
pub fn reaches(event: &AssetEvent, consumer: &TeamName, leaf: AssetLeaf<'_>) -> bool {
    if event.producer == *consumer {
        return match leaf {
            AssetLeaf::Asset(asset) => asset.name == event.asset.name && asset.uri == event.asset.uri,
            AssetLeaf::Alias(alias) => event.aliases.contains(&alias.name),
            AssetLeaf::Ref(AssetRef::Name(name)) => *name == event.asset.name,
            AssetLeaf::Ref(AssetRef::Uri(uri)) => *uri == event.asset.uri,
        };
    }
    match leaf {
        AssetLeaf::Asset(asset) => {
            asset.uri == event.asset.uri
                && accepts(asset, &event.producer)
                && event
                    .consumer_teams
                    .as_deref()
                    .is_none_or(|teams| names(teams, consumer))
        }
        AssetLeaf::Alias(_) | AssetLeaf::Ref(_) => false,
    }
}

/// Whether a consumer's asset lists the producing team: `AssetAccessControl(producer_teams=…)`, or
/// `extra={"allow_triggering_by_teams": […]}` in older Dags.
fn accepts(asset: &Asset, producer: &TeamName) -> bool {
    let listed = asset
        .access_control
        .as_ref()
        .is_some_and(|access| names(&access.producer_teams, producer));
    let listed_in_extra = || {
        let teams = asset
            .extra
            .get("allow_triggering_by_teams")
            .and_then(|teams| teams.as_array());
        teams.is_some_and(|teams| {
            teams
                .iter()
                .filter_map(|team| team.as_str())
                .any(|team| matches(team, producer))
        })
    };
    listed || listed_in_extra()
}

fn names(patterns: &[String], team: &TeamName) -> bool {
    patterns.iter().any(|pattern| matches(pattern, team))
}

/// A name or a glob. What is not a valid glob can only be meant as a name.
fn matches(pattern: &str, team: &TeamName) -> bool {
    pattern == team.as_str() || Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(team.as_str()))
}

/// What is queued for one Dag, in its own team's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Assets with a queued event.
    pub assets: HashSet<AssetKey>,
    /// The assets that each alias of the schedule stands for.
    pub of_alias: HashMap<String, Vec<AssetKey>>,
}

/// Whether what is queued satisfies a Dag's condition. Nothing queued never does.
#[must_use]
pub fn ready(condition: &AssetExpr, queued: &Queued) -> bool {
    !queued.assets.is_empty()
        && condition.holds(&|leaf| match leaf {
            AssetLeaf::Asset(asset) => queued
                .assets
                .iter()
                .any(|key| key.name == asset.name && key.uri == asset.uri),
            AssetLeaf::Ref(AssetRef::Name(name)) => queued.assets.iter().any(|key| key.name == *name),
            AssetLeaf::Ref(AssetRef::Uri(uri)) => queued.assets.iter().any(|key| key.uri == *uri),
            AssetLeaf::Alias(alias) => {
                let meant = queued.of_alias.get(&alias.name);
                meant.is_some_and(|keys| keys.iter().any(|key| queued.assets.contains(key)))
            }
        })
}

#[cfg(test)]
mod tests {
    use isobar_model::dag::{AssetAccess, AssetAlias};
    use serde_json::json;

    use super::*;

    fn team(name: &str) -> TeamName {
        TeamName::parse(name).unwrap()
    }

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

    fn accepting(teams: &[&str]) -> Asset {
        Asset {
            access_control: Some(AssetAccess {
                producer_teams: teams.iter().map(|team| (*team).to_owned()).collect(),
                consumer_teams: None,
                allow_global: true,
            }),
            ..asset("mine", "s3://x")
        }
    }

    fn event() -> AssetEvent {
        AssetEvent {
            producer: team("data-eng"),
            asset: key("orders", "s3://x"),
            aliases: vec!["al".to_owned()],
            consumer_teams: None,
        }
    }

    #[test]
    fn inside_a_team_name_and_uri_must_agree() {
        let own = team("data-eng");
        assert!(reaches(&event(), &own, AssetLeaf::Asset(&asset("orders", "s3://x"))));
        assert!(!reaches(&event(), &own, AssetLeaf::Asset(&asset("other", "s3://x"))));
        assert!(reaches(
            &event(),
            &own,
            AssetLeaf::Ref(&AssetRef::Name("orders".to_owned()))
        ));
        assert!(reaches(
            &event(),
            &own,
            AssetLeaf::Ref(&AssetRef::Uri("s3://x".to_owned()))
        ));
        let alias = AssetAlias {
            name: "al".to_owned(),
            group: String::new(),
        };
        assert!(reaches(&event(), &own, AssetLeaf::Alias(&alias)));
    }

    #[test]
    fn across_teams_the_consumer_must_list_the_producer_by_name_or_glob() {
        let other = team("analytics");
        assert!(!reaches(&event(), &other, AssetLeaf::Asset(&asset("orders", "s3://x"))));
        assert!(reaches(&event(), &other, AssetLeaf::Asset(&accepting(&["data-eng"]))));
        assert!(reaches(&event(), &other, AssetLeaf::Asset(&accepting(&["data-*"]))));
        assert!(!reaches(
            &event(),
            &other,
            AssetLeaf::Asset(&accepting(&["dat", "[data-eng"]))
        ));
        let older = Asset {
            extra: json!({"allow_triggering_by_teams": ["data-eng"]}),
            ..asset("mine", "s3://x")
        };
        assert!(reaches(&event(), &other, AssetLeaf::Asset(&older)));
        assert!(!reaches(
            &event(),
            &other,
            AssetLeaf::Ref(&AssetRef::Uri("s3://x".to_owned()))
        ));
    }

    #[test]
    fn a_producer_can_leave_consumers_out() {
        let closed = AssetEvent {
            consumer_teams: Some(vec!["science".to_owned()]),
            ..event()
        };
        let leaf = accepting(&["data-eng"]);
        assert!(!reaches(&closed, &team("analytics"), AssetLeaf::Asset(&leaf)));
        assert!(reaches(&closed, &team("science"), AssetLeaf::Asset(&leaf)));
        assert!(reaches(
            &closed,
            &team("data-eng"),
            AssetLeaf::Asset(&asset("orders", "s3://x"))
        ));
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
            of_alias: HashMap::from([("al".to_owned(), vec![key("c", "c")])]),
        };
        assert!(!ready(&both, &queued(&[key("a", "a")])));
        assert!(ready(&both, &queued(&[key("a", "a"), key("b", "u")])));
        assert!(ready(&both, &queued(&[key("a", "a"), key("c", "c")])));
        assert!(!ready(&AssetExpr::All(Vec::new()), &queued(&[])));
    }
}
