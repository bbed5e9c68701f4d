//! One team, as declared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use isobar_model::TeamName;

use crate::{Connection, Pool, Secret, Variable};

/// `[[team]]`: a team as the configuration declares it. Its number is given by the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Its name (rule 3).
    pub name: TeamName,
    /// The name it had before, where it is being renamed.
    pub formerly: Option<TeamName>,
    /// Take an archived team of that name back, rows and all.
    pub restore: bool,
    /// Its Dag folders: absolute, existing, links resolved, apart from every other team's (rule 2). The first is the
    /// bundle `dags-folder`.
    pub folders: Vec<PathBuf>,
    /// Its Python environment.
    pub python: Python,
    /// Environment variables of its children. Secret, since people put secrets there.
    pub env: BTreeMap<String, Secret>,
    /// More folders its tasks may read, beside the Dag folders and the environment. Absolute.
    pub read_folders: Vec<PathBuf>,
    /// Its Airflow plugins (`core.plugins_folder` of its children), readable for them. Absolute.
    pub plugins_folder: Option<PathBuf>,
    /// Folders its tasks may read and write; made when missing. Absolute.
    pub write_folders: Vec<PathBuf>,
    /// Whether its children find Airflow imported. Default warm.
    pub launch: Launch,
    /// How its children are kept to themselves (rule 11).
    pub isolation: Isolation,
    /// The OS user its children run as, by name or number, where Isobar runs as root. None: chosen by Isobar.
    pub os_user: Option<String>,
    /// Its executors; the first one takes tasks that name none (rule 10). Never empty.
    pub executors: Vec<Executor>,
    /// Its part of the slots beside other teams (rule 27). Default 1.
    pub weight: u32,
    /// Slots it gets whatever others want (rule 27). Default 0.
    pub guaranteed: u32,
    /// Most task instances it may run at once (rule 27). None: as many as there are.
    pub max_running: Option<u32>,
    /// Whose `default_pool` its tasks use (rule 18).
    pub default_pool: DefaultPool,
    /// Pools made for it.
    pub pools: Vec<Pool>,
    /// Connections made for it.
    pub connections: Vec<Connection>,
    /// Variables made for it.
    pub variables: Vec<Variable>,
    /// What other teams may do with its Dags (rule 20).
    pub consents: Vec<Consent>,
    /// What its own managers may change while it runs (rule 23).
    pub tunable: Vec<Tunable>,
    /// New Dags arrive paused; none: as `core.dags_are_paused_at_creation` says.
    pub dags_are_paused_at_creation: Option<bool>,
}

impl Team {
    /// A team with every default and one local executor, without folders.
    #[must_use]
    pub fn new(name: TeamName) -> Self {
        Self {
            name,
            formerly: None,
            restore: false,
            folders: Vec::new(),
            python: Python::default(),
            env: BTreeMap::new(),
            read_folders: Vec::new(),
            plugins_folder: None,
            write_folders: Vec::new(),
            launch: Launch::Warm,
            isolation: Isolation::Landlock,
            os_user: None,
            executors: vec![Executor::local()],
            weight: 1,
            guaranteed: 0,
            max_running: None,
            default_pool: DefaultPool::Own,
            pools: Vec::new(),
            connections: Vec::new(),
            variables: Vec::new(),
            consents: Vec::new(),
            tunable: Vec::new(),
            dags_are_paused_at_creation: None,
        }
    }

    /// The executor that a task's `executor=` names: by instance name, else the first of that type.
    #[must_use]
    pub fn executor(&self, name: &str) -> Option<&Executor> {
        self.executors
            .iter()
            .find(|executor| executor.name == name)
            .or_else(|| self.executors.iter().find(|executor| executor.kind.answers_to(name)))
    }
}

/// What an Airflow variable is set to in an environment (`AIRFLOW_VAR_<KEY>`): it goes before what is stored.
#[must_use]
pub fn variable_of_env<'a>(env: &'a BTreeMap<String, Secret>, key: &str) -> Option<&'a Secret> {
    env.get(&format!("AIRFLOW_VAR_{}", key.to_uppercase()))
}

