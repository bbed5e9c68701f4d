//! The settings of the whole deployment, section by section, with their defaults.
//!
//! Where a key has an Airflow namesake, its default is Airflow 3.3.2's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Auth, Connection, Pool, Secret, Team, Variable};

/// Everything Isobar was told: files, then environment, then defaults; checked, with absolute paths.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from; none where only the environment spoke.
    pub file: Option<PathBuf>,
    /// All files that were read, the main one first; they may hold secrets. Absolute.
    pub files: Vec<PathBuf>,
    /// The state folder (`ISOBAR_HOME`, or `core.home`, or `.isobar` beside the file): logs, environments, keys, SQLite.
    pub home: PathBuf,
    /// `[core]`
    pub core: Core,
    /// `[database]`
    pub database: Database,
    /// `[server]`
    pub server: Server,
    /// `[scheduler]`
    pub scheduler: Scheduler,
    /// `[triggerer]`
    pub triggerer: Triggerer,
    /// `[parsing]`
    pub parsing: Parsing,
    /// `[tasks]`
    pub tasks: Tasks,
    /// `[logging]`
    pub logging: Logging,
    /// `[auth]`
    pub auth: Auth,
    /// `[connections]`
    pub connections: Connections,
    /// `[shared]`: what every team may use.
    pub shared: Shared,
    /// The declared teams, in the order of the file. With multi-team off: exactly one, named `default` (rule 1).
    pub teams: Vec<Team>,
}

impl Config {
    /// What a configuration that says nothing amounts to, with its state in `home`: one team `default` with the Dag
    /// folder `home/dags`.
    #[must_use]
    pub fn with_home(home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        let mut team = Team::new(isobar_model::TeamName::default_team());
        team.folders = vec![home.join("dags")];
        Self {
            file: None,
            files: Vec::new(),
            core: Core::default(),
            database: Database::in_home(&home),
            server: Server::default(),
            scheduler: Scheduler::default(),
            triggerer: Triggerer::default(),
            parsing: Parsing::default(),
            tasks: Tasks::default(),
            logging: Logging::in_home(&home),
            auth: Auth::in_home(&home),
            connections: Connections::default(),
            shared: Shared::default(),
            teams: vec![team],
            home,
        }
    }

    /// The declared team of that name.
    #[must_use]
    pub fn team(&self, name: &str) -> Option<&Team> {
        self.teams.iter().find(|team| team.name.as_str() == name)
    }

    /// Where one team's Python environment is made: `home/envs/TEAM`, unless the team names a `venv` of its own.
    #[must_use]
    pub fn environment_folder(&self, team: &Team) -> PathBuf {
        (team.python.venv.clone()).unwrap_or_else(|| self.home.join("envs").join(team.name.as_str()))
    }

    /// Where one team's sockets, locks and scratch files live while it runs.
    #[must_use]
    pub fn run_folder(&self, team: &Team) -> PathBuf {
        self.home.join("run").join(team.name.as_str())
    }

    /// Where one team's task and parse logs live; log paths start with the team (rule 29).
    #[must_use]
    pub fn log_folder(&self, team: &Team) -> PathBuf {
        self.logging.folder.join(team.name.as_str())
    }
}

