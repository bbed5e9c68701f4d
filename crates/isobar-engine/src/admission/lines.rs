//! Moving buckets between those that may go and the lines for what has no room.
//!
//! While a resource of one team has room, each of its lines has a speaker: its best bucket, standing among those of the team that
//! may go. When the speaker has gone or turned out to lack something else, the next speaks. Lines for what teams share have no
//! speakers: when it is a team's turn, its best buckets are gathered from those of its lines for which there is room. So nothing is
//! looked at in vain twice, however many wait.

use isobar_model::TeamId;

use super::Admission;
use super::event::InstanceKey;
use super::queue::{BucketNo, Order, Stand};
use super::resource::ResourceNo;

impl Admission {
    /// Puts a candidate into the bucket for what it needs.
    pub(super) fn enqueue(
        &mut self,
        team: TeamId,
        needs: &[(ResourceNo, u32)],
        order: Order,
        key: InstanceKey,
    ) -> BucketNo {
        let Some(number) = self.buckets.find(team, needs) else {
            let number = self.buckets.open(team, needs, order, key);
            self.teams.update(team, |team| team.free.insert((order, number)));
            return number;
        };
        let first = self.buckets.get(number).first();
        self.buckets.get_mut(number).waiting.insert(order, key);
        if order < first {
            self.restand(number, first);
        }
        number
    }

    /// Takes a candidate out of its bucket.
    pub(super) fn dequeue(&mut self, number: BucketNo, order: Order) {
        let first = self.buckets.get(number).first();
        self.buckets.get_mut(number).waiting.remove(&order);
        if order == first {
            self.restand(number, first);
        }
    }

    /// Takes the first candidate out of a bucket that may go.
    pub(super) fn pop(&mut self, number: BucketNo) -> InstanceKey {
        let bucket = self.buckets.get_mut(number);
        let (order, key) = bucket.waiting.pop_first().expect("a bucket in use has somebody in it");
        self.restand(number, order);
        key
    }

    /// Moves a bucket to where its first candidate, changed since `first`, puts it; drops an empty one.
    fn restand(&mut self, number: BucketNo, first: Order) {
        let bucket = self.buckets.get(number);
        let (team, stand) = (bucket.team, bucket.stand);
        let now_first = bucket.waiting.first_key_value().map(|(order, _)| *order);
        match stand {
            Stand::Free(line) => {
                self.teams.update(team, |team| {
                    team.free.remove(&(first, number));
                    if let Some(now_first) = now_first {
                        team.free.insert((now_first, number));
                    }
                });
                if let Some((resource, wanted)) = line {
                    if now_first.is_none() {
                        self.silence(resource, team, wanted);
                    }
                    self.let_speak(resource, team, wanted);
                }
            }
            Stand::Parked(resource, wanted) => {
                let line = self
                    .resources
                    .get_mut(resource)
                    .lines
                    .entry((team, wanted))
                    .or_default();
                line.parked.remove(&(first, number));
                if let Some(now_first) = now_first {
                    line.parked.insert((now_first, number));
                }
                if line.parked.is_empty() {
                    self.leave_if_shared(resource, team, wanted);
                }
                self.let_speak(resource, team, wanted);
            }
        }
        if now_first.is_none() {
            self.buckets.close(number);
        }
    }

    /// Puts a bucket that may not go after all in the line for what it lacks.
    pub(super) fn park(&mut self, number: BucketNo, resource: ResourceNo, wanted: u32) {
        let bucket = self.buckets.get_mut(number);
        let (team, first, stand) = (bucket.team, bucket.first(), bucket.stand);
        bucket.stand = Stand::Parked(resource, wanted);
        self.teams.update(team, |team| team.free.remove(&(first, number)));
        let line = self
            .resources
            .get_mut(resource)
            .lines
            .entry((team, wanted))
            .or_default();
        line.parked.insert((first, number));
        if self.resources.get(resource).is_shared() {
            self.teams.join(team, resource, wanted);
        }
        if let Stand::Free(Some((spoken_for, spoken_wanted))) = stand {
            self.silence(spoken_for, team, spoken_wanted);
            self.let_speak(spoken_for, team, spoken_wanted);
        }
    }

    fn leave_if_shared(&mut self, resource: ResourceNo, team: TeamId, wanted: u32) {
        if self.resources.get(resource).is_shared() {
            self.teams.leave(team, resource, wanted);
        }
    }

    /// It is the team's turn: buckets that stand in lines for which there is room now, and come before all that may go, may go.
    pub(super) fn gather(&mut self, team: TeamId) {
        let Some(lines) = self.teams.get(team).map(|team| team.lines.clone()) else {
            return;
        };
        for (resource, wanted) in lines {
            if !self.resources.get(resource).has_room(wanted) {
                continue;
            }
            let best_free = self.teams.get(team).and_then(|team| team.free.first().copied());
            let Some(line) = self.resources.get_mut(resource).lines.get_mut(&(team, wanted)) else {
                continue;
            };
            let Some(best) = line.parked.first().copied() else {
                continue;
            };
            if best_free.is_some_and(|free| free < best) {
                continue;
            }
            line.parked.remove(&best);
            if line.parked.is_empty() {
                self.resources.get_mut(resource).lines.remove(&(team, wanted));
                self.teams.leave(team, resource, wanted);
            }
            self.buckets.get_mut(best.1).stand = Stand::Free(None);
            self.teams.update(team, |team| team.free.insert(best));
        }
    }

    /// The resource may have more room than before: its lines get speakers.
    pub(super) fn hear(&mut self, resource: ResourceNo) {
        if self.resources.get(resource).is_shared() {
            return;
        }
        let lines: Vec<(TeamId, u32)> = self.resources.get(resource).lines.keys().copied().collect();
        for (team, wanted) in lines {
            self.let_speak(resource, team, wanted);
        }
    }

    fn silence(&mut self, resource: ResourceNo, team: TeamId, wanted: u32) {
        if let Some(line) = self.resources.get_mut(resource).lines.get_mut(&(team, wanted)) {
            line.speaker = None;
        }
    }

    /// If there is room, the best bucket of a line stands among those that may go.
    fn let_speak(&mut self, resource: ResourceNo, team: TeamId, wanted: u32) {
        let room = self.resources.get(resource).has_room(wanted);
        let Some(line) = self.resources.get_mut(resource).lines.get_mut(&(team, wanted)) else {
            return;
        };
        let Some(best) = line.parked.first().copied() else {
            if line.speaker.is_none() {
                self.resources.get_mut(resource).lines.remove(&(team, wanted));
            }
            return;
        };
        if !room || self.resources.get(resource).is_shared() {
            return;
        }
        let Some(line) = self.resources.get_mut(resource).lines.get_mut(&(team, wanted)) else {
            return;
        };
        if let Some(speaker) = line.speaker {
            let first = self.buckets.get(speaker).first();
            if first < best.0 {
                return;
            }
            line.parked.insert((first, speaker));
            self.buckets.get_mut(speaker).stand = Stand::Parked(resource, wanted);
            self.teams.update(team, |team| team.free.remove(&(first, speaker)));
        }
        line.parked.remove(&best);
        line.speaker = Some(best.1);
        self.buckets.get_mut(best.1).stand = Stand::Free(Some((resource, wanted)));
        self.teams.update(team, |team| team.free.insert(best));
    }
}
