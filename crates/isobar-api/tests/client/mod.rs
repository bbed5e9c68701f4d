//! A client that talks to the router without a network.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part; a test ends where something fails"
)]

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::World;

pub struct Client {
    router: Router,
    token: Option<String>,
}

pub struct Got {
    pub status: StatusCode,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self, expected: StatusCode) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, expected, "{text}");
        if self.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&self.body).unwrap()
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn anonymous(world: &World) -> Self {
        Self {
            router: isobar_api::router(world.state.clone()),
            token: None,
        }
    }

    pub async fn login(world: &World, name: &str) -> Self {
        let mut client = Self::anonymous(world);
        let credentials = json!({"username": name, "password": name});
        let token = client.post("/auth/token", credentials).await.json(StatusCode::CREATED);
        client.token = token["access_token"].as_str().map(str::to_owned);
        client
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Got {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        Got {
            status: response.status(),
            body: response.into_body().collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// As [`Self::send`], a body that is a text sent as it is, with further headers; an empty `Authorization` sends none.
    pub async fn send_raw(&self, method: Method, path: &str, body: &Value, headers: &Value) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        let headers = headers.as_object().cloned().unwrap_or_default();
        if let Some(token) = self.token.as_ref().filter(|_| !headers.contains_key("Authorization")) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !headers.contains_key("Accept") {
            request = request.header("accept", "application/json");
        }
        for (name, value) in &headers {
            if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
                request = request.header(name.as_str(), value);
            }
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(text) => Body::from(text.clone()),
            other => Body::from(other.to_string()),
        };
        let request = request.header("content-type", "application/json");
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        Got {
            status: response.status(),
            body: response.into_body().collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Got {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Got {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Got {
        self.send(Method::DELETE, path, None).await
    }
}
