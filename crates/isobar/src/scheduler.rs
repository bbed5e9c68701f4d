//! `isobar scheduler`: scheduling, dag-processors and executors, without the HTTP door. PostgreSQL only.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use isobar_auth::OrgScope;
use isobar_execution::Execution;
use isobar_scheduler::{Holder, Scheduler, Setting, StuckRule};
use isobar_store::{Store, StoreError, triggers};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api_server::{execution, follow_teams};
use crate::seeds;
use crate::setup::{self, Deployment};
use crate::team_side::TeamSides;

pub(crate) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = setup::load(file)?.config;
    crate::logging::start(config.logging.json);
    if config.database.is_sqlite() {
        bail!(
            "`scheduler` and `api-server` apart need PostgreSQL\n  hint: set `database.url`, or run `isobar standalone`"
        );
    }
    let deployment = setup::open(config).await?;
    let execution = execution(&deployment);
    follow_teams(&deployment);
    let working = Working::start(&deployment, &execution)?;
    crate::stop::requested().await;
    working.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// A scheduler at work, with the team sides that it serves.
pub(crate) struct Working {
    shutdown: CancellationToken,
    scheduling: tokio::task::JoinHandle<()>,
    sides: TeamSides,
}

impl Working {
    /// Starts both; nothing of it is waited for.
    pub(crate) fn start(deployment: &Deployment, execution: &Arc<Execution>) -> anyhow::Result<Self> {
        if let Err(error) = isobar_runtime::sandbox::hide_own_memory() {
            tracing::warn!(%error, "this process cannot hide its memory from others of its user");
        }
        let (again, meaning) = (deployment.clone(), Arc::clone(execution));
        tokio::spawn(async move { seeds::look_again(&again, &meaning).await });
        let (store, org) = (deployment.store.clone(), deployment.org.clone());
        let config = &deployment.config;
        // SQLite has one server at a time: nobody can die beside it.
        let beside = !config.database.is_sqlite();
        tokio::spawn(async move {
            loop {
                bury_triggerers(&store, &org).await;
                if !beside {
                    return;
                }
                tokio::time::sleep(LOOK_FOR_THE_DEAD).await;
            }
        });
        let (reports, reported) = mpsc::unbounded_channel();
        let teams = deployment.directory.all();
        let (sides, teams) = TeamSides::start(config, &teams, execution, deployment.store.signals(), &reports)?;
        let setting = Setting {
            org: deployment.org.clone(),
            master_key: deployment.master.clone(),
            holder: Holder::this_process(),
            alone: config.database.is_sqlite(),
            teams,
            parallelism: config.core.parallelism,
            makes_runs: config.scheduler.use_job_schedule,
            most_downstream_keys: config.scheduler.partition_mapper_max_downstream_keys,
            heartbeat_timeout: config.tasks.heartbeat_timeout,
            stuck: StuckRule {
                after: config.scheduler.task_queued_timeout,
                times: config.scheduler.num_stuck_in_queued_retries,
            },
            rendered_runs: config.core.num_dag_runs_to_retain_rendered_fields,
            lease: config.scheduler.lease,
            sweep_interval: config.scheduler.sweep_interval,
        };
        let scheduler = Scheduler::new(deployment.store.clone(), setting, reported);
        let shutdown = CancellationToken::new();
        let asked = shutdown.clone();
        let scheduling = tokio::spawn(async move {
            // The executors report as long as this lives.
            let _reports = reports;
            if let Err(error) = scheduler.run(asked).await {
                tracing::error!(%error, "the scheduler ended");
            }
        });
        Ok(Self {
            shutdown,
            scheduling,
            sides,
        })
    }

    /// Stops scheduling, then the tasks, then the zygotes.
    pub(crate) async fn stop(self) {
        tracing::info!("stopping");
        self.shutdown.cancel();
        let _ = self.scheduling.await;
        self.sides.stop().await;
    }
}

/// How often to look whether a server of this host was killed whose triggerers others could take over from.
const LOOK_FOR_THE_DEAD: Duration = Duration::from_secs(5);

/// Triggerers of a server of this host that was killed: their triggers need not wait until the heartbeats are old.
async fn bury_triggerers(store: &Store, org: &OrgScope) {
    let buried = async {
        let holders = triggers::holders(&mut store.read().await?, org).await?;
        if !holders.iter().any(|holder| Holder::is_dead(holder)) {
            return Ok(0);
        }
        let mut tx = store.begin().await?;
        let buried = triggers::bury(&mut tx, org, &Holder::is_dead).await?;
        tx.commit().await?;
        Ok::<_, StoreError>(buried)
    };
    match buried.await {
        Ok(0) => {}
        Ok(buried) => tracing::info!(buried, "triggers of a server that was killed are free again"),
        Err(error) => {
            tracing::warn!(%error, "dead triggerers could not be looked for; their triggers wait until they are found silent");
        }
    }
}
