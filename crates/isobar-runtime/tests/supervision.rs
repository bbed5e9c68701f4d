//! What happens around a task: signals, heartbeats, secrets, and processes that outlive their parents.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isobar_runtime::supervisor::Ended;
use isobar_runtime::zygote::{Exit, Launch, Target, Zygote, ZygoteError};
use isobar_wire::execution::Operation;
use serde_json::json;
use support::{Done, MemoryApi, PATIENCE, Team, spec, workload};
use tokio_util::sync::CancellationToken;

/// Starts a task, waits until its log holds `up`, does something to it, and waits for its end.
async fn disturb(
    team: &Team,
    task: &str,
    up: &str,
    act: impl AsyncFnOnce(&Arc<MemoryApi>, &CancellationToken),
) -> (Done, Arc<MemoryApi>) {
    let api = MemoryApi::with(|_| {});
    let workload = workload(task, -1);
    let cancel = CancellationToken::new();
    let supervisor = team.supervisor(&api);
    let acting = async {
        while !team.log(&workload).iter().any(|line| line["event"] == up) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        act(&api, &cancel).await;
    };
    let running = supervisor.run(&team.zygote, &workload, cancel.clone());
    let ended = tokio::time::timeout(PATIENCE, async { tokio::join!(running, acting).0 }).await;
    let ended = ended.unwrap_or_else(|_| panic!("{task} never ended: {:#?}", team.log(&workload)));
    let log = team.log(&workload);
    (Done { ended, log }, api)
}

fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim().chars().next();
    state.is_some_and(|state| state != 'Z')
}

