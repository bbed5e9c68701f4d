//! A random organisation: teams, pools, limits, Dags.

use std::sync::Arc;

use isobar_engine::admission::{
    Candidate, DagKey, DagLimits, Event, ExecutorKey, ExecutorSlots, InstanceKey, PoolKey, PoolLimits, TeamShare,
};
use isobar_engine::dagplan::{DagFacts, Next, NextRun, Restriction, Schedule, ScheduleProblem};
use isobar_engine::graph::{DagSpec, Expand, LengthOf, RunGraph, TaskNo, TaskSpec};
use isobar_model::{DagId, RunId, TaskId, TaskKey, TeamId, TriggerRule};
use jiff::{SignedDuration, Timestamp};

use crate::dice::Dice;

pub(crate) const HOUR: SignedDuration = SignedDuration::from_hours(1);

pub(crate) struct Organisation {
    pub(crate) teams: Vec<Team>,
    pub(crate) dags: Vec<Dag>,
    pub(crate) parallelism: u32,
}

pub(crate) struct Team {
    pub(crate) id: TeamId,
    weight: u32,
    guaranteed: u32,
    pub(crate) max_running: Option<u32>,
    slots: i64,
}

pub(crate) struct Dag {
    pub(crate) team: usize,
    pub(crate) graph: Arc<RunGraph>,
    pub(crate) max_active_runs: u32,
    pub(crate) pool_counts_deferred: bool,
}

/// Every hour.
#[derive(Debug)]
struct Hourly;

impl Schedule for Hourly {
    fn next(&self, last: Option<&NextRun>, within: &Restriction, _now: Timestamp) -> Result<Next, ScheduleProblem> {
        let start = last
            .and_then(|last| last.data_interval)
            .map_or(within.earliest, |(_, end)| Some(end));
        let start = start.expect("bounds are given");
        if within.latest.is_some_and(|latest| start > latest) {
            return Ok(Next::Never);
        }
        Ok(Next::At(NextRun {
            run_after: start + HOUR,
            data_interval: Some((start, start + HOUR)),
            partition_key: None,
            partition_date: None,
        }))
    }
}

pub(crate) fn beginning() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("a time")
}

impl Dag {
    pub(crate) fn key(&self, org: &Organisation) -> DagKey {
        DagKey {
            team: org.teams[self.team].id,
            dag_id: self.graph.spec().dag_id.clone(),
        }
    }

    pub(crate) fn facts(&self, until: Timestamp) -> DagFacts {
        DagFacts {
            paused: false,
            stale: false,
            has_import_errors: false,
            makes_runs: true,
            max_active_runs: self.max_active_runs,
            max_consecutive_failed_dag_runs: 0,
            allowed_run_types: None,
            within: Restriction {
                earliest: Some(beginning()),
                latest: Some(until),
                catchup: true,
            },
            schedule: Some(Arc::new(Hourly)),
        }
    }

    pub(crate) fn intervals(&self, until: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        std::iter::successors(Some(beginning()), |at| Some(*at + HOUR)).take_while(move |at| *at <= until)
    }
}

impl Organisation {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let count = dice.pick(1, 3);
        let teams: Vec<Team> = (1..=count)
            .map(|number| Team {
                id: TeamId(i32::try_from(number).expect("small")),
                weight: u32::try_from(dice.pick(1, 3)).expect("small"),
                guaranteed: u32::try_from(dice.pick(0, 1)).expect("small"),
                max_running: dice.chance(300).then(|| u32::try_from(dice.pick(2, 4)).expect("small")),
                slots: i64::try_from(dice.pick(2, 5)).expect("small"),
            })
            .collect();
        let mut dags = Vec::new();
        for team in 0..teams.len() {
            let pool_counts_deferred = dice.chance(300);
            for _ in 0..dice.pick(1, 2) {
                let number = dags.len();
                dags.push(Dag {
                    pool_counts_deferred,
                    ..dag(number, team, dice)
                });
            }
        }
        Self {
            teams,
            dags,
            parallelism: u32::try_from(dice.pick(3, 8)).expect("small"),
        }
    }

    pub(crate) fn pool_slots(&self, team: usize, _pool: &str) -> i64 {
        self.teams[team].slots
    }

    /// What admission is told at its start.
    pub(crate) fn standing(&self) -> Vec<Event> {
        let share = |team: &Team| TeamShare {
            team: team.id,
            weight: team.weight,
            guaranteed: team.guaranteed,
            max_running: team.max_running,
        };
        let executor = |team: &Team| ExecutorSlots {
            executor: executor(team),
            slots: None,
        };
        let pool = |(number, team): (usize, &Team)| PoolLimits {
            pool: pool(team),
            slots: team.slots,
            include_deferred: self
                .dags
                .iter()
                .any(|dag| dag.team == number && dag.pool_counts_deferred),
        };
        let limits = |dag: &Dag| DagLimits {
            dag: dag.key(self),
            max_active_tasks: dag.graph.spec().max_active_tasks,
            paused: false,
        };
        vec![
            Event::Parallelism(Some(self.parallelism)),
            Event::Teams(self.teams.iter().map(share).collect()),
            Event::Executors(self.teams.iter().map(executor).collect()),
            Event::Pools(self.teams.iter().enumerate().map(pool).collect()),
            Event::Dags(self.dags.iter().map(limits).collect()),
        ]
    }

    pub(crate) fn instance(&self, dag: usize, run_id: &RunId, task: &TaskKey) -> InstanceKey {
        InstanceKey {
            dag: self.dags[dag].key(self),
            run_id: run_id.clone(),
            task: task.clone(),
        }
    }

    pub(crate) fn candidate(&self, dag: usize, run_id: &RunId, task: &TaskKey, date: Timestamp) -> Candidate {
        let of = &self.dags[dag];
        let spec = of.graph.task(of.graph.find(&task.task_id).expect("the Dag has it"));
        Candidate {
            key: self.instance(dag, run_id, task),
            pool: pool(&self.teams[of.team]),
            pool_slots: spec.pool_slots,
            executor: executor(&self.teams[of.team]),
            priority_weight: spec.priority_weight,
            date,
            max_active_tis_per_dag: spec.max_active_tis_per_dag,
            max_active_tis_per_dagrun: spec.max_active_tis_per_dagrun,
        }
    }

    pub(crate) fn dag_of(&self, key: &InstanceKey) -> usize {
        let is_it = |dag: &Dag| dag.key(self) == key.dag;
        self.dags.iter().position(is_it).expect("a Dag that there is")
    }
}

