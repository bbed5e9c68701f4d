//! A `/tmp` of the team's own: one folder of the team, mounted over `/tmp` in a mount namespace that all of its
//! processes come with. Dags that hand each other files there do so as ever, and no other team sees them.
//!
//! It is comfort, not the wall: Landlock decides what may be opened, whether `/tmp` is covered or not. But Landlock's
//! rules add up on the way to the root, so that whatever is mounted below the team's `/tmp` could be written. What may
//! only be read is therefore mounted read-only there.
//!
//! The team's folder is mounted by root and opened to the team with all rights. It therefore lies where the team cannot
//! exchange it, and is compared with the one that was made.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, chdir, getcwd};
use serde::{Deserialize, Serialize};

use super::folder::{self, Identity, by_number, existing_is_fine};
use super::system;
use super::ways::Way;

/// Shared memory is the host's memory: a team gets a piece of it, four times what a container usually has.
const SHARED_MEMORY_OPTIONS: &str = "mode=1777,size=256m";

/// How a process comes to a mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// As root, before it becomes the team's user.
    Privileged,
    /// In a user namespace, where it is nobody else than the team's user.
    OfUser,
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "as root",
            Self::OfUser => "in a user namespace",
        })
    }
}

impl Namespace {
    /// Those to try, the best first. One may be forbidden by what Isobar itself runs in.
    #[must_use]
    pub fn to_try() -> &'static [Self] {
        if Uid::effective().is_root() {
            &[Self::Privileged, Self::OfUser]
        } else {
            &[Self::OfUser]
        }
    }
}

/// The folders of the host that are covered for a team, and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnTmp {
    /// How; none: nothing is covered.
    pub by: Option<Namespace>,
    /// What is covered.
    pub covers: Vec<Cover>,
    /// What the team needs of that which lies below a covered folder; it stays where it is.
    pub keep: Vec<Kept>,
}

/// A folder of the host, and the team's own that is seen in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cover {
    /// The folder of the host.
    pub host: PathBuf,
    /// The team's own. It may write in it, so it must be that one and no other.
    pub own: PathBuf,
    /// Which folder was made for it there.
    pub made: Identity,
}

impl Cover {
    /// The team's own folder, if it still is the one that was made.
    pub(super) fn opened(&self) -> Result<OwnedFd, NoOwnTmp> {
        let replaced = || NoOwnTmp::Replaced(self.own.clone());
        let opened = folder::itself(&self.own).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => replaced(),
            source => NoOwnTmp::Path {
                path: self.own.clone(),
                source,
            },
        })?;
        if Identity::of(&opened)? == self.made {
            Ok(opened)
        } else {
            Err(replaced())
        }
    }
}

/// Why a process does not get a `/tmp` of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoOwnTmp {
    #[error("{0}")]
    Refused(#[from] Errno),
    #[error("`{0}` is not the folder that Isobar made there; the next start makes it anew")]
    Replaced(PathBuf),
    #[error("`{path}` cannot be shown in it: {source}")]
    Path { path: PathBuf, source: Errno },
    #[error("the team may only read `{0}`, and something else is mounted inside it")]
    MountInside(PathBuf),
}

/// Something of the host that stays visible below a folder that is covered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kept {
    /// Where it is seen.
    pub path: PathBuf,
    /// Where it is, without links.
    pub real: PathBuf,
    /// Whether the team may write it.
    pub writable: bool,
}

