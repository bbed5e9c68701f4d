//! Dags that listen to partitions of assets: what arrived is mapped to partitions of the Dag, and those of which enough
//! arrived get their run.
//!
//! As in Airflow such runs are made whether the Dag is paused or not, and whatever its `max_active_runs`: they wait, queued.

use std::collections::{HashMap, HashSet};

use isobar_engine::admission::DagKey;
use isobar_engine::assets::AssetKey;
use isobar_engine::dagplan::{NewRun, NextRun, RunIdPlan, suffix_of};
use isobar_engine::partition::{Arrived, PartitionedAssets};
use isobar_model::{RunTrigger, RunType};
use isobar_store::assets::partitions::{self, Arrival, Pending};
use isobar_store::{StoreError, audit, loading};
use jiff::Timestamp;
use serde_json::Value;

use crate::asking::SCHEDULE_PROBLEM;
use crate::asset_queue::{key as asset_key, of_alias};
use crate::mapping::{Downstream, KeyAsk, PartitionAsk, Wanted};
use crate::pass::Pass;

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
        let mut wanted = Wanted::default();
        self.file_arrivals(key, assets, &fingerprint, &mut wanted).await?;
        let pending = partitions::pending(self.tx, scope, &key.dag_id).await?;
        let (pending, stale): (Vec<Pending>, Vec<Pending>) =
            pending.into_iter().partition(|one| one.fingerprint == fingerprint);
        if !stale.is_empty() {
            tracing::info!(team = %key.team, dag = %key.dag_id, count = stale.len(), "partitions that waited are forgotten: the mappers changed");
            let ids: Vec<i64> = stale.iter().map(|one| one.id).collect();
            partitions::forget(self.tx, scope, &ids).await?;
        }
        if !pending.is_empty() && self.setting.makes_runs {
            let aliases = of_alias(&loading::alias_assets(self.tx, scope, &version.aliases).await?);
            self.make_partitions(key, assets, pending, &aliases, &mut wanted)
                .await?;
        }
        self.ask_partitions(key, wanted).await
    }

    /// Makes the runs of partitions of which enough arrived.
    async fn make_partitions(
        &mut self,
        key: &DagKey,
        assets: &PartitionedAssets,
        pending: Vec<Pending>,
        aliases: &HashMap<String, Vec<AssetKey>>,
        wanted: &mut Wanted,
    ) -> Result<(), StoreError> {
        let mut asks = HashSet::new();
        for one in pending {
            let arrived = arrived(&one);
            let mut said = HashMap::new();
            let mut unsaid = false;
            for (asset, arrived) in arrived.iter().filter(|(_, arrived)| arrived.active) {
                let Some((_, mapper)) = assets.python(&asset.name, &asset.uri) else {
                    continue;
                };
                let ask = PartitionAsk {
                    mapper: mapper.to_string(),
                    key: one.key.clone(),
                    arrived: arrived.keys.clone(),
                };
                let known = self
                    .memory
                    .dags
                    .get(key)
                    .and_then(|dag| dag.mapped.partitions.get(&ask));
                if let Some(known) = known {
                    said.insert(asset.clone(), known.clone());
                    asks.insert(ask);
                } else {
                    unsaid = true;
                    wanted.partitions.insert(ask);
                }
            }
            if !unsaid && assets.ready(&one.key, &arrived, aliases, &said) {
                let date = assets.date(&one.key, &arrived, one.date, &said);
                self.make_partition(key, &one, date).await?;
            }
        }
        if let Some(dag) = self.memory.dags.get_mut(key) {
            dag.mapped.partitions.retain(|ask, _| asks.contains(ask));
        }
        Ok(())
    }

    async fn partitions_broken(&mut self, key: &DagKey, problem: &str) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        let problem = format!("its partition mappers cannot be used: {problem}");
        loading::set_dag_problem(self.tx, scope, &key.dag_id, SCHEDULE_PROBLEM, Some(&problem), self.now).await
    }

    /// Files what arrived under the partitions of the Dag to which it belongs. What a class of the team's maps stays until that
    /// has said where it belongs.
    async fn file_arrivals(
        &mut self,
        key: &DagKey,
        assets: &PartitionedAssets,
        fingerprint: &Value,
        wanted: &mut Wanted,
    ) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        let mut filed = Vec::new();
        for arrival in partitions::arrivals(self.tx, scope, &key.dag_id).await? {
            let mapped = match assets.python(&arrival.name, &arrival.uri) {
                None => by_rule(assets, &arrival),
                Some((_, mapper)) => {
                    let ask = KeyAsk {
                        mapper: mapper.to_string(),
                        key: arrival.key.clone(),
                        date: arrival.date,
                    };
                    let known = self.memory.dags.get(key).and_then(|dag| dag.mapped.keys.get(&ask));
                    let Some(known) = known.cloned() else {
                        wanted.keys.insert(ask);
                        continue;
                    };
                    known
                }
            };
            match mapped
                .map_err(|problem| unmapped(key, &arrival, &problem))
                .and_then(|found| within_limit(key, &arrival, found, self.setting.most_downstream_keys))
            {
                Ok(found) => {
                    for target in &found.keys {
                        partitions::file(
                            self.tx,
                            scope,
                            &key.dag_id,
                            &arrival,
                            target,
                            found.carried,
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
                    audit::write(self.tx, scope, &[record]);
                }
            }
            filed.push(arrival);
        }
        if let Some(dag) = self.memory.dags.get_mut(key) {
            dag.mapped.keys.clear();
        }
        partitions::seen(self.tx, scope, &key.dag_id, &filed).await
    }

    async fn make_partition(&mut self, key: &DagKey, one: &Pending, date: Option<Timestamp>) -> Result<(), StoreError> {
        let new = NewRun {
            run_id: RunIdPlan::WithRandomTail(format!("{}__{}_", RunType::AssetTriggered, suffix_of(self.now))),
            run_type: RunType::AssetTriggered,
            triggered_by: RunTrigger::Asset,
            info: NextRun {
                run_after: self.now,
                data_interval: None,
                partition_key: Some(one.key.clone()),
                partition_date: date,
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

/// Where the mapper of an arrival's asset, one that needs no Python, sends it.
fn by_rule(assets: &PartitionedAssets, arrival: &Arrival) -> Result<Downstream, String> {
    let mapper = assets.mapper(&arrival.name, &arrival.uri);
    let keys = mapper.downstream(&arrival.key).map_err(|problem| problem.to_string())?;
    Ok(Downstream {
        keys: keys.into_vec(),
        most: mapper.most_downstream_keys(),
        carried: mapper.carried(arrival.date),
    })
}

/// A record for the audit log: its event, as Airflow names it, and what it says.
type Noted = (&'static str, String);

fn unmapped(key: &DagKey, arrival: &Arrival, problem: &str) -> Noted {
    let text = format!(
        "Could not map partition_key '{}' for asset (name='{}', uri='{}') in target Dag '{}'. This likely indicates that the \
         partition mapper in the target Dag is misconfigured or does not support this partition key.\n{problem}",
        arrival.key, arrival.name, arrival.uri, key.dag_id
    );
    ("failed to map partition_key", text)
}

fn within_limit(key: &DagKey, arrival: &Arrival, found: Downstream, usual: u32) -> Result<Downstream, Noted> {
    let most = found.most.unwrap_or(usual);
    if u32::try_from(found.keys.len()).is_ok_and(|count| count <= most) {
        return Ok(found);
    }
    let limit = match found.most {
        Some(most) => format!("max_downstream_keys={most}"),
        None => format!("[scheduler] partition_mapper_max_downstream_keys={usual}"),
    };
    let text = format!(
        "Partition mapper for asset (name='{}', uri='{}') in target Dag '{}' produced {} downstream keys from \
         partition_key='{}', exceeding {limit}. No Dag runs were queued for this event.",
        arrival.name,
        arrival.uri,
        key.dag_id,
        found.keys.len(),
        arrival.key
    );
    Err(("partition fan-out exceeded", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isobar_model::TeamId;

    #[test]
    fn a_mapper_that_says_no_limit_has_the_usual_one() {
        let key = DagKey {
            team: TeamId(1),
            dag_id: "listens".into(),
        };
        let arrival = Arrival {
            producer: TeamId(1),
            event_id: 1,
            asset_id: 1,
            name: "a".to_owned(),
            uri: "a".to_owned(),
            key: "k".to_owned(),
            date: None,
        };
        let mapped = |count: u32, most: Option<u32>| Downstream {
            keys: (0..count).map(|number| number.to_string()).collect(),
            most,
            carried: None,
        };
        assert!(within_limit(&key, &arrival, mapped(3, None), 3).is_ok());
        assert!(within_limit(&key, &arrival, mapped(4, Some(4)), 3).is_ok());
        let (event, text) = within_limit(&key, &arrival, mapped(4, None), 3).unwrap_err();
        assert_eq!(event, "partition fan-out exceeded");
        assert!(
            text.contains("exceeding [scheduler] partition_mapper_max_downstream_keys=3."),
            "{text}"
        );
        assert!(within_limit(&key, &arrival, mapped(4, Some(3)), 9).is_err());
    }
}
