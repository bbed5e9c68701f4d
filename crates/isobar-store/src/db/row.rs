//! Rows read from either database, with getters for the types of our columns.

use isobar_model::{TeamId, TiId, from_micros};
use jiff::Timestamp;
use sqlx::{ColumnIndex, Decode, Row as _, Type};
use uuid::Uuid;

use crate::StoreError;

/// One row of either database.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

impl Row {
    /// The value of a column by its name.
    pub(crate) fn get<'r, T>(&'r self, column: &'r str) -> Result<T, StoreError>
    where
        T: Decode<'r, sqlx::Sqlite> + Type<sqlx::Sqlite> + Decode<'r, sqlx::Postgres> + Type<sqlx::Postgres>,
        &'r str: ColumnIndex<sqlx::sqlite::SqliteRow> + ColumnIndex<sqlx::postgres::PgRow>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| StoreError::Corrupt {
            column: column.to_owned(),
            problem: error.to_string(),
        })
    }

    pub(crate) fn int(&self, column: &str) -> Result<i64, StoreError> {
        self.get(column)
    }

    pub(crate) fn maybe_int(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.get(column)
    }

    pub(crate) fn small(&self, column: &str) -> Result<i32, StoreError> {
        let wide = self.int(column)?;
        i32::try_from(wide).map_err(|_| StoreError::Corrupt {
            column: column.to_owned(),
            problem: format!("{wide} is out of range"),
        })
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.get(column)
    }

    pub(crate) fn maybe_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.get(column)
    }

    pub(crate) fn flag(&self, column: &str) -> Result<bool, StoreError> {
        self.get(column)
    }

    pub(crate) fn real(&self, column: &str) -> Result<Option<f64>, StoreError> {
        self.get(column)
    }

    pub(crate) fn uuid(&self, column: &str) -> Result<Uuid, StoreError> {
        self.get(column)
    }

    pub(crate) fn maybe_uuid(&self, column: &str) -> Result<Option<Uuid>, StoreError> {
        self.get(column)
    }

    pub(crate) fn ti_id(&self, column: &str) -> Result<TiId, StoreError> {
        self.uuid(column).map(TiId)
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    pub(crate) fn team(&self, column: &str) -> Result<TeamId, StoreError> {
        self.small(column).map(TeamId)
    }

    pub(crate) fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.int(column).map(from_micros)
    }

    pub(crate) fn maybe_time(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.maybe_int(column)?.map(from_micros))
    }

    /// A word of a closed set: a state, a run type.
    pub(crate) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(&self, column: &str) -> Result<T, StoreError> {
        let text = self.text(column)?;
        text.parse().map_err(|error: T::Err| StoreError::Corrupt {
            column: column.to_owned(),
            problem: error.to_string(),
        })
    }

    /// A word of a closed set, or null.
    pub(crate) fn maybe_word<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.maybe_text(column)?
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: T::Err| StoreError::Corrupt {
                column: column.to_owned(),
                problem: error.to_string(),
            })
    }

    /// A column that holds JSON text; null reads as JSON null.
    pub(crate) fn json(&self, column: &str) -> Result<serde_json::Value, StoreError> {
        let Some(text) = self.maybe_text(column)? else {
            return Ok(serde_json::Value::Null);
        };
        serde_json::from_str(&text).map_err(|error| StoreError::Corrupt {
            column: column.to_owned(),
            problem: error.to_string(),
        })
    }
}
