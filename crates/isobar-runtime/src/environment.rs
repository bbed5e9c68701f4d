//! A team's Python environment: made, kept and checked.
//!
//! Each environment is a virtual environment in `<state>/envs/<team>/<fingerprint>`. The fingerprint covers the
//! interpreter, what Isobar pins and what the team requires, so a changed requirement makes a new environment beside
//! the old one, and the old one goes when no running process uses it. An environment counts only with its marker,
//! which is written last: what a `kill -9` left half made is made again.
//!
//! A team may bring a `venv` of its own instead; it is looked at and never changed.
//!
//! [`apply`] installs, for `isobar teams apply` and for a server that finds an environment missing; [`ready`] only looks.

mod error;
mod fingerprint;
mod hold;
mod install;
mod interpreter;
mod probe;
mod team_python;
mod variables;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isobar_config::Python;
use serde::{Deserialize, Serialize};

pub use error::EnvironmentError;
pub use fingerprint::{AIRFLOW_VERSION, PINS, TASK_SDK_VERSION};
use hold::{Hold, Making};
pub use interpreter::Interpreter;
use probe::Probe;
pub use team_python::{TeamPython, TeamPythonError, team_python};
pub use variables::variables;

/// Written last into an environment; its absence means: half made.
const MARKER: &str = "isobar-environment.json";

/// What an environment is made from.
#[derive(Clone, Debug)]
pub struct EnvironmentSpec {
    /// The team, for messages.
    pub team: String,
    /// The folder of the team's environments: [`isobar_config::Config::environment_folder`].
    pub folder: PathBuf,
    /// What the configuration says.
    pub python: Python,
    /// The user that will run it, where it is not ours: an interpreter that this user cannot reach is passed over.
    pub runs_as: Option<crate::sandbox::OsUser>,
}

/// A team's environment, ready for use. While a clone of it lives, nobody removes its folder.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The interpreter to start.
    pub python: PathBuf,
    /// Changes when anything that a Dag file can import may have changed; see [`isobar_wire::agent::KnownFile`].
    pub fingerprint: String,
    /// The version of Airflow's core.
    pub airflow_version: String,
    /// The version of Python, such as `3.11.7`.
    pub python_version: String,
    /// Folders that its processes must be able to read: the environment, its base Python, further import paths.
    pub read: Vec<PathBuf>,
    /// Whether Isobar made it (false: the team brought it).
    pub made: bool,
    /// Where its packages lie, where others change it.
    packages: Option<PathBuf>,
    _hold: Option<Arc<Hold>>,
}

/// A `venv` that changed less than this ago may still be changing.
const SETTLED: Duration = Duration::from_secs(3);

impl Environment {
    /// Whether `spec` means another environment by now, and that one is ready. Takes a millisecond where nothing
    /// changed.
    #[must_use]
    pub fn is_outdated(&self, spec: &EnvironmentSpec) -> bool {
        if let Some(packages) = &self.packages {
            let changed = fs::metadata(packages).and_then(|found| found.modified());
            let settled = changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SETTLED));
            if !settled || probe::stamp(&self.python_version, packages) == self.fingerprint {
                return false;
            }
        }
        ready(spec).is_ok_and(|now| now.fingerprint != self.fingerprint)
    }
}

/// What [`apply`] would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: it is there, or the team brings its own.
    Keep {
        /// Its folder.
        folder: PathBuf,
    },
    /// Make an environment.
    Make {
        /// Where.
        folder: PathBuf,
        /// From which interpreter.
        interpreter: Interpreter,
        /// Why: nothing there, something changed, or half made.
        why: &'static str,
    },
}

/// The marker's contents: how it was made, and what a probe found then.
#[derive(Serialize, Deserialize)]
struct Marker {
    fingerprint: String,
    interpreter: Interpreter,
    installer: String,
    probe: Probe,
}

