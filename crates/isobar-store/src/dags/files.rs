//! Rows that belong to files: what was read, import errors, warnings, and which Dags vanished.

use std::collections::{BTreeSet, HashMap, HashSet};

use isobar_auth::TeamScope;
use isobar_model::DagId;
use isobar_wire::agent::KnownFile;
use jiff::Timestamp;

use super::{ParsedFile, StoredParses, announce, held};
use crate::assets::{activate, warn_of_conflicts};
use crate::counters::{Counter, next_ids};
use crate::db::{vals, values_list};
use crate::task_calls::among;
use crate::{StoreError, Tx};

const ROWS_A_STATEMENT: usize = 500;

/// The files known of the team, as they were when they were last read.
///
/// # Errors
/// The database failed.
pub async fn known_files(tx: &mut Tx, scope: TeamScope) -> Result<Vec<KnownFile>, StoreError> {
    let rows = tx
        .rows(
            "SELECT bundle, rel_path, mtime_ns, size, fingerprint FROM dag_file WHERE team_no = $1 \
             ORDER BY bundle, rel_path",
            vals![scope.team()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(KnownFile {
                bundle: row.text("bundle")?,
                rel_path: row.text("rel_path")?,
                mtime_ns: row.int("mtime_ns")?,
                size: row.int("size")?,
                fingerprint: row.text("fingerprint")?,
            })
        })
        .collect()
}

/// Forgets files that are gone: their Dags become stale, their import errors go. Answers the Dags.
///
/// # Errors
/// The database failed.
pub async fn files_gone(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[(String, String)],
    now: Timestamp,
) -> Result<Vec<DagId>, StoreError> {
    let mut stored = StoredParses::default();
    for chunk in files.chunks(ROWS_A_STATEMENT) {
        let paths: Vec<(&str, &str)> = chunk
            .iter()
            .map(|(bundle, path)| (bundle.as_str(), path.as_str()))
            .collect();
        forget_import_errors(tx, scope, &paths).await?;
        held::forget(tx, scope, &paths).await?;
        let (list, more) = pairs(2, &paths);
        let mut values = vals![scope.team()];
        values.extend(more);
        tx.run(
            &format!("DELETE FROM dag_file WHERE team_no = $1 AND (bundle, rel_path) IN (VALUES {list})"),
            values.clone(),
        )
        .await?;
        let rows = tx
            .rows(
                &format!(
                    "UPDATE dag SET is_stale = TRUE WHERE team_no = $1 AND (bundle, rel_path) IN (VALUES {list}) \
                     AND is_stale = FALSE RETURNING dag_id"
                ),
                values,
            )
            .await?;
        for row in rows {
            stored.stale.push(row.text("dag_id")?.into());
        }
    }
    review_assets(tx, scope, &stored.stale).await?;
    if !stored.stale.is_empty() {
        warn_of_conflicts(tx, scope, now).await?;
    }
    announce(tx, scope, &stored, now).await?;
    Ok(stored.stale)
}

/// Writes everything of the files themselves, and marks what vanished from them.
pub(super) async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    now: Timestamp,
    stored: &mut StoredParses,
) -> Result<(), StoreError> {
    for chunk in files.chunks(ROWS_A_STATEMENT) {
        let paths: Vec<(&str, &str)> = chunk
            .iter()
            .map(|parsed| (parsed.file.bundle.as_str(), parsed.file.rel_path.as_str()))
            .collect();
        vanished(tx, scope, chunk, &paths, stored).await?;
        forget_import_errors(tx, scope, &paths).await?;
        held::forget(tx, scope, &paths).await?;
        held::keep(tx, scope, chunk).await?;
        note_files(tx, scope, chunk).await?;
    }
    note_import_errors(tx, scope, files, now).await?;
    note_warnings(tx, scope, files, now).await?;
    review_assets(tx, scope, &stored.stale).await?;
    if stored.new.is_empty() && stored.changed.is_empty() && stored.stale.is_empty() {
        return Ok(());
    }
    warn_of_conflicts(tx, scope, now).await
}

