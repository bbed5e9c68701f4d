//! Admission under arbitrary events: no limit is ever exceeded, nothing that has room waits, no team starves.

use std::collections::BTreeMap;

use isobar_engine::admission::{
    Admission, Candidate, Command, DagKey, DagLimits, Event, ExecutorKey, ExecutorSlots, InstanceKey, PoolKey,
    PoolLimits, TeamShare, Waiting,
};
use isobar_model::{DagId, RunId, TaskId, TaskKey, TaskState, TeamId};
use jiff::Timestamp;
use proptest::prelude::*;

fn dag(team: i32, name: &str) -> DagKey {
    DagKey {
        team: TeamId(team),
        dag_id: DagId::from(name),
    }
}

fn pool(name: &str) -> PoolKey {
    PoolKey {
        owner: None,
        name: name.to_owned(),
    }
}

fn executor(name: &str) -> ExecutorKey {
    ExecutorKey {
        owner: None,
        name: name.to_owned(),
    }
}

fn candidate(team: i32, run: &str, task: &str, index: i32) -> Candidate {
    Candidate {
        key: InstanceKey {
            dag: dag(team, "d"),
            run_id: RunId::from(run),
            task: TaskKey {
                task_id: TaskId::from(task),
                map_index: index,
            },
        },
        pool: pool("p"),
        pool_slots: 1,
        executor: executor("e"),
        priority_weight: 1,
        date: Timestamp::UNIX_EPOCH,
        max_active_tis_per_dag: None,
        max_active_tis_per_dagrun: None,
    }
}

fn share(team: i32, weight: u32, guaranteed: u32, max_running: Option<u32>) -> TeamShare {
    TeamShare {
        team: TeamId(team),
        weight,
        guaranteed,
        max_running,
    }
}

fn limits(team: i32, max_active_tasks: u32) -> DagLimits {
    DagLimits {
        dag: dag(team, "d"),
        max_active_tasks,
        paused: false,
    }
}

/// Admission with room everywhere but for the organisation's slots.
fn roomy(slots: u32) -> Admission {
    let mut admission = Admission::new();
    let mut out = Vec::new();
    admission.step(Event::Parallelism(Some(slots)), &mut out);
    admission.step(
        Event::Executors(vec![ExecutorSlots {
            executor: executor("e"),
            slots: None,
        }]),
        &mut out,
    );
    admission.step(
        Event::Pools(vec![PoolLimits {
            pool: pool("p"),
            slots: -1,
            include_deferred: false,
        }]),
        &mut out,
    );
    admission.step(
        Event::Dags((0..4).map(|team| limits(team, 1_000_000)).collect()),
        &mut out,
    );
    assert!(out.is_empty());
    admission
}

fn step(admission: &mut Admission, event: Event) -> Vec<Candidate> {
    let mut out = Vec::new();
    admission.step(event, &mut out);
    out.into_iter().flat_map(|Command::Queue(all)| all).collect()
}

fn end(admission: &mut Admission, who: &Candidate) -> Vec<Candidate> {
    step(
        admission,
        Event::StateChanged(vec![(who.key.clone(), Some(TaskState::Success))]),
    )
}

fn names(admitted: &[Candidate]) -> Vec<String> {
    admitted
        .iter()
        .map(|c| format!("{}{}", c.key.task.task_id, c.key.task.map_index))
        .collect()
}

#[test]
fn inside_a_team_the_heavier_goes_first_then_the_earlier_date_then_the_lower_index() {
    let mut admission = roomy(0);
    let late = Candidate {
        date: Timestamp::from_second(9).unwrap(),
        ..candidate(1, "r", "late", -1)
    };
    let heavy = Candidate {
        priority_weight: 5,
        ..candidate(1, "r2", "heavy", -1)
    };
    let all = vec![late, candidate(1, "r", "m", 1), candidate(1, "r", "m", 0), heavy];
    assert!(step(&mut admission, Event::Ready(all)).is_empty());
    let admitted = step(&mut admission, Event::Parallelism(Some(9)));
    assert_eq!(names(&admitted), ["heavy-1", "m0", "m1", "late-1"]);
}