/// `[core]`: what holds for every team.
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    /// Several teams (rule 1). Default false: one built-in team, and no team shows anywhere.
    pub multi_team: bool,
    /// Task instances that run at once in the whole deployment. Default 32.
    pub parallelism: u32,
    /// New Dags arrive paused. Default true, as in Airflow.
    pub dags_are_paused_at_creation: bool,
    /// Active runs of one Dag, where the Dag does not say. Default 16.
    pub max_active_runs_per_dag: u32,
    /// Running task instances in one run, where the Dag does not say. Default 16.
    pub max_active_tasks_per_dag: u32,
    /// Failed runs in a row after which a Dag is paused; 0 = never. Default 0.
    pub max_consecutive_failed_dag_runs_per_dag: u32,
    /// Retries of a task that does not say. Default 0.
    pub default_task_retries: u32,
    /// Wait before a retry, where the task does not say. Default 300 s.
    pub default_task_retry_delay: Duration,
    /// Upper bound of the wait before a retry. Default 24 h.
    pub max_task_retry_delay: Duration,
    /// Time limit of a task that does not say. Default none.
    pub default_task_execution_timeout: Option<Duration>,
    /// `downstream`, `upstream` or `absolute`. Default `downstream`.
    pub default_task_weight_rule: isobar_model::WeightRule,
    /// Slots of a team's `default_pool` when it is made. Default 128.
    pub default_pool_task_slot_count: i32,
    /// Longest list or dict that a task may be mapped over. Default 1024.
    pub max_map_length: u32,
    /// Time zone of Dags that name none. Default `UTC`.
    pub default_timezone: String,
    /// Runs of a task whose rendered fields are kept. Default 30.
    pub num_dag_runs_to_retain_rendered_fields: u32,
    /// Cleared runs, and those that a backfill runs again, go on with the Dag's latest version, where neither the request nor the
    /// Dag says. Default none: those of a backfill do, cleared ones keep theirs.
    pub rerun_with_latest_version: Option<bool>,
    /// Mask values of connections and variables whose names look secret. Default true.
    pub hide_sensitive_var_conn_fields: bool,
    /// More names that look secret, beside Airflow's own list.
    pub sensitive_var_conn_names: Vec<String>,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            multi_team: false,
            parallelism: 32,
            dags_are_paused_at_creation: true,
            max_active_runs_per_dag: 16,
            max_active_tasks_per_dag: 16,
            max_consecutive_failed_dag_runs_per_dag: 0,
            default_task_retries: 0,
            default_task_retry_delay: Duration::from_secs(300),
            max_task_retry_delay: Duration::from_secs(86_400),
            default_task_execution_timeout: None,
            default_task_weight_rule: isobar_model::WeightRule::Downstream,
            default_pool_task_slot_count: 128,
            max_map_length: 1024,
            default_timezone: "UTC".to_owned(),
            num_dag_runs_to_retain_rendered_fields: 30,
            rerun_with_latest_version: None,
            hide_sensitive_var_conn_fields: true,
            sensitive_var_conn_names: Vec::new(),
        }
    }
}

/// `[database]`: where the metadata lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// `sqlite:///absolute/path` (for `standalone` only) or `postgresql://user:password@host/name`.
    /// Default: `isobar.db` in the state folder. Secret, since it may hold a password.
    pub url: Secret,
    /// Connections that one process holds open to PostgreSQL at most, 4 or more. Default 16.
    pub pool_size: u32,
}

impl Database {
    /// SQLite in the state folder.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        Self {
            url: Secret::new(format!("sqlite://{}", home.join("isobar.db").display())),
            pool_size: 16,
        }
    }

    /// Whether the metadata lives in a SQLite file.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        self.url.expose().starts_with("sqlite:")
    }
}

/// `[server]`: the HTTP door.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Address to listen on. Default `127.0.0.1`.
    pub host: String,
    /// Port to listen on. Default 8080.
    pub port: u16,
    /// The address that browsers and tasks use, without a slash at the end. Default `http://HOST:PORT`.
    pub base_url: String,
    /// Most rows in one page of a list. Default 100.
    pub maximum_page_limit: u32,
    /// Rows in a page when the caller does not say. Default 50.
    pub fallback_page_limit: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            base_url: "http://127.0.0.1:8080".to_owned(),
            maximum_page_limit: 100,
            fallback_page_limit: 50,
        }
    }
}

/// `[scheduler]`
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    /// Make up for missed intervals, where the Dag does not say. Default false.
    pub catchup_by_default: bool,
    /// A cron schedule has a data interval that ends when the run starts. Default false, as in Airflow 3.
    pub create_cron_data_intervals: bool,
    /// As above, for a `timedelta` schedule. Default false.
    pub create_delta_data_intervals: bool,
    /// Make runs by schedule and when assets change; off: only by hand, by API and by backfill. Default true.
    pub use_job_schedule: bool,
    /// As many partitions may one that arrives be mapped to, where the mapper does not say. Default 1000.
    pub partition_mapper_max_downstream_keys: u32,
    /// How long a task may stay queued before it is queued anew. Default 600 s.
    pub task_queued_timeout: Duration,
    /// How often a task is queued anew before it is failed. Default 2.
    pub num_stuck_in_queued_retries: u32,
    /// How long a team's own Python (custom timetables, weight rules, policies) may think about one question. Default 10 s.
    pub question_timeout: Duration,
    /// How long another scheduler waits before it takes over the work of a silent one. Default 10 s.
    pub lease: Duration,
    /// How often the slow sweep looks for what no wake-up announced. Default 30 s.
    pub sweep_interval: Duration,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            catchup_by_default: false,
            create_cron_data_intervals: false,
            create_delta_data_intervals: false,
            use_job_schedule: true,
            partition_mapper_max_downstream_keys: 1000,
            task_queued_timeout: Duration::from_secs(600),
            num_stuck_in_queued_retries: 2,
            question_timeout: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(30),
        }
    }
}

