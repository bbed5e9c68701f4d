//! A scheduler in one function: a queued task, as a worker would get it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part; a test ends where something fails"
)]

use std::time::Duration;

use isobar_model::{RunKey, RunType, TaskKey, TeamName};
use isobar_store::runs::NewRun;
use isobar_store::transitions::{PlanOutcome, PlannedRun, QueueTask, ReadyTask, commit_plans};
use isobar_store::{dags, leases};
use isobar_wire::execution::TaskIdentity;
use jiff::Timestamp;

use crate::support::World;

/// A queued task of a team's Dag `rest_plain`.
pub async fn queued(world: &World, team: &str, run_id: &str) -> TaskIdentity {
    let team_id = world.team(team);
    let scope = world.org.team(team_id);
    let now = Timestamp::now();
    let mut tx = world.state.store.begin().await.unwrap();
    let head = dags::head(&mut tx, scope, "rest_plain").await.unwrap().unwrap();
    let new = NewRun {
        version_id: head.current_version_id,
        ..NewRun::new("rest_plain".into(), run_id.into(), RunType::Manual, now)
    };
    let run = world
        .execution
        .new_runs()
        .create(&mut tx, scope, &new, now)
        .await
        .unwrap();
    let lease = leases::acquire(&mut tx, &world.org, "scheduler", "test", Duration::from_secs(60), now)
        .await
        .unwrap()
        .unwrap();
    let key = TaskKey {
        task_id: "a".into(),
        map_index: -1,
    };
    let mut plan = PlannedRun::new(
        team_id,
        RunKey {
            dag_id: run.dag_id.clone(),
            run_id: run.run_id.clone(),
        },
        run.rev,
    );
    plan.ready.push(ReadyTask {
        key: key.clone(),
        from: None,
        next_try: true,
    });
    plan.queue.push(QueueTask { key });
    let outcomes = commit_plans(&mut tx, &world.org, &lease, &[plan], now).await.unwrap();
    tx.commit().await.unwrap();
    let PlanOutcome::Committed { queued, .. } = &outcomes[0] else {
        panic!("conflict")
    };
    TaskIdentity {
        team: team_id,
        team_name: TeamName::from_stored(team.to_owned()),
        dag_id: run.dag_id,
        run_id: run.run_id,
        task_id: "a".into(),
        map_index: -1,
        try_number: queued[0].try_number,
        ti_id: queued[0].ti_id,
        dispatch: queued[0].dispatch,
    }
}
