//! What the team's dag-processor reports (the agent API). The owner of everything is the calling team, whatever a report says.

mod definition;

use std::collections::BTreeMap;

use isobar_auth::TeamScope;
use isobar_model::dag::{Deadline, DeadlineReference, SerializedDag};
use isobar_model::{DagId, TeamId};
use isobar_store::dags::{self, StoredParses};
use isobar_store::{StoreError, callbacks, dag_moves};
use isobar_wire::agent::{AgentApi, KnownFile, ParsedFile, PendingCallback};
use isobar_wire::execution::{Answering, Refusal};
use jiff::{SignedDuration, Timestamp};

use crate::answers::broken;
use crate::execution::Execution;

/// How long a processor may take over a callback before another may claim it.
const CALLBACK_HOLD: SignedDuration = SignedDuration::from_mins(10);

/// The pool that every team has.
const DEFAULT_POOL: &str = "default_pool";

impl Execution {
    async fn store_parses(&self, team: TeamId, files: Vec<ParsedFile>) -> Result<(), Refusal> {
        let scope = self.org.team(team);
        let (pools, name) = {
            let mut tx = self.store.read().await.map_err(broken)?;
            let pools = dags::usable_pools(&mut tx, scope).await.map_err(broken)?;
            let name = dags::team_name(&mut tx, scope).await.map_err(broken)?;
            (pools, name.unwrap_or_default())
        };
        let paused = self.settings.paused_at_creation(&name);
        let checked: Vec<dags::ParsedFile> = files.into_iter().map(|file| check(file, &pools, paused)).collect();
        let checked = self.pause_arrivals(scope, checked).await?;
        match self.store_batch(scope, &checked).await {
            Ok(_) => Ok(()),
            Err(error) if checked.len() > 1 && is_of_data(&error) => {
                tracing::warn!(%error, team = %team, "a batch of parses could not be stored, storing files one by one");
                for file in checked {
                    self.store_alone(scope, file).await?;
                }
                Ok(())
            }
            Err(error) if is_of_data(&error) => {
                for file in checked {
                    self.store_alone(scope, file).await?;
                }
                Ok(())
            }
            Err(error) => Err(broken(error)),
        }
    }

    /// A Dag that left another team arrives paused, whatever new Dags do: its `catchup` would run years again (rule 5).
    async fn pause_arrivals(
        &self,
        scope: TeamScope,
        mut files: Vec<dags::ParsedFile>,
    ) -> Result<Vec<dags::ParsedFile>, Refusal> {
        let unpaused = files
            .iter()
            .flat_map(|file| &file.dags)
            .filter(|dag| !dag.paused_at_first);
        let known: BTreeMap<&DagId, &str> = unpaused.map(|dag| (&dag.dag_id, dag.hash.as_str())).collect();
        if known.is_empty() {
            return Ok(files);
        }
        let mut tx = self.store.read().await.map_err(broken)?;
        let left = dag_moves::left_elsewhere(&mut tx, &self.org, scope, &known)
            .await
            .map_err(broken)?;
        drop(tx);
        for dag in files.iter_mut().flat_map(|file| &mut file.dags) {
            dag.paused_at_first |= left.contains(&dag.dag_id);
        }
        Ok(files)
    }

    /// Looks again at what hangs on pools, without parsing (rule 18): files that were refused for want of one, and files
    /// with a Dag that names `pool`. To be called after a pool of the team was made, renamed or deleted.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pools_changed(&self, scope: TeamScope, pool: &str) -> Result<(), Refusal> {
        let mut tx = self.store.read().await.map_err(broken)?;
        let mut files = dags::files_naming_pool(&mut tx, scope, pool).await.map_err(broken)?;
        files.extend(dags::held_parses(&mut tx, scope).await.map_err(broken)?);
        drop(tx);
        if files.is_empty() {
            return Ok(());
        }
        self.store_parses(scope.team(), files).await
    }

    async fn store_batch(&self, scope: TeamScope, files: &[dags::ParsedFile]) -> Result<StoredParses, StoreError> {
        let mut tx = self.store.begin().await?;
        let stored = dags::files_parsed(&mut tx, scope, files, Timestamp::now()).await?;
        tx.commit().await?;
        Ok(stored)
    }

    /// One file in a unit of its own; what the database will not take becomes the file's import error.
    async fn store_alone(&self, scope: TeamScope, file: dags::ParsedFile) -> Result<(), Refusal> {
        match self.store_batch(scope, std::slice::from_ref(&file)).await {
            Ok(_) => Ok(()),
            Err(error) if is_of_data(&error) => {
                let path = file.file.rel_path.clone();
                let broken_file = dags::ParsedFile {
                    source: String::new(),
                    held: None,
                    dags: Vec::new(),
                    warnings: Vec::new(),
                    import_errors: vec![(path, format!("The Dags of this file cannot be stored: {error}"))],
                    ..file
                };
                self.store_batch(scope, &[broken_file]).await.map(drop).map_err(broken)
            }
            Err(error) => Err(broken(error)),
        }
    }
}

/// Whether what was to be stored is at fault, rather than the connection or another transaction.
fn is_of_data(error: &StoreError) -> bool {
    error.is_data_error()
}