#[test]
fn slots_are_shared_by_weight_when_all_want_them() {
    let mut admission = roomy(40);
    step(
        &mut admission,
        Event::Teams(vec![share(1, 3, 0, None), share(2, 1, 0, None)]),
    );
    let many = |team| (0..100).map(|n| candidate(team, "r", "t", n)).collect::<Vec<_>>();
    let mut holding = step(&mut admission, Event::Ready(many(1)));
    assert_eq!(holding.len(), 40, "all slots are lent while nobody else wants them");
    step(&mut admission, Event::Ready(many(2)));
    for _ in 0..60 {
        let done = holding.remove(0);
        holding.extend(end(&mut admission, &done));
    }
    let of_two = holding.iter().filter(|c| c.key.dag.team == TeamId(2)).count();
    assert_eq!(of_two, 10);
}

#[test]
fn a_guarantee_comes_back_before_anybody_gets_more_than_theirs() {
    let mut admission = roomy(10);
    step(
        &mut admission,
        Event::Teams(vec![share(1, 100, 0, None), share(2, 1, 4, None)]),
    );
    let mut holding = step(
        &mut admission,
        Event::Ready((0..50).map(|n| candidate(1, "r", "t", n)).collect()),
    );
    step(
        &mut admission,
        Event::Ready((0..50).map(|n| candidate(2, "r", "t", n)).collect()),
    );
    for _ in 0..4 {
        let done = holding.remove(0);
        let next = end(&mut admission, &done);
        assert_eq!(next[0].key.dag.team, TeamId(2));
    }
    let next = end(&mut admission, &holding.remove(0));
    assert_eq!(next[0].key.dag.team, TeamId(1));
}

#[test]
fn a_hundred_thousand_queued_by_one_team_do_not_delay_another() {
    let mut admission = roomy(8);
    let flood = (0..100_000).map(|n| candidate(1, "r", "t", n)).collect();
    let mut holding = step(&mut admission, Event::Ready(flood));
    assert!(step(&mut admission, Event::Ready(vec![candidate(2, "r", "mine", -1)])).is_empty());
    let next = end(&mut admission, &holding.remove(0));
    assert_eq!(names(&next), ["mine-1"]);
}

#[test]
fn a_task_that_wants_more_of_a_pool_than_is_free_lets_lighter_ones_pass() {
    let mut admission = roomy(10);
    step(
        &mut admission,
        Event::Pools(vec![PoolLimits {
            pool: pool("p"),
            slots: 2,
            include_deferred: false,
        }]),
    );
    let first = step(&mut admission, Event::Ready(vec![candidate(1, "r", "a", -1)]));
    let big = Candidate {
        pool_slots: 2,
        priority_weight: 9,
        ..candidate(1, "r", "big", -1)
    };
    let next = step(
        &mut admission,
        Event::Ready(vec![big.clone(), candidate(1, "r", "b", -1)]),
    );
    assert_eq!(names(&next), ["b-1"]);
    assert_eq!(
        admission.why(&big.key),
        Waiting::Pool {
            pool: pool("p"),
            wants: 2,
            free: 0
        }
    );
    assert!(end(&mut admission, &first[0]).is_empty());
    assert_eq!(names(&end(&mut admission, &next[0])), ["big-1"]);
}

#[test]
fn deferred_instances_give_their_slots_back_but_still_count_for_the_task() {
    let mut admission = roomy(1);
    let limited = |n| Candidate {
        max_active_tis_per_dag: Some(1),
        ..candidate(1, "r", "t", n)
    };
    let first = step(
        &mut admission,
        Event::Ready(vec![limited(0), limited(1), candidate(1, "r", "u", -1)]),
    );
    assert_eq!(names(&first), ["u-1"]);
    let next = end(&mut admission, &first[0]);
    assert_eq!(names(&next), ["t0"]);
    let deferred = Event::StateChanged(vec![(next[0].key.clone(), Some(TaskState::Deferred))]);
    assert!(step(&mut admission, deferred).is_empty());
    assert_eq!(admission.holding(), 0);
    assert_eq!(admission.why(&limited(1).key), Waiting::MaxActiveTisPerDag(1));
    let resumed = step(&mut admission, Event::Ready(vec![limited(0)]));
    assert_eq!(names(&resumed), ["t0"]);
    assert_eq!(names(&end(&mut admission, &resumed[0])), ["t1"]);
}

