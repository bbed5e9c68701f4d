//! What the team's listeners ask of the control plane, asked again while it refuses.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use isobar_model::{TeamId, TeamName};
use isobar_wire::execution::Refusal;
use isobar_wire::listeners::{Hook, ListenerApi, PendingCall};
use tokio_util::sync::CancellationToken;

/// The pause after a refusal.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Control {
    pub(super) api: Arc<dyn ListenerApi>,
    pub(super) team: TeamId,
    pub(super) team_name: TeamName,
    pub(super) holder: String,
    pub(super) stop: CancellationToken,
}

impl Control {
    /// Says which hooks the plugins have; where not all could be loaded, there may be more.
    pub(super) async fn found(&self, hooks: &BTreeSet<Hook>, all: bool) {
        let what = "what the team's listeners hear could not be noted; trying again";
        self.insist(what, || self.api.listeners_found(self.team, hooks.clone(), all))
            .await;
    }

    /// Takes calls to be made; none where that is refused.
    pub(super) async fn claim(&self, limit: u32) -> Vec<PendingCall> {
        let claimed = self.api.claim_calls(self.team, self.holder.clone(), limit).await;
        claimed.unwrap_or_else(|refusal| {
            self.complain("what listeners are to be told cannot be read", &refusal);
            Vec::new()
        })
    }

    /// Writes down which calls were made, and empties the list.
    pub(super) async fn made(&self, made: &mut Vec<i64>) {
        if made.is_empty() {
            return;
        }
        let made = std::mem::take(made);
        let what = "calls of listeners could not be acknowledged; trying again";
        self.insist(what, || self.api.calls_made(self.team, made.clone())).await;
    }

    async fn insist<A: Future<Output = Result<(), Refusal>>>(&self, what: &str, ask: impl Fn() -> A) {
        while let Err(refusal) = ask().await {
            self.complain(what, &refusal);
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn complain(&self, what: &str, refusal: &Refusal) {
        tracing::warn!(team = %self.team_name, status = refusal.status, "{what}");
    }
}
