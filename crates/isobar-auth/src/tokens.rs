//! Tokens: of users and of tasks. Each is signed with a key of its own purpose, a task's with its team's.

pub(crate) mod task;
pub(crate) mod user;

pub use task::{TaskClaims, TaskTokenScope};

/// Why a token was not accepted. Callers learn no more than "no"; the log may say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not a token, or not signed by us for this purpose.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was ended before its time.
    #[error("the token was revoked")]
    Revoked,
    /// Its user or team is gone.
    #[error("the token's owner is unknown")]
    Unknown,
}

impl From<jsonwebtoken::errors::Error> for Denied {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            jsonwebtoken::errors::ErrorKind::ExpiredSignature => Self::Expired,
            _ => Self::Invalid,
        }
    }
}
