//! A long-lived fork of the team's zygote that speaks in lock step: it says something, and the answer to that is what it is to do
//! next. Meanwhile the team's code may ask for variables and connections, as a Dag file may.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::answers::Reply;
use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::frames::DEFAULT_FRAME_LIMIT;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Map, Value};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use crate::channel::Channel;
use crate::masker::{Masker, MaskerConfig};
use crate::processor::{ParseLog, answer_dag_file};
use crate::supervisor::{Server, pump};
use crate::tasklog::Stream;
use crate::zygote::{Child, Exit, Sockets, Target, Zygote};

/// How long a killed child's sockets may stay open before they are closed from here.
const AFTER_EXIT: Duration = Duration::from_secs(2);
/// How long a child that closed its socket may take to end.
const AFTER_TALK: Duration = Duration::from_secs(1);
/// Pauses before a failed request of the team's code is tried again.
const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// How such a process begins.
pub(crate) struct Opening<'a> {
    pub target: Target,
    /// What its logs are called, and the folder of them.
    pub name: &'static str,
    /// What it says once it can be told something, and how long that may take.
    pub ready: &'static str,
    pub patience: Duration,
    pub log_folder: &'a Path,
    pub masking: &'a MaskerConfig,
}

/// One such process.
pub(crate) struct Conversation {
    child: Child,
    channel: Channel,
    server: Server,
    masker: Arc<Masker>,
    readers: Vec<JoinHandle<()>>,
    /// What it said last, which the next order answers.
    waiting: i64,
}

impl Conversation {
    /// Forks the process and waits until it says that it is ready; answers what it said with that.
    pub(crate) async fn open(
        zygote: &Zygote,
        opening: Opening<'_>,
        api: Arc<dyn ExecutionApi>,
        caller: Caller,
    ) -> Result<(Self, Map<String, Value>), String> {
        let masker = Arc::new(Masker::new(opening.masking.clone()));
        let file = format!("{}/{}.log", opening.name, Timestamp::now().strftime("%Y-%m-%d"));
        let log = ParseLog::at(opening.log_folder, file.clone(), opening.name, Arc::clone(&masker));
        let mut with = Self::begin(zygote, opening.target, log, masker, api, caller).await?;
        let problem = match tokio::time::timeout(opening.patience, with.hear(&[opening.ready])).await {
            Ok(Ok(ready)) => return Ok((with, ready)),
            Ok(Err(how)) => format!("it {how}"),
            Err(_) => format!("it was not ready within {} s", opening.patience.as_secs()),
        };
        with.end().await;
        Err(format!("{problem}; its log is `{file}` in the team's log folder"))
    }

    /// Forks the process; it is about to speak first.
    async fn begin(
        zygote: &Zygote,
        target: Target,
        log: ParseLog,
        masker: Arc<Masker>,
        api: Arc<dyn ExecutionApi>,
        caller: Caller,
    ) -> Result<Self, String> {
        let mut child = zygote.fork(target, &[]).await.map_err(|error| error.to_string())?;
        let Sockets {
            requests,
            stdout,
            stderr,
            logs,
        } = child.take_sockets().ok_or("a fresh child has no sockets")?;
        let log = Arc::new(log);
        let copy = |socket: UnixStream, stream: Stream| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { pump(socket, stream, &*log).await })
        };
        let readers = vec![
            copy(stdout, Stream::Stdout),
            copy(stderr, Stream::Stderr),
            copy(logs, Stream::Log),
        ];
        Ok(Self {
            child,
            channel: Channel::new(requests, DEFAULT_FRAME_LIMIT),
            server: Server::new(api, caller, Arc::clone(&masker), Arc::new(RETRIES)),
            masker,
            readers,
            waiting: 0,
        })
    }

    /// Whether it can be told anything.
    pub(crate) fn is_alive(&mut self) -> bool {
        !self.child.has_ended()
    }

    /// Answers what it said last. Where it is gone, hearing says so.
    pub(crate) async fn say(&mut self, order: Value) {
        let _ = self.channel.answer(self.waiting, &Reply::Body(Some(order))).await;
    }

    /// The next message of one of these types. The error completes "it …".
    pub(crate) async fn hear(&mut self, wanted: &[&str]) -> Result<Map<String, Value>, String> {
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
            let kind = request.body.get("type").and_then(Value::as_str);
            if kind.is_some_and(|kind| wanted.contains(&kind)) {
                self.waiting = request.id;
                return Ok(request.body);
            }
            let id = request.id;
            let reply = answer_dag_file(request, &self.server, &self.masker).await;
            let _ = self.channel.answer(id, &reply).await;
        }
    }

    /// Whether it ended, or is about to, with the zygote rather than by itself.
    pub(crate) async fn ended_with_the_zygote(&mut self) -> bool {
        self.child.wait().await == Exit::Lost
    }

    /// Kills it and what it started.
    pub(crate) async fn end(mut self) {
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