impl OwnTmp {
    /// Covers `/tmp` and `/var/tmp` with these folders, except where the team was given them, or what they lie in, by name.
    /// `read` and `write` are all that the team must see, as it is spelled and as it is.
    pub(super) fn plan(covers: [Cover; 2], read: &[Way], write: &[Way]) -> Self {
        let covers: Vec<Cover> = covers
            .into_iter()
            // One that is a link is covered where it leads to, or lies elsewhere.
            .filter(|cover| cover.host.canonicalize().is_ok_and(|real| real == cover.host) && cover.host.is_dir())
            .filter(|cover| {
                let lies_in = |way: &Way| cover.host.starts_with(&way.spelled) || cover.host.starts_with(&way.real);
                !read.iter().chain(write).any(lies_in)
            })
            .collect();
        let all = |ways: &[Way], writable| {
            ways.iter()
                .flat_map(|way| [&way.spelled, &way.real].map(|path| (path, &way.real)))
                .map(|(path, real)| Kept {
                    path: path.clone(),
                    real: real.clone(),
                    writable,
                })
                .collect::<Vec<_>>()
        };
        let mut needed = [all(write, true), all(read, false)].concat();
        needed.retain(|needed| covers.iter().any(|cover| needed.path.starts_with(&cover.host)));
        // Folders before what is in them; what may be written before the same for reading.
        needed.sort_by(|one, other| one.path.cmp(&other.path).then(other.writable.cmp(&one.writable)));
        let mut keep: Vec<Kept> = Vec::new();
        for needed in needed {
            // Further in, only the right to write adds something.
            if !keep
                .iter()
                .any(|kept| needed.path.starts_with(&kept.path) && (kept.writable || !needed.writable))
            {
                keep.push(needed);
            }
        }
        Self { by: None, covers, keep }
    }

    /// The folders of the host that the team sees its own in.
    pub(super) fn covered(&self) -> impl Iterator<Item = &Path> {
        let covers = self.by.is_some().then_some(&self.covers);
        covers.into_iter().flatten().map(|cover| cover.host.as_path())
    }

    /// Moves this process into a mount namespace with these folders covered. What it opened before stays as it was.
    pub(super) fn enter(&self, by: Namespace) -> Result<(), NoOwnTmp> {
        let here = getcwd()?;
        match by {
            Namespace::Privileged => unshare(CloneFlags::CLONE_NEWNS)?,
            Namespace::OfUser => become_user_namespace()?,
        }
        // What the host mounts later appears here, too; nothing that is mounted here appears there.
        attach(None, Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SLAVE)?;
        // Opened after the change: what was open before belongs to the other namespace and cannot be mounted here.
        let own: Vec<(&PathBuf, OwnedFd)> = self
            .covers
            .iter()
            .map(|cover| Ok((&cover.host, cover.opened()?)))
            .collect::<Result<_, NoOwnTmp>>()?;
        let kept: Vec<(&Kept, OwnedFd)> = self
            .keep
            .iter()
            .filter_map(|kept| match folder::unlinked(&kept.real) {
                Ok(source) => Some(Ok((kept, source))),
                Err(source @ Errno::ELOOP) => Some(Err(NoOwnTmp::Path {
                    path: kept.path.clone(),
                    source,
                })),
                // What does not exist yet is no loss.
                Err(_) => None,
            })
            .collect::<Result<_, NoOwnTmp>>()?;
        refuse_mounts_below(&kept)?;
        for (host, own) in &own {
            attach(Some(&by_number(own)), host, MsFlags::MS_BIND | MsFlags::MS_REC)?;
        }
        for (kept, source) in &kept {
            let place = self.place_for(&kept.path, source).map_err(|source| NoOwnTmp::Path {
                path: kept.path.clone(),
                source,
            })?;
            attach(
                Some(&by_number(source)),
                &by_number(&place),
                MsFlags::MS_BIND | MsFlags::MS_REC,
            )?;
            if !kept.writable {
                close_to_writing(&kept.path, source)?;
            }
        }
        let memory = Path::new(system::SHARED_MEMORY);
        if memory.is_dir() {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("tmpfs"), memory, Some("tmpfs"), flags, Some(SHARED_MEMORY_OPTIONS))?;
        }
        // The working directory of before would be one of the covered host.
        Ok(chdir(&here)?)
    }

    /// Something in the team's folder to mount `path` on. The team may have put links there: none is followed, as this may
    /// run as root.
    fn place_for(&self, path: &Path, source: &OwnedFd) -> Result<OwnedFd, Errno> {
        let found = self
            .covers
            .iter()
            .find_map(|cover| Some((&cover.host, path.strip_prefix(&cover.host).ok()?)));
        let (host, rest) = found.ok_or(Errno::EINVAL)?;
        let look = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let is_folder = folder::is_folder(source);
        let mut at = openat(AT_FDCWD, host, look | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut so_far = host.clone();
        let mut parts = rest.components().peekable();
        while let Some(part) = parts.next() {
            let part = part.as_os_str();
            // Inside what is mounted already it is there, or nowhere: nothing is made in folders of the host.
            let of_host = self.keep.iter().any(|kept| so_far.starts_with(&kept.path));
            so_far.push(part);
            if parts.peek().is_some() || is_folder {
                if !of_host {
                    existing_is_fine(mkdirat(&at, part, Mode::from_bits_truncate(0o755)))?;
                }
                at = openat(&at, part, look | OFlag::O_DIRECTORY, Mode::empty())?;
            } else {
                let make = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                if !of_host {
                    existing_is_fine(openat(&at, part, make, Mode::from_bits_truncate(0o644)).map(drop))?;
                }
                at = openat(&at, part, look, Mode::empty())?;
                if SFlag::from_bits_truncate(fstat(&at)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
                    return Err(Errno::ELOOP);
                }
            }
        }
        Ok(at)
    }
}

