//! All that a team's zygote is started with: environment, walls and variables in one place.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isobar_config::{Config, Team};
use isobar_model::TeamId;

use super::{Environment, EnvironmentError, EnvironmentSpec, variables};
use crate::sandbox::{self, Confinement, Grounds, Launcher, OsUser, SandboxError, Ways};
use crate::zygote::{Launch, PythonSpec, install_agent};

/// How long a zygote's imports may take.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// A team's Python, ready to be started. Keep it while its zygote lives: it holds the environment.
#[derive(Clone)]
pub struct TeamPython {
    /// What to give [`crate::zygote::Zygote::start`].
    pub python: PythonSpec,
    /// The environment; its fingerprint goes into [`crate::processor::ProcessorSpec`].
    pub environment: Environment,
    /// The walls.
    pub confinement: Confinement,
}

/// Why a team's Python cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TeamPythonError {
    /// Its environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Its walls.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The agent could not be written.
    #[error("cannot write Isobar's Python agent below `{path}`: {source}")]
    Agent {
        /// Where.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl EnvironmentSpec {
    /// The specification that follows from the configuration. `number` is the team's.
    ///
    /// # Errors
    /// Where the team's `os_user` cannot be used.
    pub fn from_config(config: &Config, team: &Team, number: TeamId, uid_base: u32) -> Result<Self, SandboxError> {
        Ok(Self {
            team: team.name.to_string(),
            folder: config.environment_folder(team),
            python: team.python.clone(),
            runs_as: OsUser::of_team(team.name.as_str(), number, team.os_user.as_deref(), uid_base)?,
        })
    }
}

/// Puts together what a team's zygote is started with, and tries it out once. Blocking; some 50 ms.
///
/// Nothing is installed: [`super::apply`] comes first, and
/// [`sandbox::make_write_folders`] for all teams, since one team may read what another writes.
///
/// # Errors
/// An environment that is not there or is not Airflow 3.3.2; walls that this host cannot put up.
pub fn team_python(
    config: &Config,
    team: &Team,
    number: TeamId,
    uid_base: u32,
    launcher: &Launcher,
) -> Result<TeamPython, TeamPythonError> {
    let spec = EnvironmentSpec::from_config(config, team, number, uid_base)?;
    let environment = super::ready(&spec)?;
    let agents = config.home.join("agent");
    let agent = std::fs::create_dir_all(&agents)
        .and_then(|()| install_agent(&agents))
        .and_then(|agent| {
            let package = agent.join("isobar_agent");
            let folders = [agents.clone(), agent.clone(), package.clone()];
            let files = std::fs::read_dir(package)?.map(|entry| Ok(entry?.path()));
            folders
                .into_iter()
                .map(Ok)
                .chain(files)
                .try_for_each(|path: io::Result<_>| super::open_to_all(&path?))?;
            Ok(agent)
        })
        .map_err(|source| TeamPythonError::Agent { path: agents, source })?;

    let mut read = environment.read.clone();
    read.push(agent.clone());
    let grounds = Grounds {
        run_folder: config.run_folder(team),
        read,
        ways: Ways::of(config),
        hidden: hidden_from(config, team),
    };
    let confinement = sandbox::prepare(team, spec.runs_as, &grounds)?;
    let confinement = sandbox::rehearse_all_ways(launcher, confinement, &environment.python, &team.folders)?;

    let bin = environment.python.parent();
    let mut all = confinement.environment(bin);
    all.extend(variables(config, team));
    let (walls, launcher) = (confinement.clone(), launcher.clone());
    let python = PythonSpec {
        team: team.name.to_string(),
        python: environment.python.clone(),
        agent,
        env: all
            .into_iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect(),
        cwd: confinement.home.clone(),
        lock_file: confinement.airflow_home.join("zygote.lock"),
        confine: Some(Arc::new(move |command| {
            sandbox::wrap(&launcher, &walls, &command).map_err(io::Error::other)
        })),
        launch: match team.launch {
            isobar_config::Launch::Warm => Launch::Warm,
            isobar_config::Launch::Cold => Launch::Cold,
        },
        start_timeout: START_TIMEOUT,
    };
    Ok(TeamPython {
        python,
        environment,
        confinement,
    })
}

/// What no child of the team may see: the state folder as a whole, logs, configuration, other teams' Dag folders.
fn hidden_from(config: &Config, team: &Team) -> Vec<PathBuf> {
    let mut hidden = vec![config.home.clone(), config.logging.folder.clone()];
    hidden.extend(config.files.iter().chain(&config.file).cloned());
    if let Some(path) = config.database.url.expose().strip_prefix("sqlite://") {
        hidden.push(PathBuf::from(path));
    }
    let others = config.teams.iter().filter(|other| other.name != team.name);
    hidden.extend(others.flat_map(|other| other.folders.iter().cloned()));
    hidden
}
