//! What an interpreter says about itself.

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fingerprint::short;
use super::{AIRFLOW_VERSION, EnvironmentError, PINS, PROBE_TIMEOUT, TASK_SDK_VERSION};

/// Reads package metadata, imports nothing of Airflow's. Isolated (`-I`): no variable and no user folder counts.
const SCRIPT: &str = "import sys, json, os, sysconfig
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
here = sysconfig.get_paths()
print(json.dumps({
    'python': '.'.join(map(str, sys.version_info[:3])),
    'executable': os.path.realpath(sys.executable),
    'prefixes': sorted({sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}),
    'paths': [p for p in sys.path if os.path.exists(p)],
    'packages': here['purelib'],
    'core': version('apache-airflow-core'),
    'sdk': version('apache-airflow-task-sdk'),
}))";

/// An interpreter's answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Probe {
    /// Its version, `3.11.7`.
    pub(super) python: String,
    /// The file that runs, links resolved.
    pub(super) executable: PathBuf,
    prefixes: Vec<PathBuf>,
    paths: Vec<PathBuf>,
    /// Where packages lie.
    pub(super) packages: PathBuf,
    core: Option<String>,
    sdk: Option<String>,
}

/// Asks the interpreter.
pub(super) fn probe(team: &str, python: &Path) -> Result<Probe, EnvironmentError> {
    let broken = |reason: String| EnvironmentError::Broken {
        team: team.to_owned(),
        python: python.to_owned(),
        reason,
    };
    let output = run(python).map_err(broken)?;
    serde_json::from_str(output.lines().last().unwrap_or_default()).map_err(|error| broken(error.to_string()))
}

fn run(python: &Path) -> Result<String, String> {
    // Files rather than pipes: a probe that hangs after writing much must not hang us.
    let text = |error: std::io::Error| error.to_string();
    let mut said = unnamed_file().map_err(text)?;
    let mut child = Command::new(python)
        .args(["-I", "-c", SCRIPT])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(said.try_clone().map_err(text)?)
        .stderr(said.try_clone().map_err(text)?)
        .spawn()
        .map_err(text)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(text)? {
            break status;
        }
        if started.elapsed() > PROBE_TIMEOUT {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not answer in {} s", PROBE_TIMEOUT.as_secs()));
        }
        std::thread::sleep(std::time::Duration::from_millis(3));
    };
    let mut output = String::new();
    said.rewind().map_err(text)?;
    said.read_to_string(&mut output).map_err(text)?;
    if status.success() {
        Ok(output)
    } else {
        Err(output.lines().last().unwrap_or("it ended with an error").to_owned())
    }
}

/// An unnamed file in memory.
fn unnamed_file() -> std::io::Result<fs::File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(memfd_create(c"isobar-probe", MFdFlags::MFD_CLOEXEC)?.into())
}

impl Probe {
    /// Refuses an environment without Airflow, or with another.
    pub(super) fn require_pins(&self, team: &str, venv: &Path) -> Result<(), EnvironmentError> {
        let packages = [
            ("apache-airflow-core", &self.core, AIRFLOW_VERSION),
            ("apache-airflow-task-sdk", &self.sdk, TASK_SDK_VERSION),
        ];
        for (package, found, needed) in packages {
            let Some(found) = found else {
                return Err(EnvironmentError::NoAirflow {
                    team: team.to_owned(),
                    venv: venv.to_owned(),
                    needed: format!("Airflow {AIRFLOW_VERSION} with Task SDK {TASK_SDK_VERSION}"),
                    pins: PINS.join(" "),
                });
            };
            if found != needed {
                return Err(EnvironmentError::OtherAirflow {
                    team: team.to_owned(),
                    venv: venv.to_owned(),
                    package,
                    found: found.clone(),
                    needed,
                });
            }
        }
        Ok(())
    }

    /// What its processes must be able to read. Whole prefixes but for the host's own, which every child may read.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = (self.prefixes.iter().chain(&self.paths))
            .map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()))
            .filter(|path| path.exists() && !path.starts_with("/usr") && path.parent().is_some())
            .collect();
        folders.sort();
        folders.dedup();
        let all = folders.clone();
        folders.retain(|folder| !all.iter().any(|other| other != folder && folder.starts_with(other)));
        folders
    }

    /// For an environment that others change: the packages' folder changes its time when a package comes or goes.
    pub(super) fn fingerprint(&self) -> String {
        stamp(&self.python, &self.packages)
    }
}

/// [`Probe::fingerprint`] without asking the interpreter again.
pub(super) fn stamp(python: &str, packages: &Path) -> String {
    let mut hash = Sha256::new();
    hash.update(python.as_bytes());
    hash.update(packages.display().to_string().as_bytes());
    if let Ok(found) = fs::metadata(packages) {
        hash.update(found.mtime().to_be_bytes());
        hash.update(found.mtime_nsec().to_be_bytes());
    }
    short(hash)
}
