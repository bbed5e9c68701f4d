//! A Dag changes team (rule 5): its runs stay with the team that made them, its schedule goes on in the other.

use std::collections::{BTreeMap, BTreeSet};

use isobar_auth::{OrgScope, TeamScope};
use isobar_model::DagId;
use jiff::Timestamp;
use serde_json::json;

use crate::audit::{self, Record};
use crate::db::{Row, vals};
use crate::events::{self, EventKind};
use crate::loading::last_automated;
use crate::task_calls::among;
use crate::teams::{self, TeamRow};
use crate::{StoreError, Tx};

/// The last run that a timetable made, where another team's counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the column of its name")]
pub struct Position {
    pub logical_date: Option<Timestamp>,
    pub interval: Option<(Timestamp, Timestamp)>,
    pub run_after: Timestamp,
    pub partition_key: Option<String>,
    pub partition_date: Option<Timestamp>,
}

impl Position {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            logical_date: row.maybe_time("logical_date")?,
            interval: row.maybe_time("interval_start")?.zip(row.maybe_time("interval_end")?),
            run_after: row.time("run_after")?,
            partition_key: row.maybe_text("partition_key")?,
            partition_date: row.maybe_time("partition_date")?,
        })
    }
}

/// What a move did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where the schedule stood; none where the timetable had made no run yet.
    pub position: Option<Position>,
    /// Whether the Dag is paused, as it was in its former team.
    pub paused: bool,
}

/// Why a Dag is not moved. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMoved {
    /// No active team of that name.
    #[error("there is no team `{0}`\n  hint: `isobar teams plan` lists them")]
    NoTeam(String),
    /// From a team to itself.
    #[error("`--from` and `--to` name the same team `{0}`")]
    SameTeam(String),
    /// The former team has no such Dag.
    #[error("team `{team}` has no Dag `{dag}`\n  hint: `--from` is the team whose runs of it exist")]
    NoDag {
        /// The Dag.
        dag: DagId,
        /// The team.
        team: String,
    },
    /// Its file still lies in the former team's folder.
    #[error(
        "Dag `{dag}` is still defined in team `{team}`, in `{file}`\n  \
         hint: move the file into the other team's folder first; Dags in the folders of two teams are two Dags"
    )]
    StillThere {
        /// The Dag.
        dag: DagId,
        /// The former team.
        team: String,
        /// Its file.
        file: String,
    },
    /// Its runs have not ended; without their file they could not go on.
    #[error(
        "{count} runs of Dag `{dag}` have not ended in team `{team}`\n  hint: runs stay with their team; let them end, or mark them"
    )]
    RunsActive {
        /// The Dag.
        dag: DagId,
        /// The former team.
        team: String,
        /// How many.
        count: i64,
    },
    /// A backfill of it has dates left.
    #[error(
        "backfill {id} of Dag `{dag}` has not ended in team `{team}`\n  hint: backfills stay with their team; let it end, or cancel it"
    )]
    BackfillOpen {
        /// The Dag.
        dag: DagId,
        /// The former team.
        team: String,
        /// The backfill.
        id: i64,
    },
    /// Asset events or partitions wait for it, which the new team may have no consent to consume.
    #[error(
        "{count} asset events or partitions wait for Dag `{dag}` in team `{team}`, and do not go with it: what a Dag of the \
         other team may consume is that team's consent\n  hint: let them cause their run before the file moves, or give them up \
         with `--forget-events`"
    )]
    EventsWait {
        /// The Dag.
        dag: DagId,
        /// The former team.
        team: String,
        /// How many.
        count: i64,
    },
    /// The new team's folders do not hold it yet.
    #[error(
        "Dag `{dag}` has not arrived in team `{team}`\n  \
         hint: put its file into a folder of the team; a running server reads it and lets it arrive paused"
    )]
    NotArrived {
        /// The Dag.
        dag: DagId,
        /// The new team.
        team: String,
    },
    /// The new team has a history of its own under that id.
    #[error(
        "team `{team}` has {count} runs of a Dag `{dag}` already\n  \
         hint: two histories are not joined; delete that Dag there, or give one of them another id"
    )]
    HasHistory {
        /// The Dag.
        dag: DagId,
        /// The new team.
        team: String,
        /// How many.
        count: i64,
    },
}

