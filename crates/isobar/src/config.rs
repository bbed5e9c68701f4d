//! `isobar config check|show`

use std::path::Path;
use std::process::ExitCode;

use crate::cli::ConfigAction;
use crate::setup;

pub(crate) fn run(file: Option<&Path>, action: &ConfigAction) -> anyhow::Result<ExitCode> {
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
    }
    Ok(ExitCode::SUCCESS)
}
