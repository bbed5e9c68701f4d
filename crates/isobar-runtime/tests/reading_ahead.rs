//! Dag files that are read once for a burst of their tasks, and those that must not be.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use isobar_runtime::supervisor::Timers;
use isobar_runtime::zygote::{DagFile, Examined, Exit, Zygote};
use support::{Done, MemoryApi, PATIENCE, Team, spec, workload};
use tokio_util::sync::CancellationToken;

const DAG: &str = r#"
import os
import beside
from airflow.sdk import dag, task

WORD = open(os.path.join(os.path.dirname(__file__), "word.txt")).read().strip()

@dag(dag_id="flows")
def made():
    @task
    def says():
        import random
        print(f"{WORD} {beside.NUMBER} parent={os.getppid()} drew={random.random()}", flush=True)
        return WORD

    @task
    def fails():
        raise ValueError("as it should")

    @task
    def clings():
        import ctypes, time
        ctypes.CDLL(None).prctl(1, 0)  # It asks not to be killed with its parent.
        print(f"clings as {os.getpid()} parent={os.getppid()}", flush=True)
        time.sleep(600)

    says() >> fails() >> clings()

made()
"#;

/// A team whose Dag folder is `folder`.
async fn team(folder: &Path) -> Team {
    let home = tempfile::tempdir().expect("a folder");
    let mut spec = spec(home.path());
    let bundles = serde_json::json!([{
        "name": "tests", "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": folder},
    }]);
    for (name, value) in &mut spec.env {
        if name == "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST" {
            *value = bundles.to_string().into();
        }
    }
    let zygote = Zygote::start(&spec).await.expect("the zygote starts");
    let timers = Timers::default();
    Team { home, zygote, timers }
}

async fn run(team: &Team, task: &str, path: &str) -> Done {
    let mut workload = workload(task, -1);
    path.clone_into(&mut workload.dag_rel_path);
    let api = MemoryApi::with(|_| {});
    let supervisor = team.supervisor(&api);
    let running = supervisor.run(&team.zygote, &workload, CancellationToken::new());
    let ended = tokio::time::timeout(PATIENCE, running).await.expect("the task ends");
    Done {
        log: team.log(&workload),
        ended,
    }
}

/// What `says` said: its word, number, parent, and what it drew.
fn said(done: &Done) -> [String; 4] {
    let line = done
        .log
        .iter()
        .find_map(|line| line["event"].as_str().filter(|event| event.contains("parent=")));
    let line = line.unwrap_or_else(|| panic!("it said nothing: {:#?}", done.log));
    let mut words = line.split(' ').map(str::to_owned);
    std::array::from_fn(|_| words.next().expect("four words"))
}

/// Runs `says`, three at once, until one comes from another process than the team's zygote.
async fn until_prepared(team: &Team) -> Done {
    let zygote = format!("parent={}", team.zygote.pid());
    for _ in 0..100 {
        let one = || run(team, "says", "one.py");
        let (first, second, third) = tokio::join!(one(), one(), one());
        for done in [first, second, third] {
            if said(&done)[2] != zygote {
                return done;
            }
        }
    }
    panic!("no task was forked from a process that had read the file");
}

#[tokio::test]
async fn a_burst_of_tasks_is_forked_from_a_process_that_has_read_the_file_and_none_can_tell() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.py"), DAG).unwrap();
    fs::write(folder.path().join("beside.py"), "NUMBER = 1").unwrap();
    fs::write(folder.path().join("word.txt"), "first").unwrap();
    let team = team(folder.path()).await;

    let alone = run(&team, "says", "one.py").await;
    let prepared = until_prepared(&team).await;
    let events = |done: &Done| -> Vec<(String, String)> {
        let shown = done.log.iter().filter(|line| !line.to_string().contains("parent="));
        shown
            .map(|line| (line["event"].to_string(), line["logger"].to_string()))
            .collect()
    };
    assert_eq!(events(&alone), events(&prepared), "their logs tell the same");
    assert_eq!(prepared.ended.reported, Some("success"));
    let again = run(&team, "says", "one.py").await;
    assert_eq!(
        said(&again)[2],
        said(&prepared)[2],
        "one process serves the whole burst"
    );
    assert_ne!(
        said(&again)[3],
        said(&prepared)[3],
        "each task draws its own random numbers"
    );

    let failed = run(&team, "fails", "one.py").await;
    assert_eq!(failed.ended.reported, Some("failed"));
    assert!(failed.has("as it should"), "{:#?}", failed.log);

    // Whatever the file was made of changes at once.
    fs::write(folder.path().join("word.txt"), "second").unwrap();
    assert_eq!(said(&run(&team, "says", "one.py").await)[0], "second");
    assert_eq!(said(&until_prepared(&team).await)[0], "second");
    fs::write(folder.path().join("beside.py"), "NUMBER = 22").unwrap();
    assert_eq!(said(&run(&team, "says", "one.py").await)[1], "22");
    fs::write(folder.path().join("one.py"), DAG.replace("{WORD}", "third")).unwrap();
    assert_eq!(said(&run(&team, "says", "one.py").await)[0], "third");
}

