//! Who may log in, as declared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use isobar_model::TeamName;

use crate::Secret;

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Which auth manager answers (rule 25).
    pub manager: AuthManagerKind,
    /// The users of the `simple` manager.
    pub users: Vec<User>,
    /// Where passwords that nobody chose are written once. Default `passwords.json` in the state folder.
    pub passwords_file: PathBuf,
    /// Lifetime of a token got by a browser. Default 24 h.
    pub token_lifetime: Duration,
    /// Lifetime of a token got by a command-line client. Default 1 h.
    pub cli_token_lifetime: Duration,
    /// The file with the key that signs tokens; made when missing. Default `keys/secret.key` in the state folder.
    pub secret_key_file: PathBuf,
    /// The key itself (at least 32 characters), where it is configured instead of the file.
    pub secret_key: Option<Secret>,
}

impl Auth {
    /// The `simple` manager without users, with its files in the state folder.
    #[must_use]
    pub fn in_home(home: &Path) -> Self {
        Self {
            manager: AuthManagerKind::Simple,
            users: Vec::new(),
            passwords_file: home.join("passwords.json"),
            token_lifetime: Duration::from_secs(86_400),
            cli_token_lifetime: Duration::from_secs(3_600),
            secret_key_file: home.join("keys").join("secret.key"),
            secret_key: None,
        }
    }
}

/// The auth managers that exist today (rule 25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthManagerKind {
    /// `simple`: users in this configuration; for demonstrations and development.
    Simple,
}

impl AuthManagerKind {
    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
        }
    }
}

/// `[[auth.user]]`: a user of the `simple` manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The password; none: made at first start, written to `auth.passwords_file` and printed.
    pub password: Option<Secret>,
    /// The role in each team (rule 23). With multi-team off: at most one entry, `default`.
    pub teams: BTreeMap<TeamName, TeamRole>,
    /// The role in the organisation.
    pub org: Option<OrgRole>,
    /// The home team: what a plain name means at `/` and `/api/v2`. Default: the only team of the user, else none.
    pub home: Option<TeamName>,
}

/// A role in one team (rule 23), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TeamRole {
    /// `viewer`
    Viewer,
    /// `user`
    User,
    /// `op`
    Op,
    /// `admin`
    Admin,
}

impl TeamRole {
    /// All roles, weakest first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::User, Self::Op, Self::Admin];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::User => "user",
            Self::Op => "op",
            Self::Admin => "admin",
        }
    }
}

/// A role in the organisation (rule 23), weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrgRole {
    /// `org-viewer`
    Viewer,
    /// `org-admin`
    Admin,
}

impl OrgRole {
    /// Both roles, weaker first.
    pub const ALL: [Self; 2] = [Self::Viewer, Self::Admin];

    /// The word in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "org-viewer",
            Self::Admin => "org-admin",
        }
    }
}
