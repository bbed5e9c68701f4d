//! Rows of `dag` and `dag_version`.

use std::collections::{BTreeMap, HashMap};

use isobar_auth::TeamScope;
use isobar_model::DagId;
use jiff::Timestamp;
use uuid::Uuid;

use super::{ParsedDag, ParsedFile, StoredParses, VersionRef};
use crate::db::{Val, vals, values_list};
use crate::task_calls::among;
use crate::{StoreError, Tx};

/// Rows of one statement; the `dag` row has some thirty columns.
const ROWS_A_STATEMENT: usize = 200;

/// What is stored of a Dag.
struct Known {
    bundle: String,
    is_stale: bool,
    has_import_errors: bool,
    version: Option<(VersionRef, String)>,
}

/// Writes Dags and their versions; answers what is new and what changed.
pub(super) async fn write(
    tx: &mut Tx,
    scope: TeamScope,
    files: &[ParsedFile],
    now: Timestamp,
) -> Result<StoredParses, StoreError> {
    // Where two files of a batch define one Dag, the later one counts: as if they had come one by one.
    let mut dags: BTreeMap<&DagId, (&ParsedFile, &ParsedDag)> = BTreeMap::new();
    for file in files {
        for dag in &file.dags {
            dags.insert(&dag.dag_id, (file, dag));
        }
    }
    let ids: Vec<&DagId> = dags.keys().copied().collect();
    let known = known(tx, scope, &ids).await?;

    let mut stored = StoredParses::default();
    let mut versions = Vec::new();
    let mut rows = Vec::new();
    for (dag_id, (file, dag)) in &dags {
        let before = known.get(dag_id.as_str());
        let version = match before {
            None => {
                stored.new.push((*dag_id).clone());
                fresh_version(&mut versions, file, dag, 1)
            }
            Some(known) => {
                let unchanged = known.bundle == file.file.bundle
                    && known.version.as_ref().is_some_and(|(_, hash)| *hash == dag.hash);
                if !unchanged || known.is_stale || known.has_import_errors {
                    stored.changed.push((*dag_id).clone());
                }
                match &known.version {
                    Some((version, _)) if unchanged => {
                        same_version(tx, scope, *version, file, dag).await?;
                        *version
                    }
                    Some((version, _)) if !is_used(tx, scope, dag_id, version.id).await? => {
                        replace_version(tx, scope, *version, file, dag, now).await?
                    }
                    Some((version, _)) => fresh_version(&mut versions, file, dag, version.number + 1),
                    None => fresh_version(&mut versions, file, dag, 1),
                }
            }
        };
        rows.push(dag_row(scope, file, dag, version));
    }
    insert_versions(tx, scope, versions, now).await?;
    upsert_dags(tx, rows).await?;
    Ok(stored)
}

async fn known(tx: &mut Tx, scope: TeamScope, ids: &[&DagId]) -> Result<HashMap<String, Known>, StoreError> {
    let mut known = HashMap::new();
    for chunk in ids.chunks(500) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT d.dag_id, d.bundle, d.is_stale, d.has_import_errors, v.version_number, v.id, v.hash \
                     FROM dag d LEFT JOIN dag_version v ON v.team_no = d.team_no AND v.dag_id = d.dag_id \
                     AND v.version_number = d.current_version_number WHERE d.team_no = $1 AND d.dag_id {list}"
                ),
                values,
            )
            .await?;
        for row in rows {
            let version = match row.maybe_int("version_number")? {
                Some(number) => Some((
                    VersionRef {
                        number,
                        id: row.uuid("id")?,
                    },
                    row.text("hash")?,
                )),
                None => None,
            };
            known.insert(
                row.text("dag_id")?,
                Known {
                    bundle: row.text("bundle")?,
                    is_stale: row.flag("is_stale")?,
                    has_import_errors: row.flag("has_import_errors")?,
                    version,
                },
            );
        }
    }
    Ok(known)
}

/// Whether a run or a task instance was made under this version: then it is history and must stay as it is.
async fn is_used(tx: &mut Tx, scope: TeamScope, dag_id: &DagId, version: Uuid) -> Result<bool, StoreError> {
    let row = tx
        .row(
            "SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM dag_run WHERE team_no = $1 AND dag_id = $2 \
             AND created_version_id = $3) OR EXISTS (SELECT 1 FROM task_instance WHERE team_no = $1 AND dag_id = $2 \
             AND dag_version_id = $3) OR EXISTS (SELECT 1 FROM task_instance_history WHERE team_no = $1 AND dag_id = $2 \
             AND dag_version_id = $3)",
            vals![scope.team(), dag_id, version],
        )
        .await?;
    Ok(row.is_some())
}

/// A version to be inserted, with the file and Dag that it is of.
type NewVersion<'a> = (VersionRef, &'a ParsedFile, &'a ParsedDag);

fn fresh_version<'a>(
    versions: &mut Vec<NewVersion<'a>>,
    file: &'a ParsedFile,
    dag: &'a ParsedDag,
    number: i64,
) -> VersionRef {
    let version = VersionRef {
        number,
        id: Uuid::now_v7(),
    };
    versions.push((version, file, dag));
    version
}

