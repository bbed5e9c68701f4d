//! Which operating-system user a team's children run as.

use nix::unistd::{Gid, Uid, User};
use serde::{Deserialize, Serialize};

use isobar_model::TeamId;

use super::SandboxError;

/// The user number of team 0 where none is configured; team N gets this plus N.
pub const DEFAULT_UID_BASE: u32 = 60_000;

/// A user and group by number. They need no entry in `/etc/passwd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsUser {
    /// User number.
    pub uid: u32,
    /// Group number; the only group the children are in.
    pub gid: u32,
}

impl OsUser {
    /// The user of a team's children: as `os_user` says, else its own by number where we are root, else none (ours).
    ///
    /// The same team gets the same number on every start and every host, because its [`TeamId`] never changes.
    /// `os_user = "root"` (or our own user) means: no user of its own, Landlock only.
    ///
    /// # Errors
    /// [`SandboxError::UnknownUser`], or [`SandboxError::NotRoot`] where another user is asked for without being root.
    pub fn of_team(
        team: &str,
        number: TeamId,
        os_user: Option<&str>,
        uid_base: u32,
    ) -> Result<Option<Self>, SandboxError> {
        let own = Uid::effective();
        let Some(name) = os_user else {
            let uid = uid_base.saturating_add(number.0.unsigned_abs());
            return Ok(own.is_root().then_some(Self { uid, gid: uid }));
        };
        let user = Self::named(name).ok_or_else(|| SandboxError::UnknownUser {
            team: team.to_owned(),
            user: name.to_owned(),
        })?;
        if user.uid == own.as_raw() {
            return Ok(None);
        }
        if own.is_root() {
            Ok(Some(user))
        } else {
            Err(SandboxError::NotRoot {
                team: team.to_owned(),
                user: name.to_owned(),
            })
        }
    }

    fn named(name: &str) -> Option<Self> {
        if let Ok(uid) = name.parse::<u32>() {
            let gid = User::from_uid(Uid::from_raw(uid))
                .ok()
                .flatten()
                .map_or(uid, |user| user.gid.as_raw());
            return Some(Self { uid, gid });
        }
        let user = User::from_name(name).ok().flatten()?;
        Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    pub(super) fn ids(self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }
}
