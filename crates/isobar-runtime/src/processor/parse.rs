//! One parse: one file, one fresh fork of the team's zygote.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isobar_wire::answers::{self, Reply, Request as Planned};
use isobar_wire::execution::{Caller, ExecutionApi};
use isobar_wire::frames::{DEFAULT_FRAME_LIMIT, Request};
use isobar_wire::messages::ToSupervisor;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::callbacks::stands_alone;
use super::log::ParseLog;
use crate::channel::Channel;
use crate::masker::Masker;
use crate::supervisor::{Server, pump, unserved};
use crate::tasklog::Stream;
use crate::zygote::{Child, Exit, Sockets, Target, Zygote, ZygoteError};

/// How long a killed child's sockets may stay open (a grandchild may hold them) before they are closed from here.
const AFTER_EXIT: Duration = Duration::from_secs(2);

/// How long a child may take to end once it has closed its socket.
const AFTER_TALK: Duration = Duration::from_secs(5);

/// What a parse child is to do.
pub(super) struct Job {
    pub(super) file: PathBuf,
    pub(super) bundle_path: PathBuf,
    pub(super) bundle: Arc<str>,
    /// Callbacks to run instead of reporting Dags; empty for a parse.
    pub(super) callbacks: Vec<Value>,
    pub(super) timeout: Duration,
}

impl Job {
    /// The function to call, where that is what the child is for.
    fn function(&self) -> Option<&Value> {
        self.callbacks.first().filter(|request| stands_alone(request))
    }

    fn first_frame(&self) -> Value {
        let mut frame = match self.function() {
            Some(function) => function.clone(),
            None => json!({
                "type": "DagFileParseRequest",
                "bundle_name": &*self.bundle,
                "callback_requests": self.callbacks,
            }),
        };
        frame["file"] = json!(self.file);
        frame["bundle_path"] = json!(self.bundle_path);
        frame
    }
}

/// How it went.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The child's `DagFileParsingResult`.
    Parsed(Found),
    /// It ended well without a result, as it does after callbacks.
    Quiet,
    /// It did not: the sentence is for the import error.
    Failed(String),
    /// The zygote went away under it, or we are stopping: nothing is known of the file.
    Lost,
    /// The zygote was gone before it began.
    NotBegun,
}

/// The contents of a `DagFileParsingResult`.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) dags: Vec<Value>,
    pub(super) warnings: Vec<Value>,
    pub(super) import_errors: Vec<(String, String)>,
    /// Whether the file asked for a variable or connection, and so may give another result without being changed.
    pub(super) asked: bool,
}

/// Who answers the child's questions, and who they are asked for.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) api: Arc<dyn ExecutionApi>,
    pub(super) caller: Caller,
    pub(super) masker: Arc<Masker>,
}

/// Pauses before a failed question is asked again; the whole parse has a time limit anyway.
const RETRIES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// Runs one parse child to its end. Cancelling `stop` kills it; the time limit does so too.
pub(super) async fn run(
    zygote: &Zygote,
    job: &Job,
    door: &Door,
    log: &Arc<ParseLog>,
    stop: &CancellationToken,
) -> Outcome {
    let target = if job.function().is_some() {
        Target::Callback
    } else {
        Target::Parse
    };
    let mut child = match zygote.fork(target, &[]).await {
        Ok(child) => child,
        Err(ZygoteError::Gone(_)) => return Outcome::NotBegun,
        Err(error) => return Outcome::Failed(format!("The parse could not begin: {error}")),
    };
    let sockets = child.take_sockets().expect("a fresh child has its sockets");
    let Sockets {
        requests,
        stdout,
        stderr,
        logs,
    } = sockets;
    let copy = |socket: UnixStream, stream: Stream| {
        let log = Arc::clone(log);
        tokio::spawn(async move { pump(socket, stream, &*log).await })
    };
    let readers = [
        copy(stdout, Stream::Stdout),
        copy(stderr, Stream::Stderr),
        copy(logs, Stream::Log),
    ];
    let talk = tokio::select! {
        talk = converse(requests, &mut child, job, door) => Ended::Talked(talk),
        () = tokio::time::sleep(job.timeout) => Ended::TooSlow,
        () = stop.cancelled() => Ended::Stopped,
    };
    if matches!(talk, Ended::Talked(_)) {
        // It closes its socket just before it ends; how it ends is part of the answer.
        let _ = tokio::time::timeout(AFTER_TALK, child.wait()).await;
    }
    child.kill_group(Signal::SIGKILL).await;
    let exit = child.wait().await;
    for reader in readers {
        let abort = reader.abort_handle();
        if tokio::time::timeout(AFTER_EXIT, reader).await.is_err() {
            abort.abort();
        }
    }
    let outcome = judge(talk, exit, job);
    if let Outcome::Failed(reason) = &outcome {
        log.error(reason);
    }
    outcome
}

enum Ended {
    Talked(Result<Option<Found>, String>),
    TooSlow,
    Stopped,
}

