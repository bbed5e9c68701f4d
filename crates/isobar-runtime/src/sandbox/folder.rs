//! Folders held open. A team may exchange a name of its own for a link at any moment; what is opened here stays the
//! same folder, and is what is given away, compared or mounted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use rustix::fs::{self, CWD, OFlags, ResolveFlags, openat2};
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

/// What has this path, none of whose parts is a link; `ELOOP` where one is. For paths that were without links before, and
/// may pass through what a team can write.
pub(super) fn unlinked(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, fs::Mode::empty(), ResolveFlags::NO_SYMLINKS);
    match opened.map_err(|errno| Errno::from_raw(errno.raw_os_error())) {
        // Where Isobar itself runs in a container, that may forbid the call, which is young.
        Err(Errno::ENOSYS | Errno::EPERM) => unlinked_step_by_step(path),
        opened => opened,
    }
}

fn unlinked_step_by_step(path: &Path) -> Result<OwnedFd, Errno> {
    let look = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = open("/", look, Mode::empty())?;
    for part in path.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => at = openat(&at, name, look, Mode::empty())?,
            _ => return Err(Errno::EINVAL),
        }
        if SFlag::from_bits_truncate(fstat(&at)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
            return Err(Errno::ELOOP);
        }
    }
    Ok(at)
}

pub(super) fn is_folder(opened: impl AsFd) -> bool {
    fstat(opened).is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
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
