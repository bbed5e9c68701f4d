//! Runs of partitions: which a body means, and taking their partition away.

use axum::body::Bytes;
use isobar_auth::{Action, Resource};
use isobar_engine::timetable::Bound;
use isobar_model::dag::SerializedDag;
use isobar_model::{RunKey, RunState};
use isobar_store::clearing::{self, Clear};
use isobar_store::lists::runs::{self, RunFilter, RunRow};
use isobar_store::lists::{Page, TimeRange};
use isobar_store::{Tx, audit};
use jiff::Timestamp;
use serde_json::json;

use super::clear::to_clear;
use super::partition_span::{self, Span};
use super::selection::{Runs, find};
use super::stored_dag;
use crate::ApiError;
use crate::errors::{Answer, ok};
use crate::extract::{Ask, Fields, Target};

/// The partitions that a body names: one key, or a window of dates.
pub(super) struct Partitions {
    key: Option<String>,
    from: Option<Bound>,
    to: Option<Bound>,
}

impl Partitions {
    pub(super) fn read(fields: &mut Fields) -> Self {
        let bound = |(at, wall)| Bound { at, wall };
        Self {
            key: fields.text("partition_key", None),
            from: fields.written_time("partition_date_start").map(bound),
            to: fields.written_time("partition_date_end").map(bound),
        }
    }

    /// Refuses a body that names nothing, more than one thing, or a window that ends before it begins. `other` is what it
    /// may name instead of partitions.
    pub(super) fn check(&self, fields: &mut Fields, other: &str, named: bool) {
        let modes = [named, self.key.is_some(), self.from.is_some() || self.to.is_some()];
        if modes.iter().filter(|given| **given).count() != 1 {
            fields.refuse(
                None,
                &format!(
                    "Exactly one of {other}, partition_key, or a partition date window (partition_date_start / \
                     partition_date_end) must be provided."
                ),
            );
        } else if self.from.zip(self.to).is_some_and(|(from, to)| from.at > to.at) {
            fields.refuse(None, "partition_date_start must be on or before partition_date_end.");
        }
    }

    /// The dates of the window as the Dag's timetable reads them.
    ///
    /// # Errors
    /// As [`partition_span::read`].
    pub(super) async fn span(&self, ask: &Ask, target: &Target, dag: &SerializedDag) -> Result<Span, ApiError> {
        partition_span::read(ask, target, dag, [self.from, self.to]).await
    }

    /// The runs meant, by date of their partition.
    pub(super) async fn runs(&self, tx: &mut Tx, target: &Target, [from, to]: Span) -> Result<Vec<RunRow>, ApiError> {
        let filter = RunFilter {
            dag_id: Some(target.dag_id()),
            partition: self.key.clone(),
            partition_date: TimeRange {
                gte: from,
                lte: to,
                ..TimeRange::default()
            },
            ..RunFilter::default()
        };
        let order = runs::ORDER.order(&["partition_date".into(), "run_id".into()])?;
        let page = Page {
            limit: u32::MAX,
            offset: 0,
        };
        Ok(runs::list(tx, &target.scope.into(), &filter, &order, page).await?.rows)
    }
}

/// `POST /dags/{dag_id}/clearPartitions`
pub(super) async fn clear_partitions(ask: Ask, body: Bytes) -> Answer {
    let target = ask.dag(Resource::Run, Action::Edit)?;
    let mut fields = Fields::of_body(&body)?;
    let partitions = Partitions::read(&mut fields);
    let run_id = fields.text("run_id", None);
    let with_instances = fields.flag_or("clear_task_instances", false);
    let dry_run = fields.flag_or("dry_run", true);
    if fields.is_complete() {
        partitions.check(&mut fields, "run_id", run_id.is_some());
    }
    fields.done()?;
    let dag = {
        let mut tx = ask.state.store.read().await?;
        stored_dag::latest(&ask.state, &mut tx, &target).await?
    };
    let span = partitions.span(&ask, &target, &dag).await?;
    let mut tx = ask.state.store.begin().await?;
    let found = match &run_id {
        Some(run_id) => {
            let row = runs::get(&mut tx, target.scope, &target.dag_id(), &run_id.as_str().into()).await?;
            row.into_iter().collect()
        }
        None => partitions.runs(&mut tx, &target, span).await?,
    };
    let (mut cleared, mut instances) = (0, 0);
    let now = Timestamp::now();
    for row in &found {
        let key = RunKey {
            dag_id: row.dag_id.clone(),
            run_id: row.run_id.clone(),
        };
        if row.partition_key.is_some() || row.partition_date.is_some() {
            cleared += 1;
            if !dry_run {
                clearing::forget_partition(&mut tx, target.scope, &key, now).await?;
            }
        }
        if with_instances {
            let rows = find(&mut tx, &target, None, &Runs::One(row.run_id.clone()), Vec::new()).await?;
            instances += rows.len();
            if !dry_run {
                let rows: Vec<_> = rows.iter().collect();
                let tasks = to_clear(&ask, &mut tx, target.scope, &key, None, &rows).await?;
                let clear = Clear {
                    tasks: &tasks,
                    run_state: Some(RunState::Queued),
                    prevent_running: false,
                    version_id: None,
                    actor: Some(ask.caller.name()),
                };
                clearing::clear(&mut tx, target.scope, &key, &clear, now).await?;
            }
        }
    }
    if !dry_run {
        let record = audit::Record::new("clear_dag_run_partitions", ask.caller.name())
            .dag(&target.dag_id())
            .extra(json!({"dag_runs_cleared": cleared, "task_instances_cleared": instances}));
        audit::write(&mut tx, target.scope, &[record]);
        tx.commit().await?;
    }
    ok(&json!({
        "dag_runs_cleared": cleared,
        "task_instances_cleared": instances,
        "dry_run": dry_run,
    }))
}
