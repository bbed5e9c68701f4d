//! The plan of a Dag, event by event, with the real timetables; and years of it in a moment.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Arc;

use isobar_engine::dagplan::{
    ActiveRun, AssetTrigger, BackfillLimits, Command, DagFacts, DagPlan, DagSnapshot, Event, Next, NextRun, NextSaid,
    Restriction, RunIdPlan, Schedule, ScheduleProblem,
};
use isobar_engine::timetable::Timetable;
use isobar_model::dag::SerializedDag;
use isobar_model::{RunId, RunState, RunType};
use jiff::Timestamp;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn timetable(cron: &str) -> Arc<Timetable> {
    let dag = SerializedDag::read(serde_json::json!({"__version": 3, "dag": {
        "dag_id": "d", "fileloc": "/d.py", "timezone": "UTC", "tasks": [],
        "timetable": {"__type": "airflow.timetables.interval.CronDataIntervalTimetable",
                      "__var": {"expression": cron, "timezone": "UTC"}},
    }}))
    .unwrap();
    Arc::new(Timetable::from_model(&dag.timetable).unwrap())
}

fn facts(catchup: bool) -> DagFacts {
    DagFacts {
        paused: false,
        stale: false,
        has_import_errors: false,
        makes_runs: true,
        max_active_runs: 2,
        max_consecutive_failed_dag_runs: 0,
        allowed_run_types: None,
        within: Restriction {
            earliest: Some(at("2026-01-01T00:00:00Z")),
            latest: None,
            catchup,
        },
        schedule: Some(timetable("0 0 * * *")),
    }
}

fn snapshot(dag: DagFacts) -> DagSnapshot {
    DagSnapshot {
        dag,
        next: None,
        last_automated: None,
        active: Vec::new(),
        backfills: Vec::new(),
        assets: None,
    }
}

fn run(id: &str, run_type: RunType, state: RunState) -> ActiveRun {
    ActiveRun {
        run_id: RunId::from(id),
        run_type,
        state,
        run_after: at("2026-01-02T00:00:00Z"),
        logical_date: Some(at("2026-01-01T00:00:00Z")),
        backfill: None,
        last_scheduling_decision: None,
    }
}

fn scheduled(day: u32, state: RunState) -> ActiveRun {
    let due = format!("2026-01-{:02}T00:00:00Z", day + 1);
    ActiveRun {
        run_after: at(&due),
        logical_date: Some(at(&format!("2026-01-{day:02}T00:00:00Z"))),
        ..run(
            &format!("scheduled__2026-01-{:02}T00:00:00+00:00", day + 1),
            RunType::Scheduled,
            state,
        )
    }
}

/// Commands in a few words.
fn words(commands: &[Command]) -> Vec<String> {
    commands
        .iter()
        .map(|command| match command {
            Command::CreateRun(new) => match &new.run_id {
                RunIdPlan::Exact(id) => format!("create {id}"),
                RunIdPlan::WithRandomTail(start) => format!("create {start}*"),
            },
            Command::SetNext(fields) => match &fields.next {
                Some(next) => format!("next {}", next.run_after.strftime("%m-%d")),
                None => "next never".to_owned(),
            },
            Command::StartRun(started) => format!("start {}", started.run_id),
            Command::Pause(why) => format!("pause {why:?}"),
            Command::WakeAt(time) => format!("wake {}", time.strftime("%m-%d")),
            Command::AskNextRun { .. } => "ask".to_owned(),
            Command::ScheduleBroken(why) => format!("broken: {why}"),
        })
        .collect()
}

fn load(given: DagSnapshot, now: &str) -> (DagPlan, Vec<String>) {
    let mut out = Vec::new();
    let plan = DagPlan::load(given, at(now), &mut out);
    (plan, words(&out))
}

fn step(plan: &mut DagPlan, event: Event, now: &str) -> Vec<String> {
    let mut out = Vec::new();
    plan.step(event, at(now), &mut out);
    words(&out)
}

