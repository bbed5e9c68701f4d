//! `isobar db migrate|check`

use std::path::Path;
use std::process::ExitCode;

use isobar_auth::OrgScope;
use isobar_store::migrate;

use crate::cli::DbAction;
use crate::setup::{self, ServerLock};

pub(crate) async fn run(file: Option<&Path>, action: &DbAction) -> anyhow::Result<ExitCode> {
    let config = setup::load(file)?.config;
    let org = OrgScope::at_process_start();
    match action {
        DbAction::Migrate => {
            let _lock = ServerLock::for_changing(&config)?;
            let store = setup::open_store(&config).await?;
            let applied = migrate::migrate(&store, &org).await?;
            for name in &applied {
                println!("applied {name}");
            }
            println!("the database is at migration {}", migrate::needed());
        }
        DbAction::Check => {
            let store = setup::open_store(&config).await?;
            migrate::check(&store, &org).await?;
            println!("the database is at migration {}", migrate::needed());
        }
    }
    Ok(ExitCode::SUCCESS)
}
