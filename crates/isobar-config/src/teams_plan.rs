//! What `isobar teams apply` would do: the declared teams against the known ones (rules 3, 4 and 5).

use std::fmt;

use isobar_model::{TeamId, TeamName};

use crate::Config;

/// A team that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTeam {
    /// Its number.
    pub id: TeamId,
    /// Its name.
    pub name: TeamName,
    /// It left the configuration; its rows are kept and hidden.
    pub archived: bool,
    /// Dags of it that have runs.
    pub dags_with_history: u64,
}

/// One step from the known teams to the declared ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new team.
    Create {
        /// Its name.
        name: TeamName,
    },
    /// A known team takes another name and keeps all its rows.
    Rename {
        /// The team.
        id: TeamId,
        /// Its name so far.
        from: TeamName,
        /// Its name from now on.
        to: TeamName,
    },
    /// A team leaves: its rows are kept, hidden and given to nobody.
    Archive {
        /// The team.
        id: TeamId,
        /// Its name.
        name: TeamName,
    },
    /// An archived team comes back with its rows.
    Restore {
        /// The team.
        id: TeamId,
        /// Its name.
        name: TeamName,
    },
    /// Nothing to do.
    Keep {
        /// The team.
        id: TeamId,
        /// Its name.
        name: TeamName,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name } => write!(f, "create   {name}"),
            Self::Rename { from, to, .. } => write!(f, "rename   {from} to {to}"),
            Self::Archive { name, .. } => write!(f, "archive  {name} (its rows are kept and hidden)"),
            Self::Restore { name, .. } => write!(f, "restore  {name}"),
            Self::Keep { name, .. } => write!(f, "keep     {name}"),
        }
    }
}

/// Why a plan cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Rule 3: an archived name is taken again only on purpose.
    #[error(
        "team `{0}` was archived, and its rows would come back\n  hint: write `restore = true` in its `[[team]]`, or choose another name"
    )]
    Archived(TeamName),
    /// Both names of a renaming are in use.
    #[error(
        "team `{from}` cannot become `{to}`: both exist\n  hint: archive `{to}` first by leaving it out of one `isobar teams apply`, or remove `formerly`"
    )]
    BothExist {
        /// The former name.
        from: TeamName,
        /// The present name.
        to: TeamName,
    },
    /// The new name belongs to a team that was archived.
    #[error(
        "team `{from}` cannot become `{to}`: an archived team has that name\n  hint: choose another name; an archived team keeps its own"
    )]
    NameArchived {
        /// The former name.
        from: TeamName,
        /// The present name.
        to: TeamName,
    },
    /// The former name is declared as a team of its own.
    #[error(
        "team `{to}` was formerly `{from}`, but `{from}` is still declared\n  hint: remove `formerly`, or the other `[[team]]`"
    )]
    FormerNameInUse {
        /// The former name.
        from: TeamName,
        /// The present name.
        to: TeamName,
    },
    /// Renamings in a circle.
    #[error("teams {0} exchange their names\n  hint: rename one of them to a third name first")]
    Circle(String),
    /// Rule 5: history must not lose its owner.
    #[error(
        "{0} Dags with history belong to no team, so multi-team cannot be turned on\n  hint: move them with `isobar teams move`, or delete them"
    )]
    TeamlessHistory(u64),
}

/// The steps from the known teams to the declared ones, in an order in which they can be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamsPlan {
    /// What to do.
    pub steps: Vec<Step>,
    /// Why not to begin; empty in a plan that may be applied.
    pub refused: Vec<Refused>,
}

impl TeamsPlan {
    /// Compares the configuration with what the store knows.
    #[must_use]
    pub fn new(config: &Config, known: &[KnownTeam]) -> Self {
        let mut plan = Self {
            steps: Vec::new(),
            refused: Vec::new(),
        };
        let named: Vec<&KnownTeam> = known.iter().filter(|team| team.id != TeamId::DEFAULT).collect();
        if config.core.multi_team {
            plan.check_teamless(known);
            plan.follow(config, &named);
        }
        for team in named.iter().filter(|team| !team.archived) {
            let stays = plan.steps.iter().any(|step| match step {
                Step::Keep { id, .. } | Step::Rename { id, .. } => *id == team.id,
                Step::Create { .. } | Step::Archive { .. } | Step::Restore { .. } => false,
            });
            let is_refused = plan.refused.iter().any(|refused| refused.mentions(&team.name));
            if !stays && !is_refused {
                // First, so that a name is free before another team takes it.
                plan.steps.insert(
                    0,
                    Step::Archive {
                        id: team.id,
                        name: team.name.clone(),
                    },
                );
            }
        }
        plan
    }

