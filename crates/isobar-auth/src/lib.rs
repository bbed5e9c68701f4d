//! Who may do what: scopes, roles and permissions, tokens, auth managers.
//!
//! Floor 1. Scopes are the only keys to the store; they are made here, or once at start-up for the processes of the
//! organisation. No SQL.

pub mod directory;
mod gate;
mod manager;
pub mod master_key;
pub mod permissions;
pub mod principal;
pub mod scope;
pub mod simple;
pub mod tokens;

pub use directory::{Directory, KnownTeam};
pub use gate::{Auth, Lifetimes};
pub use manager::{AuthManager, LoginError};
pub use master_key::MasterKey;
pub use permissions::{Action, OrgRole, Resource, Role};
pub use principal::Principal;
pub use scope::{OrgScope, ReadScope, TeamScope};
pub use tokens::{Denied, TaskClaims, TaskTokenScope};
