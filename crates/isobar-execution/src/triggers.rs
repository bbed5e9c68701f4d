//! What a team's triggerer is given to run.
//!
//! Several triggerers of a team share its triggers. Each says every few seconds that it lives; what one runs that has not
//! said so for `[triggerer] triggerer_health_check_threshold` is given to another.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_store::task_instances::TaskInstance;
use isobar_store::triggers::{self, Kwargs, StoredTrigger};
use isobar_store::{StoreError, Tx, dags, runs, seal};
use isobar_wire::execution::{Answering, Caller, Refusal};
use isobar_wire::triggers::{Assigned, Beat, RunTrigger, TriggerApi, TriggerNews};
use isobar_wire::workload::log_path;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::answers::{broken, time};
use crate::execution::Execution;

/// How long triggerers that ended are remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

impl Execution {
    async fn take_beat(&self, caller: &Caller, beat: Beat) -> Result<Assigned, StoreError> {
        let scope = self.own(caller);
        let now = Timestamp::now();
        let alive_since = now - self.settings.triggerer_alive;
        if beat.triggerer.is_none() {
            // Most teams have nothing to run most of the time: a look that writes nothing.
            let mut tx = self.store.read().await?;
            if !triggers::any_free(&mut tx, scope, alive_since).await? {
                return Ok(Assigned::default());
            }
        }
        let mut tx = self.store.begin().await?;
        let mut triggerer = beat.triggerer;
        if let Some(id) = triggerer
            && !triggers::beat(&mut tx, scope, id, alive_since, now).await?
        {
            triggerer = None;
        }
        let triggerer = match triggerer {
            Some(id) => id,
            None => triggers::enlist(&mut tx, scope, &beat.hostname, &beat.holder, now).await?,
        };
        triggers::sweep(&mut tx, scope, now - REMEMBERED).await?;
        let own = triggers::of_triggerer(&mut tx, scope, triggerer).await?.len();
        let room = beat.capacity.saturating_sub(u32::try_from(own).unwrap_or(u32::MAX));
        let wanted = room.min(beat.at_once);
        let taken = if wanted > 0 {
            triggers::assign(&mut tx, scope, triggerer, wanted, alive_since).await?
        } else {
            0
        };
        let keep: BTreeSet<i64> = triggers::of_triggerer(&mut tx, scope, triggerer)
            .await?
            .into_iter()
            .collect();
        let new: Vec<i64> = keep.difference(&beat.running).copied().collect();
        let stored = triggers::get(&mut tx, scope, &new).await?;
        let mut start = Vec::with_capacity(stored.len());
        for trigger in stored {
            start.extend(self.run_trigger(&mut tx, scope, caller, triggerer, trigger).await?);
        }
        tx.commit().await?;
        Ok(Assigned {
            triggerer: Some(triggerer),
            start,
            keep,
            more: room > wanted && taken == u64::from(wanted),
        })
    }

    /// Airflow's message for one trigger; none where it cannot be read, which its log-less row cannot tell anybody.
    async fn run_trigger(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        caller: &Caller,
        triggerer: i64,
        trigger: StoredTrigger,
    ) -> Result<Option<RunTrigger>, StoreError> {
        let kwargs = match self.kwargs(tx, scope, &trigger).await {
            Ok(kwargs) => kwargs,
            Err(error) => {
                tracing::error!(team = %scope.team(), trigger = trigger.id, %error, "a trigger's arguments cannot be opened");
                return Ok(None);
            }
        };
        let mut message = json!({
            "type": "RunTrigger",
            "id": trigger.id,
            "classpath": trigger.classpath,
            "encrypted_kwargs": kwargs,
        });
        let Some(ti) = &trigger.task else {
            if !trigger.watched.is_empty() {
                message["watched_assets"] = json!(trigger.watched);
            }
            return Ok(Some(RunTrigger {
                id: trigger.id,
                message,
                log_path: None,
            }));
        };
        message["ti"] = instance(ti);
        message["timeout_after"] = time(ti.trigger_timeout);
        if let Some((dag, run)) = self.whole_context(tx, scope, caller, ti).await? {
            message["dag_data"] = dag;
            message["dag_run_data"] = run;
        }
        let log = log_path(&ti.identity(caller.team_name()));
        Ok(Some(RunTrigger {
            id: trigger.id,
            message,
            log_path: Some(format!("{log}.trigger.{triggerer}.log")),
        }))
    }

    async fn kwargs(&self, tx: &mut Tx, scope: TeamScope, trigger: &StoredTrigger) -> Result<String, StoreError> {
        let sealed = match (&trigger.kwargs, &trigger.task) {
            (Kwargs::Plain(text), _) => return Ok(text.clone()),
            (Kwargs::Sealed(bytes), Some(ti)) => (bytes, ti),
            (Kwargs::Sealed(_), None) => return Err(StoreError::Sealed("its task is gone".to_owned())),
        };
        let place = Kwargs::place(sealed.1.id);
        let key = seal::known_team_key(tx, scope, &self.settings.master_key).await?;
        let key = key.ok_or_else(|| StoreError::Sealed("the team has no key".to_owned()))?;
        String::from_utf8(key.open(&place, sealed.0)?).map_err(|_| StoreError::Sealed(place))
    }

    /// A trigger that stands for a whole task (`start_from_trigger`) renders templates: it needs the Dag and the run.
    async fn whole_context(
        &self,
        tx: &mut Tx,
        scope: TeamScope,
        caller: &Caller,
        ti: &TaskInstance,
    ) -> Result<Option<(Value, Value)>, StoreError> {
        let Some(version) = ti.dag_version_id else {
            return Ok(None);
        };
        let whole = self
            .new_runs
            .starts_deferred(tx, scope, &ti.dag_id, version, &ti.task_id)
            .await?;
        if !whole {
            return Ok(None);
        }
        let dag = dags::version_json(tx, scope, ti.dag_id.as_str(), Some(version)).await?;
        let run = runs::get(tx, scope, &ti.run_key()).await?;
        Ok(dag.zip(run.map(|run| self.dag_run(&run, caller, &[]))))
    }
}

/// A task instance as Airflow's `TaskInstanceDTO`.
fn instance(ti: &TaskInstance) -> Value {
    json!({
        "id": ti.id.to_string(),
        "task_id": ti.task_id.as_str(),
        "dag_id": ti.dag_id.as_str(),
        "run_id": ti.run_id.as_str(),
        "try_number": ti.try_number,
        "dag_version_id": ti.dag_version_id.map(|id| id.to_string()),
        "map_index": ti.map_index,
        "hostname": ti.hostname,
        "context_carrier": {},
        "queue": ti.queue.as_deref().unwrap_or("default"),
        "pool_slots": ti.pool_slots,
        "priority_weight": ti.priority_weight,
    })
}

impl TriggerApi for Execution {
    fn beat<'a>(&'a self, caller: &'a Caller, beat: Beat) -> Answering<'a, Result<Assigned, Refusal>> {
        Box::pin(async move { self.take_beat(caller, beat).await.map_err(broken) })
    }

    fn trigger_news<'a>(&'a self, caller: &'a Caller, news: TriggerNews) -> Answering<'a, Result<(), Refusal>> {
        Box::pin(async move { Box::pin(self.take_news(caller, &news)).await.map_err(broken) })
    }

    fn triggerer_leaves<'a>(&'a self, caller: &'a Caller, triggerer: i64) -> Answering<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            triggers::leave(&mut tx, self.own(caller), triggerer, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }
}
