//! What makes one environment differ from another.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use isobar_config::Requirements;
use sha2::{Digest, Sha256};

use super::{EnvironmentError, EnvironmentSpec, Interpreter};

/// The only Airflow whose wires Isobar speaks.
pub const AIRFLOW_VERSION: &str = "3.3.2";
/// The Task SDK that belongs to it.
pub const TASK_SDK_VERSION: &str = "1.3.2";
/// What every environment holds and no requirement may change. Parsing needs Airflow's core beside the Task SDK;
/// the core brings the standard provider.
pub const PINS: [&str; 3] = [
    "apache-airflow==3.3.2",
    "apache-airflow-core==3.3.2",
    "apache-airflow-task-sdk==1.3.2",
];

/// Raised when the way environments are made changes, so that all are made again.
const RECIPE: &str = "isobar environment recipe 1";

/// Length of a fingerprint in hexadecimal digits.
const LENGTH: usize = 16;

/// The fingerprint of the environment that `spec` asks for.
pub(super) fn of(spec: &EnvironmentSpec, interpreter: &Interpreter) -> Result<String, EnvironmentError> {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update(text.as_bytes());
        hash.update([0]);
    };
    add(RECIPE);
    PINS.iter().for_each(|pin| add(pin));
    add(spec.python.interpreter.as_deref().unwrap_or_default());
    add(&interpreter.version);
    add(&interpreter.path.display().to_string());
    match &spec.python.requirements {
        Requirements::None => add("none"),
        Requirements::List(lines) => lines.iter().for_each(|line| add(line)),
        Requirements::File(path) => {
            let mut seen = Vec::new();
            add_file(path, &mut seen, &mut add).map_err(|(path, source)| EnvironmentError::Requirements {
                team: spec.team.clone(),
                path,
                source,
            })?;
        }
    }
    Ok(short(hash))
}

/// The first digits of a finished hash.
pub(super) fn short(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()[..LENGTH]
        .to_owned()
}

/// Whether a folder's name is a fingerprint, so that nothing else is ever removed.
pub(super) fn looks_like_one(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.len() == LENGTH && name.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    })
}

/// Requirements files include others (`-r`, `-c`); a change in any of them counts. Blank lines and comments do not.
fn add_file(path: &Path, seen: &mut Vec<PathBuf>, add: &mut impl FnMut(&str)) -> Result<(), (PathBuf, std::io::Error)> {
    if seen.iter().any(|earlier| earlier == path) {
        return Ok(());
    }
    seen.push(path.to_owned());
    let text = fs::read_to_string(path).map_err(|error| (path.to_owned(), error))?;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        add(line);
        if let Some(included) = included(line) {
            let included = path.parent().unwrap_or(Path::new("/")).join(included);
            add_file(&included, seen, add)?;
        }
    }
    Ok(())
}

/// The file that a line includes, where it is one of ours to read (not a URL).
fn included(line: &str) -> Option<&str> {
    let rest = ["-r", "-c", "--requirement", "--constraint"]
        .iter()
        .find_map(|option| {
            let rest = line.strip_prefix(option)?;
            (rest.starts_with([' ', '=', '\t']) || option.len() == 2).then(|| rest.trim_start_matches(['=', ' ', '\t']))
        })?;
    let file = rest.split(" #").next().unwrap_or(rest).trim();
    (!file.is_empty() && !file.contains("://")).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_recognised() {
        assert_eq!(included("-r base.txt"), Some("base.txt"));
        assert_eq!(included("--constraint=c.txt # why"), Some("c.txt"));
        assert_eq!(included("-rbase.txt"), Some("base.txt"));
        assert_eq!(included("-c https://example.org/c.txt"), None);
        assert_eq!(included("requests==2"), None);
        assert_eq!(included("--require-hashes"), None);
    }
}