fn pairs(first: usize, paths: &[(&str, &str)]) -> (String, Vec<crate::db::Val>) {
    values_list(
        first,
        paths.iter().map(|(bundle, path)| vals![*bundle, *path]).collect(),
    )
}

/// Dags that a file no longer defines become stale. With an import error all of the file's do, as in Airflow: their last
/// good version stays and their runs go on, but no new run begins.
async fn vanished(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    paths: &[(&str, &str)],
    stored: &mut StoredParses,
) -> Result<(), StoreError> {
    let by_path: HashMap<(&str, &str), &ParsedFile> = files
        .iter()
        .map(|parsed| ((parsed.file.bundle.as_str(), parsed.file.rel_path.as_str()), parsed))
        .collect();
    let (list, more) = pairs(2, paths);
    let mut values = vals![scope.team()];
    values.extend(more);
    let rows = tx
        .rows(
            &format!(
                "SELECT dag_id, bundle, rel_path, is_stale, has_import_errors FROM dag WHERE team_no = $1 \
                 AND (bundle, rel_path) IN (VALUES {list})"
            ),
            values,
        )
        .await?;
    let (mut broken, mut gone): (Vec<DagId>, Vec<DagId>) = (Vec::new(), Vec::new());
    for row in rows {
        let (bundle, path, dag_id) = (row.text("bundle")?, row.text("rel_path")?, row.text("dag_id")?);
        let Some(parsed) = by_path.get(&(bundle.as_str(), path.as_str())) else {
            continue;
        };
        let was_stale = row.flag("is_stale")?;
        if !parsed.import_errors.is_empty() {
            if !was_stale || !row.flag("has_import_errors")? {
                broken.push(dag_id.into());
            }
        } else if !was_stale && !parsed.dags.iter().any(|dag| dag.dag_id.as_str() == dag_id) {
            gone.push(dag_id.into());
        }
    }
    for (ids, set) in [
        (&broken, "is_stale = TRUE, has_import_errors = TRUE"),
        (&gone, "is_stale = TRUE"),
    ] {
        if !ids.is_empty() {
            let ids: Vec<&DagId> = ids.iter().collect();
            let mut values = vals![scope.team()];
            let list = among(&mut values, &ids);
            let text = format!("UPDATE dag SET {set} WHERE team_no = $1 AND dag_id {list}");
            tx.run(&text, values).await?;
        }
    }
    stored.stale.extend(broken);
    stored.stale.extend(gone);
    Ok(())
}

async fn note_files(tx: &mut Tx, scope: TeamScope, files: &[ParsedFile]) -> Result<(), StoreError> {
    // The last parse of a file in a batch counts; one statement may not touch a row twice.
    let mut latest: HashMap<(&str, &str), &ParsedFile> = HashMap::new();
    for parsed in files {
        latest.insert((&parsed.file.bundle, &parsed.file.rel_path), parsed);
    }
    if latest.is_empty() {
        return Ok(());
    }
    let rows = latest
        .into_values()
        .map(|parsed| {
            vals![
                scope.team(),
                &parsed.file.bundle,
                &parsed.file.rel_path,
                parsed.file.mtime_ns,
                parsed.file.size,
                &parsed.file.fingerprint,
                parsed.parsed_at,
                parsed.seconds
            ]
        })
        .collect();
    let (list, values) = values_list(1, rows);
    tx.run(
        &format!(
            "INSERT INTO dag_file (team_no, bundle, rel_path, mtime_ns, size, fingerprint, parsed_at, seconds) \
             VALUES {list} ON CONFLICT (team_no, bundle, rel_path) DO UPDATE SET mtime_ns = excluded.mtime_ns, \
             size = excluded.size, fingerprint = excluded.fingerprint, parsed_at = excluded.parsed_at, \
             seconds = excluded.seconds"
        ),
        values,
    )
    .await
    .map(drop)
}