/// Says what [`apply`] would do, and changes nothing.
///
/// # Errors
/// As [`apply`], but for the installing itself.
pub fn plan(spec: &EnvironmentSpec) -> Result<Plan, EnvironmentError> {
    if let Some(venv) = &spec.python.venv {
        return Ok(Plan::Keep { folder: venv.clone() });
    }
    let interpreter = Interpreter::find(spec)?;
    let fingerprint = fingerprint::of(spec, &interpreter)?;
    let folder = spec.folder.join(&fingerprint);
    Ok(match (read_marker(&folder), folder.exists()) {
        (Some(_), _) => Plan::Keep { folder },
        (None, exists) => {
            let others = || fs::read_dir(&spec.folder).is_ok_and(|mut entries| entries.any(|e| is_environment(&e)));
            let why = match exists {
                true => "an earlier attempt was cut short",
                false if others() => "its requirements or its Python changed",
                false => "there is none yet",
            };
            Plan::Make {
                folder,
                interpreter,
                why,
            }
        }
    })
}

/// Makes the environment that the configuration asks for, unless it is there, and removes older ones that no process
/// uses. `progress` gets lines for a person; installing takes from seconds to minutes.
///
/// Several processes may do this at once: one installs, the others wait for it. Killed at any moment, the next call
/// begins again.
///
/// # Errors
/// No usable interpreter, an Airflow other than [`AIRFLOW_VERSION`], requirements that cannot be installed beside it.
pub fn apply(spec: &EnvironmentSpec, progress: &mut dyn FnMut(&str)) -> Result<Environment, EnvironmentError> {
    let (folder, interpreter, why) = match plan(spec)? {
        Plan::Keep { .. } if spec.python.venv.is_some() => return ready(spec),
        Plan::Keep { folder } => {
            let environment = open(spec, &folder)?;
            sweep(spec, &environment.fingerprint, progress);
            return Ok(environment);
        }
        Plan::Make {
            folder,
            interpreter,
            why,
        } => (folder, interpreter, why),
    };
    let failed = |source| EnvironmentError::Folder {
        team: spec.team.clone(),
        path: folder.clone(),
        source,
    };
    fs::create_dir_all(&spec.folder).map_err(failed)?;
    for folder in [Some(&*spec.folder), spec.folder.parent()].into_iter().flatten() {
        open_to_all(folder).map_err(failed)?;
    }
    let making = Making::begin(&spec.folder, || {
        progress(&format!(
            "{}: waiting for another process that is making environments",
            spec.team
        ));
    })
    .map_err(failed)?;
    let fingerprint = fingerprint::of(spec, &interpreter)?;
    if read_marker(&folder).is_none() {
        let started = Instant::now();
        progress(&format!(
            "{}: making a Python {} environment ({why})",
            spec.team, interpreter.version
        ));
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(failed)?;
        }
        let installer = install::install(spec, &interpreter, &folder, &making, progress)?;
        let probe = probe::probe(&spec.team, &folder.join("bin/python"))?;
        probe.require_pins(&spec.team, &folder)?;
        let marker = Marker {
            fingerprint: fingerprint.clone(),
            interpreter,
            installer,
            probe,
        };
        write_marker(&folder, &marker).map_err(failed)?;
        progress(&format!(
            "{}: environment ready after {} s",
            spec.team,
            started.elapsed().as_secs()
        ));
    }
    // Held before the making lock goes, so that no other process can sweep it away in between.
    let environment = open(spec, &folder)?;
    drop(making);
    sweep(spec, &fingerprint, progress);
    Ok(environment)
}

