//! Folders held open. A team may exchange a name of its own for a link at any moment; what is opened here stays the
//! same folder, and is what is given away, compared or mounted.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use serde::{Deserialize, Serialize};

/// Opens a folder and nothing else: a link in its place is `ENOTDIR`.
pub(super) const ITSELF: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Which folder it is, whatever its name leads to later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    number: u64,
}

impl Identity {
    pub(super) fn of(opened: &OwnedFd) -> Result<Self, Errno> {
        let found = fstat(opened)?;
        Ok(Self {
            device: found.st_dev,
            number: found.st_ino,
        })
    }
}

/// The folder of that name; links on the way to it are followed, one in its place is not.
pub(super) fn itself(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, ITSELF, Mode::empty())
}

/// What the path leads to.
pub(super) fn followed(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// A path that leads to what is open, whatever happens to its name.
pub(super) fn by_number(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

pub(super) fn existing_is_fine(made: Result<(), Errno>) -> Result<(), Errno> {
    match made {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}