#[test]
fn runs_missed_are_made_up_for_two_at_a_time() {
    let now = "2026-01-10T06:00:00Z";
    let (mut plan, commands) = load(snapshot(facts(true)), now);
    assert_eq!(
        commands,
        [
            "next 01-02",
            "create scheduled__2026-01-02T00:00:00+00:00",
            "next 01-03",
            "create scheduled__2026-01-03T00:00:00+00:00",
            "next 01-04"
        ]
    );
    let started = step(&mut plan, Event::RunChanged(scheduled(1, RunState::Queued)), now);
    assert_eq!(started, ["start scheduled__2026-01-02T00:00:00+00:00"]);
    step(&mut plan, Event::RunChanged(scheduled(2, RunState::Queued)), now);
    let after = step(&mut plan, Event::RunChanged(scheduled(1, RunState::Success)), now);
    assert_eq!(after, ["create scheduled__2026-01-04T00:00:00+00:00", "next 01-05"]);
}

#[test]
fn without_catchup_only_the_latest_interval_is_made() {
    let (_, commands) = load(snapshot(facts(false)), "2026-01-10T06:00:00Z");
    assert_eq!(
        commands,
        [
            "next 01-10",
            "create scheduled__2026-01-10T00:00:00+00:00",
            "next 01-11",
            "wake 01-11"
        ]
    );
}

#[test]
fn a_paused_dag_knows_its_next_run_and_makes_none() {
    let mut paused = facts(false);
    paused.paused = true;
    let (mut plan, commands) = load(snapshot(paused), "2026-01-10T06:00:00Z");
    assert_eq!(commands, ["next 01-10"]);
    let unpaused = Event::DagChanged {
        dag: facts(false),
        reschedule: false,
        last_automated: None,
    };
    let commands = step(&mut plan, unpaused, "2026-01-10T07:00:00Z");
    assert_eq!(commands[0], "create scheduled__2026-01-10T00:00:00+00:00");
}

/// A timetable that only Python can evaluate.
#[derive(Debug)]
struct Custom(serde_json::Value);

impl Schedule for Custom {
    fn next(&self, _: Option<&NextRun>, _: &Restriction, _: Timestamp) -> Result<Next, ScheduleProblem> {
        Ok(Next::Ask)
    }

    fn question(&self) -> Option<&serde_json::Value> {
        Some(&self.0)
    }
}

fn said(days: std::ops::RangeInclusive<u32>) -> Event {
    let one = |day: u32| {
        let at = |day: u32| at(&format!("2026-01-{day:02}T00:00:00Z"));
        NextSaid {
            next: Some(NextRun {
                run_after: at(day + 1),
                data_interval: Some((at(day), at(day + 1))),
                partition_key: None,
                partition_date: None,
            }),
            run_id: Some(RunId::from(format!("day-{day}"))),
        }
    };
    Event::Answered(days.map(one).collect())
}

fn of_day(day: u32, state: RunState) -> Event {
    Event::RunChanged(ActiveRun {
        run_id: RunId::from(format!("day-{day}")),
        ..scheduled(day, state)
    })
}

#[test]
fn python_is_asked_once_for_many_runs_and_again_when_a_minute_has_passed() {
    let now = "2026-01-10T06:00:00Z";
    let mut custom = facts(true);
    custom.schedule = Some(Arc::new(Custom(serde_json::json!({}))));
    let (mut plan, commands) = load(snapshot(custom), now);
    assert_eq!(commands, ["ask"]);
    let made = step(&mut plan, said(1..=5), now);
    assert_eq!(
        made,
        ["next 01-02", "create day-1", "next 01-03", "create day-2", "next 01-04"]
    );
    step(&mut plan, of_day(1, RunState::Running), now);
    step(&mut plan, of_day(2, RunState::Running), now);
    let on = step(&mut plan, of_day(1, RunState::Success), now);
    assert_eq!(on, ["create day-3", "next 01-05"]);
    step(&mut plan, of_day(3, RunState::Running), now);
    // The run that is next stays; what follows it is asked anew.
    let later = step(&mut plan, of_day(2, RunState::Success), "2026-01-10T06:02:00Z");
    assert_eq!(later, ["create day-4", "ask"]);
    let answered = step(&mut plan, said(5..=6), "2026-01-10T06:02:01Z");
    assert_eq!(answered, ["next 01-06"]);
}

