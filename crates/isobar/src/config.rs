//! `isobar config check|show|convert`

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use isobar_config::convert::{Conversion, convert};

use crate::cli::ConfigAction;
use crate::setup;

pub(crate) fn run(file: Option<&Path>, action: &ConfigAction) -> anyhow::Result<ExitCode> {
    // Another file is looked at than that of this deployment, which need not be there yet.
    if let ConfigAction::Convert {
        airflow_cfg,
        output,
        with_environment,
    } = action
    {
        return from_airflow(airflow_cfg, output.as_deref(), *with_environment);
    }
    let loaded = setup::load(file)?;
    match action {
        ConfigAction::Check => {
            let teams = loaded.config.teams.len();
            let read = loaded
                .config
                .file
                .as_ref()
                .map_or_else(|| "the environment".to_owned(), |path| format!("`{}`", path.display()));
            println!(
                "{read} is well-formed: {teams} {}",
                if teams == 1 { "team" } else { "teams" }
            );
        }
        ConfigAction::Show => print!("{}", loaded.show()),
        ConfigAction::Convert { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Rule 9. Nothing but the TOML itself repeats a value of the file.
fn from_airflow(file: &Path, output: Option<&Path>, with_environment: bool) -> anyhow::Result<ExitCode> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let environment = isobar_config::process_environment();
    // `airflow.cfg` lies in `AIRFLOW_HOME`, where nobody says otherwise.
    let airflow_home = (environment.get("AIRFLOW_HOME").filter(|home| !home.is_empty()))
        .map(PathBuf::from)
        .or_else(|| absolute.parent().map(Path::to_owned))
        .unwrap_or_default();
    let converted = convert(&Conversion {
        text,
        file: absolute,
        airflow_home,
        environment,
        with_environment,
    })
    .with_context(|| format!("`{}` is not a configuration of Airflow", file.display()))?;
    match output {
        None => print!("{}", converted.toml),
        Some(path) => {
            // It may hold passwords and keys.
            let mut made = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot make `{}`", path.display()))?;
            made.write_all(converted.toml.as_bytes())
                .with_context(|| format!("cannot write `{}`", path.display()))?;
            eprintln!("wrote `{}`", path.display());
        }
    }
    if !converted.left_out.is_empty() {
        eprintln!(
            "{} not carried over; the comments at the end say why:",
            converted.left_out.len()
        );
        let mut said = "";
        for (place, _) in &converted.left_out {
            if place != said {
                eprintln!("  {place}");
            }
            said = place;
        }
    }
    if output.is_some() {
        eprintln!("next: `isobar --config FILE config check`");
    }
    Ok(ExitCode::SUCCESS)
}