fn judge(talk: Ended, exit: Exit, job: &Job) -> Outcome {
    let file = job.file.display();
    match (talk, exit) {
        (Ended::Stopped, _) => Outcome::Lost,
        (Ended::TooSlow, _) => Outcome::Failed(format!(
            "Processing {file} took longer than {} s and was killed.\nhint: move slow work from the top level of the \
             file into tasks, or raise `parsing.timeout`",
            job.timeout.as_secs()
        )),
        (Ended::Talked(Ok(Some(found))), _) => Outcome::Parsed(found),
        (Ended::Talked(_), Exit::Lost) => Outcome::Lost,
        (Ended::Talked(Err(reason)), _) => Outcome::Failed(format!(
            "The process that read {file} said what cannot be understood: {reason}"
        )),
        (Ended::Talked(Ok(None)), Exit::Code(0)) if !job.callbacks.is_empty() => Outcome::Quiet,
        (Ended::Talked(Ok(None)), Exit::Code(_)) if job.function().is_some() => {
            Outcome::Failed("The callback failed; the file's log says why.".to_owned())
        }
        (Ended::Talked(Ok(None)), Exit::Code(code)) => Outcome::Failed(format!(
            "The process that read {file} ended with exit code {code} and gave no result.\nhint: look for `sys.exit` or \
             `os._exit` at the top level of the file"
        )),
        (Ended::Talked(Ok(None)), Exit::Signal(signal)) => {
            let name = Signal::try_from(signal).map_or("a signal", Signal::as_str);
            let hint = if signal == Signal::SIGKILL as i32 {
                "\nhint: the host may have been out of memory"
            } else {
                ""
            };
            Outcome::Failed(format!("The process that read {file} was killed by {name}.{hint}"))
        }
    }
}

/// Sends the job, answers questions, and gives the result once the child has closed its side or ended.
async fn converse(requests: UnixStream, child: &mut Child, job: &Job, door: &Door) -> Result<Option<Found>, String> {
    let mut channel = Channel::new(requests, DEFAULT_FRAME_LIMIT);
    let server = Server::new(
        Arc::clone(&door.api),
        door.caller.clone(),
        Arc::clone(&door.masker),
        Arc::new(RETRIES),
    );
    // Where the child is gone already, reading says so.
    let _ = channel.start(&job.first_frame()).await;
    let mut found = None;
    let mut asked = false;
    let mut ended = false;
    loop {
        // A grandchild may hold the socket open when the child is gone; what it had sent is still to be read.
        let request = tokio::select! {
            biased;
            request = channel.next() => request.map_err(|error| error.to_string())?,
            _ = child.wait(), if !ended => {
                ended = true;
                continue;
            }
            () = tokio::time::sleep(Duration::from_millis(100)), if ended => None,
        };
        let Some(request) = request else { break };
        let id = request.id;
        let reply = if is_result(&request.body) {
            found = Some(read_result(request.body, &job.bundle_path));
            Reply::Body(None)
        } else {
            asked = true;
            answer(request, &server, &door.masker).await
        };
        // A child that is gone needs no answer; what it had sent before is still read.
        let _ = channel.answer(id, &reply).await;
    }
    Ok(found.map(|found| Found { asked, ..found }))
}

fn is_result(body: &Map<String, Value>) -> bool {
    body.get("type").and_then(Value::as_str) == Some("DagFileParsingResult")
}

/// Forgiving towards what is absent: the sender is team code as far as we know.
fn read_result(mut body: Map<String, Value>, bundle_path: &Path) -> Found {
    let mut list = |name: &str| match body.remove(name) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let dags = list("serialized_dags");
    let warnings = list("warnings");
    let import_errors = match body.remove("import_errors") {
        Some(Value::Object(errors)) => errors,
        _ => Map::new(),
    };
    Found {
        dags: dags
            .into_iter()
            .filter_map(|mut dag| Some(dag.get_mut("data")?.take()))
            .collect(),
        warnings,
        import_errors: (import_errors.into_iter())
            .map(|(path, text)| {
                let below = Path::new(&path).strip_prefix(bundle_path).ok().and_then(Path::to_str);
                let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                (below.unwrap_or(&path).to_owned(), text)
            })
            .collect(),
        asked: false,
    }
}

/// Answers one question through the control plane; what a parse has no business to ask is refused.
pub(crate) async fn answer(request: Request, server: &Server, masker: &Masker) -> Reply {
    let message = match ToSupervisor::read(request.body) {
        Ok(message) => message,
        Err(error) => return unserved(&error.to_string()),
    };
    let kind = message.kind();
    if !may_ask(&message) {
        return unserved(&format!("`{kind}` has no meaning while a Dag file is read"));
    }
    match answers::plan(message) {
        Planned::Ask(operation, shape) => server.ask(operation, shape).await,
        Planned::Mask { value, name } => {
            masker.add(&value, name.as_deref());
            Reply::Body(None)
        }
        _ => unserved(&format!("`{kind}` has no meaning while a Dag file is read")),
    }
}

/// What Airflow's dag-processor answers.
fn may_ask(message: &ToSupervisor) -> bool {
    use ToSupervisor as M;
    matches!(
        message,
        M::GetConnection(_)
            | M::GetVariable(_)
            | M::GetVariableKeys(_)
            | M::PutVariable(_)
            | M::DeleteVariable(_)
            | M::GetTaskStates(_)
            | M::GetTICount(_)
            | M::GetPrevSuccessfulDagRun(_)
            | M::GetPreviousDagRun(_)
            | M::GetPreviousTI(_)
            | M::GetXCom(_)
            | M::GetXComCount(_)
            | M::GetXComSequenceItem(_)
            | M::GetXComSequenceSlice(_)
            | M::MaskSecret(_)
    )
}