#[test]
fn nothing_of_a_paused_or_unknown_dag_is_admitted() {
    let mut admission = roomy(5);
    let foreign = candidate(7, "r", "t", -1);
    assert!(step(&mut admission, Event::Ready(vec![foreign.clone()])).is_empty());
    assert_eq!(admission.why(&foreign.key), Waiting::DagPaused);
    assert_eq!(step(&mut admission, Event::Dags(vec![limits(7, 1)])).len(), 1);
}

/// What may happen in a random history.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Ready { team: i32, run: u8, task: u8, index: i32 },
    End { which: usize, state: Option<TaskState> },
    Pool { which: u8, slots: i64, deferred: bool },
    Executor { slots: u32 },
    Parallelism { slots: u32 },
    Dag { team: i32, limit: u32, paused: bool },
}

fn happening() -> impl Strategy<Value = Happening> {
    let states = prop::sample::select(vec![
        None,
        Some(TaskState::Success),
        Some(TaskState::Failed),
        Some(TaskState::Running),
        Some(TaskState::Deferred),
        Some(TaskState::UpForRetry),
        Some(TaskState::Scheduled),
    ]);
    prop_oneof![
        8 => (0..3_i32, 0..3_u8, 0..4_u8, -1..4_i32).prop_map(|(team, run, task, index)| Happening::Ready { team, run, task, index }),
        8 => (any::<usize>(), states).prop_map(|(which, state)| Happening::End { which, state }),
        1 => (0..2_u8, -1..6_i64, any::<bool>()).prop_map(|(which, slots, deferred)| Happening::Pool { which, slots, deferred }),
        1 => (0..8_u32).prop_map(|slots| Happening::Executor { slots }),
        1 => (0..10_u32).prop_map(|slots| Happening::Parallelism { slots }),
        1 => (0..3_i32, 0..5_u32, prop::bool::weighted(0.2)).prop_map(|(team, limit, paused)| Happening::Dag { team, limit, paused }),
    ]
}

/// The limits and what is held, kept in the plainest way.
#[derive(Default)]
struct Ledger {
    held: BTreeMap<InstanceKey, (Candidate, TaskState)>,
    waiting: BTreeMap<InstanceKey, Candidate>,
    pools: BTreeMap<PoolKey, (i64, bool)>,
    executor: Option<u32>,
    parallelism: u32,
    dags: BTreeMap<DagKey, (u32, bool)>,
}

impl Ledger {
    fn at_work(&self) -> impl Iterator<Item = &Candidate> {
        let at_work = |state: &TaskState| matches!(state, TaskState::Queued | TaskState::Running);
        self.held
            .values()
            .filter(move |(_, state)| at_work(state))
            .map(|(candidate, _)| candidate)
    }

    fn has_room(&self, candidate: &Candidate) -> bool {
        let work = || self.at_work();
        let in_pool = |c: &&Candidate| c.pool == candidate.pool;
        let (slots, include_deferred) = self.pools[&candidate.pool];
        let deferred = self
            .held
            .values()
            .filter(|(c, state)| *state == TaskState::Deferred && c.pool == candidate.pool);
        let deferred: u32 = if include_deferred {
            deferred.map(|(c, _)| c.pool_slots).sum()
        } else {
            0
        };
        let taken = i64::from(work().filter(in_pool).map(|c| c.pool_slots).sum::<u32>() + deferred);
        let pool_room = slots < 0 || taken + i64::from(candidate.pool_slots) <= slots;
        let (limit, paused) = self.dags[&candidate.key.dag];
        let in_run = work()
            .filter(|c| c.key.dag == candidate.key.dag && c.key.run_id == candidate.key.run_id)
            .count();
        let same_task =
            |c: &Candidate| c.key.dag == candidate.key.dag && c.key.task.task_id == candidate.key.task.task_id;
        let of_task = self.held.values().filter(|(c, _)| same_task(c)).count();
        let of_task_in_run = self
            .held
            .values()
            .filter(|(c, _)| same_task(c) && c.key.run_id == candidate.key.run_id)
            .count();
        pool_room
            && !paused
            && in_run < limit as usize
            && self.executor.is_none_or(|slots| work().count() < slots as usize)
            && work().count() < self.parallelism as usize
            && candidate
                .max_active_tis_per_dag
                .is_none_or(|limit| of_task < limit as usize)
            && candidate
                .max_active_tis_per_dagrun
                .is_none_or(|limit| of_task_in_run < limit as usize)
    }
}

