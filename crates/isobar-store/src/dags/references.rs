//! What a Dag names: tags, owner links, assets and aliases. Written for new and changed Dags only, since the hash of a
//! Dag covers all of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isobar_auth::TeamScope;
use isobar_model::DagId;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AssetDefinition, ParsedDag, ParsedFile, StoredParses};
use crate::assets::activate;
use crate::counters::{Counter, next_ids};
use crate::db::{Val, vals, values_list};
use crate::listeners::{NewCall, alias_created, asset_created};
use crate::task_calls::among;
use crate::{StoreError, Tx};

const ROWS_A_STATEMENT: usize = 500;

/// Replaces tags, owner links and references of Dags that are new or changed; answers what listeners would be told of.
pub(super) async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    stored: &StoredParses,
) -> Result<Vec<NewCall>, StoreError> {
    let touched: BTreeSet<&DagId> = stored.new.iter().chain(&stored.changed).collect();
    let mut dags: BTreeMap<&DagId, &ParsedDag> = BTreeMap::new();
    for dag in files.iter().flat_map(|file| &file.dags) {
        if touched.contains(&dag.dag_id) {
            dags.insert(&dag.dag_id, dag);
        }
    }
    let changed: Vec<&DagId> = stored.changed.iter().collect();
    let (mut names, since) = forget(tx, scope, &changed).await?;
    let now = Timestamp::now();

    let tags = rows(&dags, |dag| {
        let distinct: BTreeSet<&String> = dag.tags.iter().collect();
        distinct
            .into_iter()
            .map(|tag| vals![scope.team(), &dag.dag_id, tag])
            .collect()
    });
    insert(tx, "dag_tag (team_no, dag_id, tag)", tags).await?;
    let links = rows(&dags, |dag| {
        let distinct: BTreeMap<&String, &String> = dag.owner_links.iter().map(|(owner, link)| (owner, link)).collect();
        let row = |(owner, link)| vals![scope.team(), &dag.dag_id, owner, link];
        distinct.into_iter().map(row).collect()
    });
    insert(tx, "dag_owner_link (team_no, dag_id, owner, link)", links).await?;
    let references = rows(&dags, |dag| {
        let mut distinct = BTreeMap::new();
        for found in &dag.references {
            distinct.insert((&found.task_id, found.role, found.kind, &found.name, &found.uri), found);
        }
        let list = |teams: &Option<Vec<String>>| teams.as_ref().map(|teams| json!(teams).to_string());
        let row = |found: &super::AssetReference| {
            let mention = (
                dag.dag_id.to_string(),
                found.role.to_owned(),
                found.kind.to_owned(),
                found.name.clone(),
                found.uri.clone(),
            );
            vals![
                scope.team(),
                &dag.dag_id,
                &found.task_id,
                found.role,
                found.kind,
                &found.name,
                &found.uri,
                list(&found.producer_teams),
                list(&found.consumer_teams),
                since.get(&mention).copied().unwrap_or(now),
            ]
        };
        distinct.into_values().map(row).collect()
    });
    insert(
        tx,
        "asset_reference (team_no, dag_id, task_id, role, kind, name, uri, producer_teams, consumer_teams, created_at)",
        references,
    )
    .await?;

    let (ids, mut calls) = assets(tx, scope, &dags).await?;
    calls.extend(aliases(tx, scope, &dags).await?);
    super::watchers::write(tx, scope, &dags, &ids).await?;
    names.extend(ids.keys().map(|(name, _)| name.clone()));
    activate(tx, scope, &names, now).await?;
    expressions(tx, scope, &dags, &ids).await?;
    Ok(calls)
}

fn rows<'a>(dags: &BTreeMap<&'a DagId, &'a ParsedDag>, of: impl Fn(&'a ParsedDag) -> Vec<Vec<Val>>) -> Vec<Vec<Val>> {
    dags.values().flat_map(|dag| of(dag)).collect()
}

async fn insert(tx: &mut Tx, into: &str, rows: Vec<Vec<Val>>) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS_A_STATEMENT) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(&format!("INSERT INTO {into} VALUES {list}"), values).await?;
    }
    Ok(())
}

/// Dag, role, kind, name and URI of a reference, and since when it stands.
type Since = HashMap<(String, String, String, String, String), Timestamp>;

/// Takes away what changed Dags named before; answers the names of assets that they named, and since when.
async fn forget(tx: &mut Tx, scope: TeamScope, dags: &[&DagId]) -> Result<(BTreeSet<String>, Since), StoreError> {
    let (mut names, mut since) = (BTreeSet::new(), Since::new());
    for chunk in dags.chunks(ROWS_A_STATEMENT) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        for table in ["dag_tag", "dag_owner_link", "asset_watcher"] {
            let text = format!("DELETE FROM {table} WHERE team_no = $1 AND dag_id {list}");
            tx.run(&text, values.clone()).await?;
        }
        let text = format!(
            "DELETE FROM asset_reference WHERE team_no = $1 AND dag_id {list} \
             RETURNING dag_id, role, kind, name, uri, created_at"
        );
        for row in tx.rows(&text, values).await? {
            let (kind, name) = (row.text("kind")?, row.text("name")?);
            if kind == "asset" {
                names.insert(name.clone());
            }
            let mention = (row.text("dag_id")?, row.text("role")?, kind, name, row.text("uri")?);
            let at = row.time("created_at")?;
            let first = since.entry(mention).or_insert(at);
            *first = at.min(*first);
        }
    }
    Ok((names, since))
}

/// Ids of assets by name and URI.
pub(super) type AssetIds = HashMap<(String, String), i64>;