fn executor(team: &Team) -> ExecutorKey {
    ExecutorKey {
        owner: Some(team.id),
        name: "local".to_owned(),
    }
}

fn pool(team: &Team) -> PoolKey {
    PoolKey {
        owner: Some(team.id),
        name: "default_pool".to_owned(),
    }
}

fn dag(number: usize, team: usize, dice: &mut Dice) -> Dag {
    let rules = [
        TriggerRule::AllSuccess,
        TriggerRule::AllSuccess,
        TriggerRule::AllSuccess,
        TriggerRule::AllDone,
        TriggerRule::NoneFailed,
        TriggerRule::OneSuccess,
    ];
    let past = dice.chance(250);
    let fail_fast = !past && dice.chance(150);
    let size = dice.pick(2, 6);
    let mut tasks: Vec<TaskSpec> = Vec::new();
    for at in 0..size {
        let number = TaskNo(u32::try_from(at).expect("small"));
        for earlier in &mut tasks {
            if dice.chance(400) {
                earlier.downstream.push(number);
            }
        }
        let source = tasks.iter().position(|task| task.expand.is_none() && !task.is_trivial);
        let expand = source.filter(|_| dice.chance(250)).map(|source| {
            let source = TaskNo(u32::try_from(source).expect("small"));
            if !tasks[source.0 as usize].downstream.contains(&number) {
                tasks[source.0 as usize].downstream.push(number);
            }
            Expand {
                factors: vec![LengthOf::Task(source)],
                dependencies: vec![source],
            }
        });
        tasks.push(TaskSpec {
            task_id: TaskId::from(format!("t{at}")),
            trigger_rule: if fail_fast || expand.is_some() {
                TriggerRule::AllSuccess
            } else {
                *dice.one_of(&rules)
            },
            // What later runs wait for must not fail for good.
            retries: if past {
                1000
            } else {
                i32::try_from(dice.pick(0, 2)).expect("small")
            },
            retry_delay: SignedDuration::from_secs(i64::try_from(dice.pick(1, 300)).expect("small")),
            depends_on_past: past && dice.chance(500),
            max_active_tis_per_dag: dice.chance(150).then_some(1),
            max_active_tis_per_dagrun: dice.chance(150).then_some(1),
            pool_slots: u32::try_from(dice.pick(1, 2)).expect("small"),
            priority_weight: i64::try_from(dice.pick(1, 5)).expect("small"),
            is_trivial: expand.is_none() && dice.chance(100),
            expand,
            ..TaskSpec::default()
        });
    }
    let spec = DagSpec {
        dag_id: DagId::from(format!("d{number}")),
        tasks,
        groups: Vec::new(),
        fail_fast,
        dagrun_timeout: dice
            .chance(100)
            .then_some(SignedDuration::from_hours(2))
            .filter(|_| !past),
        catchup: true,
        max_active_tasks: u32::try_from(dice.pick(1, 4)).expect("small"),
    };
    Dag {
        team,
        graph: Arc::new(RunGraph::new(spec).expect("a sound graph")),
        max_active_runs: u32::try_from(dice.pick(1, 3)).expect("small"),
        pool_counts_deferred: false,
    }
}
