//! Cron expressions in the dialect that Airflow speaks (croniter's), on wall clocks without a zone.
//!
//! Five columns (minute, hour, day of month, month, day of week), six (then seconds, last), or seven (then years, 1970 to 2099).
//! Lists, ranges (also backwards: `fri-mon`), steps (`*/5`, `3/5`, `1-9/2`), names, `?`, `l` for the last day of the month, `15w` for the
//! weekday nearest to the 15th, `mon#2` for the second Monday, `l5` for the last Friday. 0 and 7 are Sunday.
//!
//! Where both days are given, a day must meet **one** of them, as in every cron. Two things of croniter's are deliberate: with `#` or
//! `w` present the other day column only counts if it has a star, and a written-out full range (`1-31`) is a star unless the other day
//! column is restricted. `h` and `r` (hashed and random columns) are refused: a schedule must say when it fires.
//!
//! Zones and daylight saving are the timetable's business, as in Airflow.

mod civil;
mod describe;
mod parse;

use jiff::civil::DateTime;

/// A cron expression that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than any schedule needs.
    #[error("the cron expression has {0} characters, and 2000 are allowed")]
    TooLong(usize),
    /// Not five, six or seven columns.
    #[error("`{0}` must have 5, 6 or 7 columns")]
    Columns(String),
    /// A column holds something that is not cron.
    #[error("`{part}` is not valid in the {column} column of `{expression}`")]
    Column {
        /// The whole expression.
        expression: String,
        /// Which column.
        column: &'static str,
        /// What is wrong in it.
        part: String,
    },
    /// Plain days of the week beside `#` ones.
    #[error("`{0}` mixes plain days of the week with `#` ones")]
    MixedWeekdays(String),
}

/// A parsed cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    expression: String,
    columns: usize,
    minute: Column,
    hour: Column,
    day: Column,
    month: Column,
    weekday: Column,
    /// None for five columns, which means second 0.
    second: Option<Column>,
    /// None for fewer than seven columns: every year.
    year: Option<Vec<i16>>,
    /// `l` in the day column.
    last_day: bool,
    /// `15w` in the day column.
    nearest_weekday: Option<i8>,
    /// For each day of the week (0 is Sunday): bits 1 to 5 for `#n`, [`LAST`] for the last of the month.
    nth: [u8; 7],
}

/// The bit of `nth` that stands for the last such day of a month.
const LAST: u8 = 1 << 6;

/// The values of one column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    /// A bit for each value.
    values: u64,
    /// A star stands in it, so every value will do.
    star: bool,
    /// It is a star and nothing else, or was written out in full.
    whole: bool,
}

impl Column {
    fn has(self, value: i8) -> bool {
        self.star || self.values >> value & 1 == 1
    }
}

impl Cron {
    /// Reads an expression or one of the presets (`@daily`…).
    ///
    /// # Errors
    /// What is not cron, with the column.
    pub fn parse(expression: &str) -> Result<Self, CronError> {
        parse::parse(expression)
    }

    /// The expression, a preset already replaced.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether every hour will do. Airflow then steps over a change of the clocks by elapsed time rather than by the wall clock.
    #[must_use]
    pub fn covers_every_hour(&self) -> bool {
        self.hour.whole
    }

    /// The first match after a wall-clock time; none within 50 years.
    #[must_use]
    pub fn next_after(&self, at: DateTime) -> Option<DateTime> {
        civil::next_after(self, at)
    }

    /// The last match before a wall-clock time; none within 50 years.
    #[must_use]
    pub fn prev_before(&self, at: DateTime) -> Option<DateTime> {
        civil::prev_before(self, at)
    }

    /// The expression in English, as Airflow shows it; empty where Airflow shows nothing (more than five columns).
    #[must_use]
    pub fn description(&self) -> String {
        if self.columns > 5 {
            return String::new();
        }
        describe::describe(&self.expression)
    }
}

/// What Airflow makes of its own presets; other texts are themselves.
#[must_use]
pub fn expand_preset(expression: &str) -> &str {
    match expression {
        "@hourly" => "0 * * * *",
        "@daily" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@quarterly" => "0 0 1 */3 *",
        "@yearly" => "0 0 1 1 *",
        other => other,
    }
}
