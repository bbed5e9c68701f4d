//! What a scheduler is started with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use isobar_auth::{MasterKey, OrgScope};
use isobar_config::{DefaultPool, Team};
use isobar_engine::admission::{ExecutorKey, PoolKey};
use isobar_executors::Executor;
use isobar_model::{TeamId, TeamName};
use isobar_store::pools::DEFAULT_POOL;

use crate::holder::Holder;
use crate::losses::StuckRule;

/// What a scheduler is started with.
pub struct Setting {
    /// The organisation's scope, made at process start.
    pub org: OrgScope,
    /// Opens what is sealed: deadlines may be as long as a variable says.
    pub master_key: MasterKey,
    /// This process, for leases.
    pub holder: Holder,
    /// No other process can schedule on this database (SQLite): leases need no renewing and are taken at once.
    pub alone: bool,
    /// The active teams.
    pub teams: HashMap<TeamId, TeamSetting>,
    /// `core.parallelism`
    pub parallelism: u32,
    /// `scheduler.use_job_schedule`: runs are made by schedule and by assets.
    pub makes_runs: bool,
    /// `scheduler.partition_mapper_max_downstream_keys`
    pub most_downstream_keys: u32,
    /// A running task without a heartbeat for so long is lost.
    pub heartbeat_timeout: Duration,
    /// What becomes of queued tasks that do not begin.
    pub stuck: StuckRule,
    /// `core.num_dag_runs_to_retain_rendered_fields`; zero keeps all.
    pub rendered_runs: u32,
    /// How long a lease lasts unless renewed.
    pub lease: Duration,
    /// How often to look for what no event told.
    pub sweep_interval: Duration,
}

/// One team, as scheduling sees it.
pub struct TeamSetting {
    /// Its name.
    pub name: TeamName,
    /// Its configuration.
    pub config: Team,
    /// Its executors by instance name.
    pub executors: HashMap<String, Arc<dyn Executor>>,
}

impl Setting {
    /// The executor that a task's `executor=` means inside its team (rule 10); none where the team has no such one.
    pub(crate) fn executor_of(&self, team: TeamId, named: Option<&str>) -> Option<ExecutorKey> {
        let config = &self.teams.get(&team)?.config;
        let executor = match named {
            Some(name) => config.executor(name)?,
            None => config.executors.first()?,
        };
        Some(ExecutorKey {
            owner: Some(team),
            name: executor.name.clone(),
        })
    }

    /// The pool that a task's `pool=` means inside its team (rule 18): the team's own, else a shared one. `exist` holds
    /// owner and name of the pools there are.
    pub(crate) fn pool_of(&self, exist: &HashSet<(TeamId, String)>, team: TeamId, named: &str) -> PoolKey {
        let there = |owner: TeamId| exist.contains(&(owner, named.to_owned()));
        let shared = self.shares(team, named) || (!there(team) && there(TeamId::SHARED));
        PoolKey {
            owner: (!shared).then_some(team),
            name: named.to_owned(),
        }
    }

    /// Whether the team says `default_pool = "shared"` and this is that pool.
    pub(crate) fn shares(&self, team: TeamId, named: &str) -> bool {
        named == DEFAULT_POOL
            && self
                .teams
                .get(&team)
                .is_some_and(|team| team.config.default_pool == DefaultPool::Shared)
    }

    /// The executor behind a key.
    pub(crate) fn executor(&self, key: &ExecutorKey) -> Option<&Arc<dyn Executor>> {
        self.teams.get(&key.owner?)?.executors.get(&key.name)
    }
}
