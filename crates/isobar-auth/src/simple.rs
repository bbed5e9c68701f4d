//! The `simple` auth manager: users and roles from the configuration. For demonstrations and development only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use isobar_config::Secret;
use rand::RngExt;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::directory::Directory;
use crate::manager::{AuthManager, LoginError};
use crate::permissions::{OrgRole, Role};
use crate::principal::Principal;

struct Account {
    user: isobar_config::User,
    password_hash: [u8; 32],
}

/// Users from `[[auth.user]]`.
pub struct SimpleAuthManager {
    accounts: Vec<Account>,
    directory: Directory,
}

/// A user whose password was made because the configuration names none.
#[derive(Debug)]
pub struct MadePassword {
    /// The user.
    pub name: String,
    /// The password; also in the passwords file.
    pub password: Secret,
}

impl SimpleAuthManager {
    /// Takes the configured users. Missing passwords are read from the passwords file or made and written there
    /// (mode 0600); those made now are answered, so that the start can show them once.
    ///
    /// # Errors
    /// The passwords file cannot be read or written.
    pub fn new(auth: &isobar_config::Auth, directory: Directory) -> Result<(Self, Vec<MadePassword>), std::io::Error> {
        let mut kept = read_passwords(&auth.passwords_file)?;
        let mut made = Vec::new();
        let mut accounts = Vec::new();
        for user in &auth.users {
            let password = match (&user.password, kept.get(&user.name)) {
                (Some(password), _) => password.expose().to_owned(),
                (None, Some(password)) => password.clone(),
                (None, None) => {
                    let password = fresh_password();
                    kept.insert(user.name.clone(), password.clone());
                    made.push(MadePassword {
                        name: user.name.clone(),
                        password: Secret::new(password.clone()),
                    });
                    password
                }
            };
            accounts.push(Account {
                user: user.clone(),
                password_hash: hash(&password),
            });
        }
        if !made.is_empty() {
            write_passwords(&auth.passwords_file, &kept)?;
        }
        Ok((Self { accounts, directory }, made))
    }

    fn as_principal(&self, user: &isobar_config::User) -> Principal {
        let team = |name: &isobar_model::TeamName| self.directory.by_name(name.as_str()).map(|team| team.id);
        let roles: BTreeMap<_, _> = user
            .teams
            .iter()
            .filter_map(|(name, role)| Some((team(name)?, role_of(*role))))
            .collect();
        let home = user.home.as_ref().and_then(team).or_else(|| {
            let mut teams = roles.keys();
            teams.next().copied().filter(|_| teams.next().is_none())
        });
        let home = home.or_else(|| (!self.directory.multi_team()).then_some(isobar_model::TeamId::DEFAULT));
        Principal::new(user.name.clone(), home, roles, user.org.map(org_role_of))
    }
}

impl AuthManager for SimpleAuthManager {
    fn login(&self, name: &str, password: &str) -> Result<Principal, LoginError> {
        if name.is_empty() || password.is_empty() {
            return Err(LoginError::Missing);
        }
        let given = hash(password);
        let mut found = None;
        for account in &self.accounts {
            let same_password = bool::from(account.password_hash.ct_eq(&given));
            if account.user.name == name && same_password {
                found = Some(account);
            }
        }
        found
            .map(|account| self.as_principal(&account.user))
            .ok_or(LoginError::Wrong)
    }

    fn principal(&self, name: &str) -> Option<Principal> {
        self.accounts
            .iter()
            .find(|account| account.user.name == name)
            .map(|account| self.as_principal(&account.user))
    }

    fn login_notice(&self) -> Option<&'static str> {
        Some("This deployment uses the simple auth manager, which is meant for demonstrations and development only.")
    }
}

fn role_of(role: isobar_config::TeamRole) -> Role {
    match role {
        isobar_config::TeamRole::Viewer => Role::Viewer,
        isobar_config::TeamRole::User => Role::User,
        isobar_config::TeamRole::Op => Role::Op,
        isobar_config::TeamRole::Admin => Role::Admin,
    }
}

fn org_role_of(role: isobar_config::OrgRole) -> OrgRole {
    match role {
        isobar_config::OrgRole::Viewer => OrgRole::Viewer,
        isobar_config::OrgRole::Admin => OrgRole::Admin,
    }
}

fn hash(password: &str) -> [u8; 32] {
    Sha256::digest(password.as_bytes()).into()
}

fn fresh_password() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut random = rand::rng();
    (0..16)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect()
}

fn read_passwords(path: &Path) -> Result<BTreeMap<String, String>, std::io::Error> {
    match fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn write_passwords(path: &Path, passwords: &BTreeMap<String, String>) -> Result<(), std::io::Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    serde_json::to_writer_pretty(&mut file, passwords)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(draft, path)
}
