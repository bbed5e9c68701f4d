//! `isobar standalone`: everything in one process, on SQLite or PostgreSQL.

use std::path::Path;
use std::process::ExitCode;

use isobar_auth::OrgScope;
use isobar_store::migrate;
use tokio_util::sync::CancellationToken;

use crate::api_server::{execution, follow_teams, listen, serve};
use crate::scheduler::Working;
use crate::setup::{self, ServerLock};

pub(crate) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let began = std::time::Instant::now();
    let config = setup::load(file)?.config;
    crate::logging::start(config.logging.json);
    let _lock = ServerLock::take(&config)?;
    let org = OrgScope::at_process_start();
    let store = setup::open_store(&config).await?;
    for name in migrate::migrate(&store, &org).await? {
        tracing::info!(migration = name, "applied");
    }
    setup::apply_teams(&config, &store, &org).await?;
    let deployment = setup::with_store(config, store, org).await?;
    let listener = listen(&deployment).await?;
    let execution = execution(&deployment);
    follow_teams(&deployment);
    let working = Working::start(&deployment, &execution)?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        crate::stop::requested().await;
        asked.cancel();
    });
    tracing::info!(took = ?began.elapsed(), "up");
    let served = serve(listener, &deployment, execution, stop.clone().cancelled_owned()).await;
    stop.cancel();
    working.stop().await;
    served.map(|()| ExitCode::SUCCESS)
}