/// Reads what a parse gave. A Dag that cannot be read, or that names a pool its team cannot use (rule 18), is an import
/// error of the file; the file's last good versions stay.
fn check(mut file: ParsedFile, pools: &[String], paused: bool) -> dags::ParsedFile {
    let mut problems = Vec::new();
    let mut readable = Vec::new();
    for json in std::mem::take(&mut file.dags) {
        match SerializedDag::read(json) {
            Ok(dag) if wants_our_database(&dag) => problems.push(format!(
                "A deadline of Dag `{}` counts from a reference of your own, which would be evaluated inside the control \
                 plane; hint: use one of `DeadlineReference`'s own",
                dag.dag_id
            )),
            Ok(dag) => readable.push(dag),
            Err(error) => problems.push(error.to_string()),
        }
    }
    let only_pools = problems.is_empty() && file.import_errors.is_empty();
    let (poolless, good): (Vec<_>, Vec<_>) = readable
        .iter()
        .map(|dag| (dag, foreign_pool(dag, pools)))
        .partition(|(_, foreign)| foreign.is_some());
    problems.extend(poolless.iter().filter_map(|(dag, foreign)| {
        let (task, pool) = foreign.as_ref()?;
        Some(format!(
            "Task `{task}` of Dag `{}` names the pool `{pool}`, which this team does not have; \
             hint: make the pool, or name another",
            dag.dag_id
        ))
    }));
    // What fails for want of a pool alone is looked at again when pools change.
    let held = (only_pools && !poolless.is_empty()).then(|| {
        Box::new(ParsedFile {
            dags: readable.iter().map(|dag| dag.json().clone()).collect(),
            ..file.clone()
        })
    });
    let word = |value: &serde_json::Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let warnings = file
        .warnings
        .iter()
        .map(|warning| {
            let message = without_nul(word(warning, "message"));
            (word(warning, "dag_id"), word(warning, "warning_type"), message)
        })
        .filter(|(dag_id, kind, _)| !dag_id.is_empty() && !kind.is_empty())
        .collect();
    dags::ParsedFile {
        dags: good
            .iter()
            .map(|(dag, _)| definition::parsed_dag(dag, &file.fileloc, paused))
            .collect(),
        import_errors: import_errors(&file, &problems),
        source: without_nul(file.source),
        warnings,
        held,
        parsed_at: file.parsed_at.0,
        seconds: file.seconds,
        file: file.file,
    }
}

/// The errors that the parse reported, and those that were found here, which are the file's own.
fn import_errors(file: &ParsedFile, problems: &[String]) -> Vec<(String, String)> {
    let own = &file.file.rel_path;
    let mut errors: Vec<(String, String)> = file
        .import_errors
        .iter()
        .map(|(path, trace)| {
            let of_file = path.is_empty() || *path == file.fileloc;
            let path = if of_file { own } else { path };
            (without_nul(path.clone()), without_nul(trace.clone()))
        })
        .collect();
    if problems.is_empty() {
        return errors;
    }
    let text = without_nul(problems.join("\n"));
    match errors.iter_mut().find(|(path, _)| path == own) {
        Some((_, trace)) => {
            trace.push('\n');
            trace.push_str(&text);
        }
        None => errors.push((own.clone(), text)),
    }
    errors
}

/// PostgreSQL keeps no NUL in texts.
fn without_nul(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// Whether a deadline's reference is a class of the team's, which wants a database session to answer.
fn wants_our_database(dag: &SerializedDag) -> bool {
    let custom = |deadline: &Deadline| matches!(deadline.reference, DeadlineReference::Custom(_));
    dag.deadlines.iter().any(custom)
}

/// The first task that names a pool which is not its team's.
fn foreign_pool(dag: &SerializedDag, pools: &[String]) -> Option<(String, String)> {
    dag.tasks()
        .map(|task| dag.task(task))
        .find(|task| task.pool != DEFAULT_POOL && !pools.contains(&task.pool))
        .map(|task| (task.task_id.to_string(), task.pool.clone()))
}

impl AgentApi for Execution {
    fn known_files(&self, team: TeamId) -> Answering<'_, Result<Vec<KnownFile>, Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.read().await.map_err(broken)?;
            dags::known_files(&mut tx, self.org.team(team)).await.map_err(broken)
        })
    }

    fn files_parsed(&self, team: TeamId, files: Vec<ParsedFile>) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(self.store_parses(team, files))
    }

    fn files_gone(&self, team: TeamId, files: Vec<(String, String)>) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            dags::files_gone(&mut tx, self.org.team(team), &files, Timestamp::now())
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }

    fn claim_callbacks(&self, team: TeamId, limit: u32) -> Answering<'_, Result<Vec<PendingCallback>, Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            let claimed = callbacks::claim(&mut tx, self.org.team(team), limit, Timestamp::now(), CALLBACK_HOLD)
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)?;
            Ok(claimed)
        })
    }

    fn callbacks_done(&self, team: TeamId, ids: Vec<i64>) -> Answering<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(broken)?;
            callbacks::done(&mut tx, self.org.team(team), &ids)
                .await
                .map_err(broken)?;
            tx.commit().await.map_err(broken)
        })
    }
}
