//! Windows: of which parts a period consists.

use jiff::SignedDuration;
use serde_json::Value;

use super::mapper::{Broken, Decoded, MapperError, class_of, text_list};
use super::moment::Moment;

/// What a period consists of, seen from its start.
#[derive(Clone, Debug)]
pub(super) enum Window {
    /// Equal steps on the wall clock.
    Steps {
        /// How many.
        count: i32,
        /// One step.
        step: SignedDuration,
        /// The period ends with its anchor instead of beginning with it.
        backward: bool,
    },
    /// Months.
    Months {
        /// How many.
        count: i32,
        /// As above.
        backward: bool,
    },
    /// The days of a month.
    DaysOfMonth {
        /// As above.
        backward: bool,
    },
    /// Names, whatever the period is.
    Segments(Vec<String>),
    /// A class of the team's plugins.
    Python(String),
}

impl Window {
    pub(super) fn read(value: &Value) -> Result<Self, MapperError> {
        let (path, class, fields) = class_of(value)?;
        let Some(class) = class else {
            return Ok(Self::Python(path.to_owned()));
        };
        let backward = fields["direction"] == "backward";
        let steps = |count, step| Self::Steps { count, step, backward };
        Ok(match class {
            "HourWindow" => steps(60, SignedDuration::from_mins(1)),
            "DayWindow" => steps(24, SignedDuration::from_hours(1)),
            "WeekWindow" => steps(7, SignedDuration::from_hours(24)),
            "MonthWindow" => Self::DaysOfMonth { backward },
            "QuarterWindow" => Self::Months { count: 3, backward },
            "YearWindow" => Self::Months { count: 12, backward },
            "SegmentWindow" => Self::Segments(text_list(&fields["segments"])?),
            _ => return Err(MapperError::unknown("window", path)),
        })
    }

    /// The parts of the period that begins (or ends) with `anchor`.
    pub(super) fn parts(&self, anchor: &Decoded) -> Result<Vec<Decoded>, MapperError> {
        match self {
            Self::Python(path) => return Err(MapperError::NeedsPython { path: path.clone() }),
            Self::Segments(names) => return Ok(names.iter().cloned().map(Decoded::Text).collect()),
            Self::Steps { .. } | Self::Months { .. } | Self::DaysOfMonth { .. } => {}
        }
        let Decoded::Moment(start) = anchor else {
            return Err(Broken::new("a window of time cannot divide a key that is no date"));
        };
        let found: Option<Vec<Moment>> = match *self {
            Self::Steps { count, step, backward } => {
                let base = if backward { -(count - 1) } else { 0 };
                start.plus(step * base).and_then(|base| {
                    let parts = (0..count).map(|at| base.plus(step * at));
                    parts.collect()
                })
            }
            Self::Months { count, backward } => {
                first_of_month(start)?;
                let base = if backward { -(count - 1) } else { 0 };
                (0..count).map(|at| start.plus_months(base + at)).collect()
            }
            Self::DaysOfMonth { backward } => {
                first_of_month(start)?;
                days_of_month(start, backward)
            }
            Self::Segments(_) | Self::Python(_) => None,
        };
        let found = found.ok_or_else(|| Broken::new("the window leaves the years 1 to 9999"))?;
        Ok(found.into_iter().map(Decoded::Moment).collect())
    }
}

fn first_of_month(start: &Moment) -> Result<(), MapperError> {
    if start.civil.day() == 1 {
        Ok(())
    } else {
        Err(Broken::new("the window needs a period that begins on day 1 of a month"))
    }
}

/// From the first on, or up to it: the days after the first of the month before.
fn days_of_month(start: &Moment, backward: bool) -> Option<Vec<Moment>> {
    let days = |count: i8, from: &Moment, skipped: i64| -> Option<Vec<Moment>> {
        (0..i64::from(count))
            .map(|day| from.plus(SignedDuration::from_hours(24 * (day + skipped))))
            .collect()
    };
    if backward {
        let before = start.plus_months(-1)?;
        days(before.civil.days_in_month(), &before, 1)
    } else {
        // Python looks at the first of the next month, which must exist.
        start.plus_months(1)?;
        days(start.civil.days_in_month(), start, 0)
    }
}