/// Import errors of files, and of what lies inside them where they are archives.
async fn forget_import_errors(tx: &mut Tx, scope: TeamScope, paths: &[(&str, &str)]) -> Result<(), StoreError> {
    if paths.is_empty() {
        return Ok(());
    }
    let (list, more) = pairs(2, paths);
    let mut values = vals![scope.team()];
    values.extend(more);
    tx.run(
        &format!("DELETE FROM import_error WHERE team_no = $1 AND (bundle, rel_path) IN (VALUES {list})"),
        values,
    )
    .await?;
    for (bundle, path) in paths.iter().filter(|(_, path)| path.ends_with(".zip")) {
        let below = format!("{path}/");
        let length = i64::try_from(below.chars().count()).unwrap_or(i64::MAX);
        tx.run(
            "DELETE FROM import_error WHERE team_no = $1 AND bundle = $2 AND substr(rel_path, 1, CAST($3 AS INTEGER)) = $4",
            vals![scope.team(), *bundle, length, below],
        )
        .await?;
    }
    Ok(())
}

async fn note_import_errors(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut errors: HashMap<(&str, &str), &str> = HashMap::new();
    for parsed in files {
        for (path, trace) in &parsed.import_errors {
            errors.insert((&parsed.file.bundle, path), trace);
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let count = u32::try_from(errors.len()).unwrap_or(u32::MAX);
    let first = next_ids(tx, scope, Counter::ImportError, count).await?;
    let mut rows = Vec::new();
    for (id, ((bundle, path), trace)) in (first..).zip(errors) {
        rows.push(vals![scope.team(), id, bundle, path, now, trace]);
    }
    for chunk in rows.chunks(ROWS_A_STATEMENT) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(
            &format!(
                "INSERT INTO import_error (team_no, id, bundle, rel_path, at, stack_trace) VALUES {list} \
                 ON CONFLICT (team_no, bundle, rel_path) DO UPDATE SET at = excluded.at, \
                 stack_trace = excluded.stack_trace"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

async fn note_warnings(tx: &mut Tx, scope: TeamScope, files: &[ParsedFile], now: Timestamp) -> Result<(), StoreError> {
    let ids: BTreeSet<&DagId> = files
        .iter()
        .flat_map(|file| &file.dags)
        .map(|dag| &dag.dag_id)
        .collect();
    let ids: Vec<&DagId> = ids.into_iter().collect();
    for chunk in ids.chunks(ROWS_A_STATEMENT) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        // Conflicts of assets are looked at for all Dags together.
        let text = format!(
            "DELETE FROM dag_warning WHERE team_no = $1 AND warning_type <> 'asset conflict' AND dag_id {list}"
        );
        tx.run(&text, values).await?;
    }
    let own: HashSet<&str> = ids.iter().map(|id| id.as_str()).collect();
    let mut warnings: HashMap<(&str, &str), &str> = HashMap::new();
    for (dag_id, kind, message) in files.iter().flat_map(|file| &file.warnings) {
        if own.contains(dag_id.as_str()) {
            warnings.insert((dag_id, kind), message);
        }
    }
    if warnings.is_empty() {
        return Ok(());
    }
    let rows = warnings
        .into_iter()
        .map(|((dag_id, kind), message)| vals![scope.team(), dag_id, kind, message, now])
        .collect();
    let (list, values) = values_list(1, rows);
    tx.run(
        &format!("INSERT INTO dag_warning (team_no, dag_id, warning_type, message, at) VALUES {list}"),
        values,
    )
    .await
    .map(drop)
}

/// Assets of Dags that went stale may have nobody left who names them.
async fn review_assets(tx: &mut Tx, scope: TeamScope, dags: &[DagId]) -> Result<(), StoreError> {
    let mut names = BTreeSet::new();
    let dags: Vec<&DagId> = dags.iter().collect();
    for chunk in dags.chunks(ROWS_A_STATEMENT) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let text = format!(
            "SELECT DISTINCT name FROM asset_reference WHERE team_no = $1 AND kind = 'asset' AND dag_id {list}"
        );
        for row in tx.rows(&text, values).await? {
            names.insert(row.text("name")?);
        }
    }
    activate(tx, scope, &names, Timestamp::now()).await
}