/// Moves a Dag's schedule position and paused state from one team to another. What stays behind is paused, with its runs and
/// what belongs to them: backfills, deadlines, questions to people. Events that wait for it are given up where `forget_events`
/// says so, else it stays.
///
/// # Errors
/// The database failed.
pub async fn move_dag(
    tx: &mut Tx,
    org: &OrgScope,
    dag: &DagId,
    (from, to): (&str, &str),
    forget_events: bool,
    actor: &str,
    now: Timestamp,
) -> Result<Result<Moved, NotMoved>, StoreError> {
    let all = teams::all(tx, org).await?;
    let team = |name: &str| -> Result<&TeamRow, NotMoved> {
        let found = all.iter().find(|row| row.name.as_str() == name && !row.archived);
        found.ok_or_else(|| NotMoved::NoTeam(name.to_owned()))
    };
    let (old, new) = match (team(from), team(to)) {
        (Ok(old), Ok(new)) if old.id == new.id => return Ok(Err(NotMoved::SameTeam(from.to_owned()))),
        (Ok(old), Ok(new)) => (org.team(old.id), org.team(new.id)),
        (Err(refused), _) | (_, Err(refused)) => return Ok(Err(refused)),
    };
    if let Some(refused) = refusal(tx, (old, new), dag, (from, to)).await? {
        return Ok(Err(refused));
    }
    if forget_events {
        for text in WAITING {
            tx.run(&format!("DELETE FROM {text}"), vals![old.team(), dag]).await?;
        }
    } else if let count @ 1.. = waiting(tx, old, dag).await? {
        let (dag, team) = (dag.clone(), from.to_owned());
        return Ok(Err(NotMoved::EventsWait { dag, team, count }));
    }
    let position = standing(tx, old, dag).await?;
    let row = tx
        .row(
            "SELECT is_paused FROM dag WHERE team_no = $1 AND dag_id = $2",
            vals![old.team(), dag],
        )
        .await?;
    let paused = row.map_or(Ok(true), |row| row.flag("is_paused"))?;
    if let Some(position) = &position {
        carry(tx, (old, new), dag, position, now).await?;
    }
    // Without a next run in its row the timetable is asked again, from the position.
    tx.run(
        "UPDATE dag SET is_paused = $3, next_logical_date = NULL, next_interval_start = NULL, next_interval_end = NULL, \
         next_create_after = NULL WHERE team_no = $1 AND dag_id = $2",
        vals![new.team(), dag, paused],
    )
    .await?;
    tx.run(
        "UPDATE dag SET is_paused = TRUE WHERE team_no = $1 AND dag_id = $2",
        vals![old.team(), dag],
    )
    .await?;
    for scope in [old, new] {
        events::insert(tx, scope, EventKind::Dag, dag, &json!({"why": "moved"}), now).await?;
    }
    let record = |extra| Record::new("move_dag", actor).dag(dag).extra(extra);
    audit::write(tx, old, &[record(json!({"to": to}))]);
    audit::write(tx, new, &[record(json!({"from": from}))]);
    Ok(Ok(Moved { position, paused }))
}

async fn refusal(
    tx: &mut Tx,
    (old, new): (TeamScope, TeamScope),
    dag: &DagId,
    (from, to): (&str, &str),
) -> Result<Option<NotMoved>, StoreError> {
    let sql = "SELECT rel_path, is_stale, (SELECT count(*) FROM dag_run WHERE dag_run.team_no = dag.team_no AND \
               dag_run.dag_id = dag.dag_id) AS runs, (SELECT count(*) FROM dag_run WHERE dag_run.team_no = dag.team_no \
               AND dag_run.dag_id = dag.dag_id AND dag_run.state IN ('queued', 'running')) AS active \
               FROM dag WHERE team_no = $1 AND dag_id = $2";
    let (dag, team) = (dag.clone(), from.to_owned());
    let Some(there) = tx.row(sql, vals![old.team(), &dag]).await? else {
        return Ok(Some(NotMoved::NoDag { dag, team }));
    };
    let active = there.int("active")?;
    if active > 0 {
        return Ok(Some(NotMoved::RunsActive {
            dag,
            team,
            count: active,
        }));
    }
    if let Some(id) = crate::backfills::open_of(tx, old, &dag).await? {
        return Ok(Some(NotMoved::BackfillOpen { dag, team, id }));
    }
    if !there.flag("is_stale")? {
        let file = there.text("rel_path")?;
        return Ok(Some(NotMoved::StillThere { dag, team, file }));
    }
    let here = tx.row(sql, vals![new.team(), &dag]).await?;
    let team = to.to_owned();
    Ok(match here {
        Some(here) if here.int("runs")? > 0 => {
            let count = here.int("runs")?;
            Some(NotMoved::HasHistory { dag, team, count })
        }
        Some(here) if !here.flag("is_stale")? => None,
        _ => Some(NotMoved::NotArrived { dag, team }),
    })
}

