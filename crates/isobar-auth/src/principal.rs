//! A person who was recognised, and the scopes that their roles give.

use std::collections::BTreeMap;

use isobar_model::TeamId;

use crate::permissions::{Action, OrgRole, Resource, Role, org_role_may, team_role_may};
use crate::scope::{ReadScope, TeamScope};

/// A recognised person (or a client that logged in as one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    name: String,
    home: Option<TeamId>,
    roles: BTreeMap<TeamId, Role>,
    org: Option<OrgRole>,
}

impl Principal {
    pub(crate) fn new(name: String, home: Option<TeamId>, roles: BTreeMap<TeamId, Role>, org: Option<OrgRole>) -> Self {
        Self { name, home, roles, org }
    }

    /// The login name, as audit records show it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What plain names mean at `/api/v2`: this team's.
    #[must_use]
    pub fn home(&self) -> Option<TeamId> {
        self.home
    }

    /// The role in each team, without the organisation's role.
    #[must_use]
    pub fn roles(&self) -> &BTreeMap<TeamId, Role> {
        &self.roles
    }

    /// The role in the organisation.
    #[must_use]
    pub fn org_role(&self) -> Option<OrgRole> {
        self.org
    }

    /// The rows of this kind that may be read; covers nothing where no role allows it.
    #[must_use]
    pub fn read(&self, resource: Resource) -> ReadScope {
        if self.org.is_some_and(|role| org_role_may(role, resource, Action::Read)) {
            return ReadScope::of_everything();
        }
        ReadScope::of_teams(
            self.roles
                .iter()
                .filter(|(_, role)| team_role_may(**role, resource, Action::Read))
                .map(|(team, _)| *team),
        )
    }

    /// The scope to do this in that team, none where no role allows it.
    #[must_use]
    pub fn act(&self, team: TeamId, resource: Resource, action: Action) -> Option<TeamScope> {
        let by_team = self
            .roles
            .get(&team)
            .is_some_and(|role| team_role_may(*role, resource, action));
        let by_org = self.org.is_some_and(|role| org_role_may(role, resource, action));
        (by_team || by_org).then(|| TeamScope::new(team))
    }

    /// Whether the team is known to this person at all; if not, it must look as if it did not exist.
    #[must_use]
    pub fn sees(&self, team: TeamId) -> bool {
        self.org.is_some() || self.roles.contains_key(&team)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: TeamId = TeamId(1);
    const OTHER: TeamId = TeamId(2);
    const FOREIGN: TeamId = TeamId(3);

    fn engineer() -> Principal {
        Principal::new(
            "eve".into(),
            Some(HOME),
            BTreeMap::from([(HOME, Role::Op), (OTHER, Role::Viewer)]),
            None,
        )
    }

    #[test]
    fn a_role_holds_in_its_own_team_only() {
        let eve = engineer();
        assert!(eve.act(HOME, Resource::Variable, Action::Edit).is_some());
        assert!(eve.act(OTHER, Resource::Dag, Action::Read).is_some());
        assert!(eve.act(OTHER, Resource::Dag, Action::Edit).is_none());
        assert!(eve.act(FOREIGN, Resource::Dag, Action::Read).is_none());
        assert!(!eve.read(Resource::Variable).covers(OTHER));
        assert!(!eve.sees(FOREIGN));
    }

    #[test]
    fn an_admin_of_one_team_is_nobody_in_the_next() {
        let ann = Principal::new("ann".into(), Some(HOME), BTreeMap::from([(HOME, Role::Admin)]), None);
        for resource in Resource::ALL {
            for action in Action::ALL {
                assert!(ann.act(OTHER, resource, action).is_none());
            }
            assert!(!ann.read(resource).covers(OTHER));
        }
    }
}