async fn gone(pid: i32) {
    for _ in 0..500 {
        if !alive(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} lives on");
}

#[tokio::test]
async fn cancelling_runs_on_kill_and_reports_the_end() {
    let mut team = Team::start().await;
    // However busy the machine is, `on_kill` gets its time.
    team.timers.kill_escalation = support::PATIENCE;
    let (done, api) = disturb(&team, "killable", "killable is up", async |_, cancel| cancel.cancel()).await;
    assert!(done.has("on_kill ran"), "{:#?}", done.log);
    assert_eq!(api.world().state, "failed");
    assert_eq!(done.ended.exit, Some(Exit::Code(0)), "{:#?}", done.log);
}

#[tokio::test]
async fn a_task_that_ignores_sigterm_gets_sigkill() {
    let mut team = Team::start().await;
    team.timers.kill_escalation = Duration::from_millis(300);
    let (done, api) = disturb(&team, "stubborn", "stubborn is up", async |_, cancel| cancel.cancel()).await;
    assert_eq!(done.ended.exit, Some(Exit::Signal(9)));
    assert!(done.has("it was asked to stop") && !done.has("OOM"), "{:#?}", done.log);
    assert_eq!(api.world().state, "failed");
}

#[tokio::test]
async fn a_try_that_no_longer_counts_is_killed_and_reports_nothing() {
    let mut team = Team::start().await;
    team.timers.heartbeat = Duration::from_millis(200);
    let (done, api) = disturb(&team, "slow", "slow is up", async |api, _| {
        api.until("two heartbeats", |world| world.heartbeats >= 2).await;
        api.world().disown = true;
    })
    .await;
    assert_eq!(done.ended.reported, None);
    assert!(
        done.has("shouldn't be running anymore") && done.has("Task killed!"),
        "{:#?}",
        done.log
    );
    assert!(!api.world().log.iter().any(|op| matches!(op, Operation::State(_))));
}

#[tokio::test]
async fn callbacks_that_never_end_are_cut_off_and_the_success_stands() {
    let mut team = Team::start().await;
    team.timers.overtime = Duration::from_millis(500);
    let api = MemoryApi::with(|_| {});
    let begin = Instant::now();
    let done = team.run(&api, "lingering").await;
    assert_eq!(done.ended.reported, Some("success"));
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(done.ended.failure, None);
}

#[tokio::test]
async fn a_child_that_sends_garbage_is_killed() {
    let team = Team::start().await;
    let done = team.run(&MemoryApi::with(|_| {}), "garbage").await;
    assert_eq!(done.ended.reported, Some("failed"), "{:#?}", done.log);
    assert!(done.has("cannot be read"), "{:#?}", done.log);
}

#[tokio::test]
async fn running_as_another_user_is_refused_in_words() {
    let team = Team::start().await;
    let done = team
        .run(&MemoryApi::with(|world| world.max_tries = 3), "as_another")
        .await;
    assert_eq!(done.ended.reported, Some("failed"), "{:#?}", done.log);
    assert!(done.has("`run_as_user` is not supported"), "{:#?}", done.log);
}

#[tokio::test]
async fn a_dag_files_bytecode_is_kept_in_the_teams_own_folder() {
    let team = Team::start().await;
    team.run(&MemoryApi::with(|_| {}), "noop").await;
    let kept = team
        .home
        .path()
        .join("bytecode")
        .join(support::dags().strip_prefix("/").unwrap())
        .join("__pycache__");
    let files: Vec<_> = std::fs::read_dir(&kept)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(
        files.iter().any(|name| name.to_string_lossy().starts_with("flows.")),
        "{files:?}"
    );
}

#[tokio::test]
async fn secrets_never_reach_the_log() {
    let team = Team::start().await;
    let api = MemoryApi::with(|world| {
        world.variables.insert("plain".into(), "plain-value".into());
        world.variables.insert("api_key".into(), "variable-secret".into());
        world.connections.insert(
            "db".into(),
            json!({
                "conn_id": "db", "conn_type": "postgres", "host": "db.example", "schema": null, "login": "user",
                "password": "connection-secret", "port": 5432, "extra": r#"{"token": "extra-secret", "region": "north"}"#,
            }),
        );
    });
    let done = team.run(&api, "secrets").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
    for secret in ["variable-secret", "connection-secret", "extra-secret", "env-pass-word"] {
        assert!(!done.has(secret), "{secret} is in {:#?}", done.log);
    }
    for line in [
        "plain-value ***",
        "*** db.example",
        "fallback",
        "AirflowRuntimeError",
        "['plain']",
    ] {
        assert!(done.has(line), "{line} is not in {:#?}", done.log);
    }
    let world = api.world();
    assert_eq!(world.variables["written"], "new");
    assert!(!world.variables.contains_key("plain"));
}

#[tokio::test]
async fn children_see_their_teams_environment_and_nothing_else() {
    let team = Team::start().await;
    let done = team.run(&MemoryApi::with(|_| {}), "environment").await;
    let names: BTreeSet<String> = done
        .log
        .iter()
        .filter_map(|line| line["event"].as_str()?.strip_prefix("env ").map(str::to_owned))
        .collect();
    assert!(names.contains("AIRFLOW_CONN_FROM_ENV"), "{:#?}", done.log);
    let foreign: Vec<_> = names
        .iter()
        .filter(|name| !name.starts_with("AIRFLOW") && !["HOME", "PATH", "LANG"].contains(&name.as_str()))
        .filter(|name| {
            !["PYTHON", "_AIRFLOW", "LC_CTYPE", "KMP"]
                .iter()
                .any(|own| name.starts_with(own))
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !names.contains("CARGO_MANIFEST_DIR"));
}

#[tokio::test]
async fn closing_a_zygote_kills_what_its_tasks_left_in_sessions_of_their_own() {
    let team = Team::start().await;
    team.run(&MemoryApi::with(|_| {}), "leaves_a_process").await;
    let sleeper = child_named(team.zygote.pid(), "sleep").expect("the task's process was adopted by the zygote");
    team.zygote.shutdown().await;
    assert!(!alive(sleeper), "the process survived its team's Python");
    assert!(!alive(team.zygote.pid()));
    let refused = team.zygote.fork(Target::Task, &[]).await;
    assert!(matches!(refused, Err(ZygoteError::Gone(_))));
}

#[tokio::test]
async fn a_killed_zygote_takes_its_children_along_and_their_tasks_are_failed() {
    let team = Team::start().await;
    let zygote = team.zygote.pid();
    let (done, api) = disturb(&team, "slow", "slow is up", async |_, _| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(zygote), nix::sys::signal::Signal::SIGKILL).unwrap();
    })
    .await;
    assert_eq!(done.ended.exit, Some(Exit::Lost));
    assert_eq!(api.world().state, "failed");
    assert!(done.ended.callbacks_lost);
}

#[tokio::test]
async fn a_task_whose_zygote_is_killed_runs_no_more_when_it_is_said_to_be_gone() {
    let team = Team::start().await;
    let zygote = team.zygote.pid();
    let (done, _) = disturb(&team, "clings", "clings is up", async |_, _| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(zygote), nix::sys::signal::Signal::SIGKILL).unwrap();
    })
    .await;
    let pid = std::fs::read_to_string(team.home.path().join("clings")).unwrap();
    assert!(!alive(pid.parse().unwrap()), "it lives on");
    assert_eq!(done.ended.exit, Some(Exit::Lost));
}

#[tokio::test]
async fn the_next_zygote_of_a_team_waits_for_the_one_before() {
    let team = Team::start().await;
    let spec = spec(team.home.path());
    let first = team.zygote.clone();
    let mut second = tokio::spawn(async move { Zygote::start(&spec).await.map(|zygote| (zygote, Instant::now())) });
    let early = tokio::time::timeout(Duration::from_secs(4), &mut second).await;
    assert!(early.is_err(), "two zygotes of one team ran at once");
    first.shutdown().await;
    let released = Instant::now();
    let (_, ready) = second.await.unwrap().unwrap();
    assert!(ready > released);
}

