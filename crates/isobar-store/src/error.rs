//! What can go wrong in the store.

/// A failed store call. Nothing of the failed unit was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("the metadata database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database's address cannot be used.
    #[error(
        "`{url}` is not a database address; hint: write `sqlite:///path/to/isobar.db` or `postgres://user@host/name`"
    )]
    Address {
        /// The address without its password.
        url: String,
    },
    /// The database is of another version.
    #[error("the metadata database is at migration {found}, this binary needs {needed}; hint: run `isobar db migrate`")]
    Version {
        /// What the database says.
        found: i64,
        /// What the binary was built with.
        needed: i64,
    },
    /// The database lacks migrations although it has newer ones.
    #[error("the metadata database lacks migration {missing}; hint: run `isobar db migrate`")]
    Migrations {
        /// Their numbers.
        missing: String,
    },
    /// A stored value is not what its column holds.
    #[error("column `{column}` holds an unexpected value: {problem}")]
    Corrupt {
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The transaction that carried this unit could not be committed; the unit may be tried again.
    #[error("the transaction was not committed ({0}); it is safe to try again")]
    NotCommitted(String),
    /// A compare-and-set found another value: the row changed in between.
    #[error("{what} changed meanwhile")]
    Conflict {
        /// What changed, for example "run `x`".
        what: String,
    },
    /// A scheduler's lease was taken by another.
    #[error("the lease `{0}` belongs to another scheduler now")]
    LeaseLost(String),
    /// A row that must be there is not.
    #[error("{what} was not found")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A row of that name is there already.
    #[error("{what} exists already")]
    Exists {
        /// What exists.
        what: String,
    },
    /// Sealed data could not be opened with the team's key.
    #[error("a secret of this team cannot be opened: {0}; hint: was the master key file replaced?")]
    Sealed(String),
}

impl StoreError {
    /// Whether the database says that a unique key was violated.
    #[must_use]
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }

    /// Whether the database refused the values themselves (a constraint, a text it cannot keep): trying again would not
    /// help. False for lost connections and for transactions that got into each other's way.
    #[must_use]
    pub fn is_data_error(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Encode(_)) => true,
            Self::Database(sqlx::Error::Database(error)) => {
                // PostgreSQL: classes 22 (data) and 23 (integrity). SQLite: SQLITE_TOOBIG 18, CONSTRAINT 19, MISMATCH 20.
                error.code().is_some_and(|code| {
                    if code.len() == 5 {
                        code.starts_with("22") || code.starts_with("23")
                    } else {
                        code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20))
                    }
                })
            }
            _ => false,
        }
    }
}
