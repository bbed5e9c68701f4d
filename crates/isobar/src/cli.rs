//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A control plane for many teams sharing one Airflow.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// The configuration file. Default: `isobar.toml` here, else in `$ISOBAR_HOME`.
    #[arg(long, short, global = true, env = "ISOBAR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// The metadata database.
    Db {
        #[command(subcommand)]
        action: DbAction,
    },
    /// Declared teams against known ones; their Python environments.
    Teams {
        #[command(subcommand)]
        action: TeamsAction,
    },
    /// Check a whole deployment and say what to change.
    Doctor,
    /// Run everything in one process.
    Standalone,
    /// Schedule and run tasks, without the HTTP door (PostgreSQL only).
    Scheduler,
    /// Serve the REST API, the Task Execution API and the first page (PostgreSQL only).
    ApiServer,
}

#[derive(Subcommand)]
pub(crate) enum ConfigAction {
    /// Read files and environment, and report every fault with its place and remedy.
    Check,
    /// Print what is in force and where each value came from; secrets are not shown.
    Show,
    /// Write the TOML that means the same as an `airflow.cfg` of Airflow 3.3.
    Convert {
        /// Airflow's file.
        airflow_cfg: PathBuf,
        /// Where to write; the file must not exist. Default: standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Let `AIRFLOW__SECTION__KEY` of this environment count over the file.
        #[arg(long)]
        with_environment: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum DbAction {
    /// Bring the database to this version.
    Migrate,
    /// Say whether the database is at this version; changes nothing.
    Check,
}

#[derive(Subcommand)]
pub(crate) enum TeamsAction {
    /// Say what `apply` would do; changes nothing.
    Plan,
    /// Create, rename, restore and archive teams as declared, and make their Python environments.
    Apply,
    /// Let the schedule of a Dag go on in another team; its runs stay with the team that made them.
    Move {
        /// The Dag. Its file lies in the other team's folder already.
        dag: String,
        /// The team that it leaves.
        #[arg(long, value_name = "TEAM")]
        from: String,
        /// The team that it has come to.
        #[arg(long, value_name = "TEAM")]
        to: String,
        /// Give up the asset events and partitions that wait for it in the team that it leaves.
        #[arg(long)]
        forget_events: bool,
    },
    /// End every token of one team at once; its running tasks lose theirs, too.
    RevokeTokens {
        /// The team.
        team: String,
    },
}
