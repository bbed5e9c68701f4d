//! The organisation's one secret, from which every signing and sealing key is derived.
//!
//! Each team has keys of its own per purpose; knowing one tells nothing of another (HMAC-SHA-512 as the derivation).
//! Raising a team's token epoch changes its keys, which revokes all its tokens at once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use isobar_model::TeamId;
use rand::Rng;
use sha2::Sha512;

/// The organisation's secret. Never printed.
#[derive(Clone)]
pub struct MasterKey(Vec<u8>);

/// Shortest secret that is accepted, in bytes.
const SHORTEST: usize = 32;

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file cannot be read or made.
    #[error(
        "the key file `{path}` cannot be used: {error}; hint: it must be readable by the user that runs Isobar alone"
    )]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The secret is too short to be one.
    #[error("the secret key has fewer than {SHORTEST} characters; hint: `openssl rand -hex 32` makes a good one")]
    TooShort,
}

impl MasterKey {
    /// Takes the secret as configured.
    ///
    /// # Errors
    /// It is shorter than 32 bytes.
    pub fn from_text(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim();
        if text.len() < SHORTEST {
            Err(MasterKeyError::TooShort)
        } else {
            Ok(Self(text.as_bytes().to_vec()))
        }
    }

    /// Reads the secret from its file; makes it (mode 0600) where it is missing.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds too little.
    pub fn load_or_make(path: &Path) -> Result<Self, MasterKeyError> {
        let fail = |error| MasterKeyError::File {
            path: path.display().to_string(),
            error,
        };
        match fs::read_to_string(path) {
            Ok(text) => return Self::from_text(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(fail)?;
        }
        let mut secret = [0_u8; 32];
        rand::rng().fill_bytes(&mut secret);
        let text: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        // A second process may make it at the same time: whoever links first wins, both read the winner.
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .map_err(fail)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(fail)?;
        let linked = fs::hard_link(&draft, path);
        let _ = fs::remove_file(&draft);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(fail(error)),
        }
        Self::from_text(&fs::read_to_string(path).map_err(fail)?)
    }

    /// The key for one purpose (`"task"`, `"user"`, `"seal"` …) of one team, or of the organisation where none.
    #[must_use]
    pub fn derive(&self, purpose: &str, team: Option<TeamId>, epoch: i64) -> [u8; 64] {
        let mut mac = Hmac::<Sha512>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        let owner = team.map_or_else(|| "org".to_owned(), |team| format!("team-{team}"));
        mac.update(format!("isobar/1/{purpose}/{owner}/{epoch}").as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/secret.key");
        let made = MasterKey::load_or_make(&path).unwrap();
        let read = MasterKey::load_or_make(&path).unwrap();
        assert_eq!(
            made.derive("task", Some(TeamId(1)), 0),
            read.derive("task", Some(TeamId(1)), 0)
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn no_two_keys_are_alike() {
        let key = MasterKey::from_text(&"x".repeat(32)).unwrap();
        let mut seen = std::collections::HashSet::new();
        for purpose in ["task", "user", "seal"] {
            for team in [None, Some(TeamId(0)), Some(TeamId(1))] {
                for epoch in [0, 1] {
                    assert!(seen.insert(key.derive(purpose, team, epoch)));
                }
            }
        }
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(matches!(MasterKey::from_text("short"), Err(MasterKeyError::TooShort)));
    }
}
