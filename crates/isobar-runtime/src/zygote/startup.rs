//! Starting a zygote, and the task that listens to it for as long as it lives.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::control::{Control, Report};
use super::held::Parent;
use super::prepared::Prepared;
use super::{Launch, PythonSpec, Shared, State, Zygote, ZygoteError};

/// How many lines of a zygote's output an error shows.
const OUTPUT_LINES: usize = 30;
/// Longest line of a zygote that is shown as one, in bytes.
const LINE_LIMIT: u64 = 64 << 10;
/// How long a zygote may take to kill its descendants before it is killed itself.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The end of what a zygote printed.
type Output = Arc<Mutex<VecDeque<String>>>;

pub(super) async fn start(spec: &PythonSpec) -> Result<Zygote, ZygoteError> {
    let failed_to_spawn = |source| ZygoteError::Spawn {
        team: spec.team.clone(),
        python: spec.python.display().to_string(),
        source,
    };
    let (control, theirs) = control_sockets().map_err(failed_to_spawn)?;
    let mut command = python_command(spec).map_err(failed_to_spawn)?;
    command.stdin(theirs).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    // Not killed on drop: a zygote that sees its control socket close kills its descendants first.
    let mut process = command.spawn().map_err(failed_to_spawn)?;
    let number = process.id().and_then(|pid| pid.try_into().ok());
    let started = Parent::started(number.expect("a process that was not waited for has a number"));
    // The command holds the zygote's end of the control socket open.
    drop(command);
    let output = Output::default();
    let drains = [
        tokio::spawn(drain(process.stdout.take(), spec.team.clone(), Arc::clone(&output))),
        tokio::spawn(drain(process.stderr.take(), spec.team.clone(), Arc::clone(&output))),
    ];
    let ready = tokio::time::timeout(spec.start_timeout, until_ready(&control, &spec.team, started.pid())).await;
    let shapes_instances = match ready {
        Ok(Ok(Start::Ready(shapes))) => shapes,
        Ok(Ok(Start::NotWarm(reason))) => {
            drop(control);
            end(&mut process).await;
            return Err(ZygoteError::NotWarm {
                team: spec.team.clone(),
                reason,
            });
        }
        failed => {
            let reason = match failed {
                Err(_) => format!("nothing within {} s", spec.start_timeout.as_secs()),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(_)) => unreachable!("the ready case was taken above"),
            };
            drop(control);
            end(&mut process).await;
            for drain in drains {
                // Its descendants are dead, so the pipes close at once.
                let _ = tokio::time::timeout(END_TIMEOUT, drain).await;
            }
            let lines = output.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(ZygoteError::NotReady {
                team: spec.team.clone(),
                reason,
                output: lines.iter().cloned().collect::<Vec<_>>().join("\n"),
            });
        }
    };
    Ok(listening(&spec.team, control, started, shapes_instances, Some(process)))
}

/// A zygote that is ready, and the task that listens to it. `child` is what has to be waited for at its end.
pub(super) fn listening(
    team: &str,
    control: Control,
    process: Parent,
    shapes_instances: Option<bool>,
    child: Option<tokio::process::Child>,
) -> Zygote {
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared {
        team: team.to_owned(),
        control,
        next_id: AtomicU64::new(1),
        sparing: AtomicBool::new(false),
        state: Mutex::new(State::default()),
        prepared: Prepared::default(),
        stop: stop.clone(),
        gone: watch::Sender::new(false),
        process,
        shapes_instances,
    });
    tokio::spawn(listen(Arc::clone(&shared), child));
    Zygote {
        shared,
        _alive: Arc::new(stop.drop_guard()),
        parent: None,
    }
}

/// The command that starts Python, confined, without its standard descriptors.
fn python_command(spec: &PythonSpec) -> io::Result<Command> {
    let mut command = Command::new(&spec.python);
    command
        .arg(spec.agent.join("isobar_agent").join("start.py"))
        .arg(match spec.launch {
            Launch::Warm => "warm",
            Launch::Cold => "cold",
        })
        .arg(&spec.lock_file)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.cwd);
    match &spec.confine {
        Some(confine) => confine(command),
        None => Ok(command),
    }
}

pub(super) fn control_sockets() -> io::Result<(Control, OwnedFd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((Control::new(ours)?, theirs))
}

/// How a start came out, where the process could speak.
enum Start {
    Ready(Option<bool>),
    NotWarm(String),
}

/// Hears out the process that was started as `started`. What speaks may be the team's code, which runs before the agent
/// does where it is in a `.pth` file.
async fn until_ready(control: &Control, team: &str, started: i32) -> io::Result<Start> {
    loop {
        match control.receive().await? {
            Some(Report::Waiting) => {
                tracing::info!(team, "waiting for the team's previous Python process to end");
            }
            Some(Report::Ready {
                pid,
                airflow,
                seconds,
                shapes_instances,
            }) => {
                if pid != started {
                    return Err(io::Error::other(format!(
                        "it says that it is process {pid}, but process {started} was started; where the team's \
                         `python` is a script, it has to become Python (`exec python \"$@\"`)"
                    )));
                }
                tracing::info!(team, pid, airflow, seconds, "the team's Python process is ready");
                return Ok(Start::Ready(shapes_instances));
            }
            Some(Report::NotWarm { reason }) => return Ok(Start::NotWarm(reason)),
            Some(other) => return Err(io::Error::other(format!("an unexpected report: {other:?}"))),
            None => return Err(io::Error::other("it ended")),
        }
    }
}

/// Passes reports on until the zygote ends or is no longer wanted.
async fn listen(shared: Arc<Shared>, child: Option<tokio::process::Child>) {
    loop {
        let report = tokio::select! {
            () = shared.stop.cancelled() => break,
            report = shared.control.receive() => report,
        };
        match report {
            Ok(Some(Report::Forked { id, pid })) => shared.forked(id, pid),
            Ok(Some(Report::Exit { pid, code, cpu })) => shared.exited(pid, code, cpu),
            Ok(Some(Report::Refused { id, message })) => shared.refused(id, message),
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::warn!(team = shared.team, "the team's Python process ended by itself");
                break;
            }
            Err(error) => {
                tracing::error!(team = shared.team, %error, "the team's Python process sent what cannot be read");
                break;
            }
        }
    }
    shared.control.close();
    shared.forks_no_more();
    if let Some(mut child) = child {
        end(&mut child).await;
    }
    // Where it could not kill its children before it ended, they may run on for a moment, or for long.
    shared.outlive_children().await;
    shared.gone.send_replace(true);
}

/// Waits for a zygote whose control socket is closed; kills it if it hangs.
async fn end(process: &mut tokio::process::Child) {
    if tokio::time::timeout(END_TIMEOUT, process.wait()).await.is_err() {
        tracing::error!("a zygote did not end in {} s and is killed", END_TIMEOUT.as_secs());
        let _ = process.kill().await;
    }
}

async fn drain(stream: Option<impl AsyncRead + Unpin>, team: String, output: Output) {
    let Some(stream) = stream else { return };
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    // A line that is too long is shown in parts.
    while (&mut stream)
        .take(LINE_LIMIT)
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|read| read > 0)
    {
        let line = String::from_utf8_lossy(&std::mem::take(&mut line))
            .trim_end_matches('\n')
            .to_owned();
        tracing::info!(team, line, "python");
        let mut kept = output.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == OUTPUT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
