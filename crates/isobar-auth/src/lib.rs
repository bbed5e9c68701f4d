//! Who may do what: scopes, roles and permissions, tokens, auth managers.
//!
//! Floor 1. Scopes are the only keys to the store; they are made here, or once at start-up for the processes of the
//! organisation. No SQL.

pub mod scope;

pub use scope::{OrgScope, ReadScope, TeamScope};