/// The hash leaves out comments and the place of the file: these may have changed.
async fn same_version(
    tx: &mut Tx,
    scope: TeamScope,
    version: VersionRef,
    file: &ParsedFile,
    dag: &ParsedDag,
) -> Result<(), StoreError> {
    tx.run(
        "UPDATE dag_version SET source_code = $1, fileloc = $2 WHERE team_no = $3 AND dag_id = $4 \
         AND version_number = $5 AND (source_code <> $1 OR fileloc <> $2)",
        vals![&file.source, &dag.fileloc, scope.team(), &dag.dag_id, version.number],
    )
    .await
    .map(drop)
}

/// Rewrites a version that nothing was made of, under another id: an id stands for one content, which others keep in memory.
async fn replace_version(
    tx: &mut Tx,
    scope: TeamScope,
    version: VersionRef,
    file: &ParsedFile,
    dag: &ParsedDag,
    now: Timestamp,
) -> Result<VersionRef, StoreError> {
    let id = Uuid::now_v7();
    tx.run(
        "UPDATE dag_version SET bundle = $1, last_updated = $2, hash = $3, data = $4, fileloc = $5, source_code = $6, \
         id = $10 WHERE team_no = $7 AND dag_id = $8 AND version_number = $9",
        vals![
            &file.file.bundle,
            now,
            &dag.hash,
            &dag.data,
            &dag.fileloc,
            &file.source,
            scope.team(),
            &dag.dag_id,
            version.number,
            id
        ],
    )
    .await?;
    Ok(VersionRef { id, ..version })
}

async fn insert_versions(
    tx: &mut Tx,
    scope: TeamScope,
    versions: Vec<NewVersion<'_>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in versions.chunks(ROWS_A_STATEMENT) {
        let rows = chunk
            .iter()
            .map(|(version, file, dag)| {
                vals![
                    scope.team(),
                    &dag.dag_id,
                    version.number,
                    version.id,
                    &file.file.bundle,
                    now,
                    now,
                    &dag.hash,
                    &dag.data,
                    &dag.fileloc,
                    &file.source
                ]
            })
            .collect();
        let (list, values) = values_list(1, rows);
        tx.run(
            &format!(
                "INSERT INTO dag_version (team_no, dag_id, version_number, id, bundle, created_at, last_updated, hash, \
                 data, fileloc, source_code) VALUES {list}"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}

fn dag_row(scope: TeamScope, file: &ParsedFile, dag: &ParsedDag, version: VersionRef) -> Vec<Val> {
    vals![
        scope.team(),
        &dag.dag_id,
        &file.file.bundle,
        &file.file.rel_path,
        &dag.fileloc,
        dag.paused_at_first,
        false,
        file.parsed_at,
        file.seconds,
        &dag.owners,
        dag.display_name.as_ref(),
        dag.description.as_ref(),
        &dag.timetable_type,
        dag.timetable_summary.as_ref(),
        dag.timetable_description.as_ref(),
        dag.timetable_partitioned,
        dag.timetable_periodic,
        dag.max_active_tasks,
        dag.max_active_runs,
        dag.max_consecutive_failed_runs,
        dag.has_task_concurrency_limits,
        dag.fail_fast,
        dag.allowed_run_types.as_ref(),
        dag.access_control.as_ref(),
        version.id,
        version.number,
    ]
}

async fn upsert_dags(tx: &mut Tx, rows: Vec<Vec<Val>>) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS_A_STATEMENT) {
        let (list, values) = values_list(1, chunk.to_vec());
        tx.run(
            &format!(
                "INSERT INTO dag (team_no, dag_id, bundle, rel_path, fileloc, is_paused, is_stale, last_parsed, \
                 last_parse_seconds, owners, display_name, description, timetable_type, timetable_summary, \
                 timetable_description, timetable_partitioned, timetable_periodic, max_active_tasks, max_active_runs, \
                 max_consecutive_failed_runs, has_task_concurrency_limits, fail_fast, allowed_run_types, \
                 access_control, current_version_id, current_version_number) VALUES {list} \
                 ON CONFLICT (team_no, dag_id) DO UPDATE SET bundle = excluded.bundle, rel_path = excluded.rel_path, \
                 fileloc = excluded.fileloc, is_stale = FALSE, has_import_errors = FALSE, \
                 last_parsed = excluded.last_parsed, last_parse_seconds = excluded.last_parse_seconds, \
                 owners = excluded.owners, display_name = excluded.display_name, description = excluded.description, \
                 timetable_type = excluded.timetable_type, \
                 timetable_summary = coalesce(excluded.timetable_summary, dag.timetable_summary), \
                 timetable_description = coalesce(excluded.timetable_description, dag.timetable_description), \
                 timetable_partitioned = excluded.timetable_partitioned, \
                 timetable_periodic = excluded.timetable_periodic, max_active_tasks = excluded.max_active_tasks, \
                 max_active_runs = excluded.max_active_runs, \
                 max_consecutive_failed_runs = excluded.max_consecutive_failed_runs, \
                 has_task_concurrency_limits = excluded.has_task_concurrency_limits, fail_fast = excluded.fail_fast, \
                 allowed_run_types = excluded.allowed_run_types, access_control = excluded.access_control, \
                 current_version_id = excluded.current_version_id, \
                 current_version_number = excluded.current_version_number"
            ),
            values,
        )
        .await?;
    }
    Ok(())
}
