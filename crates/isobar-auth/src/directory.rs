//! The teams that this process knows: names to numbers and back, and which tokens of a team still count.

use std::sync::{Arc, PoisonError, RwLock};

use isobar_model::{TeamId, TeamName};

/// An active team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTeam {
    /// Its immutable number.
    pub id: TeamId,
    /// Its present name.
    pub name: TeamName,
    /// Tokens of an older epoch are dead; raised by `isobar teams revoke-tokens`.
    pub token_epoch: i64,
}

/// A snapshot of the active teams, replaced whole when they change. Cheap to clone; clones share the snapshot.
#[derive(Clone, Debug)]
pub struct Directory {
    multi_team: bool,
    teams: Arc<RwLock<Arc<[KnownTeam]>>>,
}

impl Directory {
    /// A directory of these teams.
    #[must_use]
    pub fn new(multi_team: bool, teams: Vec<KnownTeam>) -> Self {
        Self {
            multi_team,
            teams: Arc::new(RwLock::new(teams.into())),
        }
    }

    /// Whether there are several teams; if not, no team shows anywhere (rule 1).
    #[must_use]
    pub fn multi_team(&self) -> bool {
        self.multi_team
    }

    /// Puts another list in place of the present one.
    pub fn replace(&self, teams: Vec<KnownTeam>) {
        *self.teams.write().unwrap_or_else(PoisonError::into_inner) = teams.into();
    }

    /// All active teams.
    #[must_use]
    pub fn all(&self) -> Arc<[KnownTeam]> {
        Arc::clone(&self.teams.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The team of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<KnownTeam> {
        self.all().iter().find(|team| team.name.as_str() == name).cloned()
    }

    /// The team of that number.
    #[must_use]
    pub fn by_id(&self, id: TeamId) -> Option<KnownTeam> {
        self.all().iter().find(|team| team.id == id).cloned()
    }

    /// How the API names the team: none while multi-team is off (rule 1).
    #[must_use]
    pub fn shown_name(&self, id: TeamId) -> Option<TeamName> {
        if self.multi_team {
            self.by_id(id).map(|team| team.name)
        } else {
            None
        }
    }
}