/// `[triggerer]`: the triggerers of each team.
#[derive(Clone, Debug, PartialEq)]
pub struct Triggerer {
    /// Triggers that one triggerer of a team runs at once. Default 1000.
    pub capacity: u32,
    /// Triggers that a triggerer takes before others of its team have had a chance. Default 50.
    pub max_trigger_to_select_per_loop: u32,
    /// Silence after which another triggerer of the team takes over. Default 30 s.
    pub triggerer_health_check_threshold: Duration,
    /// Silence of a triggerer's Python after which it counts as stuck, and says no more that it lives; 0 = never. Default 30 s.
    pub runner_health_check_threshold: Duration,
}

impl Default for Triggerer {
    fn default() -> Self {
        Self {
            capacity: 1000,
            max_trigger_to_select_per_loop: 50,
            triggerer_health_check_threshold: Duration::from_secs(30),
            runner_health_check_threshold: Duration::from_secs(30),
        }
    }
}

/// `[parsing]`: how Dag files are read, for each team.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsing {
    /// Files of one team parsed at once. Default 2.
    pub processes: u32,
    /// Time one file may take, all told, before its process is killed. Default 50 s.
    pub timeout: Duration,
    /// Time the import of one file may take before it is an import error. Default 30 s.
    pub import_timeout: Duration,
    /// How often the folders are listed in case a file event was lost. Default 300 s.
    pub rescan_interval: Duration,
    /// Skip Python files that mention neither `dag` nor `airflow`. Default true.
    pub safe_mode: bool,
}

impl Default for Parsing {
    fn default() -> Self {
        Self {
            processes: 2,
            timeout: Duration::from_secs(50),
            import_timeout: Duration::from_secs(30),
            rescan_interval: Duration::from_secs(300),
            safe_mode: true,
        }
    }
}

/// `[tasks]`: the timers around one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Tasks {
    /// How often a supervisor says that its task lives. Default 5 s.
    pub heartbeat_interval: Duration,
    /// Silence after which a task counts as lost. Default 300 s.
    pub heartbeat_timeout: Duration,
    /// Time a task that has reported success may still run before it is killed. Default 20 s.
    pub success_overtime: Duration,
    /// Time between SIGTERM and SIGKILL. Default 5 s, which is what Airflow's supervisor waits.
    pub kill_grace: Duration,
    /// Lifetime of a task's token, while it is queued and while it runs; one in use is renewed. Default 600 s.
    pub token_lifetime: Duration,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(300),
            success_overtime: Duration::from_secs(20),
            kill_grace: Duration::from_secs(5),
            token_lifetime: Duration::from_secs(600),
        }
    }
}

/// `[logging]`
#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    /// Folder of task and parse logs, one sub-folder per team. Default `logs` in the state folder.
    pub folder: PathBuf,
    /// Level of task logs. Default `INFO`.
    pub level: LogLevel,
    /// Isobar's own log as JSON lines. Default false.
    pub json: bool,
    /// Secrets shorter than this are not masked, since that would blacken ordinary text. Default 5 characters.
    pub min_length_masked_secret: u32,
}

impl Logging {
    /// Logs in the state folder.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        Self {
            folder: home.join("logs"),
            level: LogLevel::Info,
            json: false,
            min_length_masked_secret: 5,
        }
    }
}

/// A log level, in Python's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `DEBUG`
    Debug,
    /// `INFO`
    Info,
    /// `WARNING`
    Warning,
    /// `ERROR`
    Error,
    /// `CRITICAL`
    Critical,
}

impl LogLevel {
    /// All levels, most talkative first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Python's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// `[connections]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Where connections may come from (rule 15).
    pub source: ConnectionSource,
}

/// Where connections may come from (rule 15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionSource {
    /// `all`: UI, API, configuration, environment, secrets backends.
    #[default]
    All,
    /// `secrets-only`: from secrets backends alone. Refused when the configuration is read, until there are such backends.
    SecretsOnly,
}

impl ConnectionSource {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::SecretsOnly => "secrets-only",
        }
    }
}

/// `[shared]`: what belongs to the organisation and every team may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Shared pools.
    pub pools: Vec<Pool>,
    /// Shared connections.
    pub connections: Vec<Connection>,
    /// Shared variables.
    pub variables: Vec<Variable>,
}
