//! What a team's listener process asks for.

use std::collections::BTreeSet;

use isobar_model::TeamId;
use isobar_store::listeners;
use isobar_wire::execution::{Answering, Refusal};
use isobar_wire::listeners::{Hook, ListenerApi, PendingCall};
use isobar_wire::questions::QuestionApi;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::answers::broken;
use crate::execution::Execution;

/// How long calls that a host took are kept from other hosts. The same host takes them up again at once.
const HOLD: SignedDuration = SignedDuration::from_mins(10);

impl ListenerApi for Execution {
    fn listeners_found(
        &self,
        team: TeamId,
        mut hooks: BTreeSet<Hook>,
        all: bool,
    ) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let scope = self.org.team(team);
            let mut tx = self.store.read().await.map_err(broken)?;
            let heard = listeners::heard(&mut tx, scope).await.map_err(broken)?;
            if !all {
                hooks.extend(&heard);
            }
            if heard == hooks {
                return Ok(());
            }
            drop(tx);
            let mut tx = self.store.begin().await.map_err(broken)?;
            listeners::note(&mut tx, scope, &hooks, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }

    fn claim_calls(
        &self,
        team: TeamId,
        holder: String,
        limit: u32,
    ) -> Answering<'_, Result<Vec<PendingCall>, Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            let scope = self.org.team(team);
            let claimed = listeners::claim(&mut tx, scope, &holder, limit, Timestamp::now(), HOLD)
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)?;
            Ok(claimed)
        })
    }

    fn calls_made(&self, team: TeamId, ids: Vec<i64>) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            listeners::done(&mut tx, self.org.team(team), &ids)
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }

    fn dag_of_call(&self, team: TeamId, version: Uuid) -> Answering<'_, Result<Option<Value>, Refusal>> {
        self.dag_of_version(team, version)
    }
}
