//! Backfills: what they allow their runs, and their end.

use isobar_engine::admission::DagKey;
use isobar_engine::dagplan::{BackfillLimits, Event};
use isobar_store::{StoreError, backfills};

use crate::pass::Pass;

impl Pass<'_> {
    /// What a backfill allows its runs.
    async fn backfill_limits(&mut self, key: &DagKey, id: i64) -> Result<Option<BackfillLimits>, StoreError> {
        let limits = backfills::limits(self.tx, self.setting.org.team(key.team), id).await?;
        Ok(limits.map(|limits| BackfillLimits {
            id,
            max_active_runs: u32::try_from(limits.max_active_runs).unwrap_or(0),
            paused: limits.paused,
        }))
    }

    /// What the backfills of a Dag's active runs allow them.
    pub(crate) async fn backfills_of(&mut self, key: &DagKey) -> Result<Vec<BackfillLimits>, StoreError> {
        let mut found = Vec::new();
        for id in self.active_backfills(key) {
            found.extend(self.backfill_limits(key, id).await?);
        }
        Ok(found)
    }

    fn active_backfills(&self, key: &DagKey) -> std::collections::BTreeSet<i64> {
        let runs = self.memory.dags.get(key).map(|dag| &dag.runs);
        runs.into_iter()
            .flatten()
            .filter_map(|run| self.memory.runs.get(run)?.row.backfill_id)
            .collect()
    }

    /// Tells a Dag's plan what a backfill allows, before it hears of a run of it.
    pub(crate) async fn tell_backfill(&mut self, key: &DagKey, id: i64) -> Result<(), StoreError> {
        if let Some(limits) = self.backfill_limits(key, id).await? {
            self.step_dag(key, Event::Backfill(limits));
        }
        Ok(())
    }

    /// A backfill was made, paused, let go on or cancelled.
    pub(crate) async fn backfill_changed(&mut self, key: &DagKey, id: i64) -> Result<(), StoreError> {
        self.backfills.insert((key.team, id));
        self.to_reschedule.insert(key.clone());
        if self.active_backfills(key).contains(&id) {
            self.tell_backfill(key, id).await?;
        }
        Ok(())
    }

    /// Ends the backfills of which no run is left, after the runs' ends are written.
    pub(crate) async fn end_backfills(&mut self) -> Result<(), StoreError> {
        for (team, id) in std::mem::take(&mut self.backfills) {
            if backfills::end_if_done(self.tx, self.setting.org.team(team), id, self.now).await? {
                tracing::info!(%team, backfill = id, "backfill ended");
            }
        }
        Ok(())
    }
}
