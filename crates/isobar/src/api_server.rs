//! `isobar api-server`: the HTTP door alone, beside a `scheduler` process. PostgreSQL only.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use isobar_api::AppState;
use isobar_execution::{Execution, Settings};
use isobar_wire::wake::Wake;
use tokio::net::TcpListener;

use crate::setup::{self, Deployment};

pub(crate) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = setup::load(file)?.config;
    crate::logging::start(config.logging.json);
    if config.database.is_sqlite() {
        bail!(
            "`api-server` and `scheduler` apart need PostgreSQL\n  hint: set `database.url`, or run `isobar standalone`"
        );
    }
    if let Err(error) = isobar_runtime::sandbox::hide_own_memory() {
        tracing::warn!(%error, "this process cannot hide its memory from others of its user");
    }
    let deployment = setup::open(config).await?;
    let execution = execution(&deployment);
    follow_teams(&deployment);
    let listener = listen(&deployment).await?;
    serve(listener, &deployment, execution, crate::stop::requested()).await?;
    Ok(ExitCode::SUCCESS)
}

/// What the Task Execution API means, for this deployment.
pub(crate) fn execution(deployment: &Deployment) -> Arc<Execution> {
    let settings = Settings::from_config(&deployment.config, deployment.master.clone());
    Arc::new(Execution::new(
        deployment.store.clone(),
        deployment.org.clone(),
        settings,
    ))
}

/// Opens the port; done early, so that a port in use is an error before anything else starts.
pub(crate) async fn listen(deployment: &Deployment) -> anyhow::Result<TcpListener> {
    let server = &deployment.config.server;
    TcpListener::bind((server.host.as_str(), server.port))
        .await
        .with_context(|| {
            format!(
                "cannot listen on {}:{}; hint: `server.port` chooses another",
                server.host, server.port
            )
        })
}

/// Serves until `stop` resolves; requests under way are finished.
pub(crate) async fn serve(
    listener: TcpListener,
    deployment: &Deployment,
    execution: Arc<Execution>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let (auth, made) = setup::auth(deployment)?;
    for password in made {
        eprintln!("Password for user '{}': {}", password.name, password.password.expose());
    }
    let state = AppState::new(
        deployment.store.clone(),
        auth,
        execution,
        Arc::new(deployment.master.clone()),
        &deployment.org,
        &deployment.config,
    );
    tracing::info!(address = %deployment.config.server.base_url, "serving");
    axum::serve(listener, isobar_api::router(state))
        .with_graceful_shutdown(stop)
        .await
        .context("the server failed")
}

/// Keeps the directory true when teams change while this process runs.
pub(crate) fn follow_teams(deployment: &Deployment) {
    let mut signals = deployment.store.signals().subscribe();
    let (config, store, org) = (
        deployment.config.clone(),
        deployment.store.clone(),
        deployment.org.clone(),
    );
    let directory = deployment.directory.clone();
    tokio::spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match signals.recv().await {
                Ok(Wake::Definitions) | Err(RecvError::Lagged(_)) => {
                    match setup::known_teams(&config, &store, &org).await {
                        Ok(teams) => directory.replace(teams),
                        Err(error) => tracing::warn!(%error, "the teams cannot be read; going on with those known"),
                    }
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}
