//! A confined trial before the real thing, so that a closed folder is an error at start, in words, and not a task
//! that fails at night.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{Confinement, Launcher, SandboxError, command};

/// What the trial does: it lists the Dag folders and opens what a task opens first.
const TRIAL: &str = "import os, sys, encodings, tempfile
for folder in sys.argv[1:]:
    os.listdir(folder)
tempfile.TemporaryFile().close()
";

/// Starts the team's Python once, confined, and lets it list `folders` (the team's Dag folders). Takes some 30 ms.
///
/// # Errors
/// What the confined process said before it gave up.
pub fn rehearse(
    launcher: &Launcher,
    confinement: &Confinement,
    python: &Path,
    folders: &[PathBuf],
) -> Result<(), SandboxError> {
    let trial = |reason: String| SandboxError::Trial {
        team: confinement.team.clone(),
        program: python.to_owned(),
        reason,
    };
    let mut child = command(launcher, confinement, python, ["-I", "-S", "-c", TRIAL])?;
    child.args(folders).stdin(Stdio::null());
    let output = child.output().map_err(|error| trial(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(4).collect();
    Err(trial(last.into_iter().rev().collect::<Vec<_>>().join("\n")))
}