/// A team's Python environment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Python {
    /// The interpreter to build it from: a version (`3.11`) or a path. None: `python3` as found.
    pub interpreter: Option<String>,
    /// An existing virtual environment that is used as it is and never changed. Absolute.
    pub venv: Option<PathBuf>,
    /// What is installed beside Airflow.
    pub requirements: Requirements,
}

/// What a team wants installed beside Airflow.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Requirements {
    /// Nothing more than Airflow's Task SDK.
    #[default]
    None,
    /// A requirements file in pip's format. Absolute.
    File(PathBuf),
    /// Requirements written in the configuration, such as `pandas==2.2.3`.
    List(Vec<String>),
}

/// Whether a team's children find Airflow imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// `warm`: it is imported once, before the first fork.
    Warm,
    /// `cold`: each child imports it for itself, in some 1.5 s.
    Cold,
}

impl Launch {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cold => "cold",
        }
    }
}

/// How a team's children are kept away from other teams' files (rule 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// `landlock`: a file-system view of their own; start-up refuses where the kernel cannot give it.
    Landlock,
    /// `none`: written down by somebody who knows.
    None,
}

impl Isolation {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::None => "none",
        }
    }
}

/// Whose `default_pool` a team's tasks use (rule 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultPool {
    /// `own`: a pool of the team.
    Own,
    /// `shared`: the organisation's.
    Shared,
}

impl DefaultPool {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Shared => "shared",
        }
    }
}

/// One executor of a team. Several of one kind are allowed (rule 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executor {
    /// Its name inside the team.
    pub name: String,
    /// What it is.
    pub kind: ExecutorKind,
    /// Tasks it runs at once. None: as many as the organisation's `core.parallelism`.
    pub parallelism: Option<u32>,
}

impl Executor {
    /// A local executor called `local`, bounded by `core.parallelism` only.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: "local".to_owned(),
            kind: ExecutorKind::Local,
            parallelism: None,
        }
    }
}

/// The kinds of executor that exist today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutorKind {
    /// `local`: children of Isobar on its own host.
    Local,
}

impl ExecutorKind {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
        }
    }

    /// Whether Airflow's or our name for the kind is meant.
    #[must_use]
    pub fn answers_to(self, name: &str) -> bool {
        match self {
            Self::Local => matches!(
                name,
                "local" | "LocalExecutor" | "airflow.executors.local_executor.LocalExecutor"
            ),
        }
    }
}

/// `[[team.consent]]`: what other teams may do with this team's Dags (rule 20). All lists are globs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The Dags it is about. Default `["*"]`.
    pub dags: Vec<String>,
    /// The teams that may.
    pub teams: Vec<String>,
    /// What they may do.
    pub actions: Vec<ConsentAction>,
}

/// What one team may let another do with its Dags (rule 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsentAction {
    /// `trigger`
    Trigger,
    /// `read`
    Read,
    /// `clear`
    Clear,
}

impl ConsentAction {
    /// All actions.
    pub const ALL: [Self; 3] = [Self::Trigger, Self::Read, Self::Clear];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Read => "read",
            Self::Clear => "clear",
        }
    }
}

/// A setting that a team's own managers may change while it runs (rule 23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunable {
    /// `max_running`
    MaxRunning,
    /// `executor.parallelism`
    ExecutorParallelism,
    /// `pools`
    Pools,
}

impl Tunable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MaxRunning, Self::ExecutorParallelism, Self::Pools];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MaxRunning => "max_running",
            Self::ExecutorParallelism => "executor.parallelism",
            Self::Pools => "pools",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_environment_is_found_by_its_key_in_capitals() {
        let env = BTreeMap::from([("AIRFLOW_VAR_MAX_LENGTH".to_owned(), Secret::new("90"))]);
        let found = |key| variable_of_env(&env, key).map(Secret::expose);
        assert_eq!(
            (found("max_length"), found("Max_Length"), found("length")),
            (Some("90"), Some("90"), None)
        );
    }
}
