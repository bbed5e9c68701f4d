//! `isobar teams plan|apply|move|revoke-tokens`

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use isobar_auth::OrgScope;
use isobar_config::{Config, Step};
use isobar_model::TeamId;
use isobar_runtime::environment::{self, EnvironmentSpec, Plan};
use isobar_runtime::sandbox::DEFAULT_UID_BASE;
use isobar_store::{Store, dag_moves, migrate, teams};
use jiff::Timestamp;

use crate::cli::TeamsAction;
use crate::setup::{self, ServerLock};
use crate::{api_server, seeds};

pub(crate) async fn run(file: Option<&Path>, action: &TeamsAction) -> anyhow::Result<ExitCode> {
    let config = setup::load(file)?.config;
    let org = OrgScope::at_process_start();
    match action {
        TeamsAction::Plan => plan(&config, &org).await,
        TeamsAction::Apply => apply(&config, &org).await,
        TeamsAction::Move {
            dag,
            from,
            to,
            forget_events,
        } => move_dag(&config, &org, dag, (from, to), *forget_events).await,
        TeamsAction::RevokeTokens { team } => revoke_tokens(&config, &org, team).await,
    }
}

async fn plan(config: &Config, org: &OrgScope) -> anyhow::Result<ExitCode> {
    let store = setup::open_store(config).await?;
    if migrate::found(&store, org).await? == 0 {
        println!("migrate  the empty database");
        for team in &config.teams {
            println!(
                "{}",
                Step::Create {
                    name: team.name.clone()
                }
            );
        }
    } else {
        migrate::check(&store, org).await?;
        let plan = setup::teams_plan(config, &store, org).await?;
        for step in &plan.steps {
            println!("{step}");
        }
        for refused in &plan.refused {
            eprintln!("refused: {refused}");
        }
        if !plan.refused.is_empty() {
            return Ok(ExitCode::from(crate::REFUSED));
        }
    }
    for team in &config.teams {
        let spec = EnvironmentSpec::from_config(config, team, TeamId::DEFAULT, DEFAULT_UID_BASE)?;
        match environment::plan(&spec)? {
            Plan::Keep { folder } => println!("keep     {}: {}", team.name, folder.display()),
            Plan::Make { folder, why, .. } => println!("install  {}: {} ({why})", team.name, folder.display()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(config: &Config, org: &OrgScope) -> anyhow::Result<ExitCode> {
    let _lock = ServerLock::for_changing(config)?;
    let store = setup::open_store(config).await?;
    migrate::migrate(&store, org).await?;
    let plan = setup::apply_teams(config, &store, org).await?;
    for step in &plan.steps {
        println!("{step}");
    }
    make_environments(config, &store, org).await?;
    let deployment = setup::with_store(config.clone(), store, org.clone()).await?;
    seeds::look_again(&deployment, &api_server::execution(&deployment)).await;
    Ok(ExitCode::SUCCESS)
}

/// Makes every team's environment, with a line for each step.
async fn make_environments(config: &Config, store: &Store, org: &OrgScope) -> anyhow::Result<()> {
    let rows = teams::all(&mut store.read().await?, org).await?;
    for team in &config.teams {
        let Some(row) = rows.iter().find(|row| row.name == team.name) else {
            continue;
        };
        let spec = EnvironmentSpec::from_config(config, team, row.id, DEFAULT_UID_BASE)?;
        let made = tokio::task::spawn_blocking(move || environment::apply(&spec, &mut |line| say(line)))
            .await
            .context("making an environment was cut short")?
            .with_context(|| format!("team `{}`", team.name))?;
        println!(
            "ready    {}: Python {}, Airflow {}",
            team.name, made.python_version, made.airflow_version
        );
    }
    Ok(())
}

/// Shows an installer's line, unless it only lists one more package.
fn say(line: &str) {
    let listed = line
        .split_once(": ")
        .is_some_and(|(_, rest)| rest.trim_start().starts_with(['+', '-', '~']));
    if !listed {
        println!("  {line}");
    }
}

/// Rule 5. It needs no stopped server: rows and events tell a running one.
async fn move_dag(
    config: &Config,
    org: &OrgScope,
    dag: &str,
    (from, to): (&str, &str),
    forget_events: bool,
) -> anyhow::Result<ExitCode> {
    let store = setup::open_store(config).await?;
    migrate::check(&store, org).await?;
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let actor = user.map_or_else(|| uid.to_string(), |user| user.name);
    let mut tx = store.begin().await?;
    let moved = dag_moves::move_dag(
        &mut tx,
        org,
        &dag.into(),
        (from, to),
        forget_events,
        &actor,
        Timestamp::now(),
    )
    .await??;
    tx.commit().await?;
    println!("Dag `{dag}` goes on in team `{to}`; its runs so far stay with team `{from}`");
    match moved.position.and_then(|position| position.logical_date) {
        Some(date) => println!("its timetable goes on after {date}"),
        None => println!("its timetable had made no run yet"),
    }
    if moved.paused {
        println!("it is paused, as it was");
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke_tokens(config: &Config, org: &OrgScope, team: &str) -> anyhow::Result<ExitCode> {
    let store = setup::open_store(config).await?;
    migrate::check(&store, org).await?;
    let mut tx = store.begin().await?;
    if !teams::revoke_tokens(&mut tx, org, team).await? {
        bail!("there is no team `{team}`\n  hint: `isobar teams plan` lists them");
    }
    tx.commit().await?;
    println!("every token of team `{team}` minted before now is dead");
    Ok(ExitCode::SUCCESS)
}