#[test]
fn where_no_runs_are_made_the_next_is_known_and_those_of_clients_start() {
    let mut idle = facts(false);
    idle.makes_runs = false;
    let mut given = snapshot(idle);
    given.assets = Some(AssetTrigger {
        triggered_at: at("2026-01-10T05:00:00Z"),
    });
    let (mut plan, commands) = load(given, "2026-01-10T06:00:00Z");
    assert_eq!(commands, ["next 01-10"]);
    let by_hand = run("by_hand", RunType::Manual, RunState::Queued);
    let started = step(&mut plan, Event::RunChanged(by_hand), "2026-01-10T06:00:00Z");
    assert_eq!(started, ["start by_hand"]);
}

#[test]
fn runs_made_by_hand_wait_queued_for_their_turn() {
    let mut given = snapshot(DagFacts {
        schedule: None,
        ..facts(false)
    });
    given.active = vec![
        run("one", RunType::Manual, RunState::Running),
        run("two", RunType::Manual, RunState::Running),
        run("three", RunType::Manual, RunState::Queued),
    ];
    let now = "2026-01-10T00:00:00Z";
    let (mut plan, commands) = load(given, now);
    assert_eq!(commands, [""; 0]);
    let commands = step(
        &mut plan,
        Event::RunChanged(run("one", RunType::Manual, RunState::Failed)),
        now,
    );
    assert_eq!(commands, ["start three"]);
}