#[tokio::test]
async fn a_prepared_process_that_is_killed_takes_nothing_with_it_but_its_own_tasks() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.py"), DAG).unwrap();
    fs::write(folder.path().join("beside.py"), "NUMBER = 1").unwrap();
    fs::write(folder.path().join("word.txt"), "first").unwrap();
    let team = team(folder.path()).await;
    let prepared = until_prepared(&team).await;
    let parent: i32 = said(&prepared)[2].trim_start_matches("parent=").parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), nix::sys::signal::SIGKILL).unwrap();
    while run(&team, "says", "one.py").await.ended.reported != Some("success") {}
    let after = until_prepared(&team).await;
    assert_ne!(said(&after)[2], said(&prepared)[2]);
    assert!(team.zygote.is_alive());
}

#[tokio::test]
async fn a_task_whose_prepared_process_is_killed_runs_no_more_when_it_is_said_to_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one.py"), DAG).unwrap();
    fs::write(folder.path().join("beside.py"), "NUMBER = 1").unwrap();
    fs::write(folder.path().join("word.txt"), "first").unwrap();
    let team = team(folder.path()).await;
    let of_zygote = format!("parent={}", team.zygote.pid());
    until_prepared(&team).await;
    let mut workload = workload("clings", -1);
    "one.py".clone_into(&mut workload.dag_rel_path);
    let supervisor = team.supervisor(&MemoryApi::with(|_| {}));
    let up = async {
        loop {
            let log = team.log(&workload);
            if let Some(line) = log
                .iter()
                .find_map(|line| line["event"].as_str()?.strip_prefix("clings as "))
            {
                let (pid, parent) = line.split_once(' ').unwrap();
                assert_ne!(parent, of_zygote, "the burst has just begun");
                let parent = parent.trim_start_matches("parent=").parse().unwrap();
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), nix::sys::signal::SIGKILL).unwrap();
                return pid.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let running = supervisor.run(&team.zygote, &workload, CancellationToken::new());
    let both = tokio::time::timeout(PATIENCE, async { tokio::join!(running, up) });
    let (ended, pid) = both.await.unwrap_or_else(|_| panic!("{:#?}", team.log(&workload)));
    let about = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(about.is_empty() || about.contains(") Z"), "it lives on: {about}");
    assert_eq!(ended.exit, Some(Exit::Lost));
}