/// What waits for a Dag, and is no run's yet: tables and conditions. Keys go before the partitions that they name.
const WAITING: [&str; 4] = [
    "asset_queue WHERE team_no = $1 AND dag_id = $2",
    "asset_partition_arrival WHERE team_no = $1 AND dag_id = $2",
    "asset_partition_key WHERE team_no = $1 AND dag_id = $2 AND partition_run_id IN (SELECT r.id FROM asset_partition_run r \
     WHERE r.team_no = $1 AND r.dag_id = $2 AND r.run_id IS NULL)",
    "asset_partition_run WHERE team_no = $1 AND dag_id = $2 AND run_id IS NULL",
];

async fn waiting(tx: &mut Tx, scope: TeamScope, dag: &DagId) -> Result<i64, StoreError> {
    let mut count = 0;
    // What arrived for a partition is counted as that partition.
    for text in WAITING.iter().filter(|text| !text.starts_with("asset_partition_key")) {
        let row = tx
            .row(&format!("SELECT count(*) AS n FROM {text}"), vals![scope.team(), dag])
            .await?;
        count += row.map_or(Ok(0), |row| row.int("n"))?;
    }
    Ok(count)
}

/// Where a Dag's schedule stands in its team: at its own last run, or where it stood when it came.
async fn standing(tx: &mut Tx, scope: TeamScope, dag: &DagId) -> Result<Option<Position>, StoreError> {
    let row = tx
        .row(
            "SELECT timetable_partitioned FROM dag WHERE team_no = $1 AND dag_id = $2",
            vals![scope.team(), dag],
        )
        .await?;
    let partitioned = row.map_or(Ok(false), |row| row.flag("timetable_partitioned"))?;
    let own = last_automated(tx, scope, dag, partitioned).await?.map(|run| Position {
        logical_date: run.logical_date,
        interval: run.interval_start.zip(run.interval_end),
        run_after: run.run_after,
        partition_key: run.partition_key,
        partition_date: run.partition_date,
    });
    let carried = carried(tx, scope, dag).await?;
    Ok(own
        .into_iter()
        .chain(carried)
        .max_by_key(|position| (position.logical_date, position.partition_date, position.run_after)))
}

/// Where the schedule of a Dag stood when it came from another team; none for one that never moved.
///
/// # Errors
/// The database failed.
pub async fn carried(tx: &mut Tx, scope: TeamScope, dag: &DagId) -> Result<Option<Position>, StoreError> {
    let row = tx
        .row(
            "SELECT * FROM dag_moved WHERE team_no = $1 AND dag_id = $2",
            vals![scope.team(), dag],
        )
        .await?;
    row.as_ref().map(Position::from_row).transpose()
}

async fn carry(
    tx: &mut Tx,
    (old, new): (TeamScope, TeamScope),
    dag: &DagId,
    position: &Position,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.run(
        "INSERT INTO dag_moved (team_no, dag_id, from_team_no, moved_at, logical_date, interval_start, interval_end, \
         run_after, partition_key, partition_date) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (team_no, dag_id) DO UPDATE SET from_team_no = $3, moved_at = $4, logical_date = $5, \
         interval_start = $6, interval_end = $7, run_after = $8, partition_key = $9, partition_date = $10",
        vals![
            new.team(),
            dag,
            old.team(),
            now,
            position.logical_date,
            position.interval.map(|(start, _)| start),
            position.interval.map(|(_, end)| end),
            position.run_after,
            position.partition_key.as_ref(),
            position.partition_date,
        ],
    )
    .await
    .map(drop)
}

/// Of these Dags, by id and hash of their definition, those that left another team unchanged and have runs there. They
/// arrive paused (rule 5). Who asks knows the whole definition, so nothing is learnt of the other team but that.
///
/// # Errors
/// The database failed.
pub async fn left_elsewhere(
    tx: &mut Tx,
    _org: &OrgScope,
    scope: TeamScope,
    dags: &BTreeMap<&DagId, &str>,
) -> Result<BTreeSet<DagId>, StoreError> {
    let ids: Vec<&DagId> = dags.keys().copied().collect();
    let mut left = BTreeSet::new();
    for chunk in ids.chunks(500) {
        let mut values = vals![scope.team()];
        let list = among(&mut values, chunk);
        let rows = tx
            .rows(
                &format!(
                    "SELECT d.dag_id, v.hash FROM dag d JOIN dag_version v ON v.team_no = d.team_no \
                     AND v.dag_id = d.dag_id AND v.version_number = d.current_version_number \
                     WHERE d.team_no <> $1 AND d.is_stale = TRUE AND d.dag_id {list} AND EXISTS \
                     (SELECT 1 FROM dag_run r WHERE r.team_no = d.team_no AND r.dag_id = d.dag_id)"
                ),
                values,
            )
            .await?;
        for row in rows {
            let (id, hash) = (DagId::from(row.text("dag_id")?), row.text("hash")?);
            if dags.get(&id).is_some_and(|known| **known == *hash) {
                left.insert(id);
            }
        }
    }
    Ok(left)
}
