//! Making the ground on which a team's children stand: scratch folders, owners, and the list of what is theirs.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use isobar_config::{Isolation, Team};
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::folder::{self, Identity, by_number, existing_is_fine};
use super::own_tmp::Cover;
use super::ways::{Way, Ways};
use super::{Confinement, OsUser, OwnTmp, SandboxError, kernel, system};

/// The team's own folders in its run folder: its homes, and what it sees as `/tmp` and `/var/tmp`.
pub(super) const OWN: [&str; 3] = ["scratch", "tmp", "var-tmp"];

/// How often a folder is made anew where somebody puts other things in its place.
const ATTEMPTS: usize = 16;

/// Where a team's children live, and what they must never see.
#[derive(Clone, Debug)]
pub struct Grounds {
    /// The team's folder for run-time things ([`isobar_config::Config::run_folder`]); `scratch`, `tmp` and `var-tmp` are
    /// made inside. It stays the server's: what is mounted for the team must not be for the team to exchange.
    pub run_folder: PathBuf,
    /// To read: environment, base Python ([`crate::environment::Environment::read`]), the agent's folder.
    pub read: Vec<PathBuf>,
    /// Where links are not followed.
    pub ways: Ways,
    /// To stay hidden: the state folder, the log folder, configuration files, the folders of all other teams. What of
    /// it contains one of the team's own folders is fine (the state folder holds the scratch); the reverse is refused.
    pub hidden: Vec<PathBuf>,
}

/// Makes the team's scratch and write folders, gives them to its user, and says what its children may touch.
///
/// Called by the server, as root or not, before each start of the team's zygote; doing it twice changes nothing.
///
/// # Errors
/// [`SandboxError::NoLandlock`] where the kernel has none and the team does not say `isolation = "none"`;
/// [`SandboxError::Exposed`] where something hidden lies inside what the team may read; [`SandboxError::Link`] where a
/// team may have put a link on the way; folders that cannot be made.
pub fn prepare(team: &Team, user: Option<OsUser>, grounds: &Grounds) -> Result<Confinement, SandboxError> {
    let name = team.name.as_str();
    let landlock = team.isolation == Isolation::Landlock;
    if landlock && !kernel().landlock {
        return Err(SandboxError::NoLandlock { team: name.to_owned() });
    }

    let run_folder = &grounds.run_folder;
    make_passable(name, run_folder)?;
    let ground = folder::followed(run_folder).map_err(|errno| failed(name, run_folder)(errno.into()))?;
    let [scratch, tmp, lasting_tmp] = OWN.map(|part| run_folder.join(part));
    let [home, airflow_home] = ["home", "airflow"].map(|part| scratch.join(part));
    let own = make_private(name, &ground, &scratch, user)?;
    make_private(name, &own, &home, user)?;
    make_private(name, &own, &airflow_home, user)?;
    let cover = |host: &str, own: &Path| {
        let opened = make_private(name, &ground, own, user)?;
        Ok(Cover {
            host: host.into(),
            own: fs::canonicalize(own).map_err(failed(name, own))?,
            made: Identity::of(&opened).map_err(|errno| failed(name, own)(errno.into()))?,
        })
    };
    let covers = [cover(system::TMP, &tmp)?, cover(system::LASTING_TMP, &lasting_tmp)?];
    make_write_folders(team, user, &grounds.ways)?;

    let mut read: Vec<PathBuf> = team
        .folders
        .iter()
        .chain(&team.read_folders)
        .chain(&grounds.read)
        .cloned()
        .collect();
    read.sort();
    read.dedup();
    let mut write = vec![scratch, tmp.clone(), lasting_tmp];
    write.extend(team.write_folders.iter().cloned());
    let ways = |paths: Vec<PathBuf>| -> Result<Vec<Way>, SandboxError> {
        paths.iter().map(|path| grounds.ways.to(name, path)).collect()
    };
    let (read, write) = (ways(read)?, ways(write)?);
    let own_tmp = OwnTmp::plan(covers, &read, &write);
    let [read, write] = [read, write].map(|ways| ways.into_iter().map(|way| way.real).collect());
    let confinement = Confinement {
        team: name.to_owned(),
        landlock,
        user,
        read,
        write,
        home,
        tmp,
        airflow_home,
        own_tmp,
        umask: 0o022,
    };
    if landlock {
        refuse_exposure(&confinement, &grounds.hidden)?;
    }
    Ok(confinement)
}

/// Makes the team's write folders and gives those that are new, or empty, to its user. Others may read them as far as
/// their walls let them.
///
/// # Errors
/// A folder that cannot be made, or that has contents and cannot be written by the team's user; [`SandboxError::Link`].
pub fn make_write_folders(team: &Team, user: Option<OsUser>, ways: &Ways) -> Result<(), SandboxError> {
    for folder in &team.write_folders {
        let way = ways.to(team.name.as_str(), folder)?;
        make_writable(team.name.as_str(), &way.real, user)?;
    }
    Ok(())
}

