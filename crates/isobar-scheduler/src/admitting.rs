//! Admission: what it is told of teams, pools, executors and candidates, and what it lets through.

use std::collections::HashSet;
use std::sync::Arc;

use isobar_engine::admission::{
    Candidate, DagLimits, Event, ExecutorKey, ExecutorSlots, PoolKey, PoolLimits, TeamShare,
};
use isobar_engine::graph::TaskNo;
use isobar_model::{TaskKey, TaskState, TeamId};
use isobar_store::StoreError;
use isobar_store::loading::ScheduledDag;
use isobar_store::pools::{self, Pool};
use isobar_store::transitions::QueueTask;

use crate::memory::{LiveRun, Memory, RunRef};
use crate::pass::Pass;
use crate::setting::Setting;

/// Whether admission goes on knowing an instance in this state.
pub(crate) fn stays_known(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Scheduled
            | TaskState::Queued
            | TaskState::Running
            | TaskState::Restarting
            | TaskState::Deferred
            | TaskState::AwaitingInput
    )
}

/// Whether an instance in this state may take slots.
pub(crate) fn holds(state: TaskState) -> bool {
    stays_known(state) && state != TaskState::Scheduled
}

/// What admission is told of the configuration.
pub(crate) fn standing(setting: &Setting) -> Vec<Event> {
    let shares = setting
        .teams
        .iter()
        .map(|(team, setting)| TeamShare {
            team: *team,
            weight: setting.config.weight.max(1),
            guaranteed: setting.config.guaranteed,
            max_running: setting.config.max_running,
        })
        .collect();
    let executors = setting
        .teams
        .iter()
        .flat_map(|(team, setting)| {
            setting.executors.iter().map(|(name, executor)| ExecutorSlots {
                executor: ExecutorKey {
                    owner: Some(*team),
                    name: name.clone(),
                },
                slots: executor.slots(),
            })
        })
        .collect();
    vec![
        Event::Parallelism(Some(setting.parallelism)),
        Event::Teams(shares),
        Event::Executors(executors),
    ]
}

/// A Dag's limits.
pub(crate) fn limits(dag: &ScheduledDag) -> DagLimits {
    DagLimits {
        dag: isobar_engine::admission::DagKey {
            team: dag.team,
            dag_id: dag.dag_id.clone(),
        },
        max_active_tasks: u32::try_from(dag.max_active_tasks).unwrap_or(u32::MAX),
        paused: dag.holds_back(),
    }
}

/// The candidate of an instance; none where its executor does not exist in the team.
pub(crate) fn candidate(
    setting: &Setting,
    pools: &HashSet<(TeamId, String)>,
    live: &LiveRun,
    run: &RunRef,
    key: &TaskKey,
    task: TaskNo,
) -> Option<Candidate> {
    let spec = live.version.graph.task(task);
    let shape = live.shapes.known.get(key);
    let executor = shape.map_or(spec.executor.as_deref(), |shape| shape.executor.as_deref());
    Some(Candidate {
        key: run.instance(key.clone()),
        pool: setting.pool_of(pools, run.team, shape.map_or(&spec.pool, |shape| &shape.pool)),
        pool_slots: shape.map_or(spec.pool_slots, |shape| u32::try_from(shape.pool_slots).unwrap_or(1)),
        executor: setting.executor_of(run.team, executor)?,
        priority_weight: shape.map_or(spec.priority_weight, |shape| i64::from(shape.priority_weight)),
        date: live.row.logical_date.unwrap_or(live.row.run_after),
        max_active_tis_per_dag: spec.max_active_tis_per_dag,
        max_active_tis_per_dagrun: spec.max_active_tis_per_dagrun,
    })
}

fn pool_limits(setting: &Setting, pool: &Pool) -> Option<PoolLimits> {
    // Pools of teams that this scheduler does not serve, and those that the team shares instead, admit nothing.
    let shared = pool.team == TeamId::SHARED;
    let served = setting.teams.contains_key(&pool.team) && !setting.shares(pool.team, &pool.name);
    (shared || served).then(|| PoolLimits {
        pool: PoolKey {
            owner: (!shared).then_some(pool.team),
            name: pool.name.clone(),
        },
        slots: pool.slots,
        include_deferred: pool.include_deferred,
    })
}

impl Pass<'_> {
    /// Tells admission of all pools as they are now.
    pub(crate) async fn load_pools(&mut self) -> Result<(), StoreError> {
        let pools = pools::all(self.tx, &self.setting.org).await?;
        let mut limits: Vec<PoolLimits> = pools
            .iter()
            .filter_map(|pool| pool_limits(self.setting, pool))
            .collect();
        let is_shared_default =
            |limits: &PoolLimits| limits.pool.owner.is_none() && limits.pool.name == pools::DEFAULT_POOL;
        let wanted = self
            .setting
            .teams
            .keys()
            .any(|team| self.setting.shares(*team, pools::DEFAULT_POOL));
        if wanted && !limits.iter().any(is_shared_default) {
            // Nobody declared it: one pool for all who share it, as large as the largest of theirs.
            let slots = pools
                .iter()
                .filter(|pool| pool.name == pools::DEFAULT_POOL)
                .map(|pool| pool.slots)
                .max();
            limits.push(PoolLimits {
                pool: PoolKey {
                    owner: None,
                    name: pools::DEFAULT_POOL.to_owned(),
                },
                slots: slots.unwrap_or(128),
                include_deferred: false,
            });
        }
        self.memory.pools = pools.into_iter().map(|pool| (pool.team, pool.name)).collect();
        self.admission.limits(Event::Pools(limits));
        Ok(())
    }

    /// Tells admission that a pool may have gone.
    pub(crate) async fn reload_pool(&mut self, team: TeamId, name: &str) -> Result<(), StoreError> {
        if pools::get(self.tx, self.setting.org.team(team), name).await?.is_none() {
            self.admission.limits(Event::PoolsDeleted(vec![PoolKey {
                owner: (team != TeamId::SHARED).then_some(team),
                name: name.to_owned(),
            }]));
        }
        self.load_pools().await
    }

    /// Lets admission choose, and plans what it chose.
    pub(crate) fn admit(&mut self) {
        for candidate in self.admission.tell(&mut self.memory.admission) {
            let run = RunRef {
                team: candidate.key.dag.team,
                key: isobar_model::RunKey {
                    dag_id: candidate.key.dag.dag_id.clone(),
                    run_id: candidate.key.run_id.clone(),
                },
            };
            if self.memory.runs.contains_key(&run) {
                self.plan(&run).queue.push(QueueTask {
                    key: candidate.key.task,
                });
            }
        }
    }

    /// A candidate for admission; a task whose executor does not exist in its team fails, and says so in the log.
    pub(crate) fn offer(&mut self, run: &RunRef, key: &TaskKey) -> Option<Candidate> {
        let Memory { runs, pools, .. } = &mut *self.memory;
        let live = runs.get_mut(run)?;
        let task = live.version.graph.find(&key.task_id)?;
        let version = Arc::clone(&live.version);
        let candidate = candidate(self.setting, pools, live, run, key, task);
        if candidate.is_none() {
            tracing::error!(
                team = %run.team, dag = %run.key.dag_id, run = %run.key.run_id, task = %key.task_id,
                executor = version.graph.task(task).executor.as_deref().unwrap_or("(first of the team)"),
                "the task names an executor that its team does not have; hint: list it in the team's `[[team.executor]]`"
            );
            return None;
        }
        live.admitted.insert(key.clone());
        candidate
    }
}
