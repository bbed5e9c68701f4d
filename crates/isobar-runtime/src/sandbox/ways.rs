//! Ways to folders that no team could have laid.
//!
//! What one team reads, or writes, may lie inside what it or another team may write. Whoever may write there may put a
//! link there, and the server, which makes, gives away and opens folders by their names, would follow it out to the
//! host's own. So a link is followed only where no team can have put it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use isobar_config::Config;
use nix::errno::Errno;

use super::SandboxError;

/// Links on one way beyond which it is taken to go in a circle, as the kernel does.
const MOST_LINKS: usize = 40;

/// What teams may write, and therefore where links are not followed.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    open: Vec<PathBuf>,
}

/// Where a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// As it is written in the configuration.
    pub(super) spelled: PathBuf,
    /// Without links.
    pub(super) real: PathBuf,
}

/// Why a path is not followed.
enum NoWay {
    /// This link lies in this folder, which a team may write.
    Link {
        link: PathBuf,
        open: PathBuf,
    },
    Refused(io::Error),
}

impl Ways {
    /// Of a deployment: the write folders of all its teams, and their own folders.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let folders = config.teams.iter().flat_map(|team| {
            let own = config.run_folder(team);
            let own = super::prepare::OWN.map(|name| own.join(name));
            team.write_folders.iter().cloned().chain(own)
        });
        Self::around(folders)
    }

    /// Around these folders, which teams may write.
    #[must_use]
    pub fn around(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut open: Vec<PathBuf> = folders.into_iter().collect();
        let spelled = Self { open: open.clone() };
        // Those behind a link of a team's are refused to their own team, and say nothing about others.
        open.extend(open.clone().iter().filter_map(|folder| spelled.follow(folder).ok()));
        open.sort();
        open.dedup();
        Self { open }
    }

    /// Where a team's folder or file really is; the missing part of a path stays as it is written.
    ///
    /// # Errors
    /// [`SandboxError::Link`] where a team may have put a link on the way.
    pub(super) fn to(&self, team: &str, path: &Path) -> Result<Way, SandboxError> {
        let real = match self.follow(path) {
            Ok(real) => real,
            Err(NoWay::Link { link, open }) => {
                return Err(SandboxError::Link {
                    team: team.to_owned(),
                    path: path.to_owned(),
                    link,
                    open,
                });
            }
            Err(NoWay::Refused(source)) => {
                return Err(SandboxError::Prepare {
                    team: team.to_owned(),
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Ok(Way {
            spelled: path.to_owned(),
            real,
        })
    }

    fn follow(&self, path: &Path) -> Result<PathBuf, NoWay> {
        let path = std::path::absolute(path).map_err(NoWay::Refused)?;
        let mut left: VecDeque<OsString> = parts(&path).collect();
        let (mut real, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = left.pop_front() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let target = match fs::read_link(&next) {
                Ok(target) => target,
                // It is no link, or nothing yet.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                    real = next;
                    continue;
                }
                Err(error) => return Err(NoWay::Refused(error)),
            };
            if let Some(open) = self.open.iter().find(|open| real.starts_with(open)) {
                let open = open.clone();
                return Err(NoWay::Link { link: next, open });
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(NoWay::Refused(Errno::ELOOP.into()));
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        }
        Ok(real)
    }
}

/// The names on a path, and the steps back.
fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