/// Landlock has no rule that takes away, so what is hidden must not lie below what is open.
fn refuse_exposure(confinement: &Confinement, hidden: &[PathBuf]) -> Result<(), SandboxError> {
    let programs: Vec<PathBuf> = resolved(system::PROGRAMS.iter().map(PathBuf::from).collect());
    for hidden in resolved(hidden.to_vec()) {
        let open = (programs.iter())
            .chain(&confinement.read)
            .chain(&confinement.write)
            .find(|open| hidden.starts_with(open));
        if let Some(open) = open {
            return Err(SandboxError::Exposed {
                team: confinement.team.clone(),
                open: open.clone(),
                hidden,
            });
        }
    }
    Ok(())
}

/// Links resolved where the path exists, since Landlock's rules stick to what a path leads to.
fn resolved(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths
        .into_iter()
        .map(|path| fs::canonicalize(&path).unwrap_or(path))
        .collect()
}

/// A folder of ours on the way to the team's, and its missing parents: others may pass, whatever file mode mask we run
/// under.
fn make_passable(team: &str, folder: &Path) -> Result<(), SandboxError> {
    make_folders(team, folder, 0o711)?;
    for folder in [Some(folder), folder.parent()].into_iter().flatten() {
        let mode = fs::metadata(folder).map_err(failed(team, folder))?.permissions().mode();
        if mode & 0o111 != 0o111 {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o111)).map_err(failed(team, folder))?;
        }
    }
    Ok(())
}

/// Makes a folder with its missing parents, all with exactly this mode.
fn make_folders(team: &str, folder: &Path, mode: u32) -> Result<(), SandboxError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folders(team, parent, mode)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => fs::set_permissions(folder, fs::Permissions::from_mode(mode)).map_err(failed(team, folder)),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(team, folder)(error)),
    }
}

/// Makes a folder for the team alone, in one that is open, and answers it opened. Where the team owns that one it may
/// put a link there at any moment: owner and mode are changed of what is open, never of a name.
fn make_private(team: &str, parent: &OwnedFd, folder: &Path, user: Option<OsUser>) -> Result<OwnedFd, SandboxError> {
    let opened = made_in(parent, folder).map_err(|errno| failed(team, folder)(errno.into()))?;
    let path = by_number(&opened);
    let found = fs::metadata(&path).map_err(failed(team, folder))?;
    give(team, folder, &opened, &found, user)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed(team, folder))?;
    Ok(opened)
}

/// The folder of that name in `parent`, made if need be. Something else in its place is removed.
fn made_in(parent: &OwnedFd, folder: &Path) -> Result<OwnedFd, Errno> {
    let name = folder.file_name().ok_or(Errno::EINVAL)?;
    for _ in 0..ATTEMPTS {
        existing_is_fine(mkdirat(parent, name, Mode::S_IRWXU))?;
        match openat(parent, name, folder::ITSELF, Mode::empty()) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => {}
                Err(errno) => return Err(errno),
            },
            Err(Errno::ENOENT) => {}
            opened => return opened,
        }
    }
    Err(Errno::ENOTDIR)
}

/// The folder of that path, and whether it was made just now, with its missing parents. It may lie in what a team can
/// write: no link is followed on the way.
fn made_unlinked(folder: &Path) -> Result<(OwnedFd, bool), Errno> {
    match folder::unlinked(folder) {
        Err(Errno::ENOENT) => {}
        opened => return Ok((opened?, false)),
    }
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(Errno::EINVAL);
    };
    let (parent, _) = made_unlinked(parent)?;
    let new = match mkdirat(&parent, name, Mode::S_IRWXU) {
        Ok(()) => true,
        // Another process was faster.
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno),
    };
    let opened = openat(&parent, name, folder::ITSELF, Mode::empty())?;
    if new {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(by_number(&opened), mode)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    }
    Ok((opened, new))
}

fn make_writable(team: &str, folder: &Path, user: Option<OsUser>) -> Result<(), SandboxError> {
    let (opened, new) = made_unlinked(folder).map_err(|errno| failed(team, folder)(errno.into()))?;
    let Some(user) = user else { return Ok(()) };
    let found = fs::metadata(by_number(&opened)).map_err(failed(team, folder))?;
    let empty = || fs::read_dir(by_number(&opened)).is_ok_and(|mut entries| entries.next().is_none());
    let mode = found.mode();
    let may_write = (found.uid() == user.uid && mode & 0o300 == 0o300)
        || (found.gid() == user.gid && mode & 0o030 == 0o030)
        || mode & 0o003 == 0o003;
    if new || (!may_write && empty()) {
        give(team, folder, &opened, &found, Some(user))
    } else if may_write {
        Ok(())
    } else {
        Err(SandboxError::NotWritable {
            team: team.to_owned(),
            user: user.uid,
            path: folder.to_owned(),
        })
    }
}

fn give(
    team: &str,
    folder: &Path,
    opened: &OwnedFd,
    found: &fs::Metadata,
    user: Option<OsUser>,
) -> Result<(), SandboxError> {
    match user {
        Some(user) if (found.uid(), found.gid()) != (user.uid, user.gid) => {
            chown(by_number(opened), Some(user.uid), Some(user.gid)).map_err(failed(team, folder))
        }
        _ => Ok(()),
    }
}

fn failed<'a>(team: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> SandboxError + 'a {
    move |source| SandboxError::Prepare {
        team: team.to_owned(),
        path: path.to_owned(),
        source,
    }
}
