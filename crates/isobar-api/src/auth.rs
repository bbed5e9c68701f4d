//! `/auth`: tokens for clients, the login page for people, logout.
//!
//! Paths, bodies and status codes are those of Airflow's simple auth manager, so that its clients log in unchanged.

mod caller;
mod login_page;
mod token;

use axum::Router;
use axum::routing::{get, post};

pub use caller::{Caller, NotRecognised, SESSION_COOKIE};

use crate::AppState;

/// The routes under `/auth`.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .route("/token", post(token::create).get(token::without_credentials))
        .route("/token/cli", post(token::create_for_cli))
        .route("/login", get(login_page::show).post(login_page::submit))
        .route("/logout", get(login_page::logout))
}
