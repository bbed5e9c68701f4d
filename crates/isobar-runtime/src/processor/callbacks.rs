//! Callbacks that no worker could run: claimed from the control plane, run by parse children.

use std::collections::BTreeMap;
use std::sync::Arc;

use isobar_model::TeamId;
use isobar_wire::agent::{AgentApi, PendingCallback, READ_AGAIN};
use serde_json::Value;
use tokio::sync::mpsc;

use super::bundle::FileId;
use super::report::insist;

/// Most callbacks claimed at once.
const CLAIM: u32 = 50;

/// The callbacks of one file; one child runs them in their order. A function by its import path has a child of its own, and what
/// only asks for the file to be read again stands for itself.
pub(super) struct CallbackJob {
    pub(super) file: FileId,
    pub(super) callbacks: Vec<PendingCallback>,
}

/// Claims what waits, each time it is told to look, and hands it over grouped by file. Ends with the receiving side.
pub(super) async fn claim(
    team: TeamId,
    agent: Arc<dyn AgentApi>,
    mut look: mpsc::Receiver<()>,
    hand_over: mpsc::Sender<CallbackJob>,
) {
    while look.recv().await.is_some() {
        loop {
            let claimed = match insist(|| agent.claim_callbacks(team, CLAIM)).await {
                Ok(claimed) => claimed,
                Err(refusal) => {
                    tracing::error!(%team, %refusal, "callbacks could not be claimed");
                    break;
                }
            };
            let more = claimed.len() == CLAIM as usize;
            for job in by_file(claimed) {
                if hand_over.send(job).await.is_err() {
                    return;
                }
            }
            if !more {
                break;
            }
        }
    }
}

fn by_file(callbacks: Vec<PendingCallback>) -> Vec<CallbackJob> {
    let mut files: BTreeMap<FileId, Vec<PendingCallback>> = BTreeMap::new();
    let mut alone = Vec::new();
    for callback in callbacks {
        let file = FileId {
            bundle: callback.bundle.as_str().into(),
            rel_path: callback.rel_path.as_str().into(),
        };
        if stands_alone(&callback.request) || callback.request["type"] == READ_AGAIN {
            alone.push(CallbackJob {
                file,
                callbacks: vec![callback],
            });
        } else {
            files.entry(file).or_default().push(callback);
        }
    }
    let together = files
        .into_iter()
        .map(|(file, callbacks)| CallbackJob { file, callbacks });
    together.chain(alone).collect()
}

impl CallbackJob {
    /// Whether it only asks for its file to be read again.
    pub(super) fn asks_for_the_file(&self) -> bool {
        self.callbacks.iter().all(|one| one.request["type"] == READ_AGAIN)
    }
}

/// Whether a request names a function to call, rather than something to do with the Dags of its file.
pub(super) fn stands_alone(request: &Value) -> bool {
    request["type"] == "RunCallback"
}

/// Acknowledges callbacks that ran, well or badly.
pub(super) async fn done(team: TeamId, agent: &Arc<dyn AgentApi>, ids: Vec<i64>) {
    if let Err(refusal) = insist(|| agent.callbacks_done(team, ids.clone())).await {
        tracing::error!(%team, %refusal, "callbacks that ran could not be acknowledged; they will run again");
    }
}
