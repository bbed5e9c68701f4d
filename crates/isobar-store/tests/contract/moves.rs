//! A Dag changes team: its schedule's position goes, its runs stay (rule 5).

use isobar_model::{DagId, RunState, TeamName};
use isobar_store::assets::partitions::{self, Arrival};
use isobar_store::dag_moves::{self, Moved, NotMoved};
use isobar_store::dags::{self, ParsedDag, ParsedFile};
use isobar_store::runs::{self, NewRun};
use isobar_store::{backfills, clearing, loading, teams};
use isobar_wire::agent::KnownFile;
use jiff::{SignedDuration, Timestamp};

use crate::ground::{Ground, now};
use isobar_config::Step;

const FILE: &str = "daily.py";

async fn two_teams(ground: &Ground) {
    let steps = ["alpha", "beta"].map(|name| Step::Create {
        name: TeamName::parse(name).unwrap(),
    });
    let mut tx = ground.store.begin().await.unwrap();
    teams::apply(&mut tx, &ground.org, &steps, now()).await.unwrap();
    tx.commit().await.unwrap();
}

fn daily() -> ParsedDag {
    ParsedDag {
        dag_id: "daily".into(),
        fileloc: FILE.to_owned(),
        paused_at_first: false,
        owners: String::new(),
        display_name: None,
        description: None,
        timetable_type: String::new(),
        timetable_summary: None,
        timetable_description: None,
        timetable_partitioned: false,
        timetable_periodic: false,
        asset_expression: None,
        max_active_tasks: 16,
        max_active_runs: 16,
        max_consecutive_failed_runs: 0,
        has_task_concurrency_limits: false,
        fail_fast: false,
        allowed_run_types: None,
        access_control: None,
        tags: Vec::new(),
        owner_links: Vec::new(),
        hash: "same".to_owned(),
        data: "{}".to_owned(),
        assets: Vec::new(),
        aliases: Vec::new(),
        references: Vec::new(),
        watchers: Vec::new(),
    }
}

