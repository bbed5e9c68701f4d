//! Sealing of secrets: every team has a data key of its own, kept in its row and itself sealed under the organisation's
//! master key (rule 16). What is sealed is bound to the place it was sealed for, so rows cannot be swapped.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use isobar_auth::{MasterKey, TeamScope};
use isobar_model::TeamId;

use crate::db::vals;
use crate::{StoreError, Tx};

const NONCE: usize = 24;
const KEY: usize = 32;

/// One team's data key.
pub struct TeamKey(XChaCha20Poly1305);

impl TeamKey {
    /// Seals bytes for one place of the team, for example `variable/NAME`.
    #[must_use]
    pub fn seal(&self, about: &str, plain: &[u8]) -> Vec<u8> {
        seal(&self.0, about, plain)
    }

    /// Opens what [`TeamKey::seal`] sealed for the same place.
    ///
    /// # Errors
    /// [`StoreError::Sealed`]: another key, another place, or changed bytes.
    pub fn open(&self, about: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        open(&self.0, about, sealed)
    }

    pub(crate) fn open_text(&self, about: &str, sealed: &[u8]) -> Result<String, StoreError> {
        String::from_utf8(self.open(about, sealed)?).map_err(|_| StoreError::Sealed(format!("{about} is not text")))
    }
}

/// The team's data key, made where it has none yet. Needs a writing unit.
///
/// # Errors
/// The team is unknown, or its key was sealed by another master key.
pub async fn team_key(tx: &mut Tx, scope: TeamScope, master: &MasterKey) -> Result<TeamKey, StoreError> {
    if let Some(key) = known_team_key(tx, scope, master).await? {
        return Ok(key);
    }
    let mut bytes = [0; KEY];
    rand::fill(&mut bytes);
    tx.run(
        "UPDATE team SET sealed_data_key = $1 WHERE team_no = $2 AND sealed_data_key IS NULL",
        vals![
            seal(&wrapping(master, scope.team()), &place(scope.team()), &bytes),
            scope.team()
        ],
    )
    .await?;
    // Another process may have been first; what stands in the row counts.
    known_team_key(tx, scope, master)
        .await?
        .ok_or_else(|| StoreError::NotFound {
            what: format!("team {}", scope.team()),
        })
}

/// The team's data key; none where nothing was ever sealed for it.
///
/// # Errors
/// Its key was sealed by another master key.
pub async fn known_team_key(tx: &mut Tx, scope: TeamScope, master: &MasterKey) -> Result<Option<TeamKey>, StoreError> {
    key_of_rows(tx, scope.team(), master).await
}

/// The data key of the team whose rows a read scope covered.
pub(crate) async fn key_of_rows(tx: &mut Tx, team: TeamId, master: &MasterKey) -> Result<Option<TeamKey>, StoreError> {
    let row = tx
        .row("SELECT sealed_data_key FROM team WHERE team_no = $1", vals![team])
        .await?;
    let Some(sealed) = row
        .map(|row| row.get::<Option<Vec<u8>>>("sealed_data_key"))
        .transpose()?
        .flatten()
    else {
        return Ok(None);
    };
    let bytes: [u8; KEY] = open(&wrapping(master, team), &place(team), &sealed)?
        .try_into()
        .map_err(|_| StoreError::Sealed("the team's data key has another length".to_owned()))?;
    Ok(Some(TeamKey(XChaCha20Poly1305::new(&bytes.into()))))
}

/// The key that seals the team's data key.
fn wrapping(master: &MasterKey, team: TeamId) -> XChaCha20Poly1305 {
    let derived = master.derive("seal", Some(team), 0);
    XChaCha20Poly1305::new_from_slice(&derived[..KEY]).expect("32 bytes make a key")
}

fn place(team: TeamId) -> String {
    format!("team/{team}/data-key")
}

fn seal(cipher: &XChaCha20Poly1305, about: &str, plain: &[u8]) -> Vec<u8> {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce);
    let payload = Payload {
        msg: plain,
        aad: about.as_bytes(),
    };
    let sealed = cipher
        .encrypt(XNonce::from_slice(&nonce), payload)
        .expect("texts of this size can be sealed");
    [nonce.as_slice(), &sealed].concat()
}

fn open(cipher: &XChaCha20Poly1305, about: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
    let refused = || StoreError::Sealed(about.to_owned());
    let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or_else(refused)?;
    let payload = Payload {
        msg: sealed,
        aad: about.as_bytes(),
    };
    cipher
        .decrypt(XNonce::from_slice(nonce), payload)
        .map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_for_its_place() {
        let key = TeamKey(XChaCha20Poly1305::new(&[1; KEY].into()));
        let sealed = key.seal("variable/a", b"secret");
        assert_eq!(key.open("variable/a", &sealed).unwrap(), b"secret");
        assert!(key.open("variable/b", &sealed).is_err());
        let other = TeamKey(XChaCha20Poly1305::new(&[2; KEY].into()));
        assert!(other.open("variable/a", &sealed).is_err());
        assert!(key.open("variable/a", &sealed[..10]).is_err());
    }
}
