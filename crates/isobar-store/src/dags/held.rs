//! Parses that wait for a pool (rule 18): what a file would define if its team had the pools that it names.

use isobar_auth::TeamScope;
use isobar_model::AirflowTime;
use isobar_wire::agent::{self, KnownFile};
use serde_json::{Value, json};

use super::ParsedFile;
use crate::db::{Val, vals, values_list};
use crate::{StoreError, Tx};

/// Forgets the held parses of these files.
pub(super) async fn forget(tx: &mut Tx, scope: TeamScope, paths: &[(&str, &str)]) -> Result<(), StoreError> {
    if paths.is_empty() {
        return Ok(());
    }
    let (list, more) = values_list(2, paths.iter().map(|(bundle, path)| vals![*bundle, *path]).collect());
    let mut values = vals![scope.team()];
    values.extend(more);
    let text = format!("DELETE FROM held_parse WHERE team_no = $1 AND (bundle, rel_path) IN (VALUES {list})");
    tx.run(&text, values).await.map(drop)
}

/// Keeps the parses that are to be held. What was held of these files before must be forgotten already.
pub(super) async fn keep(tx: &mut Tx, scope: TeamScope, files: &[ParsedFile]) -> Result<(), StoreError> {
    for parsed in files {
        let Some(held) = &parsed.held else { continue };
        let row: Vec<Val> = vals![
            scope.team(),
            &parsed.file.bundle,
            &parsed.file.rel_path,
            serde_json::to_string(held.as_ref()).expect("a report is plain data")
        ];
        tx.run(
            "INSERT INTO held_parse (team_no, bundle, rel_path, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (team_no, bundle, rel_path) DO UPDATE SET body = excluded.body",
            row,
        )
        .await?;
    }
    Ok(())
}

/// The parses of the team that wait for a pool.
///
/// # Errors
/// The database failed.
pub async fn held_parses(tx: &mut Tx, scope: TeamScope) -> Result<Vec<agent::ParsedFile>, StoreError> {
    let rows = tx
        .rows(
            "SELECT body FROM held_parse WHERE team_no = $1 ORDER BY bundle, rel_path",
            vals![scope.team()],
        )
        .await?;
    rows.iter()
        .map(|row| {
            serde_json::from_value(row.json("body")?).map_err(|error| StoreError::Corrupt {
                column: "body".to_owned(),
                problem: error.to_string(),
            })
        })
        .collect()
}

/// The files with a Dag that names this pool, as if they had been parsed again: made of what is stored.
///
/// # Errors
/// The database failed.
pub async fn files_naming_pool(
    tx: &mut Tx,
    scope: TeamScope,
    pool: &str,
) -> Result<Vec<agent::ParsedFile>, StoreError> {
    let quoted = format!("%\"pool\":{}%", like(&json!(pool).to_string()));
    let files = tx
        .rows(
            "SELECT f.bundle, f.rel_path, f.mtime_ns, f.size, f.fingerprint, f.parsed_at, f.seconds FROM dag_file f \
             WHERE f.team_no = $1 AND EXISTS (SELECT 1 FROM dag d JOIN dag_version v ON v.team_no = d.team_no \
             AND v.dag_id = d.dag_id AND v.version_number = d.current_version_number WHERE d.team_no = f.team_no \
             AND d.bundle = f.bundle AND d.rel_path = f.rel_path AND d.is_stale = FALSE AND v.data LIKE $2 ESCAPE '!')",
            vals![scope.team(), quoted],
        )
        .await?;
    let mut found = Vec::new();
    for row in &files {
        let file = KnownFile {
            bundle: row.text("bundle")?,
            rel_path: row.text("rel_path")?,
            mtime_ns: row.int("mtime_ns")?,
            size: row.int("size")?,
            fingerprint: row.text("fingerprint")?,
        };
        let dags = tx
            .rows(
                "SELECT v.data, v.fileloc, v.source_code FROM dag d JOIN dag_version v ON v.team_no = d.team_no \
                 AND v.dag_id = d.dag_id AND v.version_number = d.current_version_number WHERE d.team_no = $1 \
                 AND d.bundle = $2 AND d.rel_path = $3 AND d.is_stale = FALSE ORDER BY d.dag_id",
                vals![scope.team(), &file.bundle, &file.rel_path],
            )
            .await?;
        let Some(first) = dags.first() else { continue };
        found.push(agent::ParsedFile {
            fileloc: first.text("fileloc")?,
            source: first.text("source_code")?,
            dags: dags
                .iter()
                .map(|dag| dag.json("data"))
                .collect::<Result<Vec<Value>, _>>()?,
            warnings: warnings(tx, scope, &file).await?,
            import_errors: Vec::new(),
            parsed_at: AirflowTime(row.time("parsed_at")?),
            seconds: row.real("seconds")?.unwrap_or_default(),
            file,
        });
    }
    Ok(found)
}

async fn warnings(tx: &mut Tx, scope: TeamScope, file: &KnownFile) -> Result<Vec<Value>, StoreError> {
    let rows = tx
        .rows(
            "SELECT w.dag_id, w.warning_type, w.message FROM dag_warning w JOIN dag d ON d.team_no = w.team_no \
             AND d.dag_id = w.dag_id WHERE w.team_no = $1 AND d.bundle = $2 AND d.rel_path = $3",
            vals![scope.team(), &file.bundle, &file.rel_path],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(json!({
                "dag_id": row.text("dag_id")?,
                "warning_type": row.text("warning_type")?,
                "message": row.text("message")?,
            }))
        })
        .collect()
}

/// A text that stands for itself inside a `LIKE` pattern with the escape `!`.
fn like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}