async fn arrives(ground: &Ground, team: i32) {
    let file = ParsedFile {
        file: KnownFile {
            bundle: "dags-folder".to_owned(),
            rel_path: FILE.to_owned(),
            mtime_ns: 1,
            size: 1,
            fingerprint: String::new(),
        },
        source: String::new(),
        dags: vec![daily()],
        import_errors: Vec::new(),
        warnings: Vec::new(),
        held: None,
        parsed_at: now(),
        seconds: 0.1,
    };
    let mut tx = ground.store.begin().await.unwrap();
    dags::files_parsed(&mut tx, ground.team(team), &[file], now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn leaves(ground: &Ground, team: i32) {
    let mut tx = ground.store.begin().await.unwrap();
    let gone = [("dags-folder".to_owned(), FILE.to_owned())];
    dags::files_gone(&mut tx, ground.team(team), &gone, now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

/// A run that the timetable made.
async fn run(ground: &Ground, team: i32, date: Timestamp) {
    let mut new = NewRun::new(
        "daily".into(),
        format!("scheduled__{date}").into(),
        isobar_model::RunType::Scheduled,
        date,
    );
    new.logical_date = Some(date);
    new.interval = Some((date, date));
    let mut tx = ground.store.begin().await.unwrap();
    runs::insert(&mut tx, ground.team(team), &new, now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn moved(ground: &Ground, dag: &str, from: &str, to: &str) -> Result<Moved, NotMoved> {
    moved_or_forgotten(ground, dag, (from, to), false).await
}

async fn moved_or_forgotten(
    ground: &Ground,
    dag: &str,
    (from, to): (&str, &str),
    forget: bool,
) -> Result<Moved, NotMoved> {
    let mut tx = ground.store.begin().await.unwrap();
    let moved = dag_moves::move_dag(&mut tx, &ground.org, &dag.into(), (from, to), forget, "ops", now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    moved
}

contract!(a_schedule_goes_on_in_the_other_team_and_the_runs_stay, |ground| {
    two_teams(ground).await;
    let dag = DagId::from("daily");
    let no_team = NotMoved::NoTeam("gamma".to_owned());
    assert_eq!(moved(ground, "daily", "alpha", "gamma").await, Err(no_team));
    assert!(matches!(
        moved(ground, "daily", "alpha", "alpha").await,
        Err(NotMoved::SameTeam(_))
    ));
    assert!(matches!(
        moved(ground, "daily", "alpha", "beta").await,
        Err(NotMoved::NoDag { .. })
    ));
    arrives(ground, 1).await;
    assert!(matches!(
        moved(ground, "daily", "alpha", "beta").await,
        Err(NotMoved::StillThere { .. })
    ));
    let last = now() - SignedDuration::from_hours(24);
    run(ground, 1, last - SignedDuration::from_hours(24)).await;
    run(ground, 1, last).await;
    assert!(matches!(
        moved(ground, "daily", "alpha", "beta").await,
        Err(NotMoved::RunsActive { count: 2, .. })
    ));
    let mut tx = ground.store.begin().await.unwrap();
    let known = [(&dag, "same")].into();
    let left = dag_moves::left_elsewhere(&mut tx, &ground.org, ground.team(2), &known)
        .await
        .unwrap();
    assert!(left.is_empty(), "it is still there");
    drop(tx);
    end_runs(ground, 1).await;
    leaves(ground, 1).await;
    assert!(matches!(
        moved(ground, "daily", "alpha", "beta").await,
        Err(NotMoved::NotArrived { .. })
    ));
    let mut tx = ground.store.begin().await.unwrap();
    let left = dag_moves::left_elsewhere(&mut tx, &ground.org, ground.team(2), &known)
        .await
        .unwrap();
    assert_eq!(left, [dag.clone()].into(), "it arrives paused");
    drop(tx);
    arrives(ground, 2).await;
    let done = moved(ground, "daily", "alpha", "beta").await.unwrap();
    assert!(!done.paused);
    assert_eq!(done.position.as_ref().unwrap().logical_date, Some(last));

    let mut tx = ground.store.begin().await.unwrap();
    let carried = dag_moves::carried(&mut tx, ground.team(2), &dag).await.unwrap();
    assert_eq!(carried, done.position);
    let stays = loading::last_automated(&mut tx, ground.team(1), &dag, false)
        .await
        .unwrap();
    assert_eq!(stays.unwrap().logical_date, Some(last), "runs stay with their team");
    assert!(
        loading::last_automated(&mut tx, ground.team(2), &dag, false)
            .await
            .unwrap()
            .is_none()
    );
    let row = loading::dag(&mut tx, ground.team(1), &dag).await.unwrap().unwrap();
    assert!(row.is_paused, "what stays behind is paused");
    drop(tx);

    run(ground, 2, now()).await;
    end_runs(ground, 2).await;
    // And back again: the first team has a history of its own.
    leaves(ground, 2).await;
    arrives(ground, 1).await;
    assert!(matches!(
        moved(ground, "daily", "beta", "alpha").await,
        Err(NotMoved::HasHistory { count: 2, .. })
    ));
});

contract!(what_waits_for_a_dag_that_moves_is_not_left_without_a_word, |ground| {
    two_teams(ground).await;
    let dag = DagId::from("daily");
    arrives(ground, 1).await;
    leaves(ground, 1).await;
    arrives(ground, 2).await;
    let open = backfills::NewBackfill {
        dag_id: dag.clone(),
        from_date: now(),
        to_date: now(),
        conf: serde_json::Value::Null,
        reprocess: isobar_model::Reprocess::None,
        max_active_runs: 1,
        triggering_user: "ops".to_owned(),
    };
    let mut tx = ground.store.begin().await.unwrap();
    let id = backfills::create(&mut tx, ground.team(1), &open, now())
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    let refused = moved(ground, "daily", "alpha", "beta").await.unwrap_err();
    assert!(
        matches!(&refused, NotMoved::BackfillOpen { id: named, .. } if *named == id),
        "{refused}"
    );

    let arrival = Arrival {
        producer: isobar_model::TeamId(1),
        event_id: 1,
        asset_id: 1,
        name: "a".to_owned(),
        uri: "a".to_owned(),
        key: "k".to_owned(),
        date: None,
    };
    let mut tx = ground.store.begin().await.unwrap();
    assert!(
        backfills::end_if_done(&mut tx, ground.team(1), id, now())
            .await
            .unwrap()
    );
    for key in ["k", "l"] {
        let rules = serde_json::Value::Null;
        partitions::file(&mut tx, ground.team(1), &dag, &arrival, key, None, &rules, now())
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let refused = moved(ground, "daily", "alpha", "beta").await.unwrap_err();
    assert!(matches!(&refused, NotMoved::EventsWait { count: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("--forget-events"));
    moved_or_forgotten(ground, "daily", ("alpha", "beta"), true)
        .await
        .unwrap();
    let mut tx = ground.store.begin().await.unwrap();
    assert!(
        partitions::pending(&mut tx, ground.team(1), &dag)
            .await
            .unwrap()
            .is_empty()
    );
});

async fn end_runs(ground: &Ground, team: i32) {
    let scope = ground.team(team);
    let mut tx = ground.store.begin().await.unwrap();
    let active = loading::active_runs_of(&mut tx, scope, &"daily".into()).await.unwrap();
    for run in active {
        clearing::set_run_state(
            &mut tx,
            scope,
            &run.key(),
            RunState::Success,
            &|_| false,
            Some("ops"),
            now(),
        )
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
}
