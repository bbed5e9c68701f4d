//! Isobar: many teams sharing one Airflow. `isobar help` says what there is.

mod api_server;
mod cli;
mod config;
mod db;
mod doctor;
mod logging;
mod scheduler;
mod seeds;
mod setup;
mod standalone;
mod stop;
mod team_python;
mod team_side;
mod teams;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Exit code of a refused command: the configuration or the deployment must be changed first.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    // First of all, before any thread exists: the hidden step between fork and exec of a team's Python.
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == isobar_runtime::sandbox::CONFINE_SUBCOMMAND)
    {
        let Err(error) = isobar_runtime::sandbox::confine_and_exec(arguments);
        eprintln!("isobar: {error}");
        return ExitCode::from(125);
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let file = cli.config.as_deref();
    match cli.command {
        Command::Config { action } => config::run(file, &action),
        Command::Db { action } => db::run(file, &action).await,
        Command::Teams { action } => teams::run(file, &action).await,
        Command::Doctor => doctor::run(file).await,
        Command::ApiServer => api_server::run(file).await,
        Command::Scheduler => scheduler::run(file).await,
        Command::Standalone => standalone::run(file).await,
    }
}
