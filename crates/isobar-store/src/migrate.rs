//! Migrations: numbered SQL files, applied in order, each in one transaction.

use isobar_auth::OrgScope;

use crate::db::{Dialect, vals};
use crate::{Store, StoreError, Tx};

/// Number, name and text of every migration. `{uuid}`, `{serial}` and `{bytes}` stand for the dialect's own types.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "questions", include_str!("../migrations/0002_questions.sql")),
    (3, "triggers", include_str!("../migrations/0003_triggers.sql")),
    (4, "backfills", include_str!("../migrations/0004_backfills.sql")),
    (5, "assets", include_str!("../migrations/0005_assets.sql")),
    (6, "deadlines", include_str!("../migrations/0006_deadlines.sql")),
    (9, "moved_dags", include_str!("../migrations/0009_moved_dags.sql")),
];

/// The migration that this binary was built for.
#[must_use]
pub fn needed() -> i64 {
    MIGRATIONS.last().map_or(0, |(number, ..)| *number)
}

/// What a database has, without changing it; zero for an empty one.
///
/// # Errors
/// The database cannot be read.
pub async fn found(store: &Store, _scope: &OrgScope) -> Result<i64, StoreError> {
    let mut tx = store.read().await?;
    applied(&mut tx).await
}

/// Refuses a database that is not at the migration this binary needs.
///
/// # Errors
/// [`StoreError::Version`] with the remedy.
pub async fn check(store: &Store, scope: &OrgScope) -> Result<(), StoreError> {
    let found = found(store, scope).await?;
    if found == needed() {
        Ok(())
    } else {
        Err(StoreError::Version {
            found,
            needed: needed(),
        })
    }
}

/// Applies what is missing; answers the names of what was applied.
///
/// # Errors
/// A migration failed (nothing of it stays), or the database is newer than this binary.
pub async fn migrate(store: &Store, scope: &OrgScope) -> Result<Vec<&'static str>, StoreError> {
    let mut done = Vec::new();
    let at = found(store, scope).await?;
    if at > needed() {
        return Err(StoreError::Version {
            found: at,
            needed: needed(),
        });
    }
    for (number, name, text) in MIGRATIONS.iter().filter(|(number, ..)| *number > at) {
        let mut tx = store.begin().await?;
        if tx.dialect() == Dialect::Postgres {
            // Two processes may start at once: the second waits here and then finds nothing to do.
            tx.run("SELECT pg_advisory_xact_lock(67)", vals![]).await?;
            if applied(&mut tx).await? >= *number {
                continue;
            }
        }
        for statement in statements(text, tx.dialect()) {
            tx.run(&statement, vals![]).await?;
        }
        tx.run(
            "INSERT INTO isobar_migration (number, name) VALUES ($1, $2)",
            vals![*number, *name],
        )
        .await?;
        tx.commit().await?;
        done.push(*name);
    }
    Ok(done)
}

async fn applied(tx: &mut Tx) -> Result<i64, StoreError> {
    let exists = match tx.dialect() {
        Dialect::Sqlite => "SELECT count(*) AS n FROM sqlite_master WHERE name = 'isobar_migration'",
        Dialect::Postgres => {
            "SELECT count(*) AS n FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'isobar_migration'"
        }
    };
    let there = tx.row(exists, vals![]).await?.map_or(Ok(0), |row| row.int("n"))?;
    if there == 0 {
        return Ok(0);
    }
    let row = tx
        .row("SELECT coalesce(max(number), 0) AS n FROM isobar_migration", vals![])
        .await?;
    row.map_or(Ok(0), |row| row.int("n"))
}

/// The statements of one migration in one dialect. Statements end with `;` at a line's end; `--` lines are notes.
fn statements(text: &str, dialect: Dialect) -> Vec<String> {
    let (uuid, serial, bytes) = match dialect {
        Dialect::Sqlite => ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "BLOB"),
        Dialect::Postgres => ("UUID", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA"),
    };
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect();
    code.replace("{uuid}", uuid)
        .replace("{serial}", serial)
        .replace("{bytes}", bytes)
        .split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}
