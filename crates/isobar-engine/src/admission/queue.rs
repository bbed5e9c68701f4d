//! Waiting lines. Candidates that need exactly the same things wait in one bucket, so that a hundred thousand of them cost
//! no more to pass over than one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use isobar_model::{MapIndex, TeamId};
use jiff::Timestamp;

use super::event::{Candidate, InstanceKey};
use super::resource::ResourceNo;

/// Who goes first inside a team: the heavier, then the earlier date, then the lower index, then who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    weight: Reverse<i64>,
    date: Timestamp,
    map_index: MapIndex,
    arrival: u64,
}

impl Order {
    pub(super) fn of(candidate: &Candidate, arrival: u64) -> Self {
        Self {
            weight: Reverse(candidate.priority_weight),
            date: candidate.date,
            map_index: candidate.key.task.map_index,
            arrival,
        }
    }
}

/// The number of a bucket while it has anyone in it.
pub(super) type BucketNo = usize;

/// Where a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Among those of its team that may go. It speaks for a line of that resource, if one is named.
    Free(Option<(ResourceNo, u32)>),
    /// In a line for this resource.
    Parked(ResourceNo, u32),
}

/// Candidates that need the same.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) team: TeamId,
    pub(super) needs: Vec<(ResourceNo, u32)>,
    pub(super) waiting: BTreeMap<Order, InstanceKey>,
    pub(super) stand: Stand,
}

impl Bucket {
    /// Who goes next. Buckets are dropped when they are empty.
    pub(super) fn first(&self) -> Order {
        *self
            .waiting
            .first_key_value()
            .expect("a bucket in use has somebody in it")
            .0
    }
}

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    slots: Vec<Option<Bucket>>,
    vacant: Vec<BucketNo>,
    by_needs: HashMap<(TeamId, Vec<(ResourceNo, u32)>), BucketNo>,
}

impl Buckets {
    pub(super) fn get(&self, number: BucketNo) -> &Bucket {
        self.slots[number].as_ref().expect("a bucket in a line is in use")
    }

    pub(super) fn get_mut(&mut self, number: BucketNo) -> &mut Bucket {
        self.slots[number].as_mut().expect("a bucket in a line is in use")
    }

    pub(super) fn find(&self, team: TeamId, needs: &[(ResourceNo, u32)]) -> Option<BucketNo> {
        self.by_needs.get(&(team, needs.to_vec())).copied()
    }

    /// A new bucket with one in it, free.
    pub(super) fn open(
        &mut self,
        team: TeamId,
        needs: &[(ResourceNo, u32)],
        order: Order,
        key: InstanceKey,
    ) -> BucketNo {
        let bucket = Bucket {
            team,
            needs: needs.to_vec(),
            waiting: BTreeMap::from([(order, key)]),
            stand: Stand::Free(None),
        };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[number] = Some(bucket);
        self.by_needs.insert((team, needs.to_vec()), number);
        number
    }

    /// Forgets an empty bucket that stands nowhere any more.
    pub(super) fn close(&mut self, number: BucketNo) {
        if let Some(bucket) = self.slots[number].take() {
            self.by_needs.remove(&(bucket.team, bucket.needs));
            self.vacant.push(number);
        }
    }
}
