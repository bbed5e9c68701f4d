//! Locks on environments. They are `flock`s, so a killed process lets go of them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Held by a process that uses an environment: shared.
#[derive(Debug)]
pub(super) struct Hold {
    _file: File,
    path: PathBuf,
}

impl Hold {
    /// Holds an environment, so that no sweep removes it.
    pub(super) fn take(folder: &Path, fingerprint: &str) -> io::Result<Self> {
        let path = lock_path(folder, fingerprint);
        let file = open(&path)?;
        file.lock_shared()?;
        Ok(Self { _file: file, path })
    }

    /// The environment alone, where nobody holds it.
    pub(super) fn if_unused(folder: &Path, fingerprint: &str) -> Option<Self> {
        let path = lock_path(folder, fingerprint);
        let file = open(&path).ok()?;
        file.try_lock().ok()?;
        Some(Self { _file: file, path })
    }

    /// Removes the lock's file, once the environment is gone.
    pub(super) fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Held by the one process that makes environments for a team.
pub(super) struct Making(File);

impl Making {
    /// Waits for its turn; says so by `waiting` where it has to.
    pub(super) fn begin(folder: &Path, waiting: impl FnOnce()) -> io::Result<Self> {
        let file = open(&folder.join("making.lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Self(file))
    }

    /// A second hand on the same lock, for the installer's standard input: should we be killed, the lock stays until
    /// the orphaned installer has ended too, and no two installers ever write one folder.
    pub(super) fn share(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

fn lock_path(folder: &Path, fingerprint: &str) -> PathBuf {
    folder.join(format!("{fingerprint}.lock"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}
