//! Values that are fetched: by a command (`KEY_cmd`) or from a secret store (`KEY_secret`).

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::reading::Surroundings;

/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The last line of defence against reading a device without end.
const SECRET_LIMIT: u64 = 1 << 20;

/// What went wrong in fetching: what, and what to do.
pub(crate) type Failure = (String, String);

/// Runs `sh -c COMMAND` and takes its output without the newline at its end.
pub(crate) fn run_command(surroundings: &Surroundings, command: &str) -> Result<String, Failure> {
    if !surroundings.run_commands {
        return Err((
            "commands are not run here".to_owned(),
            "load the configuration for real".to_owned(),
        ));
    }
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| {
            (
                format!("the command could not be started: {error}"),
                "is there a `sh`?".to_owned(),
            )
        })?;
    let mut output = child.stdout.take().expect("stdout was piped a moment ago");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        (&mut output).take(SECRET_LIMIT).read_to_string(&mut text).map(|_| text)
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() > COMMAND_LIMIT => {
                let _ = child.kill();
                let _ = child.wait();
                return Err((
                    format!("the command ran longer than {} s", COMMAND_LIMIT.as_secs()),
                    "it must print the value and end".to_owned(),
                ));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err((format!("the command was lost: {error}"), "try again".to_owned())),
        }
    };
    if !status.success() {
        return Err((
            format!("the command failed ({status})"),
            "run it by hand in the same environment; it must print the value and exit with 0".to_owned(),
        ));
    }
    match reader.join() {
        Ok(Ok(text)) => Ok(without_final_newline(text)),
        _ => Err((
            "the command's output is not UTF-8 text".to_owned(),
            "it must print the value alone".to_owned(),
        )),
    }
}

/// Fetches `file:///path` or `env://NAME`.
pub(crate) fn fetch_secret(surroundings: &Surroundings, source: &str) -> Result<String, Failure> {
    if let Some(path) = source.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        let read = || {
            let mut text = String::new();
            std::fs::File::open(path)?
                .take(SECRET_LIMIT)
                .read_to_string(&mut text)?;
            Ok::<_, std::io::Error>(text)
        };
        return read().map(without_final_newline).map_err(|error| {
            (
                format!("secret file `{path}` cannot be read: {error}"),
                "make the file, readable by the user that runs Isobar".to_owned(),
            )
        });
    }
    if let Some(name) = source.strip_prefix("env://") {
        return surroundings.environment.get(name).cloned().ok_or_else(|| {
            (
                format!("environment variable `{name}` is not set"),
                "set it, or name another source".to_owned(),
            )
        });
    }
    let scheme = source.split_once("://").map_or("", |(scheme, _)| scheme);
    let hint = "today: `file:///path/to/file` and `env://NAME`".to_owned();
    match scheme {
        "file" => Err(("a `file://` source needs an absolute path".to_owned(), hint)),
        "" => Err(("the source of a secret must be an address".to_owned(), hint)),
        _ => Err((format!("there is no source of secrets called `{scheme}`"), hint)),
    }
}

fn without_final_newline(mut text: String) -> String {
    while text.ends_with('\n') || text.ends_with('\r') {
        text.pop();
    }
    text
}