/// Source lines at the top of a Dag file, and what is said of them; nothing where they do no harm.
const LINES: &[(&str, &str)] = &[
    ("", ""),
    ("import json, yaml, datetime; START = datetime.datetime(2026, 1, 1)", ""),
    ("import os; HOME = os.environ['HOME']; os.environ['HERE'] = '1'", ""),
    (
        "from pathlib import Path; NAMES = sorted(p.name for p in Path(__file__).parent.glob('*.txt'))",
        "",
    ),
    (
        "def later():\n    import time, uuid; return time.time(), uuid.uuid4()",
        "",
    ),
    (
        "from airflow.sdk import Variable; X = Variable.get('x', default='y')",
        "GetVariable",
    ),
    (
        "from airflow.sdk import Connection\ntry:\n    C = Connection.get('c')\nexcept Exception:\n    C = None",
        "GetConnection",
    ),
    ("import datetime; NOW = datetime.datetime.now()", "calls now"),
    ("import pendulum; NOW = pendulum.now()", "calls now"),
    (
        "from airflow.sdk.timezone import utcnow; NOW = utcnow()",
        "calls utcnow",
    ),
    ("import time; NOW = time.time()", "calls time"),
    ("import uuid; RUN = uuid.uuid4()", "calls urandom"),
    ("import random; random.seed(42)", "calls seed"),
    ("import os; ME = os.getpid()", "calls getpid"),
    (
        "from airflow.sdk import get_parsing_context; CONTEXT = get_parsing_context()",
        "calls get_parsing_context",
    ),
    (
        "import os; D = os.environ.get('_AIRFLOW_PARSING_CONTEXT_DAG_ID')",
        "parsing context",
    ),
    ("import tempfile; T = tempfile.mkdtemp()", "it "),
    ("import secrets; N = secrets.randbelow(5)", "calls urandom"),
    ("import random; N = random.Random().betavariate(1, 2)", "it calls"),
    ("from dateutil.parser import parse; AT = parse('10:00')", "calls now"),
    (
        "from airflow.providers.standard.sensors.time import TimeSensor; import datetime\nfrom airflow.sdk import DAG\nwith DAG('d'):\n    TimeSensor(task_id='t', target_time=datetime.time(10))",
        "calls now",
    ),
    ("import os; THERE = os.access('/nowhere', os.R_OK)", "calls access"),
    ("import os; LINK = os.path.islink('/nowhere')", "/nowhere"),
    (
        "import os.path; from pathlib import Path; HERE = os.path.realpath(__file__), Path(__file__).resolve()",
        "",
    ),
    (
        "import glob, os; F = glob.glob(os.path.dirname(__file__) + '/*/nowhere.yml')",
        "",
    ),
    ("open(__file__ + '.out', 'w').write('x')", "writes"),
    ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
    ("import os; os.system('true')", "os.system"),
    (
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError:\n    pass",
        "connects",
    ),
    ("import ctypes; ctypes.CDLL(None).connect(-1, None, 0)", "connects"),
    (
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "starts a thread",
    ),
    ("KEPT = open(__file__)", "its open files"),
    ("import atexit; atexit.register(print)", "at exit"),
    (
        "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
        "signals",
    ),
    ("import multiprocessing; LOCK = multiprocessing.Lock()", "it c"),
    ("import os; FLAG = os.path.exists('/nowhere/flag')", "/nowhere/flag"),
    ("print('hello')", "its output"),
    ("import sys; print('hello', file=sys.stderr)", "its errors"),
    ("import logging; logging.getLogger('mine').warning('hello')", "its log"),
    ("raise ValueError", "cannot be imported"),
    // What Python code does not call itself.
    (
        "import datetime, functools; NOW = functools.partial(datetime.datetime.now)()",
        "calls now",
    ),
    ("import time; NOW = next(iter(time.time, None))", "calls time"),
    ("import time; YEAR = list(map(time.strftime, ['%Y']))", "calls strftime"),
    (
        "import collections, time; NOW = collections.defaultdict(time.time)['now']",
        "calls time",
    ),
    (
        "import operator, datetime; NOW = operator.methodcaller('n' + 'ow')(datetime.datetime)",
        "calls now",
    ),
    (
        "import datetime; DAY = next(iter(getattr(datetime.date, 'today'), None))",
        "calls today",
    ),
    (
        "import pydantic, time\nclass Made(pydantic.BaseModel):\n    at: float = pydantic.Field(default_factory=time.time)\nAT = Made().at",
        "calls time",
    ),
    (
        "import time\nclass Clock:\n    __call__ = time.time\nNOW = next(iter(Clock(), None))",
        "calls time",
    ),
    (
        "exec('NOW = next(iter(vars(__import__(\"ti\" + \"me\"))[\"time\"], None))')",
        "calls time",
    ),
    ("import random; N = next(iter(random.random, None))", "calls random"),
    (
        "import _random; N = next(iter(_random.Random().random, None))",
        "calls random",
    ),
    ("import os; N = list(map(os.urandom, [4]))", "calls urandom"),
    ("import os; ME = next(iter(os.getpid, None))", "calls getpid"),
    ("import os; ABOUT = list(map(os.stat, [__file__]))", "calls stat"),
    (
        "import os; FLAGS = list(map(os.path.exists, ['/nowhere/flag']))",
        "/nowhere/flag",
    ),
    ("import ctypes; NOW = ctypes.CDLL(None).time(None)", "functions of C"),
    (
        "import os; D = os.environ.get('_AIRFLOW_PARSING' + '_CONTEXT_DAG_ID')",
        "parsing context",
    ),
    (
        "from airflow.sdk.timezone import parse; AT = parse('10:00')",
        "calls now",
    ),
    // They are kept for later, or given what they do not ask for then.
    (
        "import collections, dataclasses, functools, time, datetime\nLATER = functools.partial(datetime.datetime.now)\n\
         LATEST = collections.defaultdict(time.time)\n@dataclasses.dataclass\nclass Made:\n    \
         at: float = dataclasses.field(default_factory=time.time)",
        "",
    ),
    (
        "import time, datetime; YEAR = time.strftime('%Y', time.gmtime(0)), datetime.datetime(2026, 1, 1).strftime('%Y')",
        "",
    ),
    (
        "from airflow.sdk.timezone import parse; AT = parse('2026-01-01T10:00:00')",
        "",
    ),
    (
        "from airflow.timetables.trigger import CronTriggerTimetable; DAILY = CronTriggerTimetable('0 0 * * *', timezone='UTC')",
        "",
    ),
];

#[tokio::test]
async fn only_files_whose_reading_depends_on_files_alone_are_read_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let team = team(folder.path()).await;
    let mut wrong = Vec::new();
    for (number, (line, expected)) in LINES.iter().enumerate() {
        let path = format!("file_{number}.py");
        fs::write(
            folder.path().join(&path),
            format!("{line}\n{}", DAG.replace("import beside", "beside = None")),
        )
        .unwrap();
        fs::write(folder.path().join("word.txt"), "first").unwrap();
        let file = DagFile {
            bundle: "tests".into(),
            version: None,
            path: path.clone(),
        };
        match team.zygote.examine(&file).await.unwrap() {
            Examined::Fit(files) => {
                if !expected.is_empty() {
                    wrong.push(format!("`{line}` was found fit"));
                }
                for needed in [path.as_str(), "word.txt"] {
                    let needed = folder.path().join(needed).display().to_string();
                    assert!(
                        files.paths().any(|path| path == needed),
                        "`{line}`: {needed} is not in {files:?}"
                    );
                }
            }
            Examined::Unfit(reason) => {
                if expected.is_empty() || !reason.contains(expected) {
                    wrong.push(format!("`{line}` was found unfit: {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
