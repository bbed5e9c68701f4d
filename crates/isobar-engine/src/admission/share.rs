//! Fair share (rule 27): whose turn it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use isobar_model::TeamId;

use super::event::TeamShare;
use super::queue::{BucketNo, Order};
use super::resource::ResourceNo;

/// A team's place in the turn: first those below their guarantee, then by slots held per weight, then who was served longest ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    below_guarantee: Reverse<bool>,
    load: u64,
    served: u64,
    pub(super) team: TeamId,
}

/// A team that has anything waiting or held.
#[derive(Debug)]
pub(super) struct Team {
    pub(super) share: TeamShare,
    /// Slots it holds.
    pub(super) holding: u32,
    /// Buckets that may go, as far as is known, best first.
    pub(super) free: BTreeSet<(Order, BucketNo)>,
    /// Its lines for what several teams share.
    pub(super) lines: BTreeSet<(ResourceNo, u32)>,
    served: u64,
    /// Its place, unless it holds all it may.
    rank: Option<Rank>,
}

impl Team {
    fn new(team: TeamId) -> Self {
        Self {
            share: TeamShare {
                team,
                weight: 1,
                guaranteed: 0,
                max_running: None,
            },
            holding: 0,
            free: BTreeSet::new(),
            lines: BTreeSet::new(),
            served: 0,
            rank: None,
        }
    }

    fn place(&self) -> Option<Rank> {
        if self.share.max_running.is_some_and(|max| self.holding >= max) {
            return None;
        }
        let below = self.holding < self.share.guaranteed;
        let measure = if below {
            self.share.guaranteed
        } else {
            self.share.weight
        };
        Some(Rank {
            below_guarantee: Reverse(below),
            load: (u64::from(self.holding) << 24) / u64::from(measure.max(1)),
            served: self.served,
            team: self.share.team,
        })
    }
}

/// All teams.
#[derive(Debug, Default)]
pub(super) struct Teams {
    teams: BTreeMap<TeamId, Team>,
    /// Teams with buckets that may go.
    turn: BTreeSet<Rank>,
    /// Teams with a line for a shared resource.
    turns: BTreeMap<ResourceNo, BTreeSet<Rank>>,
    servings: u64,
}

impl Teams {
    pub(super) fn get(&self, team: TeamId) -> Option<&Team> {
        self.teams.get(&team)
    }

    /// Changes a team and keeps its place in all turns. One that nobody told of has weight 1 and no guarantee.
    pub(super) fn update<T>(&mut self, team: TeamId, change: impl FnOnce(&mut Team) -> T) -> T {
        let entry = self.teams.entry(team).or_insert_with(|| Team::new(team));
        let was_free = !entry.free.is_empty();
        let result = change(entry);
        let rank = entry.place();
        let old = std::mem::replace(&mut entry.rank, rank);
        let is_free = !entry.free.is_empty();
        if old == rank && was_free == is_free {
            return result;
        }
        if let Some(old) = old.filter(|_| was_free) {
            self.turn.remove(&old);
        }
        if let Some(rank) = rank.filter(|_| is_free) {
            self.turn.insert(rank);
        }
        if old != rank {
            for (resource, _) in &entry.lines {
                let turn = self.turns.entry(*resource).or_default();
                old.map(|old| turn.remove(&old));
                rank.map(|rank| turn.insert(rank));
            }
        }
        result
    }

    pub(super) fn set_share(&mut self, share: TeamShare) {
        self.update(share.team, |team| team.share = share);
    }

    /// The team has a line for a shared resource.
    pub(super) fn join(&mut self, team: TeamId, resource: ResourceNo, wanted: u32) {
        let rank = self.update(team, |team| {
            team.lines.insert((resource, wanted)).then(|| team.place()).flatten()
        });
        if let Some(rank) = rank {
            self.turns.entry(resource).or_default().insert(rank);
        }
    }

    /// That line is empty.
    pub(super) fn leave(&mut self, team: TeamId, resource: ResourceNo, wanted: u32) {
        let (rank, gone) = self.update(team, |team| {
            team.lines.remove(&(resource, wanted));
            (team.place(), !team.lines.iter().any(|(other, _)| *other == resource))
        });
        if gone && let Some(turn) = self.turns.get_mut(&resource) {
            rank.map(|rank| turn.remove(&rank));
            if turn.is_empty() {
                self.turns.remove(&resource);
            }
        }
    }

    /// Whose turn it is: of the teams with buckets that may go, and of those with a line for which `has_room` holds.
    pub(super) fn next(&self, has_room: impl Fn(ResourceNo, u32) -> bool) -> Option<TeamId> {
        let mut best = self.turn.first().copied();
        for (resource, turn) in &self.turns {
            if !has_room(*resource, 0) {
                continue;
            }
            let before_best = turn.iter().take_while(|rank| best.is_none_or(|best| **rank < best));
            for rank in before_best {
                let lines = self.teams.get(&rank.team).map(|team| &team.lines);
                let mut lines = lines.into_iter().flatten();
                if lines.any(|(line, wanted)| line == resource && has_room(*resource, *wanted)) {
                    best = Some(*rank);
                    break;
                }
            }
        }
        best.map(|rank| rank.team)
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