#[test]
fn a_run_that_a_client_made_already_is_passed_over() {
    let now = "2026-01-02T06:00:00Z";
    let (mut plan, commands) = load(snapshot(facts(true)), now);
    assert_eq!(
        commands,
        [
            "next 01-02",
            "create scheduled__2026-01-02T00:00:00+00:00",
            "next 01-03",
            "wake 01-03"
        ]
    );
    let there = NextRun {
        run_after: at("2026-01-02T00:00:00Z"),
        data_interval: Some((at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"))),
        partition_key: None,
        partition_date: None,
    };
    assert_eq!(step(&mut plan, Event::AlreadyThere(there), now), [""; 0]);
    let next = step(&mut plan, Event::Timer, "2026-01-04T00:00:00Z");
    assert_eq!(
        next.iter().filter(|word| word.starts_with("create")).count(),
        2,
        "room for two: {next:?}"
    );
}

#[test]
fn assets_make_a_run_when_there_is_room() {
    let mut given = snapshot(DagFacts {
        schedule: None,
        max_active_runs: 1,
        ..facts(false)
    });
    given.active = vec![run("one", RunType::Manual, RunState::Running)];
    let now = "2026-01-10T00:00:00Z";
    let (mut plan, _) = load(given, now);
    let trigger = AssetTrigger {
        triggered_at: at("2026-01-09T01:02:03.5Z"),
    };
    assert_eq!(step(&mut plan, Event::Assets(Some(trigger)), now), [""; 0]);
    let commands = step(
        &mut plan,
        Event::RunChanged(run("one", RunType::Manual, RunState::Success)),
        now,
    );
    assert_eq!(commands, ["create asset_triggered__2026-01-09T01:02:03.500000+00:00_*"]);
    assert_eq!(step(&mut plan, Event::Timer, now), [""; 0], "once");
}

#[test]
fn a_backfill_has_its_own_limit_and_its_own_order() {
    let mut given = snapshot(DagFacts {
        schedule: None,
        ..facts(false)
    });
    let part = |id: &str, place| ActiveRun {
        backfill: Some((7, place)),
        ..run(id, RunType::Backfill, RunState::Queued)
    };
    given.active = vec![
        run("a", RunType::Manual, RunState::Running),
        run("b", RunType::Manual, RunState::Running),
        part("y", 2),
        part("z", 1),
    ];
    let limits = |paused| BackfillLimits {
        id: 7,
        max_active_runs: 1,
        paused,
    };
    given.backfills = vec![limits(true)];
    let now = "2026-01-10T00:00:00Z";
    let (mut plan, commands) = load(given, now);
    assert_eq!(commands, [""; 0]);
    assert_eq!(step(&mut plan, Event::Backfill(limits(false)), now), ["start z"]);
}

#[test]
fn too_many_failures_in_a_row_pause_the_dag() {
    let strict = DagFacts {
        max_consecutive_failed_dag_runs: 2,
        ..facts(false)
    };
    let now = "2026-01-10T06:00:00Z";
    let (mut plan, _) = load(snapshot(strict), now);
    let failed = |latest: Vec<RunState>| Event::RunFailed { latest };
    assert_eq!(step(&mut plan, failed(vec![RunState::Failed]), now), [""; 0]);
    assert_eq!(
        step(&mut plan, failed(vec![RunState::Failed, RunState::Success]), now),
        [""; 0]
    );
    let commands = step(&mut plan, failed(vec![RunState::Failed, RunState::Failed]), now);
    assert_eq!(commands, ["pause ConsecutiveFailures(2)"]);
    let later = step(&mut plan, Event::Timer, "2026-01-12T06:00:00Z");
    assert_eq!(later, [""; 0]);
}

/// Three years of an hourly Dag whose runs take between nothing and ten hours: every interval gets one run, in order, and never do
/// more run than may.
#[test]
fn three_years_of_an_hourly_dag_pass_in_a_moment() {
    let hourly = DagFacts {
        schedule: Some(timetable("30 * * * *")),
        max_active_runs: 3,
        ..facts(true)
    };
    let mut out = Vec::new();
    let mut now = at("2026-01-01T00:00:00Z");
    let end = at("2029-01-01T00:00:00Z");
    let mut plan = DagPlan::load(snapshot(hourly), now, &mut out);
    let mut made = BTreeSet::new();
    let mut running: Vec<(Timestamp, ActiveRun)> = Vec::new();
    let mut wakes = BTreeSet::new();
    let mut seed = 7_u64;
    let mut known = std::collections::HashMap::new();
    while now < end {
        for command in std::mem::take(&mut out) {
            match command {
                Command::CreateRun(new) => {
                    let RunIdPlan::Exact(run_id) = new.run_id else {
                        panic!("cron runs have exact ids")
                    };
                    assert!(new.info.run_after <= now);
                    assert!(made.insert(new.info.run_after), "{run_id} was made twice");
                    let queued = ActiveRun {
                        run_id: run_id.clone(),
                        run_after: new.info.run_after,
                        logical_date: new.info.logical_date(),
                        ..run("", RunType::Scheduled, RunState::Queued)
                    };
                    known.insert(run_id, queued.clone());
                    plan.step(Event::RunChanged(queued), now, &mut out);
                }
                Command::StartRun(started) => {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let minutes = i64::try_from((seed >> 33) % 600 / (1 + (seed >> 20) % 4)).unwrap();
                    let run = known.remove(&started.run_id).expect("only queued runs start");
                    running.push((now + jiff::SignedDuration::from_mins(minutes), run));
                    assert!(running.len() <= 3);
                }
                Command::WakeAt(at) => {
                    wakes.insert(at);
                }
                _ => {}
            }
        }
        if !out.is_empty() {
            continue;
        }
        let ends = running.iter().map(|(ends, _)| *ends).min();
        let wake = wakes.first().copied();
        let next = ends.into_iter().chain(wake).min().expect("nothing waits for ever");
        now = now.max(next);
        if wake == Some(next) {
            wakes.pop_first();
            plan.step(Event::Timer, now, &mut out);
        }
        while let Some(at) = running.iter().position(|(ends, _)| *ends <= now) {
            let (_, mut run) = running.swap_remove(at);
            run.state = RunState::Success;
            plan.step(Event::RunChanged(run), now, &mut out);
        }
    }
    let made: Vec<Timestamp> = made.into_iter().collect();
    assert!(made.len() > 26_000, "{}", made.len());
    assert!(
        made.windows(2)
            .all(|pair| pair[1].duration_since(pair[0]) == jiff::SignedDuration::from_hours(1))
    );
}
