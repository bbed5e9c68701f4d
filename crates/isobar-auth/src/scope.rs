//! Scopes: the proof that somebody was asked "whose rows?" before a query was written.
//!
//! Every function of the store takes one. There is no `Default`, no conversion from a number, no public field.

use std::sync::Arc;

use isobar_model::TeamId;

/// The rows of one team, for reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TeamScope {
    team: TeamId,
}

impl TeamScope {
    pub(crate) fn new(team: TeamId) -> Self {
        Self { team }
    }

    /// The team.
    #[must_use]
    pub fn team(self) -> TeamId {
        self.team
    }
}

/// The rows that a person may read: those of some teams, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadScope {
    teams: Option<Arc<[TeamId]>>,
}

impl ReadScope {
    pub(crate) fn of_teams(teams: impl IntoIterator<Item = TeamId>) -> Self {
        let mut teams: Vec<TeamId> = teams.into_iter().collect();
        teams.sort_unstable();
        teams.dedup();
        Self {
            teams: Some(teams.into()),
        }
    }

    pub(crate) fn of_everything() -> Self {
        Self { teams: None }
    }

    /// The teams, none where every team may be read.
    #[must_use]
    pub fn teams(&self) -> Option<&[TeamId]> {
        self.teams.as_deref()
    }

    /// Whether rows of this team may be read.
    #[must_use]
    pub fn covers(&self, team: TeamId) -> bool {
        self.teams.as_ref().is_none_or(|teams| teams.contains(&team))
    }

    /// The same scope, narrowed to one team (`?team=`, `/teams/{team}/…`); empty where it was not covered.
    #[must_use]
    pub fn narrowed_to(&self, team: TeamId) -> Self {
        Self::of_teams(self.covers(team).then_some(team))
    }
}

impl From<TeamScope> for ReadScope {
    fn from(scope: TeamScope) -> Self {
        Self::of_teams([scope.team])
    }
}

/// Every team's rows: the scheduler's, migrations', the organisation's commands.
///
/// Made once, where a process of the organisation starts; handed down from there, never made on the way.
#[derive(Debug, Clone)]
pub struct OrgScope {
    _made_at_start: (),
}

impl OrgScope {
    /// For `main` of a process that the organisation runs (and for tests).
    #[must_use]
    pub fn at_process_start() -> Self {
        Self { _made_at_start: () }
    }

    /// One team's scope, for work that is known to be that team's (a claimed event, an authenticated token).
    #[must_use]
    pub fn team(&self, team: TeamId) -> TeamScope {
        TeamScope::new(team)
    }

    /// The scope that reads everything.
    #[must_use]
    pub fn read(&self) -> ReadScope {
        ReadScope::of_everything()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrowing_never_widens() {
        let some = ReadScope::of_teams([TeamId(1), TeamId(2)]);
        assert!(some.narrowed_to(TeamId(2)).covers(TeamId(2)));
        assert!(!some.narrowed_to(TeamId(3)).covers(TeamId(3)));
        assert_eq!(some.narrowed_to(TeamId(3)).teams(), Some(&[][..]));
    }
}
