//! A team's listeners: real Python, and a control plane in memory.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isobar_model::{TeamId, TeamName};
use isobar_runtime::listeners::{Listeners, ListenersSpec};
use isobar_runtime::masker::MaskerConfig;
use isobar_runtime::zygote::Zygote;
use isobar_wire::execution::{Answering, Refusal};
use isobar_wire::listeners::{Hook, ListenerApi, PendingCall};
use serde_json::{Value, json};
use support::{MemoryApi, PATIENCE, spec};
use tokio::sync::watch;
use uuid::Uuid;

const PLUGIN: &str = r#"
import os, pathlib, time
from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

HOME = pathlib.Path(os.environ["AIRFLOW_HOME"])

class Hears:
    @hookimpl
    def on_asset_created(self, asset):
        (HOME / "pid").write_text(str(os.getpid()))
        while asset.name == "held" and not (HOME / "go").exists():
            time.sleep(0.02)

class Plugin(AirflowPlugin):
    name = "hears"
    listeners = [Hears()]
"#;

/// What is to be told, what was, and what was found.
#[derive(Default)]
struct Calls {
    waiting: Mutex<Vec<PendingCall>>,
    found: Mutex<Vec<(BTreeSet<Hook>, bool)>>,
}

impl ListenerApi for Calls {
    fn listeners_found(&self, _: TeamId, hooks: BTreeSet<Hook>, all: bool) -> Answering<'_, Result<(), Refusal>> {
        self.found.lock().unwrap().push((hooks, all));
        Box::pin(async { Ok(()) })
    }

    fn claim_calls(&self, _: TeamId, _: String, _: u32) -> Answering<'_, Result<Vec<PendingCall>, Refusal>> {
        let calls = self.waiting.lock().unwrap().clone();
        Box::pin(async { Ok(calls) })
    }

    fn calls_made(&self, _: TeamId, ids: Vec<i64>) -> Answering<'_, Result<(), Refusal>> {
        self.waiting.lock().unwrap().retain(|call| !ids.contains(&call.id));
        Box::pin(async { Ok(()) })
    }

    fn dag_of_call(&self, _: TeamId, _: Uuid) -> Answering<'_, Result<Option<Value>, Refusal>> {
        Box::pin(async { Ok(None) })
    }
}

impl Calls {
    fn of_assets(names: &[&str]) -> Arc<Self> {
        let call = |(id, name): (i64, &&str)| PendingCall {
            id,
            hook: Hook::OnAssetCreated.as_str().to_owned(),
            arguments: json!({"asset": {"name": name, "uri": name, "group": "asset", "extra": {}}}),
            version_id: None,
        };
        let calls = Self::default();
        *calls.waiting.lock().unwrap() = (1..).zip(names).map(call).collect();
        Arc::new(calls)
    }

    fn waiting(&self) -> Vec<i64> {
        self.waiting.lock().unwrap().iter().map(|call| call.id).collect()
    }
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

async fn start(home: &Path, calls: &Arc<Calls>) -> (Listeners, Zygote, watch::Sender<Option<Zygote>>) {
    let plugins = home.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    std::fs::write(plugins.join("hears.py"), PLUGIN).unwrap();
    let mut python = spec(home);
    python
        .env
        .push(("AIRFLOW__CORE__PLUGINS_FOLDER".into(), plugins.clone().into()));
    let zygote = Zygote::start(&python).await.unwrap();
    let spec = ListenersSpec {
        team: TeamId(1),
        team_name: TeamName::default_team(),
        bundles: Vec::new(),
        holder: "here".to_owned(),
        patience: PATIENCE,
        start_timeout: PATIENCE,
        linger: PATIENCE,
        plugins: Some(plugins),
        log_folder: home.join("logs"),
        masking: MaskerConfig::default(),
    };
    let (announce, zygotes) = watch::channel(None);
    let listeners = Listeners::start(spec, MemoryApi::with(|_| {}), Arc::clone(calls) as _, zygotes);
    listeners.meet(&zygote).await;
    announce.send_replace(Some(zygote.clone()));
    (listeners, zygote, announce)
}

#[tokio::test]
async fn calls_that_were_made_are_known_while_the_next_one_takes_long_and_a_drop_ends_their_process() {
    let home = tempfile::tempdir().unwrap();
    let calls = Calls::of_assets(&["quick", "quicker", "held"]);
    let (listeners, zygote, _announce) = start(home.path(), &calls).await;
    until("the first two are known", || calls.waiting() == [3]).await;
    std::fs::write(home.path().join("go"), "").unwrap();
    until("the last is known", || calls.waiting().is_empty()).await;
    let pid = std::fs::read_to_string(home.path().join("pid")).unwrap();
    drop(listeners);
    until("their process is gone", || !Path::new("/proc").join(&pid).exists()).await;
    zygote.shutdown().await;
}

#[tokio::test]
async fn plugins_that_cannot_be_loaded_are_not_taken_for_none() {
    let home = tempfile::tempdir().unwrap();
    let calls = Calls::of_assets(&[]);
    let (listeners, zygote, _announce) = start(home.path(), &calls).await;
    let broken = home.path().join("plugins/broken.py");
    std::fs::write(&broken, "raise ValueError('half written')").unwrap();
    listeners.meet(&zygote).await;
    std::fs::write(&broken, "").unwrap();
    listeners.meet(&zygote).await;
    listeners.stop().await;
    let hooks = BTreeSet::from([Hook::OnAssetCreated]);
    let found = calls.found.lock().unwrap().clone();
    let mut all: Vec<bool> = found.iter().map(|(_, all)| *all).collect();
    all.dedup();
    assert!(found.iter().all(|(found, _)| *found == hooks), "{found:?}");
    assert_eq!(all, [true, false, true]);
    zygote.shutdown().await;
}
