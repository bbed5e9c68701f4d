//! What listeners are told of Dag files: assets and aliases that nobody named before, files that cannot be read.

use std::collections::BTreeSet;

use isobar_auth::TeamScope;
use isobar_wire::listeners::Hook;
use serde_json::{Value, json};

use super::NewCall;
use crate::dags::{AssetDefinition, ParsedFile};
use crate::db::{vals, values_list};
use crate::{StoreError, Tx};

/// Files in one statement.
const FILES_A_STATEMENT: usize = 500;

fn call(hook: Hook, arguments: Value) -> NewCall {
    NewCall {
        hook,
        arguments,
        version_id: None,
    }
}

/// Of an asset that is new.
pub(crate) fn asset_created(asset: &AssetDefinition) -> NewCall {
    let arguments = json!({"asset": {
        "name": asset.name,
        "uri": asset.uri,
        "group": asset.group,
        "extra": asset.extra,
        "access_control": asset.access_control,
    }});
    call(Hook::OnAssetCreated, arguments)
}

/// Of an alias that is new.
pub(crate) fn alias_created(name: &str, group: &str) -> NewCall {
    call(
        Hook::OnAssetAliasCreated,
        json!({"asset_alias": {"name": name, "group": group}}),
    )
}

/// Bundles and paths.
pub(crate) type Paths = BTreeSet<(String, String)>;

/// The files of a batch that could not be read before it. Empty where nobody listens to import errors.
///
/// # Errors
/// The database failed.
pub(crate) async fn broken_before(
    tx: &mut Tx,
    scope: TeamScope,
    heard: &BTreeSet<Hook>,
    files: &[ParsedFile],
) -> Result<Paths, StoreError> {
    let mut found = Paths::new();
    if !heard.contains(&Hook::OnNewDagImportError) && !heard.contains(&Hook::OnExistingDagImportError) {
        return Ok(found);
    }
    let paths: Vec<_> = errors(files).map(|(bundle, path, _)| (bundle, path)).collect();
    for chunk in paths.chunks(FILES_A_STATEMENT) {
        let rows = chunk.iter().map(|(bundle, path)| vals![*bundle, *path]).collect();
        let (list, more) = values_list(2, rows);
        let mut values = vals![scope.team()];
        values.extend(more);
        let rows = tx
            .rows(
                &format!(
                    "SELECT bundle, rel_path FROM import_error WHERE team_no = $1 AND (bundle, rel_path) IN (VALUES {list})"
                ),
                values,
            )
            .await?;
        for row in rows {
            found.insert((row.text("bundle")?, row.text("rel_path")?));
        }
    }
    Ok(found)
}

/// Of files that cannot be read. Where their folder is, the team's side knows.
pub(crate) fn import_errors(files: &[ParsedFile], before: &Paths) -> Vec<NewCall> {
    errors(files)
        .map(|(bundle, path, trace)| {
            let hook = if before.contains(&(bundle.to_owned(), path.to_owned())) {
                Hook::OnExistingDagImportError
            } else {
                Hook::OnNewDagImportError
            };
            let filename = json!({"bundle": bundle, "rel_path": path});
            call(hook, json!({"filename": filename, "stacktrace": trace}))
        })
        .collect()
}

fn errors(files: &[ParsedFile]) -> impl Iterator<Item = (&str, &str, &str)> {
    files.iter().flat_map(|parsed| {
        let bundle = parsed.file.bundle.as_str();
        parsed
            .import_errors
            .iter()
            .map(move |(path, trace)| (bundle, path.as_str(), trace.as_str()))
    })
}
