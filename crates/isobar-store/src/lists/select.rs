//! A SELECT under construction: conditions, bound values, and its page.

use isobar_auth::ReadScope;
use jiff::Timestamp;

use super::cursor::{Cursor, CursorPage};
use super::matching::{Page, RealRange, Slice, TextMatch, TimeRange, prefix_range};
use super::ordering::Ordering;
use crate::counters::TEAM_STRIDE;
use crate::db::{Dialect, Row, Val};
use crate::scope_sql::predicate;
use crate::{StoreError, Tx};

/// Rows of one scope, narrowed by conditions.
pub(crate) struct Select {
    dialect: Dialect,
    columns: &'static str,
    from: String,
    conditions: Vec<String>,
    values: Vec<Val>,
}

impl Select {
    /// `SELECT columns FROM from WHERE <team column is in the scope>`.
    pub(crate) fn new(
        tx: &Tx,
        scope: &ReadScope,
        team_column: &str,
        columns: &'static str,
        from: impl Into<String>,
    ) -> Self {
        Self {
            dialect: tx.dialect(),
            columns,
            from: from.into(),
            conditions: vec![predicate(scope, team_column)],
            values: Vec::new(),
        }
    }

    /// Adds a table to FROM.
    pub(crate) fn join(&mut self, text: &str) {
        self.from.push(' ');
        self.from.push_str(text);
    }

