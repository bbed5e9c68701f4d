//! A confined trial before the real thing, so that a closed folder is an error at start, in words, and not a task
//! that fails at night.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::folder::{self, Identity};
use super::own_tmp::Cover;
use super::{Confinement, Launcher, Namespace, OwnTmp, SandboxError, command, system};

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

/// [`rehearse`], with a `/tmp` of the team's own if this host allows one. Answers the confinement that worked.
///
/// # Errors
/// As [`rehearse`].
pub fn rehearse_all_ways(
    launcher: &Launcher,
    confinement: Confinement,
    python: &Path,
    folders: &[PathBuf],
) -> Result<Confinement, SandboxError> {
    let mut reasons = Vec::new();
    // Without walls the team sees the host as it is, `/tmp` as well.
    let ways = Namespace::to_try().iter().filter(|_| confinement.landlock);
    for way in ways {
        let mut other = confinement.clone();
        other.own_tmp.by = Some(*way);
        match rehearse(launcher, &other, python, folders) {
            Ok(()) => return Ok(other),
            Err(error) => reasons.push(format!("{way}: {error}")),
        }
    }
    rehearse(launcher, &confinement, python, folders)?;
    if !reasons.is_empty() {
        tracing::warn!(
            team = %confinement.team,
            "the team has no /tmp of its own (docs/environments.md): {}",
            reasons.join("; ")
        );
    }
    Ok(confinement)
}

/// How teams get a `/tmp` of their own on this host; none where they get none.
#[must_use]
pub fn way_to_own_tmp(launcher: &Launcher) -> Option<Namespace> {
    // The host's own over itself.
    let own = Path::new(system::TMP).canonicalize().ok()?;
    let made = folder::itself(&own).and_then(|opened| Identity::of(&opened)).ok()?;
    let cover = Cover {
        host: system::TMP.into(),
        own,
        made,
    };
    let trial = |by: Namespace| Confinement {
        team: "(trial)".to_owned(),
        landlock: false,
        user: None,
        read: Vec::new(),
        write: Vec::new(),
        home: "/".into(),
        tmp: "/tmp".into(),
        airflow_home: "/".into(),
        own_tmp: OwnTmp {
            by: Some(by),
            covers: vec![cover.clone()],
            keep: Vec::new(),
        },
        umask: 0o022,
    };
    let works = |way: &Namespace| {
        let child = command(launcher, &trial(*way), Path::new("/bin/true"), [""; 0]);
        child.is_ok_and(|mut child| {
            let output = child.current_dir("/").stdin(Stdio::null()).output();
            output.is_ok_and(|output| output.status.success())
        })
    };
    Namespace::to_try().iter().copied().find(works)
}
