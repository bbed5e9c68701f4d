//! A real deployment for tests: the built binary, its configuration, Dag folders and clients.
//!
//! Wants `ISOBAR_TEST_PYTHON` (an interpreter with Airflow 3.3.2) and, for PostgreSQL, `ISOBAR_TEST_POSTGRES`;
//! `make test` sets both.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file uses its own part of this"
)]

pub mod client;
mod notes;
mod triggers;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use client::{Answer, Client};
pub use notes::{notes, wait_for_notes};
use tempfile::TempDir;
pub use triggers::{with_evidence, with_triggers};

/// Which database a deployment keeps its metadata in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Database {
    Sqlite,
    Postgres,
}

struct Team {
    name: &'static str,
    more: String,
}

/// A deployment under construction, then running. Everything ends with it.
pub struct Deployment {
    folder: TempDir,
    port: u16,
    database_url: String,
    teams: Vec<Team>,
    users: Vec<(String, String)>,
    more: String,
    parallelism: u32,
    processes: BTreeMap<&'static str, Child>,
}

/// The interpreter with Airflow that tests run their Dags on.
pub fn test_python() -> PathBuf {
    let path = std::env::var_os("ISOBAR_TEST_PYTHON")
        .expect("ISOBAR_TEST_PYTHON must name a Python with Airflow 3.3.2; `make test` sets it");
    PathBuf::from(path)
}

impl Deployment {
    pub fn on(database: Database) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("isobar-test-")
            .tempdir()
            .expect("a temporary folder");
        // Children run as users of their own and must be able to walk down here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let database_url = match database {
            Database::Sqlite => format!("sqlite://{}", folder.path().join("isobar.db").display()),
            Database::Postgres => fresh_postgres(),
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        Self {
            folder,
            port,
            database_url,
            teams: Vec::new(),
            users: Vec::new(),
            more: String::new(),
            parallelism: 32,
            processes: BTreeMap::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Adds a team with a Dag folder; `more` is TOML inside its `[[team]]`.
    pub fn team(mut self, name: &'static str, more: &str) -> Self {
        fs::create_dir_all(self.dags(name)).expect("the team's folder");
        self.teams.push(Team {
            name,
            more: more.to_owned(),
        });
        self
    }

    /// Adds a user whose password is `NAME-password`; `roles` is TOML such as `alpha = "op"`.
    pub fn user(mut self, name: &str, roles: &str) -> Self {
        self.users
            .push((name.to_owned(), format!("[auth.user.teams]\n{roles}\n")));
        self
    }

    /// Adds a user with an organisation role.
    pub fn org_user(mut self, name: &str, role: &str) -> Self {
        self.users.push((name.to_owned(), format!("org = \"{role}\"\n")));
        self
    }

    /// Adds TOML at the top of the configuration.
    pub fn with(mut self, toml: &str) -> Self {
        self.more.push_str(toml);
        self.more.push('\n');
        self
    }

    /// Task instances that may run at once in the whole deployment.
    pub fn more_parallelism(mut self, parallelism: u32) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// The Dag folder of a team.
    pub fn dags(&self, team: &str) -> PathBuf {
        self.folder.path().join("teams").join(team)
    }

    /// Writes a Dag file as a whole, so that a parse never sees half of it.
    pub fn write_dag(&self, team: &str, file: &str, text: &str) {
        let target = self.dags(team).join(file);
        let draft = self.folder.path().join(format!("{file}.draft"));
        fs::write(&draft, text).expect("a Dag file");
        fs::rename(draft, target).expect("a Dag file in its place");
    }

    pub fn dag(self, team: &str, file: &str, text: &str) -> Self {
        self.write_dag(team, file, text);
        self
    }

    /// A folder that a team's children may write, for tasks that leave evidence.
    pub fn evidence(&self, team: &str) -> PathBuf {
        let folder = self.folder.path().join("evidence").join(team);
        fs::create_dir_all(&folder).expect("the evidence folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("permissions");
        folder
    }

    fn config_text(&self) -> String {
        let venv = test_python()
            .parent()
            .and_then(Path::parent)
            .expect("a virtual environment")
            .to_owned();
        let mut text = format!(
            "{}\n[core]\nmulti_team = true\ndags_are_paused_at_creation = false\nparallelism = {}\n\
             [database]\nurl = \"{}\"\n[server]\nport = {}\n[auth]\nmanager = \"simple\"\n",
            self.more, self.parallelism, self.database_url, self.port
        );
        for (name, roles) in &self.users {
            let _ = write!(
                text,
                "[[auth.user]]\nname = \"{name}\"\npassword = \"{name}-password\"\n{roles}"
            );
        }
        for team in &self.teams {
            let (name, folder) = (team.name, self.dags(team.name));
            let evidence = self.evidence(name);
            let _ = write!(
                text,
                "[[team]]\nname = \"{name}\"\nfolders = [\"{}\"]\nwrite_folders = [\"{}\"]\n{}\n",
                folder.display(),
                evidence.display(),
                if team.more.starts_with("venv = ") {
                    team.more.clone()
                } else {
                    format!("venv = \"{}\"\n{}", venv.display(), team.more)
                }
            );
            if !team.more.contains("[[team.executor]]") {
                text.push_str("[[team.executor]]\nname = \"local\"\ntype = \"local\"\nparallelism = 8\n");
            }
        }
        text
    }

    /// The command line of the built binary with this deployment's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let config = self.folder.path().join("isobar.toml");
        fs::write(&config, self.config_text()).expect("the configuration");
        let binary = std::env::var_os("ISOBAR_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_isobar").into());
        let mut command = Command::new(binary);
        command
            .arg("--config")
            .arg(config)
            .args(arguments)
            .env("ISOBAR_HOME", self.folder.path().join("home"))
            .current_dir(self.folder.path())
            .process_group(0);
        command
    }

