//! One helper process and the conversation with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::answers::Reply;
use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::frames::{DEFAULT_FRAME_LIMIT, Request};
use isobar_wire::questions::{OpenQuestion, QuestionApi, Said};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::HelperSpec;
use crate::channel::Channel;
use crate::masker::Masker;
use crate::processor::{ParseLog, answer_dag_file};
use crate::supervisor::{Server, pump};
use crate::tasklog::Stream;
use crate::zygote::{Child, Exit, Sockets, Target, Zygote};

/// As many Dags as the helper keeps (`DAGS_KEPT` in `helper.py`).
const DAGS_KEPT: usize = 64;
/// How long a killed helper's sockets may stay open before they are closed from here.
const AFTER_EXIT: Duration = Duration::from_secs(2);
/// How long a helper that closed its socket may take to end.
const AFTER_TALK: Duration = Duration::from_secs(1);
/// Pauses before a failed request of the team's code is tried again.
const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

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
    child: Child,
    channel: Channel,
    server: Server,
    masker: Arc<Masker>,
    readers: Vec<JoinHandle<()>>,
    /// The request that the next question answers.
    waiting: i64,
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
        let mut child = zygote
            .fork(Target::Helper, &[])
            .await
            .map_err(|error| error.to_string())?;
        let Sockets {
            requests,
            stdout,
            stderr,
            logs,
        } = child.take_sockets().ok_or("a fresh child has no sockets")?;
        let masker = Arc::new(Masker::new(spec.masking.clone()));
        let day = Timestamp::now().strftime("%Y-%m-%d");
        let log = Arc::new(ParseLog::at(
            &spec.log_folder,
            format!("helper/{day}.log"),
            "helper",
            Arc::clone(&masker),
        ));
        let copy = |socket: UnixStream, stream: Stream| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { pump(socket, stream, &*log).await })
        };
        let readers = vec![
            copy(stdout, Stream::Stdout),
            copy(stderr, Stream::Stderr),
            copy(logs, Stream::Log),
        ];
        let mut talk = Self {
            child,
            channel: Channel::new(requests, DEFAULT_FRAME_LIMIT),
            server: Server::new(api, caller, Arc::clone(&masker), Arc::new(RETRIES)),
            masker,
            readers,
            waiting: 0,
            dags: VecDeque::new(),
            shapes_instances: false,
            zygote: zygote.pid(),
            plugins,
        };
        let ready = tokio::time::timeout(spec.start_timeout, talk.message("HelperReady")).await;
        let problem = match ready {
            Ok(Ok(ready)) => {
                talk.waiting = ready.id;
                talk.shapes_instances = ready.body.get("shapes_instances") == Some(&Value::Bool(true));
                return Ok(talk);
            }
            Ok(Err(how)) => format!("it {how}"),
            Err(_) => format!("it was not ready within {} s", spec.start_timeout.as_secs()),
        };
        talk.end().await;
        Err(format!(
            "{problem}; its log is `helper/{day}.log` in the team's log folder"
        ))
    }

    /// Whether it can be asked.
    pub(super) fn is_alive(&mut self) -> bool {
        !self.child.has_ended()
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
        // Where it is gone, reading says so.
        let _ = self.channel.answer(self.waiting, &Reply::Body(Some(order))).await;
        let answered = match tokio::time::timeout(spec.patience, self.message("HelperAnswer")).await {
            Err(_) => return Err(Lost::Slow),
            Ok(Err(how)) => {
                return Err(match self.child.wait().await {
                    Exit::Lost => Lost::Zygote,
                    _ => Lost::Died(how),
                });
            }
            Ok(Ok(answered)) => answered,
        };
        self.waiting = answered.id;
        let mut body = answered.body;
        if body.get("id").and_then(Value::as_i64) != Some(question.id) {
            return Err(Lost::Died("answered something else".to_owned()));
        }
        Ok(match body.remove("problem") {
            Some(Value::String(problem)) => Said::Problem(problem),
            _ => Said::Answer(body.remove("answer").unwrap_or_default()),
        })
    }

    /// The next message of this type; answers what the team's code asks for meanwhile. The error completes "it …".
    async fn message(&mut self, wanted: &str) -> Result<Request, String> {
        loop {
            let request = tokio::select! {
                biased;
                request = self.channel.next() => request.map_err(|error| format!("said what cannot be read ({error})"))?,
                exit = self.child.wait() => return Err(how_it_ended(exit)),
            };
            let Some(request) = request else {
                let exit = tokio::time::timeout(AFTER_TALK, self.child.wait()).await;
                return Err(exit.map_or_else(|_| "closed its socket".to_owned(), how_it_ended));
            };
            if request.body.get("type").and_then(Value::as_str) == Some(wanted) {
                return Ok(request);
            }
            let id = request.id;
            let reply = answer_dag_file(request, &self.server, &self.masker).await;
            let _ = self.channel.answer(id, &reply).await;
        }
    }

    /// Kills it and what it started.
    pub(super) async fn end(mut self) {
        self.child.kill_group(Signal::SIGKILL).await;
        self.child.wait().await;
        for reader in self.readers {
            let abort = reader.abort_handle();
            if tokio::time::timeout(AFTER_EXIT, reader).await.is_err() {
                abort.abort();
            }
        }
    }
}

fn how_it_ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with exit code {code}"),
        Exit::Signal(signal) => {
            let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            format!("was killed by {name}")
        }
        Exit::Lost => "ended with the team's Python".to_owned(),
    }
}