/// A user namespace in which only this user and group exist, with a mount namespace. Root's capabilities in it end with the
/// exec, as for every user who is not root; for root itself the caller gives them up.
fn become_user_namespace() -> Result<(), Errno> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    // A process that changed its user may otherwise not write its own maps.
    prctl::set_dumpable(true)?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    let write = |file: &str, text: String| {
        std::fs::write(file, text).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

/// Makes the mount of `source` at `path` read-only, with what else holds for it, and keeps it from growing others below.
fn close_to_writing(path: &Path, source: &OwnedFd) -> Result<(), Errno> {
    let same = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let mounted = open(
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    // The team's other processes may be moving folders about at this very moment.
    let (found, meant) = (fstat(&mounted)?, fstat(source)?);
    if (found.st_dev, found.st_ino) != (meant.st_dev, meant.st_ino) {
        return Err(Errno::ESTALE);
    }
    let now = fstatvfs(&mounted)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (holds, flag) in same {
        flags.set(flag, now.contains(holds));
    }
    attach(None, &by_number(&mounted), flags)?;
    attach(None, &by_number(&mounted), MsFlags::MS_PRIVATE)?;
    if fstatvfs(&mounted)?.flags().contains(FsFlags::ST_RDONLY) {
        Ok(())
    } else {
        Err(Errno::EROFS)
    }
}

/// Mounts below what may only be read would stay open to writing: there the team goes without.
fn refuse_mounts_below(kept: &[(&Kept, OwnedFd)]) -> Result<(), NoOwnTmp> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(|_| Errno::EIO)?;
    let places: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|place| PathBuf::from(plain(place)))
        .collect();
    for (kept, source) in kept.iter().filter(|(kept, _)| !kept.writable) {
        // The table knows no links.
        let real = std::fs::read_link(by_number(source)).map_err(|_| Errno::EIO)?;
        if places.iter().any(|place| *place != real && place.starts_with(&real)) {
            return Err(NoOwnTmp::MountInside(kept.path.clone()));
        }
    }
    Ok(())
}

/// A path of the kernel's table of mounts, without its way of writing blanks.
fn plain(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(place.to_owned(), |place, (written, meant)| {
            place.replace(written, meant)
        })
}

fn attach(source: Option<&Path>, target: &Path, flags: MsFlags) -> Result<(), Errno> {
    mount(source, target, None::<&Path>, flags, None::<&Path>)
}