    /// Whether applying would change anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step, Step::Keep { .. }))
    }

    fn check_teamless(&mut self, known: &[KnownTeam]) {
        let teamless = known.iter().find(|team| team.id == TeamId::DEFAULT);
        match teamless.map_or(0, |team| team.dags_with_history) {
            0 => {}
            dags => self.refused.push(Refused::TeamlessHistory(dags)),
        }
    }

    fn follow(&mut self, config: &Config, known: &[&KnownTeam]) {
        let mut renames = Vec::new();
        for team in &config.teams {
            let present = known.iter().find(|known| known.name == team.name);
            let former = (team.formerly.as_ref())
                .and_then(|formerly| known.iter().find(|known| known.name == *formerly && !known.archived));
            match (former, present) {
                (Some(former), _)
                    if config
                        .teams
                        .iter()
                        .any(|other| other.name == former.name && other.formerly.is_none()) =>
                {
                    let (from, to) = (former.name.clone(), team.name.clone());
                    self.refused.push(Refused::FormerNameInUse { from, to });
                }
                (Some(former), None) => renames.push((*former, &team.name)),
                (Some(former), Some(present)) => {
                    let leaves = !present.archived
                        && config
                            .teams
                            .iter()
                            .any(|other| other.formerly.as_ref() == Some(&present.name));
                    if leaves {
                        renames.push((*former, &team.name));
                    } else if present.archived {
                        self.refused.push(Refused::NameArchived {
                            from: former.name.clone(),
                            to: team.name.clone(),
                        });
                    } else {
                        let (from, to) = (former.name.clone(), team.name.clone());
                        self.refused.push(Refused::BothExist { from, to });
                    }
                }
                (None, Some(present)) if !present.archived => {
                    self.steps.push(Step::Keep {
                        id: present.id,
                        name: present.name.clone(),
                    });
                }
                (None, Some(present)) if team.restore => {
                    self.steps.push(Step::Restore {
                        id: present.id,
                        name: present.name.clone(),
                    });
                }
                (None, Some(_)) => self.refused.push(Refused::Archived(team.name.clone())),
                (None, None) => self.steps.push(Step::Create {
                    name: team.name.clone(),
                }),
            }
        }
        self.order(renames);
    }

    /// Puts renamings in, each after the one that frees its name.
    fn order(&mut self, mut renames: Vec<(&KnownTeam, &TeamName)>) {
        let mut ordered = Vec::new();
        while !renames.is_empty() {
            let free = renames
                .iter()
                .position(|(_, to)| !renames.iter().any(|(other, _)| other.name == **to));
            let Some(free) = free else {
                let names: Vec<_> = renames.iter().map(|(team, _)| format!("`{}`", team.name)).collect();
                self.refused.push(Refused::Circle(names.join(", ")));
                return;
            };
            let (team, to) = renames.remove(free);
            ordered.push(Step::Rename {
                id: team.id,
                from: team.name.clone(),
                to: to.clone(),
            });
        }
        // Before anything new is made, since it may take a name that becomes free.
        self.steps.splice(0..0, ordered);
    }
}

impl Refused {
    /// Whether the fate of that team hangs on this.
    fn mentions(&self, team: &TeamName) -> bool {
        match self {
            Self::Archived(name) => name == team,
            Self::BothExist { from, to } | Self::NameArchived { from, to } | Self::FormerNameInUse { from, to } => {
                from == team || to == team
            }
            Self::Circle(names) => names.contains(&format!("`{team}`")),
            Self::TeamlessHistory(_) => false,
        }
    }
}

impl fmt::Display for TeamsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for refused in &self.refused {
            writeln!(f, "refused: {refused}")?;
        }
        Ok(())
    }
}