    /// Runs a command to its end; its standard output, or a failure that shows everything.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the binary runs");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "`isobar {}` failed:\n{out}\n{err}",
            arguments.join(" ")
        );
        out.into_owned()
    }

    /// Starts a component (`standalone`, `api-server`, `scheduler`); its output goes to `COMPONENT.log`.
    pub fn start(&mut self, component: &'static str) {
        self.start_as(component, component);
    }

    /// Starts a component under a name of its own, beside others of its kind.
    pub fn start_as(&mut self, name: &'static str, component: &'static str) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name))
            .expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let child = self
            .command(&[component])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        self.processes.insert(name, child);
        if component != "scheduler" {
            self.wait_for_health(name);
        }
    }

    /// Starts one more server of a kind that runs, with a state folder of its own, as it would have on another host. It goes
    /// by `name` from now on; `environment` is for it alone.
    pub fn start_another(&mut self, component: &str, name: &'static str, environment: &[(&str, &str)]) {
        let home = self.folder.path().join(format!("home-{name}"));
        fs::create_dir_all(home.join("keys")).expect("a state folder");
        let key = self.folder.path().join("home/keys/secret.key");
        fs::copy(key, home.join("keys/secret.key")).expect("the organisation's secret");
        let log = fs::File::create(self.log(name)).expect("a log file");
        let errors = log.try_clone().expect("a log file");
        let child = self
            .command(&[component])
            .env("ISOBAR_HOME", home)
            .env("ISOBAR__LOGGING__FOLDER", self.folder.path().join("home/logs"))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        self.processes.insert(name, child);
    }

    fn log(&self, component: &str) -> PathBuf {
        self.folder.path().join(format!("{component}.log"))
    }

    fn wait_for_health(&mut self, component: &'static str) {
        let address = format!("http://127.0.0.1:{}/api/v2/monitor/health", self.port);
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if ureq::get(&address).call().is_ok() {
                return;
            }
            let child = self.processes.get_mut(component).expect("the component was started");
            if let Some(status) = child.try_wait().expect("its state") {
                panic!("{component} ended with {status}:\n{}", self.output(component));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{component} is not healthy after 60 s:\n{}", self.output(component));
    }

    /// What a component has written so far.
    pub fn output(&self, component: &str) -> String {
        fs::read_to_string(self.log(component)).unwrap_or_default()
    }

    pub fn pid(&self, component: &str) -> u32 {
        self.processes[component].id()
    }

    /// `kill -9` of the component alone; its children are left to notice by themselves.
    pub fn kill(&mut self, component: &'static str) {
        let mut child = self.processes.remove(component).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Asks the component to stop and waits until it did.
    pub fn stop(&mut self, component: &'static str) {
        let mut child = self.processes.remove(component).expect("it runs");
        let pid = child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        let end = Instant::now() + Duration::from_secs(30);
        while child.try_wait().expect("its state").is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                panic!(
                    "{component} did not stop within 30 s of SIGTERM:\n{}",
                    self.output(component)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A client that is logged in as a user of this deployment.
    pub fn client(&self, user: &str) -> Client {
        Client::log_in(self.port, user, &format!("{user}-password"))
    }

    /// A client that did not log in.
    pub fn stranger(&self) -> Client {
        Client::stranger(self.port)
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for (name, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(60).collect();
                eprintln!("--- the end of {name}.log");
                for line in tail.iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// A new database in the cluster of `ISOBAR_TEST_POSTGRES`.
fn fresh_postgres() -> String {
    let cluster = std::env::var("ISOBAR_TEST_POSTGRES")
        .expect("ISOBAR_TEST_POSTGRES must be the address of a PostgreSQL to make databases in; `make test` sets it");
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock")
        .as_nanos();
    let name = format!("t_{}_{nanos}", std::process::id());
    let status = Command::new("psql")
        .args([&cluster, "-qc", &format!("CREATE DATABASE {name}")])
        .status()
        .expect("psql runs");
    assert!(status.success(), "psql could not make a database in {cluster}");
    let (server, _) = cluster.rsplit_once('/').expect("an address with a database name");
    format!("{server}/{name}")
}
