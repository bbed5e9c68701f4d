//! Each test starts a real confined Python child. Files of the neighbours are left open to everybody by mode, so that
//! it is the wall that keeps the child out, not the file's mode.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use isobar_config::Team;
use isobar_model::{TeamId, TeamName};
use nix::unistd::Uid;

use super::*;

mod folder;
mod own_tmp;
mod ways;

/// Not a test: the test binary plays the launcher. It runs as a test of that name because libtest owns `main`.
#[test]
fn the_test_binary_can_be_the_launcher() {
    if std::env::var_os(CONFINEMENT_VARIABLE).is_some() {
        let arguments = std::env::args_os().skip_while(|argument| argument != "--").skip(1);
        let Err(error) = confine_and_exec(arguments);
        eprintln!("{error}");
        std::process::exit(125);
    }
}

pub(crate) fn launcher() -> Launcher {
    Launcher {
        program: std::env::current_exe().unwrap(),
        arguments: [
            "--exact",
            "sandbox::tests::the_test_binary_can_be_the_launcher",
            "--nocapture",
            "-q",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}

/// A Python that every user of this host can start.
fn system_python() -> PathBuf {
    PathBuf::from("/usr/bin/python3")
}

struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let world = Self { root };
        for folder in [
            "",
            "state",
            "state/logs",
            "state/logs/alpha",
            "dags",
            "dags/alpha",
            "dags/beta",
            "conf",
        ] {
            let folder = world.at(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        for file in [
            "state/isobar.db",
            "dags/alpha/a.py",
            "dags/beta/b.py",
            "conf/variables.toml",
        ] {
            let file = world.at(file);
            fs::write(&file, "secret of somebody").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
        }
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(path)
    }

    fn team(&self, name: &str) -> Team {
        let mut team = Team::new(TeamName::parse(name).unwrap());
        team.folders = vec![self.at("dags").join(name)];
        team
    }

    /// Where a team's children live, with nothing hidden yet.
    fn grounds(&self, name: &str) -> Grounds {
        Grounds {
            run_folder: self.at("state/run").join(name),
            read: vec![],
            ways: Ways::default(),
            hidden: vec![],
        }
    }

    fn confinement(&self, name: &str, user: Option<OsUser>) -> Confinement {
        let grounds = Grounds {
            hidden: vec![self.at("state"), self.at("conf")],
            ..self.grounds(name)
        };
        prepare(&self.team(name), user, &grounds).unwrap()
    }
}

/// The users to try: ours, and where we are root also one of the team's own.
fn users() -> Vec<Option<OsUser>> {
    if Uid::effective().is_root() {
        vec![
            None,
            OsUser::of_team("alpha", TeamId(7), None, DEFAULT_UID_BASE).unwrap(),
        ]
    } else {
        println!("skipped for own users: these tests do not run as root");
        vec![None]
    }
}

fn without_landlock() -> bool {
    if !kernel().landlock {
        println!("skipped: this kernel has no Landlock; `isolation = \"none\"` is the only way to run here");
    }
    !kernel().landlock
}

const PROBE: &str = r#"
import sys, os
def attempt(kind, path):
    if kind == "read": open(path, "rb").read()
    elif kind == "write": open(path, "wb").write(b"x")
    elif kind == "append": open(path, "ab").write(b"x")
    elif kind == "list": os.listdir(path)
    elif kind == "remove": os.remove(path)
    elif kind == "make": os.mkdir(path)
    elif kind == "remove folder": os.rmdir(path)
    elif kind == "rename": os.rename(path, path + ".old")
    elif kind == "truncate": os.truncate(path, 0)
    elif kind == "kill": os.kill(int(path), 0)
    elif kind == "run": assert os.system(path) == 0
    elif kind == "setuid": os.setuid(int(path))
    elif kind == "chown": os.chown(path, 1, 1)
for pair in sys.argv[1:]:
    kind, path = pair.split(":", 1)
    try:
        attempt(kind, path); print("DONE", pair)
    except (OSError, AssertionError) as error:
        print("DENIED", pair, type(error).__name__)
"#;

/// What of `attempts` (`kind:path`) succeeded inside the confinement.
fn succeeded(confinement: &Confinement, attempts: &[String]) -> Vec<String> {
    let mut child = command(&launcher(), confinement, &system_python(), ["-I", "-c", PROBE]).unwrap();
    let output = child.args(attempts).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tried = said
        .lines()
        .filter(|line| line.starts_with("DONE ") || line.starts_with("DENIED "))
        .count();
    assert_eq!(tried, attempts.len(), "{said}");
    said.lines()
        .filter_map(|line| line.strip_prefix("DONE "))
        .map(str::to_owned)
        .collect()
}

fn text(paths: &[(&str, PathBuf)]) -> Vec<String> {
    paths
        .iter()
        .map(|(kind, path)| format!("{kind}:{}", path.display()))
        .collect()
}

#[test]
fn a_child_works_in_its_own_folders() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    for user in users() {
        let confinement = world.confinement("alpha", user);
        let name = format!("file-of-{}", user.map_or(0, |user| user.uid));
        let own = text(&[
            ("read", world.at("dags/alpha/a.py")),
            ("list", world.at("dags/alpha")),
            ("write", confinement.home.join(&name)),
            ("write", confinement.tmp.join(&name)),
            ("make", confinement.airflow_home.join(&name)),
            ("write", "/dev/null".into()),
            ("read", "/etc/passwd".into()),
            ("run", "/bin/true".into()),
        ]);
        assert_eq!(succeeded(&confinement, &own), own, "user {user:?}");
    }
}

#[test]
fn a_child_reaches_nothing_of_its_neighbours_or_of_the_server() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    for user in users() {
        let confinement = world.confinement("alpha", user);
        world.confinement("beta", None);
        fs::write(world.at("state/run/beta/scratch/home/token"), "t").unwrap();
        fs::set_permissions(
            world.at("state/run/beta/scratch/home"),
            fs::Permissions::from_mode(0o777),
        )
        .unwrap();
        fs::set_permissions(world.at("state/run/beta/scratch"), fs::Permissions::from_mode(0o777)).unwrap();
        let foreign = text(&[
            ("read", world.at("dags/beta/b.py")),
            ("list", world.at("dags/beta")),
            ("list", world.at("dags")),
            ("read", world.at("dags/alpha/../beta/b.py")),
            ("write", world.at("dags/beta/b.py")),
            ("truncate", world.at("dags/beta/b.py")),
            ("write", world.at("dags/alpha/a.py")),
            ("remove", world.at("dags/alpha/a.py")),
            ("read", world.at("conf/variables.toml")),
            ("read", world.at("state/isobar.db")),
            ("append", world.at("state/isobar.db")),
            ("list", world.at("state/logs/alpha")),
            ("write", world.at("state/logs/alpha/forged.log")),
            ("make", world.at("state/logs/alpha/folder")),
            ("read", world.at("state/run/beta/scratch/home/token")),
            ("list", "/tmp".into()),
            ("list", "/root".into()),
            ("list", "/home".into()),
            ("read", "/etc/shadow".into()),
            ("write", "/usr/planted".into()),
            ("list", "/dev/shm".into()),
        ]);
        let allowed_by_user = if user.is_some() {
            vec!["list:/dev/shm".to_owned()]
        } else {
            vec![]
        };
        assert_eq!(succeeded(&confinement, &foreign), allowed_by_user, "user {user:?}");
        assert_eq!(
            fs::read_to_string(world.at("dags/beta/b.py")).unwrap(),
            "secret of somebody"
        );
    }
}

