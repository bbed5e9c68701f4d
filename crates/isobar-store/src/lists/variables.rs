//! Variables as the REST API lists them. Values are opened with the key of each row's own team.

use std::collections::BTreeMap;

use isobar_auth::{MasterKey, ReadScope};
use isobar_model::TeamId;

use super::matching::{Page, Slice, TextMatch};
use super::ordering::{Kind, Ordering, Sortables, sortables};
use super::select::Select;
use crate::seal::{TeamKey, key_of_rows};
use crate::variables::{Variable, place};
use crate::{StoreError, Tx};

/// By what variables can be ordered. Values are sealed, so ordering by them orders nothing, as in Airflow.
pub const ORDER: Sortables = Sortables {
    names: sortables! {
        "key" => "v.key" Text;
        "id" => "v.id" Int;
        "_val" => "v.id" Int;
        "description" => "v.description" Text;
        "is_encrypted" => "v.id" Int;
        "team_name" => "t.name" Text;
    },
    unique: &[("v.id", Kind::Int)],
    default: "id",
};

/// A variable and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariableRow {
    /// Whose it is.
    pub team: TeamId,
    /// The variable, its value in the clear.
    pub variable: Variable,
}

/// One page of the variables that may be read.
///
/// # Errors
/// The database failed, or a value cannot be opened.
pub async fn list(
    tx: &mut Tx,
    scope: &ReadScope,
    master: &MasterKey,
    key: &TextMatch,
    order: &Ordering,
    page: Page,
) -> Result<Slice<VariableRow>, StoreError> {
    let mut select = Select::new(
        tx,
        scope,
        "v.team_no",
        "v.team_no, v.key, v.sealed, v.description",
        "variable v JOIN team t ON t.team_no = v.team_no",
    );
    select.matches("v.key", key);
    let sealed = select
        .page(tx, order, page, |row| {
            Ok((
                row.team("team_no")?,
                row.text("key")?,
                row.bytes("sealed")?,
                row.maybe_text("description")?,
            ))
        })
        .await?;
    let mut keys: BTreeMap<TeamId, Option<TeamKey>> = BTreeMap::new();
    let mut rows = Vec::with_capacity(sealed.rows.len());
    for (team, key, bytes, description) in sealed.rows {
        if let std::collections::btree_map::Entry::Vacant(free) = keys.entry(team) {
            free.insert(key_of_rows(tx, team, master).await?);
        }
        let about = place(&key);
        let value = match keys.get(&team) {
            Some(Some(opener)) => opener.open_text(&about, &bytes)?,
            _ => return Err(StoreError::Sealed(about)),
        };
        rows.push(VariableRow {
            team,
            variable: Variable {
                key,
                value,
                description,
            },
        });
    }
    Ok(Slice {
        rows,
        total: sealed.total,
    })
}
