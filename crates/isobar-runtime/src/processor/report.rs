//! Telling the control plane what was found: in batches, in order, again where it could not take it.

use std::sync::Arc;
use std::time::Duration;

use isobar_model::TeamId;
use isobar_wire::agent::{AgentApi, ParsedFile};
use isobar_wire::execution::Refusal;
use tokio::sync::mpsc;

use super::bundle::FileId;

/// Most files in one call, so that a transaction stays short.
const BATCH: usize = 100;
/// Waits between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One thing to tell.
pub(super) enum Report {
    Parsed(Box<ParsedFile>),
    Gone(FileId),
}

/// Reports until the sending side is closed and everything is told. While one batch is being stored the next one
/// collects: a single change is told at once, a thousand in few calls.
pub(super) async fn tell(team: TeamId, agent: Arc<dyn AgentApi>, mut reports: mpsc::Receiver<Report>) {
    let mut batch = Vec::new();
    while reports.recv_many(&mut batch, BATCH).await > 0 {
        let mut parsed = Vec::new();
        let mut gone = Vec::new();
        for report in batch.drain(..) {
            // Order matters only within one kind of a file; a change of kind ends the batch.
            match report {
                Report::Parsed(file) => {
                    tell_gone(team, &agent, &mut gone).await;
                    parsed.push(*file);
                }
                Report::Gone(id) => {
                    tell_parsed(team, &agent, &mut parsed).await;
                    gone.push((id.bundle.to_string(), id.rel_path.to_string()));
                }
            }
        }
        tell_parsed(team, &agent, &mut parsed).await;
        tell_gone(team, &agent, &mut gone).await;
    }
}

async fn tell_parsed(team: TeamId, agent: &Arc<dyn AgentApi>, files: &mut Vec<ParsedFile>) {
    let files = std::mem::take(files);
    if files.is_empty() {
        return;
    }
    let Err(refusal) = insist(|| agent.files_parsed(team, files.clone())).await else {
        return;
    };
    if files.len() == 1 {
        tracing::error!(%team, file = files[0].file.rel_path, %refusal, "a parsed file was refused");
        return;
    }
    // One of them is to blame; the others must not suffer.
    for file in files {
        let rel_path = file.file.rel_path.clone();
        if let Err(refusal) = insist(|| agent.files_parsed(team, vec![file.clone()])).await {
            tracing::error!(%team, file = rel_path, %refusal, "a parsed file was refused");
        }
    }
}

async fn tell_gone(team: TeamId, agent: &Arc<dyn AgentApi>, files: &mut Vec<(String, String)>) {
    let files = std::mem::take(files);
    if files.is_empty() {
        return;
    }
    if let Err(refusal) = insist(|| agent.files_gone(team, files.clone())).await {
        tracing::error!(%team, count = files.len(), %refusal, "removed files were refused");
    }
}

/// Asks again for as long as the control plane is not able to answer; gives up only where it refuses.
pub(super) async fn insist<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        match ask().await {
            Err(refusal) if refusal.status >= 500 => {
                tracing::warn!(%refusal, wait_seconds = wait.as_secs_f64(), "the control plane does not answer; asking again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            answer => return answer,
        }
    }
}
