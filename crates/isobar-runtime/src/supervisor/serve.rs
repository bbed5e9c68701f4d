//! Answering children's questions through the control plane, for tasks and parses alike.

use std::sync::Arc;
use std::time::Duration;

use isobar_wire::answers::{Reply, Shape, ok_response, reply, run_exists, server_error};
use isobar_wire::execution::{Answer, Caller, ExecutionApi, Operation, Refusal};
use serde_json::{Value, json};

use crate::masker::Masker;

/// One child's way to the control plane: its identity, and the masker that learns what it is told.
#[derive(Clone)]
pub struct Server {
    api: Arc<dyn ExecutionApi>,
    caller: Caller,
    masker: Arc<Masker>,
    retries: Arc<[Duration]>,
}

impl Server {
    /// A refusal of 500 or above is tried again after each of `retries`.
    #[must_use]
    pub fn new(api: Arc<dyn ExecutionApi>, caller: Caller, masker: Arc<Masker>, retries: Arc<[Duration]>) -> Self {
        Self {
            api,
            caller,
            masker,
            retries,
        }
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// The control plane's refusal, the last one where it was tried again.
    pub async fn call(&self, operation: Operation) -> Result<Answer, Refusal> {
        for pause in &*self.retries {
            match self.api.call(&self.caller, operation.clone()).await {
                Err(refusal) if refusal.status >= 500 => {
                    tracing::warn!(status = refusal.status, "the control plane failed and is asked again");
                    tokio::time::sleep(*pause).await;
                }
                answered => return answered,
            }
        }
        self.api.call(&self.caller, operation).await
    }

    /// Asks and turns the answer into the child's. Secrets are known to the masker before the child has them.
    pub async fn ask(&self, operation: Operation, shape: Shape) -> Reply {
        let answer = self.call(operation).await;
        if let Ok(answer) = &answer {
            match &shape {
                Shape::Connection(_) => self.masker.add_connection(&answer.body),
                Shape::Variable(key) => self.masker.add(&answer.body["value"], Some(key)),
                _ => {}
            }
        }
        reply(shape, answer)
    }

    /// Hides a value in logs from now on.
    pub fn mask(&self, value: &Value, name: Option<&str>) {
        self.masker.add(value, name);
    }

    /// Starts a run, or clears it where it exists and that was asked for.
    pub async fn trigger(&self, operation: Operation, reset: Option<Operation>) -> Reply {
        let answer = match (self.call(operation).await, reset) {
            (Err(refusal), None) if refusal.status == 409 => return Reply::Body(Some(run_exists())),
            (Err(refusal), Some(reset)) if refusal.status == 409 => self.call(reset).await,
            (answer, _) => answer,
        };
        match answer {
            Ok(_) => Reply::Body(Some(ok_response())),
            Err(refusal) => Reply::Error(server_error(&refusal)),
        }
    }
}

/// The answer to a message that cannot be served: it raises `AirflowRuntimeError` in the child.
#[must_use]
pub fn unserved(message: &str) -> Reply {
    Reply::Error(json!({
        "error": "API_SERVER_ERROR",
        "detail": {"status_code": 400, "message": message, "detail": Value::Null},
        "type": "ErrorResponse",
    }))
}