#[test]
fn what_one_team_writes_another_reads_where_the_configuration_says_so() {
    if without_landlock() {
        return;
    }
    for user in users() {
        let world = World::new();
        let neighbour = user.map(|user| OsUser {
            uid: user.uid + 1,
            gid: user.gid + 1,
        });
        let (mut giver, mut taker) = (world.team("alpha"), world.team("beta"));
        giver.write_folders = vec![world.at("state/data/alpha")];
        taker.read_folders = giver.write_folders.clone();
        let grounds = |name| Grounds {
            run_folder: world.at("state/run").join(name),
            read: vec![],
            ways: Ways::default(),
            hidden: vec![world.at("state")],
        };
        make_write_folders(&giver, user, &Ways::default()).unwrap();
        let taker = prepare(&taker, neighbour, &grounds("beta")).unwrap();
        let giver = prepare(&giver, user, &grounds("alpha")).unwrap();
        let file = world.at("state/data/alpha/users.parquet");
        let written = text(&[("write", file.clone()), ("make", world.at("state/data/alpha/more"))]);
        assert_eq!(succeeded(&giver, &written), written, "user {user:?}");
        let tried = text(&[
            ("read", file.clone()),
            ("list", world.at("state/data/alpha")),
            ("write", file.clone()),
            ("append", file.clone()),
            ("remove", file),
            ("make", world.at("state/data/alpha/planted")),
        ]);
        assert_eq!(succeeded(&taker, &tried), tried[..2], "user {user:?}");
    }
}

