//! The login page, and logout.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use percent_encoding::percent_decode;
use serde::Deserialize;

use super::caller::{SESSION_COOKIE, token_of};
use crate::AppState;

const PAGE: &str = include_str!("login.html");

#[derive(Deserialize)]
pub(super) struct Where {
    next: Option<String>,
}

/// `GET /auth/login`
pub(super) async fn show(State(state): State<AppState>, Query(to): Query<Where>) -> Response {
    page(&state, StatusCode::OK, "", &local_path(to.next.as_deref()))
}

/// `POST /auth/login`: sets the session cookie and goes on to `next`.
pub(super) async fn submit(State(state): State<AppState>, body: Bytes) -> Response {
    let field = |name: &str| form_field(&body, name).unwrap_or_default();
    let next = local_path(Some(&field("next")));
    let lifetime = state.auth.lifetimes().user;
    match state.auth.login(&field("username"), &field("password"), lifetime) {
        Ok(token) => {
            let secure = if state.base_url.starts_with("https:") {
                "; Secure"
            } else {
                ""
            };
            let age = lifetime.as_secs();
            let cookie = format!("{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}");
            (StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, next)]).into_response()
        }
        Err(error) => page(&state, StatusCode::UNAUTHORIZED, &error.to_string(), &next),
    }
}

/// `GET /auth/logout`: ends the token, here and now, and forgets the cookie.
pub(super) async fn logout(State(state): State<AppState>, headers: HeaderMap) -> Response {
    if let Some(token) = token_of(&headers) {
        state.auth.revoke(token);
    }
    let cookie = format!("{SESSION_COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    (
        StatusCode::SEE_OTHER,
        [(SET_COOKIE, cookie), (LOCATION, "/auth/login".to_owned())],
    )
        .into_response()
}

fn page(state: &AppState, status: StatusCode, error: &str, next: &str) -> Response {
    let html = PAGE
        .replace("{{notice}}", &escape(state.auth.manager().login_notice().unwrap_or("")))
        .replace("{{error}}", &escape(error))
        .replace("{{next}}", &escape(next));
    (status, [(CACHE_CONTROL, "no-store")], Html(html)).into_response()
}

/// Where to go after the login: a path of this server, never another host.
fn local_path(next: Option<&str>) -> String {
    match next {
        Some(path) if path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n']) => {
            path.to_owned()
        }
        _ => "/".to_owned(),
    }
}

/// One field of a urlencoded form.
pub(super) fn form_field(body: &[u8], name: &str) -> Option<String> {
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let decode = |part: &[u8]| {
            let spaced: Vec<u8> = part
                .iter()
                .map(|byte| if *byte == b'+' { b' ' } else { *byte })
                .collect();
            percent_decode(&spaced).decode_utf8_lossy().into_owned()
        };
        (decode(&pair[..equals]) == name).then(|| decode(&pair[equals + 1..]))
    })
}

/// Text made safe for HTML, attributes included.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_never_leads_to_another_host() {
        for evil in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "/a\r\nX: y",
        ] {
            assert_eq!(local_path(Some(evil)), "/", "{evil}");
        }
        assert_eq!(local_path(Some("/teams/a?x=1")), "/teams/a?x=1");
    }

    #[test]
    fn form_fields_are_decoded() {
        assert_eq!(
            form_field(b"username=a%40b&password=p+w%2B", "password").as_deref(),
            Some("p w+")
        );
        assert_eq!(form_field(b"username=a", "password"), None);
    }
}
