//! Migrations: numbered SQL files, applied in order, each in one transaction.

use std::collections::BTreeSet;

use isobar_auth::OrgScope;

use crate::db::{Dialect, vals};
use crate::{Store, StoreError, Tx};

/// Number, name and text of every migration. `{uuid}`, `{serial}` and `{bytes}` stand for the dialect's own types.
const MIGRATIONS: &[Migration] = &[
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "questions", include_str!("../migrations/0002_questions.sql")),
    (3, "triggers", include_str!("../migrations/0003_triggers.sql")),
    (4, "backfills", include_str!("../migrations/0004_backfills.sql")),
    (5, "assets", include_str!("../migrations/0005_assets.sql")),
    (6, "deadlines", include_str!("../migrations/0006_deadlines.sql")),
    (9, "moved_dags", include_str!("../migrations/0009_moved_dags.sql")),
    (
        14,
        "deadlines_of_cleared_runs",
        include_str!("../migrations/0014_deadlines_of_cleared_runs.sql"),
    ),
    (
        16,
        "questions_with_an_end",
        include_str!("../migrations/0016_questions_with_an_end.sql"),
    ),
    (18, "listeners", include_str!("../migrations/0018_listeners.sql")),
];

/// The newest migration that this binary knows.
#[must_use]
pub fn needed() -> i64 {
    MIGRATIONS.last().map_or(0, |(number, ..)| *number)
}

/// The newest migration that a database has, without changing it; zero for an empty one.
///
/// # Errors
/// The database cannot be read.
pub async fn found(store: &Store, _scope: &OrgScope) -> Result<i64, StoreError> {
    let mut tx = store.read().await?;
    Ok(newest(&applied(&mut tx).await?))
}

/// Refuses a database that lacks a migration of this binary, or has one that it does not know.
///
/// # Errors
/// [`StoreError::Version`] or [`StoreError::Migrations`] with the remedy.
pub async fn check(store: &Store, _scope: &OrgScope) -> Result<(), StoreError> {
    let mut tx = store.read().await?;
    let there = applied(&mut tx).await?;
    refuse_newer(&there)?;
    let missing: Vec<String> = missing(MIGRATIONS, &there)
        .map(|(number, ..)| number.to_string())
        .collect();
    if missing.is_empty() {
        Ok(())
    } else if newest(&there) < needed() {
        Err(StoreError::Version {
            found: newest(&there),
            needed: needed(),
        })
    } else {
        Err(StoreError::Migrations {
            missing: missing.join(", "),
        })
    }
}

/// Applies what is missing, whatever is there already: branches may bring a lower number after a higher one. Answers the names of
/// what was applied.
///
/// # Errors
/// A migration failed (nothing of it stays), or the database is newer than this binary.
pub async fn migrate(store: &Store, _scope: &OrgScope) -> Result<Vec<&'static str>, StoreError> {
    apply(store, MIGRATIONS).await
}

type Migration = (i64, &'static str, &'static str);

async fn apply(store: &Store, migrations: &[Migration]) -> Result<Vec<&'static str>, StoreError> {
    let there = applied(&mut store.read().await?).await?;
    refuse_newer(&there)?;
    let mut done = Vec::new();
    for (number, name, text) in missing(migrations, &there) {
        let mut tx = store.begin().await?;
        if tx.dialect() == Dialect::Postgres {
            // Two processes may start at once: the second waits here and then finds nothing to do.
            tx.run("SELECT pg_advisory_xact_lock(67)", vals![]).await?;
            if applied(&mut tx).await?.contains(number) {
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

fn newest(there: &BTreeSet<i64>) -> i64 {
    there.last().copied().unwrap_or(0)
}

fn refuse_newer(there: &BTreeSet<i64>) -> Result<(), StoreError> {
    match newest(there) {
        found if found > needed() => Err(StoreError::Version {
            found,
            needed: needed(),
        }),
        _ => Ok(()),
    }
}

fn missing<'a>(migrations: &'a [Migration], there: &'a BTreeSet<i64>) -> impl Iterator<Item = &'a Migration> {
    migrations.iter().filter(|(number, ..)| !there.contains(number))
}

async fn applied(tx: &mut Tx) -> Result<BTreeSet<i64>, StoreError> {
    let exists = match tx.dialect() {
        Dialect::Sqlite => "SELECT count(*) AS n FROM sqlite_master WHERE name = 'isobar_migration'",
        Dialect::Postgres => {
            "SELECT count(*) AS n FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'isobar_migration'"
        }
    };
    let there = tx.row(exists, vals![]).await?.map_or(Ok(0), |row| row.int("n"))?;
    if there == 0 {
        return Ok(BTreeSet::new());
    }
    let rows = tx.rows("SELECT number FROM isobar_migration", vals![]).await?;
    rows.iter().map(|row| row.int("number")).collect()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const FIRST: Migration = (
        1,
        "first",
        "CREATE TABLE isobar_migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL);\n",
    );
    const SECOND: Migration = (2, "second", "CREATE TABLE two (n BIGINT);\n");
    const THIRD: Migration = (3, "third", "CREATE TABLE three (n BIGINT);\n");
    const BROKEN: Migration = (
        2,
        "broken",
        "CREATE TABLE two (n BIGINT);\nCREATE TABLE three (n BIGINT);\n",
    );

    async fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&format!("sqlite://{}", folder.path().join("isobar.db").display()))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_lower_number_that_comes_later_is_applied_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        assert_eq!(apply(&store, &[FIRST, THIRD]).await.unwrap(), ["first", "third"]);
        let all = [FIRST, SECOND, THIRD];
        assert_eq!(apply(&store, &all).await.unwrap(), ["second"]);
        assert!(apply(&store, &all).await.unwrap().is_empty());
        store
            .begin()
            .await
            .unwrap()
            .run("INSERT INTO two (n) VALUES (1)", vals![])
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn of_a_migration_that_fails_nothing_stays_and_it_can_be_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        apply(&store, &[FIRST, THIRD]).await.unwrap();
        assert!(
            apply(&store, &[FIRST, BROKEN, THIRD]).await.is_err(),
            "`three` is there already"
        );
        assert_eq!(apply(&store, &[FIRST, SECOND, THIRD]).await.unwrap(), ["second"]);
    }

    #[tokio::test]
    async fn a_database_with_a_hole_is_refused_until_it_is_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let (store, org) = (store(&folder).await, OrgScope::at_process_start());
        migrate(&store, &org).await.unwrap();
        check(&store, &org).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.run("DELETE FROM isobar_migration WHERE number = 2", vals![])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let error = check(&store, &org).await.unwrap_err().to_string();
        assert!(
            error.contains("lacks migration 2") && error.contains("isobar db migrate"),
            "{error}"
        );
    }
}
