//! The wall around a team's children (rule 11, "Python children" of the architecture).
//!
//! A team's zygote is confined before it is exec'd: an operating-system user of its own where Isobar runs as root, no
//! new privileges, a Landlock view of the file system that holds the team's own folders only, no signals and no
//! abstract sockets out of the team, private `HOME` and `TMPDIR`, a `/tmp` of its own where the host lets us mount one.
//! Everything it forks inherits that.
//!
//! A running, threaded server cannot confine itself for one child, so the wall is put up by a second, short life of
//! our own binary: [`command`] starts it as [`Launcher`] says, it calls [`confine_and_exec`] and becomes the program.
//!
//! Deliberately absent: other namespaces than that of mounts, seccomp and resource limits (a later issue).
//! `docs/environments.md` lists what is therefore still visible to a team.

mod confine;
mod error;
mod folder;
mod identity;
mod kernel;
mod own_tmp;
mod prepare;
mod rehearse;
mod system;
mod ways;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

pub use confine::{confine_and_exec, hide_own_memory};
pub use error::SandboxError;
pub use identity::{DEFAULT_UID_BASE, OsUser};
pub use kernel::{Kernel, kernel};
pub use own_tmp::{Namespace, OwnTmp};
pub use prepare::{Grounds, make_write_folders, prepare};
pub use rehearse::{rehearse, rehearse_all_ways, way_to_own_tmp};
pub use ways::Ways;

/// The environment variable that carries a [`Confinement`] to the launcher; it is gone after the exec.
pub const CONFINEMENT_VARIABLE: &str = "ISOBAR_CONFINEMENT";

/// The hidden subcommand of the binary that must call [`confine_and_exec`].
pub const CONFINE_SUBCOMMAND: &str = "__confine";

/// What one team's children may touch. Made by [`prepare`]; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// The team, for messages.
    pub team: String,
    /// Whether Landlock is applied; false only where the configuration says `isolation = "none"`.
    pub landlock: bool,
    /// Whom to become; none: stay who we are, without capabilities.
    pub user: Option<OsUser>,
    /// Folders and files to read and execute: Dag folders, environment, base Python, the agent.
    pub read: Vec<PathBuf>,
    /// Folders to read and write: scratch and what the team's configuration adds.
    pub write: Vec<PathBuf>,
    /// The private `HOME`, inside one of `write`.
    pub home: PathBuf,
    /// The private `TMPDIR`, inside one of `write`.
    pub tmp: PathBuf,
    /// `AIRFLOW_HOME`, inside one of `write`.
    pub airflow_home: PathBuf,
    /// The team's own `/tmp`.
    pub own_tmp: OwnTmp,
    /// The file mode mask of the children.
    pub umask: u32,
}

impl Confinement {
    /// The environment that every child starts from; nothing of the server's own is in it.
    ///
    /// `path_first` stands before the system's folders in `PATH`: the team environment's `bin`.
    #[must_use]
    pub fn environment(&self, path_first: Option<&Path>) -> BTreeMap<String, String> {
        let system = "/usr/local/bin:/usr/bin:/bin";
        let path = path_first.map_or_else(|| system.to_owned(), |first| format!("{}:{system}", first.display()));
        let text = |path: &Path| path.display().to_string();
        // The same folder, by the name that people know.
        let usual = self.own_tmp.covered().find(|host| *host == system::TMP);
        let tmp = usual.unwrap_or(&self.tmp);
        BTreeMap::from([
            ("PATH".to_owned(), path),
            ("HOME".to_owned(), text(&self.home)),
            ("TMPDIR".to_owned(), text(tmp)),
            ("AIRFLOW_HOME".to_owned(), text(&self.airflow_home)),
            ("USER".to_owned(), self.team.clone()),
            ("LOGNAME".to_owned(), self.team.clone()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ])
    }
}

/// How our own binary is started for the confining: a program and the arguments that lead it to [`confine_and_exec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program; the running binary itself.
    pub program: PathBuf,
    /// Arguments before the `--`.
    pub arguments: Vec<String>,
}

impl Launcher {
    /// The running binary with its hidden subcommand.
    ///
    /// # Errors
    /// Where the operating system does not say which file is running.
    pub fn this_binary() -> Result<Self, SandboxError> {
        let program = std::env::current_exe().map_err(SandboxError::NoLauncher)?;
        Ok(Self {
            program,
            arguments: vec![CONFINE_SUBCOMMAND.to_owned()],
        })
    }
}

/// A command that runs `program` with `arguments` inside `confinement`, with an environment that holds the
/// confinement's own variables and nothing else. The caller adds variables and standard streams.
///
/// File descriptors without close-on-exec, standard streams included, reach the program as they are.
///
/// # Errors
/// Where a path of the confinement is not UTF-8.
pub fn command<A: AsRef<OsStr>>(
    launcher: &Launcher,
    confinement: &Confinement,
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Command, SandboxError> {
    let mut plain = Command::new(program);
    plain.args(arguments);
    wrap(launcher, confinement, &plain)
}

/// The same program, arguments, working directory (`/` where none is set) and variables as `command`, inside
/// `confinement`. Standard streams are not taken over: set them on the result.
///
/// # Errors
/// Where a path of the confinement is not UTF-8.
pub fn wrap(launcher: &Launcher, confinement: &Confinement, command: &Command) -> Result<Command, SandboxError> {
    let spec = serde_json::to_string(confinement).map_err(|_| SandboxError::NotText(confinement.team.clone()))?;
    let program = Path::new(command.get_program());
    let bin = program.parent().filter(|folder| folder.is_absolute());
    let mut wrapped = Command::new(&launcher.program);
    wrapped
        .env_clear()
        .envs(confinement.environment(bin))
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env(CONFINEMENT_VARIABLE, spec)
        .args(&launcher.arguments)
        .arg("--")
        .arg(program)
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap_or_else(|| Path::new("/")));
    Ok(wrapped)
}

#[cfg(test)]
pub(crate) mod tests;
