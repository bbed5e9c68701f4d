//! Dags that listen to partitions of assets: what arrived is mapped to partitions of the Dag, and those of which enough
//! arrived get their run.
//!
//! As in Airflow such runs are made whether the Dag is paused or not, and whatever its `max_active_runs`: they wait, queued.

use std::collections::HashMap;

use isobar_engine::admission::DagKey;
use isobar_engine::assets::AssetKey;
use isobar_engine::dagplan::{NewRun, NextRun, RunIdPlan, suffix_of};
use isobar_engine::partition::{Arrived, PartitionedAssets};
use isobar_model::{RunTrigger, RunType};
use isobar_store::assets::partitions::{self, Arrival, Pending};
use isobar_store::{StoreError, audit, loading};
use serde_json::Value;

use crate::asking::SCHEDULE_PROBLEM;
use crate::asset_queue::{key as asset_key, of_alias};
use crate::pass::Pass;

/// `[scheduler] partition_mapper_max_downstream_keys`, as Airflow ships it.
const MOST_KEYS: usize = 1000;

impl Pass<'_> {
    /// Looks at what arrived for a Dag and at what waits.
    pub(crate) async fn plan_partitions(&mut self, key: &DagKey) -> Result<(), StoreError> {
        let Some(dag) = self.memory.dags.get(key) else {
            return Ok(());
        };
        let Some(version) = dag.version.clone().filter(|_| !dag.row.is_stale) else {
            return Ok(());
        };
        let assets = match &version.partitions {
            None => return Ok(()),
            Some(Ok(assets)) => assets,
            Some(Err(problem)) => return self.partitions_broken(key, problem).await,
        };
        let scope = self.setting.org.team(key.team);
        let fingerprint = assets.fingerprint();
        self.file_arrivals(key, assets, &fingerprint).await?;
        let pending = partitions::pending(self.tx, scope, &key.dag_id).await?;
        let (pending, stale): (Vec<Pending>, Vec<Pending>) =
            pending.into_iter().partition(|one| one.fingerprint == fingerprint);
        if !stale.is_empty() {
            tracing::info!(team = %key.team, dag = %key.dag_id, count = stale.len(), "partitions that waited are forgotten: the mappers changed");
            let ids: Vec<i64> = stale.iter().map(|one| one.id).collect();
            partitions::forget(self.tx, scope, &ids).await?;
        }
        if pending.is_empty() {
            return Ok(());
        }
        let aliases = of_alias(&loading::alias_assets(self.tx, scope, &version.aliases).await?);
        for one in pending {
            let arrived = arrived(&one);
            if assets.ready(&one.key, &arrived, &aliases) {
                self.make_partition(key, assets, &one, &arrived).await?;
            }
        }
        Ok(())
    }

    async fn partitions_broken(&mut self, key: &DagKey, problem: &str) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        let problem = format!("its partition mappers cannot be used: {problem}");
        loading::set_dag_problem(self.tx, scope, &key.dag_id, SCHEDULE_PROBLEM, Some(&problem), self.now).await
    }

    async fn file_arrivals(
        &mut self,
        key: &DagKey,
        assets: &PartitionedAssets,
        fingerprint: &Value,
    ) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        let arrivals = partitions::arrivals(self.tx, scope, &key.dag_id).await?;
        let of_python = |arrival: &Arrival| assets.mapper(&arrival.name, &arrival.uri).python().map(str::to_owned);
        let (waiting, arrivals): (Vec<Arrival>, Vec<Arrival>) =
            arrivals.into_iter().partition(|arrival| of_python(arrival).is_some());
        if let Some(path) = waiting.first().and_then(of_python) {
            // They stay until somebody can say where they belong.
            let problem = format!(
                "its partition mapper `{path}` is Python code of the team, which this version cannot ask yet: {} events of its \
                 assets wait, all else works",
                waiting.len()
            );
            loading::set_dag_problem(self.tx, scope, &key.dag_id, SCHEDULE_PROBLEM, Some(&problem), self.now).await?;
        }
        for arrival in &arrivals {
            let date = assets.mapper(&arrival.name, &arrival.uri).carried(arrival.date);
            match targets(key, assets, arrival) {
                Ok(targets) => {
                    for target in &targets {
                        partitions::file(
                            self.tx,
                            scope,
                            &key.dag_id,
                            arrival,
                            target,
                            date,
                            fingerprint,
                            self.now,
                        )
                        .await?;
                    }
                }
                Err((event, problem)) => {
                    let record = audit::Record::new(event, "scheduler")
                        .dag(&key.dag_id)
                        .extra(Value::String(problem));
                    audit::write(self.tx, scope, &[record]).await?;
                }
            }
        }
        partitions::seen(self.tx, scope, &key.dag_id, &arrivals).await
    }

    async fn make_partition(
        &mut self,
        key: &DagKey,
        assets: &PartitionedAssets,
        one: &Pending,
        arrived: &HashMap<AssetKey, Arrived>,
    ) -> Result<(), StoreError> {
        let new = NewRun {
            run_id: RunIdPlan::WithRandomTail(format!("{}__{}_", RunType::AssetTriggered, suffix_of(self.now))),
            run_type: RunType::AssetTriggered,
            triggered_by: RunTrigger::Asset,
            info: NextRun {
                run_after: self.now,
                data_interval: None,
                partition_key: Some(one.key.clone()),
                partition_date: assets.date(&one.key, arrived, one.date),
            },
            consume_assets_until: None,
        };
        let scope = self.setting.org.team(key.team);
        if let Some(run) = self.create_run(key, new).await? {
            partitions::made(self.tx, scope, one.id, &run, self.now).await?;
        }
        Ok(())
    }
}

fn arrived(one: &Pending) -> HashMap<AssetKey, Arrived> {
    let mut found: HashMap<AssetKey, Arrived> = HashMap::new();
    for (name, uri, active, key) in &one.arrived {
        let arrived = found.entry(asset_key(name, uri)).or_default();
        arrived.active = *active;
        arrived.keys.insert(key.clone());
    }
    found
}

/// The partitions of the Dag to which an arrival belongs; else what the audit log says, in Airflow's words for the event.
fn targets(key: &DagKey, assets: &PartitionedAssets, arrival: &Arrival) -> Result<Vec<String>, (&'static str, String)> {
    let mapper = assets.mapper(&arrival.name, &arrival.uri);
    let which = format!("asset (name='{}', uri='{}')", arrival.name, arrival.uri);
    let targets = mapper.downstream(&arrival.key).map_err(|problem| {
        let text = format!(
            "Could not map partition_key '{}' for {which} in target Dag '{}'. This likely indicates that the partition mapper \
             in the target Dag is misconfigured or does not support this partition key.\n{problem}",
            arrival.key, key.dag_id
        );
        ("failed to map partition_key", text)
    })?;
    let targets = targets.into_vec();
    let own_limit = mapper.most_downstream_keys();
    let most = own_limit.map_or(MOST_KEYS, |most| usize::try_from(most).unwrap_or(usize::MAX));
    if targets.len() > most {
        let limit = match own_limit {
            Some(most) => format!("max_downstream_keys={most}"),
            None => format!("[scheduler] partition_mapper_max_downstream_keys={MOST_KEYS}"),
        };
        let text = format!(
            "Partition mapper for {which} in target Dag '{}' produced {} downstream keys from partition_key='{}', exceeding \
             {limit}. No Dag runs were queued for this event.",
            key.dag_id,
            targets.len(),
            arrival.key
        );
        return Err(("partition fan-out exceeded", text));
    }
    Ok(targets)
}
