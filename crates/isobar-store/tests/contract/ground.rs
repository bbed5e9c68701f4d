//! A fresh store of either kind, with two teams.

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::{Dispatch, RunKey, RunType, TaskKey, TeamId, TeamName, UNMAPPED};
use isobar_store::leases::{self, Lease};
use isobar_store::runs::{self, NewRun, Run};
use isobar_store::task_instances::{self, NewTaskInstance};
use isobar_store::transitions::{PlanOutcome, PlannedRun, QueueTask, ReadyTask, RunUpdate, commit_plans};
use isobar_store::{Store, migrate};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

/// One test on both databases.
macro_rules! contract {
    ($name:ident, |$ground:ident| $body:block) => {
        mod $name {
            use super::*;

            async fn promise($ground: &$crate::ground::Ground) $body

            #[tokio::test]
            async fn on_sqlite() {
                let ground = $crate::ground::Ground::sqlite().await;
                promise(&ground).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                let Some(ground) = $crate::ground::Ground::postgres().await else { return };
                promise(&ground).await;
            }
        }
    };
}

pub struct Ground {
    pub store: Store,
    pub org: OrgScope,
    _folder: Option<tempfile::TempDir>,
}

impl Ground {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("isobar.db").display());
        Self::migrated(&url, Some(folder)).await
    }

    /// A schema of its own in the database that `ISOBAR_TEST_POSTGRES` names.
    pub async fn postgres() -> Option<Self> {
        let url = std::env::var("ISOBAR_TEST_POSTGRES").ok()?;
        let schema = format!("contract_{}", uuid::Uuid::new_v4().simple());
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
        let separator = if url.contains('?') { '&' } else { '?' };
        Some(Self::migrated(&format!("{url}{separator}options=-c%20search_path%3D{schema}"), None).await)
    }

    async fn migrated(url: &str, folder: Option<tempfile::TempDir>) -> Self {
        let org = OrgScope::at_process_start();
        let store = Store::open(url).await.unwrap();
        migrate::migrate(&store, &org).await.unwrap();
        Self {
            store,
            org,
            _folder: folder,
        }
    }

    pub fn team(&self, number: i32) -> TeamScope {
        self.org.team(TeamId(number))
    }

    /// A run, queued, with these tasks, none of which has a state.
    pub async fn run(&self, team: i32, dag: &str, run: &str, tasks: &[&str]) -> Run {
        let scope = self.team(team);
        let mut tx = self.store.begin().await.unwrap();
        let new = NewRun::new(dag.into(), run.into(), RunType::Manual, now());
        let run = runs::insert(&mut tx, scope, &new, now()).await.unwrap();
        let instances: Vec<NewTaskInstance> = tasks.iter().map(|task| new_instance(task)).collect();
        task_instances::insert(&mut tx, scope, &run.key(), &instances, now())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        run
    }

    pub async fn lease(&self) -> Lease {
        let mut tx = self.store.begin().await.unwrap();
        let lease = leases::acquire(
            &mut tx,
            &self.org,
            "scheduler",
            "one",
            std::time::Duration::from_secs(60),
            now(),
        )
        .await
        .unwrap()
        .unwrap();
        tx.commit().await.unwrap();
        lease
    }

    /// Starts a run and queues a task of it; answers its identity.
    pub async fn queued(&self, team: i32, dag: &str, run: &str, task: &str) -> TaskIdentity {
        let run = self.run(team, dag, run, &[task]).await;
        let lease = self.lease().await;
        let mut plan = PlannedRun::new(TeamId(team), run.key(), run.rev);
        plan.run = Some(RunUpdate {
            state: isobar_model::RunState::Running,
            start_date: Some(now()),
            end_date: None,
            why_ended: None,
        });
        plan.ready.push(ReadyTask {
            key: key(task),
            from: None,
            next_try: true,
        });
        plan.queue.push(QueueTask { key: key(task) });
        let mut tx = self.store.begin().await.unwrap();
        let outcomes = commit_plans(&mut tx, &self.org, &lease, &[plan], now()).await.unwrap();
        tx.commit().await.unwrap();
        let PlanOutcome::Committed { queued, .. } = &outcomes[0] else {
            panic!("nobody else touches the run");
        };
        TaskIdentity {
            team: TeamId(team),
            team_name: TeamName::default_team(),
            dag_id: dag.into(),
            run_id: run.run_id,
            task_id: task.into(),
            map_index: UNMAPPED,
            try_number: queued[0].try_number,
            ti_id: queued[0].ti_id,
            dispatch: queued[0].dispatch,
        }
    }
}

pub fn now() -> Timestamp {
    // The store keeps microseconds.
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

pub fn key(task: &str) -> TaskKey {
    TaskKey {
        task_id: task.into(),
        map_index: UNMAPPED,
    }
}

pub fn run_key(identity: &TaskIdentity) -> RunKey {
    RunKey {
        dag_id: identity.dag_id.clone(),
        run_id: identity.run_id.clone(),
    }
}

pub fn new_instance(task: &str) -> NewTaskInstance {
    NewTaskInstance {
        key: key(task),
        max_tries: 1,
        pool: "default_pool".to_owned(),
        pool_slots: 1,
        queue: "default".to_owned(),
        priority_weight: 1,
        operator: "PythonOperator".to_owned(),
        custom_operator_name: None,
        display_name: None,
        executor: None,
        executor_config: None,
        dag_version_id: None,
    }
}

/// The same task under an older handing-out.
pub fn older(identity: &TaskIdentity) -> TaskIdentity {
    TaskIdentity {
        dispatch: Dispatch(identity.dispatch.0 - 1),
        ..identity.clone()
    }
}
