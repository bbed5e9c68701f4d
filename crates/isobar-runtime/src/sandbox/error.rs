//! What can go wrong when a team is walled in, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a team's children cannot be confined.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel has no Landlock, or it is switched off.
    #[error(
        "team `{team}` cannot be confined: this kernel offers no Landlock\nhint: use Linux 5.13 or newer with \
         `landlock` among the `lsm=` boot parameters, or write `isolation = \"none\"` for the team, which lets its \
         tasks read whatever their operating-system user may read"
    )]
    NoLandlock {
        /// The team.
        team: String,
    },
    /// A folder that must stay hidden lies inside one that every child may read.
    #[error(
        "`{hidden}` lies inside `{open}`, which team `{team}` may read\nhint: move it elsewhere, or narrow the team's \
         folders"
    )]
    Exposed {
        /// The team.
        team: String,
        /// What must stay hidden.
        hidden: PathBuf,
        /// What opens it.
        open: PathBuf,
    },
    /// A team may have put a link on the way to a folder.
    #[error(
        "team `{team}`: the way to `{path}` goes over the link `{link}`, which lies in `{open}`, where a team may put \
         links\nhint: write down the folder that is meant instead of the link, or move it out of `{open}`"
    )]
    Link {
        /// The team.
        team: String,
        /// The path as written.
        path: PathBuf,
        /// The link.
        link: PathBuf,
        /// What a team may write.
        open: PathBuf,
    },
    /// Since a folder was looked at, a link has come to be on the way to it.
    #[error(
        "team `{team}`: on the way to `{path}` there is a link now, which is not followed; it is looked at anew when the \
         team's Python starts the next time"
    )]
    Exchanged {
        /// The team.
        team: String,
        /// The path without links.
        path: PathBuf,
    },
    /// `os_user` names nobody.
    #[error("team `{team}`: there is no operating-system user `{user}`\nhint: create it, or leave `os_user` out")]
    UnknownUser {
        /// The team.
        team: String,
        /// The name as written.
        user: String,
    },
    /// `os_user` asks for what only root can do.
    #[error(
        "team `{team}`: `os_user = \"{user}\"` needs Isobar to run as root\nhint: leave `os_user` out; Landlock \
         separates the teams without it"
    )]
    NotRoot {
        /// The team.
        team: String,
        /// The name as written.
        user: String,
    },
    /// A folder or file could not be made or given to the team.
    #[error("team `{team}`: cannot prepare `{path}`: {source}")]
    Prepare {
        /// The team.
        team: String,
        /// The path.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A write folder exists and belongs to somebody else.
    #[error(
        "team `{team}`: its user {user} may not write `{path}`\nhint: `chown -R {user}:{user} {path}`, or choose a \
         folder that does not exist yet"
    )]
    NotWritable {
        /// The team.
        team: String,
        /// The user's number.
        user: u32,
        /// The folder.
        path: PathBuf,
    },
    /// Something that the team needs cannot be opened once confined.
    #[error("team `{team}`: confined, `{path}` cannot be opened{who}: {source}\nhint: {hint}")]
    Unreachable {
        /// The team.
        team: String,
        /// The path.
        path: PathBuf,
        /// ` by user 60001`, or nothing.
        who: String,
        /// The operating system's answer.
        source: io::Error,
        /// What to do.
        hint: String,
    },
    /// A step of becoming confined failed.
    #[error("team `{team}`: cannot {step}: {reason}")]
    Step {
        /// The team.
        team: String,
        /// What was tried, as an infinitive.
        step: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// A trial child did not come up.
    #[error("team `{team}`: a confined trial of `{program}` failed: {reason}")]
    Trial {
        /// The team.
        team: String,
        /// The program.
        program: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// The launcher was started without what it needs.
    #[error("`{0}` is for Isobar's own use: it is started by the server, never by hand")]
    NotByHand(&'static str),
    /// The running binary cannot be found.
    #[error("cannot find the running binary, which confines the teams' children: {0}")]
    NoLauncher(io::Error),
    /// A path is not UTF-8.
    #[error("team `{0}`: one of its folders has a name that is not UTF-8\nhint: rename it")]
    NotText(String),
}
