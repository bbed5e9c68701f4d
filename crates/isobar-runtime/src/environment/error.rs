//! Why a team has no usable Python, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::PINS;

/// Why an environment cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No interpreter that would do.
    #[error("team `{team}`: no usable Python{wanted}: {tried}\nhint: {hint}")]
    NoInterpreter {
        /// The team.
        team: String,
        /// ` for "3.12"`, or nothing.
        wanted: String,
        /// What was tried and why it will not do.
        tried: String,
        /// What to do.
        hint: String,
    },
    /// The environment has to be made first.
    #[error("team `{team}`: its Python environment is not made yet\nhint: run `isobar teams apply`")]
    NotMade {
        /// The team.
        team: String,
    },
    /// A given environment has no Airflow.
    #[error(
        "team `{team}`: there is no Airflow in `{venv}`; Isobar needs {needed}\nhint: `{venv}/bin/python -m pip install \
         {pins}`, or leave `venv` out and let Isobar make the environment from `requirements`"
    )]
    NoAirflow {
        /// The team.
        team: String,
        /// The environment.
        venv: PathBuf,
        /// What is needed, in words.
        needed: String,
        /// What to install.
        pins: String,
    },
    /// An environment has another Airflow.
    #[error(
        "team `{team}`: `{venv}` has {package} {found}, and Isobar speaks the wires of {package} {needed} \
         only\nhint: `{venv}/bin/python -m pip install {pins}`",
        pins = PINS.join(" ")
    )]
    OtherAirflow {
        /// The team.
        team: String,
        /// The environment.
        venv: PathBuf,
        /// The package.
        package: &'static str,
        /// The version found.
        found: String,
        /// The version needed.
        needed: &'static str,
    },
    /// The interpreter did not answer.
    #[error("team `{team}`: `{python}` does not work: {reason}\nhint: check the team's `python` settings")]
    Broken {
        /// The team.
        team: String,
        /// The interpreter.
        python: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// The requirements cannot be read.
    #[error("team `{team}`: cannot read the requirements `{path}`: {source}")]
    Requirements {
        /// The team.
        team: String,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The installer failed.
    #[error("team `{team}`: {step} failed:\n{output}\nhint: {hint}")]
    Install {
        /// The team.
        team: String,
        /// Which step.
        step: String,
        /// The installer's last lines.
        output: String,
        /// What to do.
        hint: String,
    },
    /// A folder or file could not be made, read or removed.
    #[error("team `{team}`: cannot use `{path}`: {source}")]
    Folder {
        /// The team.
        team: String,
        /// The path.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}
