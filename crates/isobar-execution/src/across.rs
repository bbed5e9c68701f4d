//! Waiting for what another team was asked for. A scheduler carries requests out under the organisation's scope.

use std::time::Duration;

use isobar_auth::TeamScope;
use isobar_store::requests;
use isobar_wire::execution::{Answer, Refusal};
use isobar_wire::wake::Wake;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::answers::{broken, refusal};
use crate::execution::{Execution, Outcome};

/// How long a caller is kept waiting.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often the answer is looked for where no hint comes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

impl Execution {
    /// Waits for the answer to a request of this team.
    pub(crate) async fn answer_of(&self, scope: TeamScope, id: Uuid) -> Outcome {
        let mut hints = self.store.signals().subscribe();
        let until = Instant::now() + LONGEST_WAIT;
        loop {
            let mut tx = self.store.read().await.map_err(broken)?;
            let found = requests::answer(&mut tx, scope, id).await.map_err(broken)?;
            drop(tx);
            let late = Instant::now() >= until;
            if found.is_some() || late {
                // An unanswered request is taken back, so that it is not carried out after its caller gave up.
                let mut tx = self.store.begin().await.map_err(broken)?;
                let last = requests::answer(&mut tx, scope, id).await.map_err(broken)?;
                requests::forget(&mut tx, scope, id).await.map_err(broken)?;
                tx.commit().await.map_err(broken)?;
                return match last {
                    Some(answer) => read(&answer),
                    None => Err(refusal(
                        503,
                        "no_scheduler",
                        "No scheduler carried out the request to the other team within 5 s; it is safe to try again",
                    )),
                };
            }
            // Answers are announced as `Definitions`; other hints are no reason to look.
            let announced = async { while !matches!(hints.recv().await, Ok(Wake::Definitions) | Err(_)) {} };
            let _ = tokio::time::timeout(LOOK_EVERY, announced).await;
        }
    }
}

/// `{"status": 204}`, or a refusal with its detail.
fn read(answer: &Value) -> Outcome {
    match answer["status"].as_u64().and_then(|status| u16::try_from(status).ok()) {
        Some(200..=299) => Ok(Answer::done()),
        Some(status) => Err(Refusal::new(status, answer["detail"].clone())),
        None => Err(refusal(500, "internal_error", "The scheduler's answer cannot be read")),
    }
}
