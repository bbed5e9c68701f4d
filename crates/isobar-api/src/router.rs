//! The whole HTTP surface: where each part stands, limits, and what happens to a request that matches nothing.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use crate::extract::Inside;
use crate::{AppState, auth, execution, page, v2};

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// How long a request may take; the wait route streams and is over this only in its body.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// Everything that this server answers.
pub fn router(state: AppState) -> Router {
    let plain = Router::new()
        .nest("/api/v2", v2::routes())
        .nest("/auth", auth::routes())
        .nest("/execution", execution::routes())
        .merge(page::routes())
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "Not Found"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            tracing::error!("a handler panicked");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        }))
        .layer(middleware::from_fn(within_time))
        .with_state(state);
    Router::new().fallback(inside_a_team).with_state(plain)
}

/// Takes `/teams/{team}` off the path and remembers it, then routes as usual. What stands under a team is `/api/v2` and
/// `/auth` (clients append both to the address they are given).
async fn inside_a_team(State(plain): State<Router>, mut request: Request) -> Response {
    if let Some((team, rest)) = team_and_rest(request.uri()) {
        let team = percent_encoding::percent_decode_str(&team)
            .decode_utf8_lossy()
            .into_owned();
        let under = rest.starts_with("/api/v2/") || rest.starts_with("/auth/");
        let Some(uri) = rest.parse::<Uri>().ok().filter(|_| under) else {
            return refuse(StatusCode::NOT_FOUND, "Not Found");
        };
        *request.uri_mut() = uri;
        request.extensions_mut().insert(Inside(team));
    }
    match plain.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn team_and_rest(uri: &Uri) -> Option<(String, String)> {
    let (team, path) = uri.path().strip_prefix("/teams/")?.split_once('/')?;
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    Some((team.to_owned(), format!("/{path}{query}")))
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LONGEST_REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, "The request took too long"),
    }
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_taken_off_the_path_as_it_was_written() {
        let uri: Uri = "/teams/beta/api/v2/dags/a%2Fb?x=1".parse().unwrap();
        assert_eq!(
            team_and_rest(&uri),
            Some(("beta".to_owned(), "/api/v2/dags/a%2Fb?x=1".to_owned()))
        );
        assert_eq!(team_and_rest(&"/api/v2/dags".parse().unwrap()), None);
    }
}
