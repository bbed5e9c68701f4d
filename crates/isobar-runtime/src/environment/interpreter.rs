//! Which Python an environment is made from.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::probe::{Probe, probe};
use super::{EnvironmentError, EnvironmentSpec};
use crate::sandbox::OsUser;

/// The Pythons that Airflow 3.3 supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 10..=14;

/// A base Python.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// The file itself, links and shims resolved.
    pub path: PathBuf,
    /// Its version, `3.11.7`.
    pub version: String,
}

impl Interpreter {
    /// Finds what `python = …` names (a path, or a version such as `3.11`); without it the first supported `python3`
    /// of `PATH`, then of `/usr/local/bin` and `/usr/bin`, that the team's user can reach.
    ///
    /// # Errors
    /// [`EnvironmentError::NoInterpreter`] says what was tried and why it will not do.
    pub(super) fn find(spec: &EnvironmentSpec) -> Result<Self, EnvironmentError> {
        let wanted = spec.python.interpreter.as_deref();
        let mut tried = Vec::new();
        let mut seen = BTreeSet::new();
        for candidate in candidates(wanted) {
            let Ok(found) = probe(&spec.team, &candidate) else {
                if wanted.is_some() {
                    tried.push(format!("`{}` does not run", candidate.display()));
                }
                continue;
            };
            if !seen.insert(found.executable.clone()) {
                continue;
            }
            match unfit(&found, wanted, spec.runs_as) {
                None => {
                    return Ok(Self {
                        path: found.executable,
                        version: found.python,
                    });
                }
                Some(reason) => tried.push(format!("`{}` {reason}", found.executable.display())),
            }
        }
        if tried.is_empty() {
            tried.push("none was found".to_owned());
        }
        Err(EnvironmentError::NoInterpreter {
            team: spec.team.clone(),
            wanted: wanted.map(|wanted| format!(" for \"{wanted}\"")).unwrap_or_default(),
            tried: tried.join("; "),
            hint: format!(
                "install Python 3.{} to 3.{} where every user can read it (Debian: `apt install python3 \
                 python3-venv`), or name one with `python = \"/path/to/python\"`",
                SUPPORTED.start(),
                SUPPORTED.end()
            ),
        })
    }
}

fn candidates(wanted: Option<&str>) -> Vec<PathBuf> {
    if let Some(path) = wanted.filter(|wanted| wanted.contains('/')) {
        return vec![PathBuf::from(path)];
    }
    let mut names = Vec::new();
    if let Some(version) = wanted {
        let short: Vec<&str> = version.splitn(3, '.').take(2).collect();
        names.push(format!("python{}", short.join(".")));
    }
    names.push("python3".to_owned());
    if wanted.is_none() {
        names.extend(SUPPORTED.rev().map(|minor| format!("python3.{minor}")));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .collect();
    folders.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    let mut found = Vec::new();
    for name in &names {
        for folder in &folders {
            let candidate = folder.join(name);
            if candidate.is_file() && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found
}

fn unfit(found: &Probe, wanted: Option<&str>, user: Option<OsUser>) -> Option<String> {
    let mut numbers = found.python.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if major != 3 || !SUPPORTED.contains(&minor) {
        return Some(format!(
            "is Python {}, which Airflow 3.3 does not support",
            found.python
        ));
    }
    if let Some(version) = wanted.filter(|wanted| !wanted.contains('/')) {
        let version = version.trim_start_matches("python");
        if found.python != version && !found.python.starts_with(&format!("{version}.")) {
            return Some(format!("is Python {}", found.python));
        }
    }
    let closed = user.and_then(|user| closed_to(&found.executable, user))?;
    Some(format!(
        "lies in `{}`, which is closed to the team's user {}",
        closed.display(),
        user.map_or(0, |user| user.uid)
    ))
}

/// The first folder above `path` that the user may not pass. Looks at modes only; where access lists grant more, the
/// interpreter can still be named by its path.
fn closed_to(path: &Path, user: OsUser) -> Option<PathBuf> {
    let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    ancestors.reverse();
    ancestors
        .into_iter()
        .find(|folder| fs::metadata(folder).is_ok_and(|found| !may_pass(&found, user)))
        .map(Path::to_owned)
}

fn may_pass(found: &fs::Metadata, user: OsUser) -> bool {
    let bit = match (found.uid() == user.uid, found.gid() == user.gid) {
        (true, _) => 0o100,
        (false, true) => 0o010,
        (false, false) => 0o001,
    };
    found.mode() & bit != 0
}
