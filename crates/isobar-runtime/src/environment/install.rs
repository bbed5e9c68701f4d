//! Filling an environment: with `uv` where it is at hand, else with the standard library's `venv` and pip.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use isobar_config::Requirements;

use super::hold::Making;
use super::{EnvironmentError, EnvironmentSpec, Interpreter, PINS};

/// How many of the installer's last lines an error shows.
const LAST_LINES: usize = 15;

/// Makes the virtual environment in `folder` and installs the pins and the team's requirements; gives the installer's
/// name.
pub(super) fn install(
    spec: &EnvironmentSpec,
    interpreter: &Interpreter,
    folder: &Path,
    making: &Making,
    progress: &mut dyn FnMut(&str),
) -> Result<String, EnvironmentError> {
    let work = Work { spec, making, folder };
    match find_uv(interpreter) {
        Some(uv) => {
            work.with_uv(&uv, interpreter, progress)?;
            Ok("uv".to_owned())
        }
        None => {
            work.with_pip(interpreter, progress)?;
            Ok("pip".to_owned())
        }
    }
}

fn find_uv(interpreter: &Interpreter) -> Option<Vec<String>> {
    let as_module = vec![
        interpreter.path.display().to_string(),
        "-I".to_owned(),
        "-m".to_owned(),
        "uv".to_owned(),
    ];
    [vec!["uv".to_owned()], as_module].into_iter().find(|words| {
        let works = Command::new(&words[0])
            .args(&words[1..])
            .arg("--version")
            .current_dir("/")
            .output();
        works.is_ok_and(|output| output.status.success())
    })
}

struct Work<'a> {
    spec: &'a EnvironmentSpec,
    making: &'a Making,
    folder: &'a Path,
}

impl Work<'_> {
    fn with_uv(
        &self,
        uv: &[String],
        interpreter: &Interpreter,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), EnvironmentError> {
        let start = |arguments: &[&str]| {
            let mut command = Command::new(&uv[0]);
            command.args(&uv[1..]).args(["--no-progress"]).args(arguments);
            command.env_remove("VIRTUAL_ENV").env_remove("UV_PROJECT_ENVIRONMENT");
            command
        };
        let mut venv = start(&["venv", "--quiet", "--no-project", "--python"]);
        venv.arg(&interpreter.path).arg(self.folder);
        self.run("making the virtual environment", &venv, progress)?;
        let mut install = start(&["pip", "install", "--compile-bytecode", "--python"]);
        install.arg(self.python());
        self.add_requirements(&mut install)?;
        self.run("installing the requirements with uv", &install, progress)
    }

    fn with_pip(&self, interpreter: &Interpreter, progress: &mut dyn FnMut(&str)) -> Result<(), EnvironmentError> {
        let mut venv = Command::new(&interpreter.path);
        venv.args(["-I", "-m", "venv"]).arg(self.folder);
        self.run("making the virtual environment", &venv, progress)?;
        let mut install = Command::new(self.python());
        install.args([
            "-I",
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--compile",
        ]);
        self.add_requirements(&mut install)?;
        self.run("installing the requirements with pip", &install, progress)
    }

    fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// The pins stand twice: as requirements, so that they are installed, and as constraints, so that a requirement
    /// that wants another Airflow is refused rather than obeyed.
    fn add_requirements(&self, command: &mut Command) -> Result<(), EnvironmentError> {
        let constraints = self.folder.join("isobar-constraints.txt");
        fs::write(&constraints, PINS.join("\n") + "\n").map_err(|source| EnvironmentError::Folder {
            team: self.spec.team.clone(),
            path: constraints.clone(),
            source,
        })?;
        command.args(PINS).arg("--constraint").arg(constraints);
        match &self.spec.python.requirements {
            Requirements::None => {}
            Requirements::List(lines) => {
                command.arg("--").args(lines);
            }
            Requirements::File(path) => {
                command.arg("--requirement").arg(path);
            }
        }
        Ok(())
    }

    /// Runs one step, passing on what the installer says and keeping its last lines for an error.
    fn run(&self, step: &str, command: &Command, progress: &mut dyn FnMut(&str)) -> Result<(), EnvironmentError> {
        let mut command = readable_by_all(command);
        let failed = |output: String| EnvironmentError::Install {
            team: self.spec.team.clone(),
            step: step.to_owned(),
            hint: hint_for(&output),
            output,
        };
        let io = |error: std::io::Error| failed(error.to_string());
        let (reader, writer) = std::io::pipe().map_err(io)?;
        command
            .current_dir("/")
            .stdin(Stdio::from(self.making.share().map_err(io)?))
            .stdout(writer.try_clone().map_err(io)?)
            .stderr(writer);
        let mut child = command.spawn().map_err(io)?;
        // Our copies of the pipe's writing end, without which the reading would never end.
        drop(command);
        let mut last = VecDeque::new();
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if line.trim().is_empty() {
                continue;
            }
            progress(&format!("{}: {line}", self.spec.team));
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        let status = child.wait().map_err(io)?;
        if status.success() {
            return Ok(());
        }
        Err(failed(last.into_iter().collect::<Vec<_>>().join("\n")))
    }
}

/// The same command under a mask that lets everybody read what it makes: the team's user must, whatever mask Isobar
/// was started with. Nothing secret lies in an environment.
fn readable_by_all(command: &Command) -> Command {
    let mut masked = Command::new("/bin/sh");
    masked
        .args(["-c", "umask 022; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => masked.env(name, value),
            None => masked.env_remove(name),
        };
    }
    masked
}

fn hint_for(output: &str) -> String {
    let output = output.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| output.contains(word));
    if says(&["no solution found", "conflict", "unsatisfiable", "cannot install"]) {
        format!(
            "the requirements must fit beside {}; loosen the ones named above",
            PINS.join(", ")
        )
    } else if says(&["ensurepip", "python3-venv"]) {
        "install `uv`, or the `venv` module (Debian: `apt install python3-venv`)".to_owned()
    } else if says(&[
        "connection",
        "dns",
        "timed out",
        "network",
        "resolve host",
        "client error",
    ]) {
        "the package index could not be reached; check the network and proxy settings, then run it again".to_owned()
    } else {
        "fix what the lines above say, then run it again".to_owned()
    }
}
