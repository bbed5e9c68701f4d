//! What every command stands on: the configuration, the store, the teams, the keys.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use isobar_auth::simple::{MadePassword, SimpleAuthManager};
use isobar_auth::{Auth, Directory, KnownTeam, Lifetimes, MasterKey, OrgScope};
use isobar_config::{Config, Loaded, TeamsPlan};
use isobar_model::TeamId;
use isobar_store::{Store, migrate, teams};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use crate::seeds;

/// An opened deployment. Cheap to clone, but for the configuration.
#[derive(Clone)]
pub(crate) struct Deployment {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) org: OrgScope,
    pub(crate) master: MasterKey,
    pub(crate) directory: Directory,
}

/// Reads and checks the configuration; warnings go to standard error.
pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Loaded> {
    let environment = isobar_config::process_environment();
    let here = std::env::current_dir().context("the current folder cannot be read")?;
    let found = file
        .map(Path::to_owned)
        .or_else(|| isobar_config::find_file(&environment, &here));
    let loaded =
        isobar_config::load(found.as_deref(), &environment).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded)
}

/// Makes the state folder. Others may walk through it (children run as users of their own), but not look around.
pub(crate) fn make_home(config: &Config) -> anyhow::Result<()> {
    let home = &config.home;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(home)
        .with_context(|| format!("cannot make the state folder `{}`", home.display()))?;
    fs::set_permissions(home, fs::Permissions::from_mode(0o711))
        .with_context(|| format!("cannot set the mode of `{}`", home.display()))?;
    let logs = &config.logging.folder;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(logs)
        .with_context(|| format!("cannot make the log folder `{}`", logs.display()))
}

/// Opens the store without migrating it.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Store> {
    make_home(config)?;
    // The SQLite file and its WAL are for this user alone.
    let store = Store::open_with(config.database.url.expose(), config.database.pool_size)
        .await
        .context("cannot open the metadata database")?;
    if let Some(path) = config.database.url.expose().strip_prefix("sqlite://") {
        for suffix in ["", "-wal", "-shm"] {
            let file = format!("{path}{suffix}");
            if Path::new(&file).exists() {
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
                    .with_context(|| format!("cannot set the mode of `{file}`"))?;
            }
        }
    }
    Ok(store)
}

/// Opens a deployment whose database is at this binary's version.
pub(crate) async fn open(config: Config) -> anyhow::Result<Deployment> {
    let org = OrgScope::at_process_start();
    let store = open_store(&config).await?;
    migrate::check(&store, &org).await?;
    with_store(config, store, org).await
}

/// The rest of a deployment around a store that is ready.
pub(crate) async fn with_store(config: Config, store: Store, org: OrgScope) -> anyhow::Result<Deployment> {
    let master = master_key(&config)?;
    let directory = Directory::new(config.core.multi_team, known_teams(&config, &store, &org).await?);
    Ok(Deployment {
        config,
        store,
        org,
        master,
        directory,
    })
}

/// The organisation's secret, from the configuration or its file.
pub(crate) fn master_key(config: &Config) -> anyhow::Result<MasterKey> {
    Ok(match &config.auth.secret_key {
        Some(text) => MasterKey::from_text(text.expose())?,
        None => MasterKey::load_or_make(&config.auth.secret_key_file)?,
    })
}

/// The active teams; while multi-team is off, the built-in one alone.
pub(crate) async fn known_teams(config: &Config, store: &Store, org: &OrgScope) -> anyhow::Result<Vec<KnownTeam>> {
    let rows = teams::all(&mut store.read().await?, org).await?;
    let active = rows.into_iter().filter(|row| !row.archived);
    let wanted = active.filter(|row| (row.id == TeamId::DEFAULT) != config.core.multi_team);
    Ok(wanted
        .map(|row| KnownTeam {
            id: row.id,
            name: row.name,
            token_epoch: row.token_epoch,
        })
        .collect())
}

/// Compares declared and known teams.
pub(crate) async fn teams_plan(config: &Config, store: &Store, org: &OrgScope) -> anyhow::Result<TeamsPlan> {
    let known = teams::known(&mut store.read().await?, org).await?;
    Ok(TeamsPlan::new(config, &known))
}

/// Carries out the plan and writes the declared pools, connections and variables. Refuses as a whole or does all.
pub(crate) async fn apply_teams(config: &Config, store: &Store, org: &OrgScope) -> anyhow::Result<TeamsPlan> {
    let plan = teams_plan(config, store, org).await?;
    if !plan.refused.is_empty() {
        let reasons: Vec<String> = plan.refused.iter().map(ToString::to_string).collect();
        bail!(
            "the teams cannot be applied; nothing was changed\n{}",
            reasons.join("\n")
        );
    }
    let master = master_key(config)?;
    let now = Timestamp::now();
    let mut tx = store.begin().await?;
    if config.core.multi_team {
        teams::apply(&mut tx, org, &plan.steps, now).await?;
    } else {
        teams::ensure_default(&mut tx, org, now).await?;
    }
    let rows = teams::all(&mut tx, org).await?;
    for team in &config.teams {
        if let Some(row) = rows.iter().find(|row| row.name == team.name && !row.archived) {
            seeds::write(&mut tx, org.team(row.id), config, team, &master, now).await?;
        }
    }
    seeds::write_shared(&mut tx, org.team(TeamId::SHARED), config, &master, now).await?;
    tx.commit().await?;
    Ok(plan)
}

/// The gate of a server: users, tokens, lifetimes. Passwords made now are answered, to be shown once.
pub(crate) fn auth(deployment: &Deployment) -> anyhow::Result<(Auth, Vec<MadePassword>)> {
    let settings = &deployment.config.auth;
    let (manager, made) = SimpleAuthManager::new(settings, deployment.directory.clone()).with_context(|| {
        format!(
            "the passwords file `{}` cannot be used",
            settings.passwords_file.display()
        )
    })?;
    let lifetimes = Lifetimes {
        user: settings.token_lifetime,
        cli: settings.cli_token_lifetime,
        execution: deployment.config.tasks.token_lifetime,
        workload: deployment.config.tasks.token_lifetime,
    };
    Ok((
        Auth::new(
            deployment.master.clone(),
            deployment.directory.clone(),
            manager,
            lifetimes,
        ),
        made,
    ))
}

/// Keeps this deployment to one server while the lock lives. With SQLite the server alone may change the database.
pub(crate) struct ServerLock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl ServerLock {
    pub(crate) fn take(config: &Config) -> anyhow::Result<Self> {
        make_home(config)?;
        let path = config.home.join("server.lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err(_) => bail!(
                "a server of this deployment is running (it holds `{}`)\n  hint: stop it first; it applies the configuration whenever it starts",
                path.display()
            ),
        }
    }

    /// For commands that change a SQLite database: nobody else may have it open.
    pub(crate) fn for_changing(config: &Config) -> anyhow::Result<Option<Self>> {
        if config.database.is_sqlite() {
            Self::take(config).map(Some)
        } else {
            Ok(None)
        }
    }
}
