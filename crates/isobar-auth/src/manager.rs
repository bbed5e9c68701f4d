//! Auth managers: who recognises people (rule 25).

use crate::Principal;

/// Why a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Name or password is empty.
    #[error("Username and password must be provided")]
    Missing,
    /// No such user, or another password. Deliberately one answer.
    #[error("Invalid credentials")]
    Wrong,
}

/// Recognises people and knows their roles. Every manager passes the same contract tests.
pub trait AuthManager: Send + Sync + 'static {
    /// Checks a name and a password.
    ///
    /// # Errors
    /// They are not those of a user; takes as long for an unknown name as for a wrong password.
    fn login(&self, name: &str, password: &str) -> Result<Principal, LoginError>;

    /// The present roles of a user who logged in before; none where the user is gone.
    fn principal(&self, name: &str) -> Option<Principal>;

    /// What the login page says of this manager, such as "for development only".
    fn login_notice(&self) -> Option<&'static str>;
}
