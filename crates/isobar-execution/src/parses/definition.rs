//! From a serialized Dag to what is stored of it.

use isobar_engine::timetable::Timetable;
use isobar_model::dag::{Asset, AssetExpr, AssetLeaf, AssetRef, SerializedDag};
use isobar_store::dags::{AliasDefinition, AssetDefinition, AssetReference, ParsedDag, WatcherDefinition};
use serde_json::{Value, json};

/// What is stored of a Dag.
pub(super) fn parsed_dag(dag: &SerializedDag, fileloc: &str, paused: bool) -> ParsedDag {
    let mut mentions = Mentions::default();
    if let Some(condition) = dag.timetable.asset_condition() {
        mentions.add("", "schedule", condition);
    }
    let mut has_limits = false;
    for task in dag.tasks().map(|task| dag.task(task)) {
        has_limits |= task.max_active_tis_per_dag.is_some() || task.max_active_tis_per_dagrun.is_some();
        let task_id = task.task_id.as_str();
        task.inlets
            .iter()
            .for_each(|inlet| mentions.add(task_id, "inlet", inlet));
        task.outlets
            .iter()
            .for_each(|outlet| mentions.add(task_id, "outlet", outlet));
    }
    // A schedule that could never work shows itself where runs are planned; here it only has no words.
    let schedule = Timetable::from_model(&dag.timetable).ok();
    ParsedDag {
        dag_id: dag.dag_id.clone(),
        fileloc: fileloc.to_owned(),
        paused_at_first: dag.is_paused_upon_creation.unwrap_or(paused),
        // A Dag without tasks has Airflow's default owner.
        owners: Some(dag.owner())
            .filter(|owner| !owner.is_empty())
            .unwrap_or_else(|| "airflow".to_owned()),
        display_name: dag.custom_display_name.clone(),
        description: dag.description.clone(),
        timetable_type: dag.timetable.type_name().to_owned(),
        timetable_summary: schedule.as_ref().map(|schedule| schedule.summary().to_owned()),
        timetable_description: schedule.as_ref().map(|schedule| schedule.description().to_owned()),
        timetable_partitioned: dag.timetable.is_partitioned(),
        timetable_periodic: dag.timetable.is_periodic(),
        asset_expression: dag.timetable.asset_condition().map(AssetExpr::as_expression),
        max_active_tasks: dag.max_active_tasks,
        max_active_runs: dag.max_active_runs,
        max_consecutive_failed_runs: dag.max_consecutive_failed_dag_runs,
        has_task_concurrency_limits: has_limits,
        fail_fast: dag.fail_fast,
        allowed_run_types: dag
            .allowed_run_types
            .as_ref()
            .map(|types| json!(types.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())),
        access_control: dag.access_control.clone(),
        tags: dag.tags.clone(),
        owner_links: dag
            .owner_links
            .iter()
            .map(|(owner, link)| (owner.clone(), link.clone()))
            .collect(),
        hash: dag.content_hash().to_owned(),
        data: dag.json().to_string(),
        assets: mentions.assets,
        aliases: mentions.aliases,
        references: mentions.references,
        watchers: watchers(dag),
    }
}

/// Who watches the assets of the schedule.
fn watchers(dag: &SerializedDag) -> Vec<WatcherDefinition> {
    let condition = dag.timetable.asset_condition();
    let assets = condition
        .into_iter()
        .flat_map(AssetExpr::leaves)
        .filter_map(|leaf| match leaf {
            AssetLeaf::Asset(asset) => Some(asset),
            AssetLeaf::Alias(_) | AssetLeaf::Ref(_) => None,
        });
    assets
        .flat_map(|asset| {
            asset.watchers.iter().map(|watcher| WatcherDefinition {
                asset_name: asset.name.clone(),
                asset_uri: asset.uri.clone(),
                name: watcher.name.clone(),
                classpath: watcher.classpath.clone(),
                kwargs: watcher.kwargs.clone(),
            })
        })
        .collect()
}

/// What a Dag names of assets, gathered.
#[derive(Default)]
struct Mentions {
    assets: Vec<AssetDefinition>,
    aliases: Vec<AliasDefinition>,
    references: Vec<AssetReference>,
}

impl Mentions {
    fn add(&mut self, task_id: &str, role: &'static str, expr: &AssetExpr) {
        for leaf in expr.leaves() {
            let (kind, name, uri) = match leaf {
                AssetLeaf::Asset(asset) => ("asset", asset.name.as_str(), asset.uri.as_str()),
                AssetLeaf::Alias(alias) => ("alias", alias.name.as_str(), ""),
                AssetLeaf::Ref(AssetRef::Name(name)) => ("name_ref", name.as_str(), ""),
                AssetLeaf::Ref(AssetRef::Uri(uri)) => ("uri_ref", "", uri.as_str()),
            };
            let asset = match leaf {
                AssetLeaf::Asset(asset) => Some(asset),
                AssetLeaf::Alias(_) | AssetLeaf::Ref(_) => None,
            };
            self.references.push(AssetReference {
                task_id: task_id.to_owned(),
                role,
                kind,
                name: name.to_owned(),
                uri: uri.to_owned(),
                producer_teams: asset.filter(|_| role == "schedule").and_then(producer_teams),
                consumer_teams: asset.filter(|_| role == "outlet").and_then(consumer_teams),
            });
            match leaf {
                AssetLeaf::Asset(asset) => self.assets.push(AssetDefinition {
                    name: asset.name.clone(),
                    uri: asset.uri.clone(),
                    group: asset.group.clone(),
                    extra: asset.extra.clone(),
                    access_control: asset.access_control.as_ref().map(|access| {
                        json!({
                            "producer_teams": access.producer_teams,
                            "consumer_teams": access.consumer_teams,
                            "allow_global": access.allow_global,
                        })
                    }),
                }),
                AssetLeaf::Alias(alias) => self.aliases.push(AliasDefinition {
                    name: alias.name.clone(),
                    group: alias.group.clone(),
                }),
                AssetLeaf::Ref(_) => {}
            }
        }
    }
}

/// The other teams whose events a consumer accepts: by access control, or in `extra` as older Dags write it (rule 19).
fn producer_teams(asset: &Asset) -> Option<Vec<String>> {
    let mut teams: Vec<String> = asset
        .access_control
        .as_ref()
        .map(|access| access.producer_teams.clone())
        .unwrap_or_default();
    let older = asset.extra.get("allow_triggering_by_teams").and_then(Value::as_array);
    teams.extend(
        older
            .into_iter()
            .flatten()
            .filter_map(|team| team.as_str().map(str::to_owned)),
    );
    (!teams.is_empty()).then_some(teams)
}

fn consumer_teams(asset: &Asset) -> Option<Vec<String>> {
    asset.access_control.as_ref()?.consumer_teams.clone()
}