    /// Binds a value; answers its placeholder.
    pub(crate) fn bind(&mut self, value: impl Into<Val>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    pub(crate) fn and(&mut self, condition: impl Into<String>) {
        self.conditions.push(condition.into());
    }

    pub(crate) fn equal(&mut self, expr: &str, value: impl Into<Val>) {
        let placeholder = self.bind(value);
        self.and(format!("{expr} = {placeholder}"));
    }

    /// The row of a team-private id. The id says the team, so the primary key finds it under every scope.
    pub(crate) fn by_id(&mut self, alias: &str, id: i64) {
        self.and(format!("{alias}.team_no = {}", id.div_euclid(TEAM_STRIDE)));
        self.equal(&format!("{alias}.id"), id);
    }

    /// `expr = value`, where there is one.
    pub(crate) fn equal_if<T: Into<Val>>(&mut self, expr: &str, value: Option<T>) {
        if let Some(value) = value {
            self.equal(expr, value);
        }
    }

    /// One of the values; `None` stands for null. An empty list asks for nothing.
    pub(crate) fn one_of<T: Into<Val>>(&mut self, expr: &str, values: impl IntoIterator<Item = Option<T>>) {
        let mut alternatives = Vec::new();
        let mut placeholders = Vec::new();
        for value in values {
            match value {
                Some(value) => placeholders.push(self.bind(value)),
                None => alternatives.push(format!("{expr} IS NULL")),
            }
        }
        if !placeholders.is_empty() {
            alternatives.push(format!("{expr} IN ({})", placeholders.join(",")));
        }
        if !alternatives.is_empty() {
            self.and(format!("({})", alternatives.join(" OR ")));
        }
    }

    /// One of the values; an empty list that was given finds nothing.
    pub(crate) fn among<T: Into<Val>>(&mut self, expr: &str, values: Option<impl IntoIterator<Item = T>>) {
        let Some(values) = values else { return };
        let placeholders: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        if placeholders.is_empty() {
            self.and("1=0");
        } else {
            self.and(format!("{expr} IN ({})", placeholders.join(",")));
        }
    }

    /// The condition that an expression holds a text, in either case.
    pub(crate) fn like(&mut self, expr: &str, pattern: String) -> String {
        let placeholder = self.bind(pattern);
        match self.dialect {
            Dialect::Sqlite => format!("{expr} LIKE {placeholder}"),
            Dialect::Postgres => format!("{expr} ILIKE {placeholder}"),
        }
    }

    /// The condition that an expression holds a text taken literally, in either case.
    pub(crate) fn holds(&mut self, expr: &str, text: &str) -> String {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        format!("{} ESCAPE '\\'", self.like(expr, format!("%{escaped}%")))
    }

    pub(crate) fn matches(&mut self, expr: &str, asked: &TextMatch) {
        if let Some(pattern) = &asked.pattern {
            let alternatives: Vec<String> = asked
                .terms(pattern)
                .into_iter()
                .map(|term| self.like(expr, format!("%{term}%")))
                .collect();
            self.and(format!("({})", alternatives.join(" OR ")));
        }
        if let Some(prefix) = &asked.prefix {
            let mut alternatives = Vec::new();
            for term in asked.terms(prefix) {
                alternatives.push(match prefix_range(term) {
                    None => format!("{expr} IS NOT NULL"),
                    Some((lower, None)) => format!("{expr} >= {}", self.bind(lower)),
                    Some((lower, Some(upper))) => {
                        let (lower, upper) = (self.bind(lower), self.bind(upper));
                        format!("({expr} >= {lower} AND {expr} < {upper})")
                    }
                });
            }
            self.and(format!("({})", alternatives.join(" OR ")));
        }
    }

    pub(crate) fn within(&mut self, expr: &str, range: &TimeRange) {
        for (bound, operator) in [(range.gte, ">="), (range.gt, ">"), (range.lte, "<="), (range.lt, "<")] {
            if let Some(bound) = bound {
                let placeholder = self.bind(bound);
                self.and(format!("{expr} {operator} {placeholder}"));
            }
        }
    }

    /// As [`Self::within`]; a null counts as now, the way Airflow reads a start or end that is still to come.
    pub(crate) fn within_or_open(&mut self, expr: &str, range: &TimeRange, now: Timestamp) {
        for (bound, operator) in [(range.gte, ">="), (range.gt, ">")] {
            if let Some(bound) = bound {
                let placeholder = self.bind(bound);
                self.and(format!("({expr} {operator} {placeholder} OR {expr} IS NULL)"));
            }
        }
        for (bound, operator, null_counts) in [
            (range.lte, "<=", range.lte.is_some_and(|bound| now <= bound)),
            (range.lt, "<", range.lt.is_some_and(|bound| now < bound)),
        ] {
            if let Some(bound) = bound {
                let placeholder = self.bind(bound);
                let or_null = if null_counts {
                    format!(" OR {expr} IS NULL")
                } else {
                    String::new()
                };
                self.and(format!("({expr} {operator} {placeholder}{or_null})"));
            }
        }
    }

    pub(crate) fn within_real(&mut self, expr: &str, range: &RealRange) {
        for (bound, operator) in [(range.gte, ">="), (range.gt, ">"), (range.lte, "<="), (range.lt, "<")] {
            if let Some(bound) = bound.filter(|bound| *bound != 0.0) {
                let placeholder = self.bind(bound);
                self.and(format!("{expr} {operator} {placeholder}"));
            }
        }
    }

    fn text(&self, columns: &str) -> String {
        format!(
            "SELECT {columns} FROM {} WHERE {}",
            self.from,
            self.conditions.join(" AND ")
        )
    }

    /// Every row.
    pub(crate) async fn all(self, tx: &mut Tx, order: &str) -> Result<Vec<Row>, StoreError> {
        let sql = format!("{}{order}", self.text(self.columns));
        tx.rows(&sql, self.values).await
    }

    /// The first row.
    pub(crate) async fn one(self, tx: &mut Tx) -> Result<Option<Row>, StoreError> {
        let sql = format!("{} LIMIT 1", self.text(self.columns));
        tx.row(&sql, self.values).await
    }

    /// One page, and how many rows there are. The count is left out where the page shows it.
    pub(crate) async fn page<T>(
        self,
        tx: &mut Tx,
        order: &Ordering,
        page: Page,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Slice<T>, StoreError> {
        let sql = format!(
            "{}{} LIMIT {} OFFSET {}",
            self.text(self.columns),
            order.sql(false),
            page.limit,
            page.offset
        );
        let found = tx.rows(&sql, self.values.clone()).await?;
        let rows = found.iter().map(read).collect::<Result<Vec<T>, _>>()?;
        let here = i64::try_from(rows.len()).expect("a page fits memory");
        let whole = here < i64::from(page.limit) && (here > 0 || page.offset == 0);
        let total = if whole {
            here + i64::try_from(page.offset).unwrap_or(i64::MAX - here)
        } else {
            self.count(tx, None).await?
        };
        Ok(Slice { rows, total })
    }

    /// How many rows match, counting no further than `at_most`.
    async fn count(self, tx: &mut Tx, at_most: Option<i64>) -> Result<i64, StoreError> {
        let sql = match at_most {
            None => self.text("count(*) AS n"),
            Some(limit) => format!(
                "SELECT count(*) AS n FROM ({} LIMIT {limit}) AS counted",
                self.text("1 AS one")
            ),
        };
        tx.row(&sql, self.values).await?.map_or(Ok(0), |row| row.int("n"))
    }

    /// The rows after (or before) a cursor, with the cursors of the neighbouring pages.
    pub(crate) async fn cursor_page<T>(
        mut self,
        tx: &mut Tx,
        order: &Ordering,
        limit: u32,
        cursor: Option<&Cursor>,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<CursorPage<T>, StoreError> {
        let backwards = cursor.is_some_and(|cursor| cursor.backwards);
        let total = Self {
            conditions: self.conditions.clone(),
            values: self.values.clone(),
            from: self.from.clone(),
            ..self
        }
        .count(tx, Some(super::cursor::COUNTED))
        .await?;
        if let Some(cursor) = cursor {
            let condition = cursor.condition(&mut self, order);
            self.and(condition);
        }
        let keys: Vec<String> = order
            .keys
            .iter()
            .enumerate()
            .map(|(index, (sql, ..))| format!("{sql} AS order_key_{index}"))
            .collect();
        let columns = format!("{}, {}", self.columns, keys.join(", "));
        let sql = format!(
            "{}{} LIMIT {}",
            self.text(&columns),
            order.sql(backwards),
            u64::from(limit) + 1
        );
        let mut found = tx.rows(&sql, self.values).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        if backwards {
            found.reverse();
        }
        let (has_previous, has_next) = if backwards {
            (more, true)
        } else {
            (cursor.is_some(), more)
        };
        let edge = |row: Option<&Row>, wanted: bool, backwards: bool| {
            row.filter(|_| wanted)
                .map(|row| Cursor::at(row, order, backwards))
                .transpose()
        };
        Ok(CursorPage {
            next: edge(found.last(), has_next, false)?,
            previous: edge(found.first(), has_previous, true)?,
            rows: found.iter().map(read).collect::<Result<Vec<T>, _>>()?,
            total,
        })
    }

    /// How SQLite would read a page: what each table is searched by.
    #[cfg(test)]
    pub(crate) async fn plan(self, tx: &mut Tx, order: &Ordering) -> Result<String, StoreError> {
        let sql = format!(
            "EXPLAIN QUERY PLAN {}{} LIMIT 50",
            self.text(self.columns),
            order.sql(false)
        );
        let rows = tx.rows(&sql, self.values).await?;
        let lines = rows
            .iter()
            .map(|row| row.text("detail"))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(lines.join("\n"))
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }
}
