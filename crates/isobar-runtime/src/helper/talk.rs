//! One helper process and the conversation with it.

use std::collections::VecDeque;
use std::sync::Arc;

use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::questions::{OpenQuestion, QuestionApi, Said};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::HelperSpec;
use crate::conversation::{Conversation, Opening};
use crate::zygote::{Target, Zygote};

/// As many Dags as the helper keeps (`DAGS_KEPT` in `helper.py`).
const DAGS_KEPT: usize = 64;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It thought for too long.
    Slow,
    /// It ended over the question.
    Died(String),
    /// The zygote ended, and the helper with it: nothing to do with the question.
    Zygote,
}

impl Lost {
    pub(super) fn sentence(&self, spec: &HelperSpec) -> String {
        match self {
            Self::Slow => format!(
                "the team's Python did not answer within {} s and was stopped; it is asked again later",
                spec.patience.as_secs()
            ),
            Self::Died(how) => format!("the team's Python {how} over this question; it is asked again later"),
            Self::Zygote => "the team's Python ended; it is started again".to_owned(),
        }
    }
}

/// A helper that waits for a question.
pub(super) struct Talk {
    with: Conversation,
    dags: VecDeque<Uuid>,
    /// Whether its cluster policy shapes task instances.
    pub(super) shapes_instances: bool,
    /// The process id of the zygote that it was forked from.
    pub(super) zygote: i32,
    /// The plugins that it was started with.
    pub(super) plugins: u64,
}

impl Talk {
    /// Forks a helper and waits until it is ready.
    pub(super) async fn start(
        zygote: &Zygote,
        spec: &HelperSpec,
        api: Arc<dyn ExecutionApi>,
        caller: Caller,
        plugins: u64,
    ) -> Result<Self, String> {
        let opening = Opening {
            target: Target::Helper,
            name: "helper",
            ready: "HelperReady",
            patience: spec.start_timeout,
            log_folder: &spec.log_folder,
            masking: &spec.masking,
        };
        let (with, ready) = Conversation::open(zygote, opening, api, caller).await?;
        Ok(Self {
            with,
            dags: VecDeque::new(),
            shapes_instances: ready.get("shapes_instances") == Some(&Value::Bool(true)),
            zygote: zygote.pid(),
            plugins,
        })
    }

    /// Whether it can be asked.
    pub(super) fn is_alive(&mut self) -> bool {
        self.with.is_alive()
    }

    /// Asks one question.
    pub(super) async fn ask(
        &mut self,
        question: &OpenQuestion,
        spec: &HelperSpec,
        questions: &dyn QuestionApi,
    ) -> Result<Said, Lost> {
        let mut dags = Map::new();
        if let Some(version) = question.version_id.filter(|version| !self.dags.contains(version)) {
            match questions.dag_of_version(spec.team, version).await {
                Ok(Some(dag)) => {
                    dags.insert(version.to_string(), dag);
                }
                Ok(None) => return Ok(Said::Problem("the Dag version that it is about is gone".to_owned())),
                Err(refusal) => {
                    return Ok(Said::Later(format!("the Dag could not be read ({})", refusal.status)));
                }
            }
            self.dags.push_back(version);
            if self.dags.len() > DAGS_KEPT {
                self.dags.pop_front();
            }
        }
        let mut body = question.body.clone();
        if let Value::Object(fields) = &mut body {
            fields.insert("dag_id".to_owned(), question.dag_id.as_str().into());
        }
        let order = json!({"type": "HelperQuestion", "id": question.id, "question": body, "dags": dags});
        self.with.say(order).await;
        let mut body = match tokio::time::timeout(spec.patience, self.with.hear(&["HelperAnswer"])).await {
            Err(_) => return Err(Lost::Slow),
            Ok(Err(_)) if self.with.ended_with_the_zygote().await => return Err(Lost::Zygote),
            Ok(Err(how)) => return Err(Lost::Died(how)),
            Ok(Ok(body)) => body,
        };
        if body.get("id").and_then(Value::as_i64) != Some(question.id) {
            return Err(Lost::Died("answered something else".to_owned()));
        }
        Ok(match body.remove("problem") {
            Some(Value::String(problem)) => Said::Problem(problem),
            _ => Said::Answer(body.remove("answer").unwrap_or_default()),
        })
    }

    /// Kills it and what it started.
    pub(super) async fn end(self) {
        self.with.end().await;
    }
}