/// The environment as it stands, without installing anything; takes a millisecond for one of ours,
/// some 50 for a given `venv`, which is asked what it holds.
///
/// # Errors
/// [`EnvironmentError::NotMade`] where `isobar teams apply` has to be run first; a given `venv` that has no Airflow or
/// another one.
pub fn ready(spec: &EnvironmentSpec) -> Result<Environment, EnvironmentError> {
    if let Some(venv) = &spec.python.venv {
        let python = venv.join("bin/python");
        let probe = probe::probe(&spec.team, &python)?;
        probe.require_pins(&spec.team, venv)?;
        return Ok(Environment {
            fingerprint: probe.fingerprint(),
            airflow_version: AIRFLOW_VERSION.to_owned(),
            python_version: probe.python.clone(),
            read: probe.folders(),
            made: false,
            packages: Some(probe.packages),
            python,
            _hold: None,
        });
    }
    // The interpreters are not asked again, which would take a server's whole start-up time: an environment fits if
    // what it was made from is still there and gives the same fingerprint now.
    let mut fitting = Vec::new();
    for entry in fs::read_dir(&spec.folder).into_iter().flatten().flatten() {
        let folder = entry.path();
        let Some(marker) = read_marker(&folder) else { continue };
        let fits = marker.interpreter.path.exists()
            && fingerprint::of(spec, &marker.interpreter)? == marker.fingerprint
            && folder.ends_with(&marker.fingerprint);
        if fits {
            let made_at = fs::metadata(folder.join(MARKER))
                .and_then(|found| found.modified())
                .ok();
            fitting.push((made_at, folder));
        }
    }
    let (_, newest) = fitting.into_iter().max().ok_or_else(|| not_made(spec))?;
    open(spec, &newest)
}

fn not_made(spec: &EnvironmentSpec) -> EnvironmentError {
    EnvironmentError::NotMade {
        team: spec.team.clone(),
    }
}

/// Holds and reads one environment of ours.
fn open(spec: &EnvironmentSpec, folder: &Path) -> Result<Environment, EnvironmentError> {
    let fingerprint = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hold = Hold::take(&spec.folder, &fingerprint).map_err(|source| EnvironmentError::Folder {
        team: spec.team.clone(),
        path: folder.to_owned(),
        source,
    })?;
    // Looked at only once held: before that a sweep may take it away.
    let marker = read_marker(folder).ok_or_else(|| not_made(spec))?;
    Ok(Environment {
        python: folder.join("bin/python"),
        fingerprint,
        airflow_version: AIRFLOW_VERSION.to_owned(),
        python_version: marker.probe.python.clone(),
        read: marker.probe.folders(),
        made: true,
        packages: None,
        _hold: Some(Arc::new(hold)),
    })
}

/// Removes the team's other environments, but for those that a running process holds.
fn sweep(spec: &EnvironmentSpec, keep: &str, progress: &mut dyn FnMut(&str)) {
    let Ok(entries) = fs::read_dir(&spec.folder) else {
        return;
    };
    for entry in entries {
        if !is_environment(&entry) {
            continue;
        }
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == keep {
            continue;
        }
        if let Some(removing) = Hold::if_unused(&spec.folder, &name) {
            // The marker goes first, so that a sweep cut short leaves nothing that looks whole.
            let _ = fs::remove_file(entry.path().join(MARKER));
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => removing.forget(),
                Err(error) => {
                    progress(&format!(
                        "{}: could not remove `{}`: {error}",
                        spec.team,
                        entry.path().display()
                    ));
                }
            }
        }
    }
}

/// Lets everybody read a folder or file of ours, whatever file mode mask Isobar was started with: the team's user must.
fn open_to_all(path: &Path) -> std::io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    let wanted = if path.is_dir() { 0o755 } else { 0o644 };
    if mode & wanted == wanted {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | wanted))
}

fn is_environment(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && fingerprint::looks_like_one(&entry.file_name())
    })
}

fn read_marker(folder: &Path) -> Option<Marker> {
    let marker: Marker = serde_json::from_slice(&fs::read(folder.join(MARKER)).ok()?).ok()?;
    folder.join("bin/python").exists().then_some(marker)
}

fn write_marker(folder: &Path, marker: &Marker) -> std::io::Result<()> {
    let draft = folder.join(format!("{MARKER}.draft"));
    let file = fs::File::create(&draft)?;
    serde_json::to_writer(&file, marker)?;
    file.sync_all()?;
    fs::rename(draft, folder.join(MARKER))
}

/// How long an interpreter may take to describe itself.
const PROBE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