fn random_candidate(team: i32, run: u8, task: u8, index: i32) -> Candidate {
    Candidate {
        pool: pool(if task.is_multiple_of(2) { "p" } else { "q" }),
        pool_slots: 1 + u32::from(task == 3),
        priority_weight: i64::from(task),
        max_active_tis_per_dag: (task == 1).then_some(2),
        max_active_tis_per_dagrun: (task == 2).then_some(1),
        ..candidate(team, &format!("r{run}"), &format!("t{task}"), index)
    }
}

fn apply(ledger: &mut Ledger, happening: Happening) -> Option<Event> {
    Some(match happening {
        Happening::Ready { team, run, task, index } => {
            let candidate = random_candidate(team, run, task, index);
            ledger.held.remove(&candidate.key);
            ledger.waiting.insert(candidate.key.clone(), candidate.clone());
            Event::Ready(vec![candidate])
        }
        Happening::End { which, state } => {
            let known: Vec<InstanceKey> = ledger.held.keys().chain(ledger.waiting.keys()).cloned().collect();
            let key = known.get(which.checked_rem(known.len())?)?.clone();
            let candidate = match ledger.held.remove(&key) {
                Some((candidate, _)) => candidate,
                None => ledger.waiting.remove(&key)?,
            };
            match state {
                Some(TaskState::Scheduled) => {
                    ledger.waiting.insert(key.clone(), candidate);
                }
                Some(held @ (TaskState::Running | TaskState::Deferred)) => {
                    ledger.held.insert(key.clone(), (candidate, held));
                }
                _ => {}
            }
            Event::StateChanged(vec![(key, state)])
        }
        Happening::Pool { which, slots, deferred } => {
            let pool = pool(if which == 0 { "p" } else { "q" });
            ledger.pools.insert(pool.clone(), (slots, deferred));
            Event::Pools(vec![PoolLimits {
                pool,
                slots,
                include_deferred: deferred,
            }])
        }
        Happening::Executor { slots } => {
            ledger.executor = Some(slots);
            Event::Executors(vec![ExecutorSlots {
                executor: executor("e"),
                slots: Some(slots),
            }])
        }
        Happening::Parallelism { slots } => {
            ledger.parallelism = slots;
            Event::Parallelism(Some(slots))
        }
        Happening::Dag { team, limit, paused } => {
            ledger.dags.insert(dag(team, "d"), (limit, paused));
            Event::Dags(vec![DagLimits {
                dag: dag(team, "d"),
                max_active_tasks: limit,
                paused,
            }])
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn every_admission_had_room_and_nothing_with_room_is_left_waiting(history in prop::collection::vec(happening(), 1..120)) {
        let mut admission = Admission::new();
        let mut ledger = Ledger::default();
        let start = [
            Happening::Parallelism { slots: 6 },
            Happening::Executor { slots: 5 },
            Happening::Pool { which: 0, slots: 4, deferred: false },
            Happening::Pool { which: 1, slots: 3, deferred: true },
        ];
        let dags = (0..3).map(|team| Happening::Dag { team, limit: 3, paused: false });
        for happening in start.into_iter().chain(dags).chain(history) {
            let Some(event) = apply(&mut ledger, happening) else { continue };
            for admitted in step(&mut admission, event) {
                prop_assert!(ledger.has_room(&admitted), "no room for {admitted:?}");
                prop_assert!(ledger.waiting.remove(&admitted.key).is_some(), "was not waiting: {admitted:?}");
                ledger.held.insert(admitted.key.clone(), (admitted, TaskState::Queued));
            }
            for waiting in ledger.waiting.values() {
                prop_assert!(!ledger.has_room(waiting), "{waiting:?} has room and waits");
                prop_assert_ne!(admission.why(&waiting.key), Waiting::NotHere);
            }
            prop_assert_eq!(admission.holding() as usize, ledger.at_work().count());
            prop_assert_eq!(admission.waiting(), ledger.waiting.len());
        }
    }
}
