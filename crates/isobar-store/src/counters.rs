//! Team-private numbers: an id of one team tells nothing of how busy another is.

use isobar_auth::TeamScope;

use crate::db::vals;
use crate::{StoreError, Tx};

/// How many numbers one team has of each kind; ids stay below 2^53 for 2^17 teams.
pub const TEAM_STRIDE: i64 = 1 << 36;

/// What is numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is named for the table whose ids it gives")]
pub enum Counter {
    Run,
    Audit,
    Asset,
    AssetAlias,
    AssetEvent,
    Pool,
    Variable,
    Connection,
    ImportError,
    Callback,
    Backfill,
    Trigger,
    Question,
    Triggerer,
    ListenerCall,
}

impl Counter {
    /// The name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Audit => "audit",
            Self::Asset => "asset",
            Self::AssetAlias => "asset_alias",
            Self::AssetEvent => "asset_event",
            Self::Pool => "pool",
            Self::Variable => "variable",
            Self::Connection => "connection",
            Self::ImportError => "import_error",
            Self::Callback => "callback",
            Self::Backfill => "backfill",
            Self::Trigger => "trigger",
            Self::Question => "question",
            Self::Triggerer => "triggerer",
            Self::ListenerCall => "listener_call",
        }
    }
}

impl AsRef<str> for Counter {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

/// Takes `count` consecutive ids of the team; answers the first. The first ever is `team * 2^36 + 1`.
///
/// On PostgreSQL the counter stays locked until the unit ends: take ids late.
///
/// # Errors
/// The database failed.
pub async fn next_ids(tx: &mut Tx, scope: TeamScope, kind: impl AsRef<str>, count: u32) -> Result<i64, StoreError> {
    let row = tx
        .row(
            "INSERT INTO team_counter (team_no, kind, next) VALUES ($1, $2, $3) \
             ON CONFLICT (team_no, kind) DO UPDATE SET next = team_counter.next + $3 RETURNING next",
            vals![scope.team(), kind.as_ref(), count],
        )
        .await?
        .ok_or_else(|| StoreError::NotFound {
            what: format!("the counter `{}`", kind.as_ref()),
        })?;
    Ok(i64::from(scope.team().0) * TEAM_STRIDE + row.int("next")? - i64::from(count) + 1)
}
