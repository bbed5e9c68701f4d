//! Names over the wire: `team:name` across teams, plain names inside one.

use isobar_auth::{Directory, Principal};
use isobar_model::TeamId;

/// How the organisation's shared names begin; no team can be called so (rule 3).
const SHARED: &str = "shared";

/// Where a request came in, and so what its plain names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `/api/v2`: plain names are the home team's, others carry their team.
    Everywhere,
    /// `/teams/{team}/api/v2`: everything is that team's, and plain.
    Inside(TeamId),
}

/// Reads and writes names for one caller in one place.
#[derive(Clone)]
pub(crate) struct Names {
    pub(crate) directory: Directory,
    pub(crate) place: Place,
    pub(crate) home: Option<TeamId>,
    /// `?team=`: the team that names mean, whatever they hold.
    pub(crate) asked: Option<Option<TeamId>>,
}

impl Names {
    pub(crate) fn new(directory: Directory, place: Place, caller: &Principal) -> Self {
        let home = if directory.multi_team() {
            caller.home()
        } else {
            Some(TeamId::DEFAULT)
        };
        Self {
            directory,
            place,
            home,
            asked: None,
        }
    }

    fn is_plain(&self) -> bool {
        !self.directory.multi_team() || matches!(self.place, Place::Inside(_))
    }

    /// The team of a written name. What the organisation shares is written `shared:`; only its own people see that.
    pub(crate) fn team(&self, name: &str) -> Option<TeamId> {
        if name == SHARED {
            return Some(TeamId::SHARED);
        }
        self.directory.by_name(name).map(|team| team.id)
    }

    /// The team and the plain name that a written name means; no team where it names one that is not there.
    pub(crate) fn read<'n>(&self, written: &'n str) -> (Option<TeamId>, &'n str) {
        if let Place::Inside(team) = self.place {
            return (Some(team), written);
        }
        if !self.directory.multi_team() {
            return (Some(TeamId::DEFAULT), written);
        }
        if let Some(asked) = self.asked {
            let plain = asked
                .and_then(|team| self.directory.shown_name(team))
                .and_then(|name| written.strip_prefix(name.as_str())?.strip_prefix(':'))
                .unwrap_or(written);
            return (asked, plain);
        }
        match written.split_once(':') {
            Some((team, plain)) => (self.team(team), plain),
            None => (self.home, written),
        }
    }

    /// The name as this caller must write it.
    pub(crate) fn write(&self, team: TeamId, name: &str) -> String {
        if self.is_plain() || Some(team) == self.home {
            return name.to_owned();
        }
        if team == TeamId::SHARED {
            return format!("{SHARED}:{name}");
        }
        match self.directory.shown_name(team) {
            Some(team) => format!("{team}:{name}"),
            None => name.to_owned(),
        }
    }

    /// The name as everybody in this place may write it who sees the team.
    pub(crate) fn write_in_full(&self, team: TeamId, name: &str) -> String {
        match self.directory.shown_name(team).filter(|_| !self.is_plain()) {
            Some(team) => format!("{team}:{name}"),
            None => name.to_owned(),
        }
    }

    /// The value of `team_name` fields: null while there is one team only.
    pub(crate) fn team_name(&self, team: TeamId) -> serde_json::Value {
        self.directory
            .shown_name(team)
            .map_or(serde_json::Value::Null, |name| name.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_auth::KnownTeam;
    use isobar_model::TeamName;

    fn names(place: Place) -> Names {
        let team = |id, name: &str| KnownTeam {
            id: TeamId(id),
            name: TeamName::parse(name).unwrap(),
            token_epoch: 0,
        };
        Names {
            directory: Directory::new(true, vec![team(1, "alpha"), team(2, "beta")]),
            place,
            home: Some(TeamId(1)),
            asked: None,
        }
    }

    #[test]
    fn a_plain_name_is_the_home_teams_and_others_carry_theirs() {
        let names = names(Place::Everywhere);
        assert_eq!(names.read("x"), (Some(TeamId(1)), "x"));
        assert_eq!(names.read("beta:x"), (Some(TeamId(2)), "x"));
        assert_eq!(names.read("nobody:x"), (None, "x"));
        assert_eq!(names.write(TeamId(1), "x"), "x");
        assert_eq!(names.write(TeamId(2), "x"), "beta:x");
        assert_eq!(names.write(TeamId::SHARED, "x"), "shared:x");
        assert_eq!(names.read("shared:x"), (Some(TeamId::SHARED), "x"));
    }

    #[test]
    fn inside_a_team_everything_is_plain() {
        let names = names(Place::Inside(TeamId(2)));
        assert_eq!(names.read("alpha:x"), (Some(TeamId(2)), "alpha:x"));
        assert_eq!(names.write(TeamId(2), "x"), "x");
    }

    #[test]
    fn an_asked_team_takes_keys_with_colons_as_they_are() {
        let mut names = names(Place::Everywhere);
        names.asked = Some(Some(TeamId(2)));
        assert_eq!(names.read("a:b"), (Some(TeamId(2)), "a:b"));
        assert_eq!(names.read("beta:a"), (Some(TeamId(2)), "a"));
    }
}
