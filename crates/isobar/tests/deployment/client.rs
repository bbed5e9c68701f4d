//! A client of the REST API, as a user's script would be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A client, logged in or not.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    pub fn stranger(port: u16) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .max_redirects(0)
            // A connection of its own per request: a server may close one whose body it did not read.
            .max_idle_connections(0)
            .build()
            .new_agent();
        Self {
            agent,
            base: format!("http://127.0.0.1:{port}"),
            token: None,
        }
    }

    pub fn log_in(port: u16, user: &str, password: &str) -> Self {
        let mut client = Self::stranger(port);
        let answer = client.post("/auth/token", &json!({ "username": user, "password": password }));
        assert_eq!(answer.status, 201, "login of {user}: {}", answer.body);
        client.token = Some(answer.body["access_token"].as_str().expect("a token").to_owned());
        client
    }

    pub fn with_token(port: u16, token: &str) -> Self {
        let mut client = Self::stranger(port);
        client.token = Some(token.to_owned());
        client
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().expect("the client is logged in")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let mut response = self
            .agent
            .run(request.body(text).expect("a request"))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }

    /// Waits until a GET answers what is wanted.
    pub fn wait_for(&self, path: &str, seconds: u64, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(
                Instant::now() < end,
                "GET {path} is still not as wanted after {seconds} s: {} {}",
                answer.status,
                answer.body
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the Dag is there.
    pub fn wait_for_dag(&self, dag: &str) {
        self.wait_for(&format!("/api/v2/dags/{dag}"), 90, |answer| answer.status == 200);
    }

    /// Triggers a run and answers its id.
    pub fn trigger(&self, dag: &str) -> String {
        let answer = self.post(&format!("/api/v2/dags/{dag}/dagRuns"), &json!({ "logical_date": null }));
        assert_eq!(answer.status, 200, "trigger of {dag}: {}", answer.body);
        answer.body["dag_run_id"].as_str().expect("a run id").to_owned()
    }

    /// Waits until the run ended and answers it.
    pub fn wait_for_run(&self, dag: &str, run: &str, seconds: u64) -> Value {
        let path = format!("/api/v2/dags/{dag}/dagRuns/{run}");
        let ended = |answer: &Answer| matches!(answer.body["state"].as_str(), Some("success" | "failed"));
        self.wait_for(&path, seconds, ended).body
    }

    /// Waits until a task of a run is in a state and answers its instance.
    pub fn wait_for_task(&self, dag: &str, run: &str, task: &str, state: &str) -> Value {
        let path = format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}");
        self.wait_for(&path, 90, |answer| answer.body["state"] == state).body
    }

    /// What a task returned.
    pub fn xcom(&self, dag: &str, run: &str, task: &str) -> Value {
        let path = format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value");
        self.get(&path).body["value"].clone()
    }

    /// The log of a task's first try.
    pub fn task_log(&self, dag: &str, run: &str, task: &str) -> String {
        let path = format!("/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1?full_content=true");
        self.get(&path).body["content"].to_string()
    }

    /// All task instances of a run.
    pub fn tasks(&self, dag: &str, run: &str) -> Vec<Value> {
        let mut found = Vec::new();
        loop {
            let path = format!(
                "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=100&offset={}",
                found.len()
            );
            let answer = self.get(&path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            let page = answer.body["task_instances"]
                .as_array()
                .expect("task instances")
                .clone();
            found.extend(page);
            if found.len() as u64 >= answer.body["total_entries"].as_u64().expect("a total") {
                return found;
            }
        }
    }
}
