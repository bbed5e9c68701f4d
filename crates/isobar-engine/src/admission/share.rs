//! Fair share (rule 27): whose turn it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use isobar_model::TeamId;

use super::event::TeamShare;
use super::queue::{BucketNo, Order};

/// A team's place in the turn: first those below their guarantee, then by slots held per weight, then who was served longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    below_guarantee: Reverse<bool>,
    load: u64,
    served: u64,
    team: TeamId,
}

/// A team that has anything waiting or held.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) share: TeamShare,
    /// Slots it holds.
    pub(super) holding: u32,
    /// Buckets that may go, as far as is known, best first.
    pub(super) free: BTreeSet<(Order, BucketNo)>,
    served: u64,
    listed: Option<Rank>,
}

impl Team {
    fn has_room(&self) -> bool {
        self.share.max_running.is_none_or(|max| self.holding < max)
    }

    fn rank(&self) -> Rank {
        let below = self.holding < self.share.guaranteed;
        let measure = if below {
            self.share.guaranteed
        } else {
            self.share.weight
        };
        Rank {
            below_guarantee: Reverse(below),
            load: (u64::from(self.holding) << 24) / u64::from(measure.max(1)),
            served: self.served,
            team: self.share.team,
        }
    }
}

/// All teams.
#[derive(Debug, Default)]
pub(super) struct Teams {
    teams: BTreeMap<TeamId, Team>,
    turn: BTreeSet<Rank>,
    servings: u64,
}

impl Teams {
    pub(super) fn get(&self, team: TeamId) -> Option<&Team> {
        self.teams.get(&team)
    }

    /// The team; one nobody told of has weight 1 and no guarantee.
    fn obtain(&mut self, team: TeamId) -> &mut Team {
        self.teams.entry(team).or_insert_with(|| Team {
            share: TeamShare {
                team,
                weight: 1,
                guaranteed: 0,
                max_running: None,
            },
            holding: 0,
            free: BTreeSet::new(),
            served: 0,
            listed: None,
        })
    }

    /// Changes a team and puts it at its place in the turn.
    pub(super) fn update<T>(&mut self, team: TeamId, change: impl FnOnce(&mut Team) -> T) -> T {
        let entry = self.obtain(team);
        let result = change(entry);
        let rank = (!entry.free.is_empty() && entry.has_room()).then(|| entry.rank());
        if rank != entry.listed {
            let old = std::mem::replace(&mut entry.listed, rank);
            if let Some(old) = old {
                self.turn.remove(&old);
            }
            if let Some(rank) = rank {
                self.turn.insert(rank);
            }
        }
        result
    }

    pub(super) fn set_share(&mut self, share: TeamShare) {
        self.update(share.team, |team| team.share = share);
    }

    /// Whose turn it is, with its best bucket.
    pub(super) fn next(&self) -> Option<(TeamId, BucketNo)> {
        let rank = self.turn.first()?;
        let (_, bucket) = self.teams.get(&rank.team)?.free.first()?;
        Some((rank.team, *bucket))
    }

    /// Counts one more slot held after a turn.
    pub(super) fn serve(&mut self, team: TeamId) {
        self.servings += 1;
        let servings = self.servings;
        self.update(team, |team| {
            team.served = servings;
            team.holding += 1;
        });
    }
}
