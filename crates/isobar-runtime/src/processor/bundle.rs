//! A team's Dag folders and the files in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isobar_config::Team;

/// The source text that is kept of a file, at most (the Dag source page shows no more).
const SOURCE_LIMIT: u64 = 10 * 1024 * 1024;

/// One Dag folder of a team, under the name that Airflow knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// `dags-folder` for the first, `dags-folder-2` and so on for the rest.
    pub name: Arc<str>,
    /// The folder, links resolved.
    pub folder: PathBuf,
}

impl Bundle {
    /// The bundles of a team, one per folder, in the order of its configuration.
    #[must_use]
    pub fn of_team(team: &Team) -> Vec<Self> {
        let name = |at: usize| {
            if at == 0 {
                "dags-folder".to_owned()
            } else {
                format!("dags-folder-{}", at + 1)
            }
        };
        (team.folders.iter().enumerate())
            .map(|(at, folder)| Self {
                name: name(at).into(),
                folder: fs::canonicalize(folder).unwrap_or_else(|_| folder.clone()),
            })
            .collect()
    }
}

/// A Dag file of the team.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId {
    pub(super) bundle: Arc<str>,
    pub(super) rel_path: Arc<str>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Nanoseconds since 1970.
    pub(super) mtime_ns: i64,
    pub(super) size: i64,
}

impl Stamp {
    pub(super) fn of(found: &fs::Metadata) -> Self {
        Self {
            mtime_ns: found
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(found.mtime_nsec()),
            size: i64::try_from(found.len()).unwrap_or(i64::MAX),
        }
    }
}

/// Opens a file of the team that lies, links resolved, below one of `folders`, and is a plain file.
///
/// Checked on the opened file, so that nobody can exchange it for a link in between: the server may read more than
/// the team may.
pub(super) fn open_inside(path: &Path, folders: &[PathBuf]) -> io::Result<File> {
    // Not blocking, since a pipe in a Dag folder would otherwise hold us for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a plain file"));
    }
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if folders.iter().any(|folder| opened.starts_with(folder)) {
        Ok(file)
    } else {
        Err(io::Error::other("a link that leads out of the team's Dag folders"))
    }
}

/// The stamp and the text of a file; the text is cut off at 10 MiB, and empty where it is an archive.
pub(super) fn read_source(path: &Path, folders: &[PathBuf]) -> io::Result<(Stamp, String)> {
    let file = open_inside(path, folders)?;
    let stamp = Stamp::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(SOURCE_LIMIT).read_to_end(&mut bytes)?;
    if bytes.starts_with(b"PK") {
        return Ok((stamp, String::new()));
    }
    // NUL is the one character that PostgreSQL cannot store.
    Ok((stamp, String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")))
}