#[tokio::test]
async fn a_cold_launch_runs_tasks_too() {
    let home = tempfile::tempdir().unwrap();
    let mut cold = spec(home.path());
    cold.launch = Launch::Cold;
    let begin = Instant::now();
    let zygote = Zygote::start(&cold).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "a cold zygote imports nothing"
    );
    let team = Team {
        home,
        zygote,
        timers: Default::default(),
    };
    let done = team.run(&MemoryApi::with(|_| {}), "value").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
}

#[tokio::test]
async fn a_python_whose_imports_start_threads_or_fail_is_not_warmed_but_runs_cold() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("config")).unwrap();
    let settings = home.path().join("config/airflow_local_settings.py");
    let mut spec = spec(home.path());
    for (code, expected) in [
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), name='busy', daemon=True).start()",
            "1 threads running (busy)",
        ),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
    ] {
        std::fs::write(&settings, code).unwrap();
        let refused = Zygote::start(&spec).await.map(drop).unwrap_err();
        let ZygoteError::NotWarm { reason, .. } = &refused else {
            panic!("{refused}");
        };
        assert!(reason.contains(expected), "{reason}");
    }
    std::fs::write(&settings, "import threading\nthreading.Thread(target=print).start()").unwrap();
    spec.launch = Launch::Cold;
    let zygote = Zygote::start(&spec).await.unwrap();
    let team = Team {
        home,
        zygote,
        timers: Default::default(),
    };
    let done = team.run(&MemoryApi::with(|_| {}), "value").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
}

#[test]
fn the_rehearsal_before_the_first_fork_works() {
    let home = tempfile::tempdir().unwrap();
    let spec = spec(home.path());
    let script = "import sys; sys.path.insert(0, sys.argv[1])\nfrom isobar_agent import preload; preload.preload()";
    let out = std::process::Command::new(&spec.python)
        .args(["-c", script])
        .arg(&spec.agent)
        .env_clear()
        .envs(spec.env)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !said.contains("did not work"), "{said}");
}

#[tokio::test]
async fn a_python_without_airflow_is_refused_with_a_reason() {
    let home = tempfile::tempdir().unwrap();
    let mut plain = spec(home.path());
    plain.python = "/usr/bin/python3".into();
    let error = Zygote::start(&plain).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("Airflow is not installed"), "{error}");
    plain.python = "/nowhere/python".into();
    let error = Zygote::start(&plain).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("check the team's `python` setting"), "{error}");
}

#[tokio::test]
async fn fifty_tasks_at_once_all_end() {
    let team = Arc::new(Team::start().await);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let team = Arc::clone(&team);
        running.spawn(async move { team.run(&MemoryApi::with(|_| {}), "noop").await.ended });
    }
    let ended: Vec<Ended> = running.join_all().await;
    assert!(ended.iter().all(|ended| ended.reported == Some("success")), "{ended:?}");
}

/// A living descendant of `root` by its command's name.
fn child_named(root: i32, name: &str) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{root}/task/{root}/children")).ok()?;
    children.split_whitespace().find_map(|pid| {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let pid: i32 = pid.parse().ok()?;
        if command.trim() == name && alive(pid) {
            Some(pid)
        } else {
            child_named(pid, name)
        }
    })
}

#[tokio::test]
async fn a_child_that_was_forked_ahead_starts_when_its_task_does() {
    let team = Team::start().await;
    team.run(&MemoryApi::with(|_| {}), "noop").await;
    // The next child waits by now, or will in a moment.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = jiff::Timestamp::now();
    let api = MemoryApi::with(|_| {});
    let done = team.run(&api, "noop").await;
    assert_eq!(done.ended.reported, Some("success"));
    for line in &done.log {
        let at: jiff::Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        assert!(at >= before, "{line} is from before the task");
    }
    let Operation::Run(start) = api.world().log[0].clone() else {
        panic!("a task begins with its start")
    };
    assert!(start.start_date.0 >= before);
}

#[tokio::test]
async fn a_child_that_nobody_wants_any_more_is_gone() {
    let team = Team::start().await;
    let child = team.zygote.fork(Target::Task, &[]).await.unwrap();
    let pid = child.pid();
    drop(child);
    gone(pid).await;
}

#[tokio::test]
async fn a_process_that_asks_for_a_log_channel_of_its_own_gets_one_and_its_lines_are_kept() {
    let team = Team::start().await;
    let done = team.run(&MemoryApi::with(|_| {}), "relogs").await;
    assert_eq!(done.ended.reported, Some("success"), "{:#?}", done.log);
    for text in ["over the first channel", "over the second channel"] {
        let line = done.log.iter().find(|line| line["event"] == text);
        let line = line.unwrap_or_else(|| panic!("`{text}` is not in {:#?}", done.log));
        assert_eq!((&line["logger"], &line["level"]), (&"relogs".into(), &"warning".into()));
    }
}
