//! Teams: what the configuration declares, applied (rules 3 and 4).

use isobar_auth::OrgScope;
use isobar_config::{KnownTeam, Step};
use isobar_model::{TeamId, TeamName};
use isobar_wire::wake::Wake;
use jiff::Timestamp;

use crate::db::{Row, vals};
use crate::{StoreError, Tx};

/// A row of `team`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamRow {
    /// Its number, for ever.
    pub id: TeamId,
    /// Its name now.
    pub name: TeamName,
    /// It left the configuration; its rows are kept and hidden.
    pub archived: bool,
    /// Tokens of an older epoch are dead.
    pub token_epoch: i64,
}

impl TeamRow {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.team("team_no")?,
            name: TeamName::from_stored(row.text("name")?),
            archived: row.text("state")? != "active",
            token_epoch: row.int("token_epoch")?,
        })
    }
}

/// All teams, archived ones too.
///
/// # Errors
/// The database failed.
pub async fn all(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<TeamRow>, StoreError> {
    let rows = tx
        .rows(
            "SELECT * FROM team WHERE state <> 'organisation' ORDER BY team_no",
            vals![],
        )
        .await?;
    rows.iter().map(TeamRow::from_row).collect()
}

/// All teams as planning wants to know them.
///
/// # Errors
/// The database failed.
pub async fn known(tx: &mut Tx, _scope: &OrgScope) -> Result<Vec<KnownTeam>, StoreError> {
    let rows = tx
        .rows(
            "SELECT team_no, name, state, token_epoch, (SELECT count(*) FROM dag WHERE dag.team_no = team.team_no \
             AND EXISTS (SELECT 1 FROM dag_run WHERE dag_run.team_no = dag.team_no AND dag_run.dag_id = dag.dag_id)) AS dags \
             FROM team WHERE state <> 'organisation' ORDER BY team_no",
            vals![],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let team = TeamRow::from_row(row)?;
            Ok(KnownTeam {
                id: team.id,
                name: team.name,
                archived: team.archived,
                dags_with_history: u64::try_from(row.int("dags")?).unwrap_or(0),
            })
        })
        .collect()
}

/// Carries out the steps of a plan, in order. Numbers are given from 1 and never again; 0 is the built-in team `default`.
///
/// # Errors
/// The database failed; nothing is changed once the unit is dropped.
pub async fn apply(tx: &mut Tx, _scope: &OrgScope, steps: &[Step], now: Timestamp) -> Result<(), StoreError> {
    for step in steps {
        match step {
            Step::Create { name } => {
                let number = if *name == TeamName::default_team() {
                    TeamId::DEFAULT.0.into()
                } else {
                    tx.row(
                        "SELECT coalesce(max(team_no), 0) + 1 AS n FROM team WHERE team_no > 0",
                        vals![],
                    )
                    .await?
                    .map_or(Ok(1), |row| row.int("n"))?
                };
                tx.run(
                    "INSERT INTO team (team_no, name, state, created_at) VALUES ($1, $2, 'active', $3)",
                    vals![number, name, now],
                )
                .await?;
            }
            Step::Rename { id, to, .. } => {
                tx.run("UPDATE team SET name = $2 WHERE team_no = $1", vals![*id, to])
                    .await?;
            }
            Step::Archive { id, .. } => {
                tx.run(
                    "UPDATE team SET state = 'archived', archived_at = $2, token_epoch = token_epoch + 1 WHERE team_no = $1",
                    vals![*id, now],
                )
                .await?;
            }
            Step::Restore { id, .. } => {
                tx.run(
                    "UPDATE team SET state = 'active', archived_at = NULL WHERE team_no = $1",
                    vals![*id],
                )
                .await?;
            }
            Step::Keep { .. } => {}
        }
    }
    tx.wake(Wake::Definitions);
    Ok(())
}

/// The built-in team, which every deployment has (rule 1). Whether it had to be made.
///
/// # Errors
/// The database failed.
pub async fn ensure_default(tx: &mut Tx, _scope: &OrgScope, now: Timestamp) -> Result<bool, StoreError> {
    let made = tx
        .run(
            "INSERT INTO team (team_no, name, state, created_at) VALUES (0, 'default', 'active', $1) ON CONFLICT DO NOTHING",
            vals![now],
        )
        .await?;
    Ok(made > 0)
}

/// Raises the token epoch of an active team: every token minted before is dead. Whether there is such a team.
///
/// # Errors
/// The database failed.
pub async fn revoke_tokens(tx: &mut Tx, _scope: &OrgScope, name: &str) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            "UPDATE team SET token_epoch = token_epoch + 1 WHERE name = $1 AND state = 'active'",
            vals![name],
        )
        .await?;
    tx.wake(Wake::Definitions);
    Ok(touched > 0)
}