async fn assets(
    tx: &mut Tx,
    scope: TeamScope,
    dags: &BTreeMap<&DagId, &ParsedDag>,
) -> Result<(AssetIds, Vec<NewCall>), StoreError> {
    let mut wanted: BTreeMap<(&str, &str), &AssetDefinition> = BTreeMap::new();
    for asset in dags.values().flat_map(|dag| &dag.assets) {
        wanted.insert((&asset.name, &asset.uri), asset);
    }
    if wanted.is_empty() {
        return Ok((AssetIds::new(), Vec::new()));
    }
    let names: Vec<&str> = wanted
        .keys()
        .map(|(name, _)| *name)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut ids = AssetIds::new();
    for chunk in names.chunks(ROWS_A_STATEMENT) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let text = format!("SELECT id, name, uri, asset_group, extra FROM asset WHERE team_no = $1 AND name {list}");
        for row in tx.rows(&text, values).await? {
            let (id, key) = (row.int("id")?, (row.text("name")?, row.text("uri")?));
            if let Some(asset) = wanted.get(&(key.0.as_str(), key.1.as_str())) {
                if row.text("asset_group")? != asset.group || row.json("extra")? != asset.extra {
                    tx.run(
                        "UPDATE asset SET asset_group = $1, extra = $2, updated_at = $3 WHERE team_no = $4 AND id = $5",
                        vals![&asset.group, &asset.extra, Timestamp::now(), scope.team(), id],
                    )
                    .await?;
                }
                ids.insert(key, id);
            }
        }
    }
    let missing: Vec<&AssetDefinition> = wanted
        .values()
        .filter(|asset| !ids.contains_key(&(asset.name.clone(), asset.uri.clone())))
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok((ids, Vec::new()));
    }
    let created = missing.iter().map(|asset| asset_created(asset)).collect();
    let now = Timestamp::now();
    let count = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    let first = next_ids(tx, scope, Counter::Asset, count).await?;
    let mut rows = Vec::new();
    for (id, asset) in (first..).zip(missing) {
        ids.insert((asset.name.clone(), asset.uri.clone()), id);
        rows.push(vals![
            scope.team(),
            id,
            &asset.name,
            &asset.uri,
            &asset.group,
            &asset.extra,
            asset.access_control.as_ref(),
            false,
            now,
            now
        ]);
    }
    insert(
        tx,
        "asset (team_no, id, name, uri, asset_group, extra, access_control, active, created_at, updated_at)",
        rows,
    )
    .await?;
    Ok((ids, created))
}

async fn aliases(
    tx: &mut Tx,
    scope: TeamScope,
    dags: &BTreeMap<&DagId, &ParsedDag>,
) -> Result<Vec<NewCall>, StoreError> {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    for alias in dags.values().flat_map(|dag| &dag.aliases) {
        wanted.insert(&alias.name, &alias.group);
    }
    let names: Vec<&str> = wanted.keys().copied().collect();
    for chunk in names.chunks(ROWS_A_STATEMENT) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let text = format!("SELECT id, name, alias_group FROM asset_alias WHERE team_no = $1 AND name {list}");
        for row in tx.rows(&text, values).await? {
            let Some(group) = wanted.remove(row.text("name")?.as_str()) else {
                continue;
            };
            if row.text("alias_group")? != group {
                tx.run(
                    "UPDATE asset_alias SET alias_group = $1 WHERE team_no = $2 AND id = $3",
                    vals![group, scope.team(), row.int("id")?],
                )
                .await?;
            }
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let created = wanted.iter().map(|(name, group)| alias_created(name, group)).collect();
    let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let first = next_ids(tx, scope, Counter::AssetAlias, count).await?;
    let rows = (first..)
        .zip(wanted)
        .map(|(id, (name, group))| vals![scope.team(), id, name, group])
        .collect();
    insert(tx, "asset_alias (team_no, id, name, alias_group)", rows).await?;
    Ok(created)
}

/// The schedule's condition, with the ids of assets filled in as Airflow's REST API shows them.
async fn expressions(
    tx: &mut Tx,
    scope: TeamScope,
    dags: &BTreeMap<&DagId, &ParsedDag>,
    ids: &AssetIds,
) -> Result<(), StoreError> {
    for dag in dags.values() {
        let expression = dag.asset_expression.clone().map(|mut expression| {
            fill_in(&mut expression, ids);
            expression.to_string()
        });
        let has_one = expression.is_some();
        let touched = tx
            .run(
                "UPDATE dag SET asset_expression = $1 WHERE team_no = $2 AND dag_id = $3 \
                 AND (asset_expression IS NOT NULL OR $1 IS NOT NULL)",
                vals![expression, scope.team(), &dag.dag_id],
            )
            .await?;
        if !has_one && touched > 0 {
            // It depended on assets and does not any more: nothing waits for it.
            tx.run(
                "DELETE FROM asset_queue WHERE team_no = $1 AND dag_id = $2",
                vals![scope.team(), &dag.dag_id],
            )
            .await?;
        }
    }
    Ok(())
}

fn fill_in(expression: &mut Value, ids: &AssetIds) {
    match expression {
        Value::Array(parts) => parts.iter_mut().for_each(|part| fill_in(part, ids)),
        Value::Object(map) => {
            for key in ["all", "any"] {
                if let Some(parts) = map.get_mut(key) {
                    fill_in(parts, ids);
                }
            }
            if let Some(asset) = map.get_mut("asset").and_then(Value::as_object_mut) {
                let text = |key| asset.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                if let Some(id) = ids.get(&(text("name"), text("uri"))) {
                    asset.insert("id".to_owned(), json!(id));
                }
            }
        }
        _ => {}
    }
}