/// A neighbour's confined process that sleeps until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(confinement: &Confinement) -> Self {
        let script = "import time; print('up', flush=True); time.sleep(60)";
        let mut child = command(&launcher(), confinement, &system_python(), ["-I", "-c", script]).unwrap();
        child.env("AIRFLOW_CONN_X", "neighbour-secret").stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        lines
            .find(|line| line.as_ref().is_ok_and(|line| line == "up"))
            .expect("the sleeper comes up")
            .unwrap();
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_child_can_neither_signal_nor_look_into_processes_outside_its_team() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    for user in users() {
        if user.is_none() && !kernel().scopes {
            println!("skipped without own users: this kernel has no Landlock scopes, so signals are not held back");
            continue;
        }
        let neighbour_user = user.map(|user| OsUser {
            uid: user.uid + 1,
            gid: user.gid + 1,
        });
        let neighbour = Sleeper::start(&world.confinement("beta", neighbour_user));
        let mut attempts = Vec::new();
        for pid in [neighbour.0.id(), std::process::id()] {
            attempts.push(format!("kill:{pid}"));
            for what in ["environ", "mem", "maps", "root/etc/passwd", "cwd/etc/passwd"] {
                attempts.push(format!("read:/proc/{pid}/{what}"));
            }
        }
        assert_eq!(
            succeeded(&world.confinement("alpha", user), &attempts),
            [""; 0],
            "user {user:?}"
        );
    }
}

#[test]
fn a_child_of_a_root_server_has_no_capabilities_even_where_it_stays_root() {
    if !Uid::effective().is_root() || without_landlock() {
        println!("skipped: not root");
        return;
    }
    let world = World::new();
    for user in users() {
        let confinement = world.confinement("alpha", user);
        fs::write(confinement.home.join("mine"), "").unwrap();
        let attempts = vec![
            format!("setuid:{}", 60_999),
            format!("chown:{}", confinement.home.join("mine").display()),
        ];
        assert_eq!(succeeded(&confinement, &attempts), [""; 0], "user {user:?}");
    }
}

#[test]
fn own_users_keep_scratch_apart_even_without_landlock() {
    if !Uid::effective().is_root() {
        println!("skipped: own users need root");
        return;
    }
    let world = World::new();
    let user = |number| OsUser::of_team("t", TeamId(number), None, DEFAULT_UID_BASE).unwrap();
    let mut alpha = world.confinement("alpha", user(7));
    let beta = world.confinement("beta", user(8));
    alpha.landlock = false;
    fs::write(beta.home.join("token"), "t").unwrap();
    let attempts = text(&[("read", beta.home.join("token")), ("list", beta.tmp.clone())]);
    assert_eq!(succeeded(&alpha, &attempts), [""; 0]);
}

#[test]
fn nothing_of_the_servers_environment_reaches_a_child() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    let confinement = world.confinement("alpha", None);
    let script = "import os; print('ENV', sorted(os.environ))";
    let output = command(&launcher(), &confinement, &system_python(), ["-I", "-c", script])
        .unwrap()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let names = said
        .lines()
        .find(|line| line.starts_with("ENV"))
        .expect("it prints its environment");
    let mut expected: Vec<String> = confinement
        .environment(None)
        .into_keys()
        .map(|name| format!("'{name}'"))
        .collect();
    expected.sort();
    assert_eq!(names, format!("ENV [{}]", expected.join(", ")));
}

#[test]
fn what_must_stay_hidden_may_not_lie_in_an_open_folder() {
    if without_landlock() {
        return;
    }
    let world = World::new();
    let grounds = Grounds {
        run_folder: world.at("state/run/alpha"),
        read: vec![world.at("state")],
        ways: Ways::default(),
        hidden: vec![world.at("state/isobar.db")],
    };
    let error = prepare(&world.team("alpha"), None, &grounds).unwrap_err();
    assert!(matches!(error, SandboxError::Exposed { .. }), "{error}");
}

#[test]
fn a_rehearsal_names_the_folder_that_is_closed_to_the_teams_user() {
    if !Uid::effective().is_root() || without_landlock() {
        println!("skipped: own users need root");
        return;
    }
    let world = World::new();
    let confinement = world.confinement("alpha", users()[1]);
    let folders = [world.at("dags/alpha")];
    rehearse(&launcher(), &confinement, &system_python(), &folders).unwrap();
    fs::set_permissions(world.at("dags"), fs::Permissions::from_mode(0o700)).unwrap();
    let error = rehearse(&launcher(), &confinement, &system_python(), &folders)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("chmod o+x {}", world.at("dags").display())),
        "{error}"
    );
}

#[test]
fn the_launcher_refuses_to_be_started_by_hand() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(&launcher().arguments)
        .args(["--", "/bin/true"])
        .env(CONFINEMENT_VARIABLE, "{}")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("never by hand"));
}
