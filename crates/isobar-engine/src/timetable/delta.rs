//! Adding Python's `timedelta` and dateutil's `relativedelta` to instants, always on UTC's calendar as Airflow does.

use isobar_model::dag::{Delta, RelativeDelta};
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Answer, TimetableError};

/// `at + delta`.
pub(super) fn add(at: Timestamp, delta: &Delta) -> Answer<Timestamp> {
    match delta {
        Delta::Exact(length) => at.checked_add(*length).map_err(|_| TimetableError::OutOfRange),
        Delta::Calendar(step) => shift(at, step, 1),
    }
}

/// `at - delta`. Absolute parts and the weekday of a `relativedelta` are set all the same.
pub(super) fn subtract(at: Timestamp, delta: &Delta) -> Answer<Timestamp> {
    match delta {
        Delta::Exact(length) => at.checked_sub(*length).map_err(|_| TimetableError::OutOfRange),
        Delta::Calendar(step) => shift(at, step, -1),
    }
}

fn shift(at: Timestamp, step: &RelativeDelta, sign: i64) -> Answer<Timestamp> {
    shifted(TimeZone::UTC.to_datetime(at), step, sign)
        .and_then(|there| TimeZone::UTC.to_timestamp(there).ok())
        .ok_or(TimetableError::OutOfRange)
}

/// dateutil's order: set and add years and months, clamp the day, set the time, add days and times, move to the weekday.
fn shifted(at: DateTime, step: &RelativeDelta, sign: i64) -> Option<DateTime> {
    let months = i64::from(step.year.unwrap_or(at.year().into()))
        .checked_add(sign * i64::from(step.years))?
        .checked_mul(12)?
        + i64::from(step.month.unwrap_or(at.month().into()))
        - 1
        + sign * i64::from(step.months);
    let (year, month) = (
        i16::try_from(months.div_euclid(12)).ok()?,
        i8::try_from(months.rem_euclid(12)).ok()? + 1,
    );
    let first = jiff::civil::Date::new(year, month, 1).ok()?;
    let wanted = i8::try_from(step.day.unwrap_or(at.day().into())).ok()?;
    let day = wanted.min(first.days_in_month());
    let part = |set: Option<i32>, now: i8| set.map_or(Some(now), |set| i8::try_from(set).ok());
    let micros = step.microsecond.unwrap_or(at.subsec_nanosecond() / 1000);
    let base = jiff::civil::Date::new(year, month, day).ok()?.to_datetime(
        jiff::civil::Time::new(
            part(step.hour, at.hour())?,
            part(step.minute, at.minute())?,
            part(step.second, at.second())?,
            micros.checked_mul(1000)?,
        )
        .ok()?,
    );
    let leap_days = if step.leapdays != 0 && month > 2 && date(year, 1, 1).in_leap_year() {
        i64::from(step.leapdays)
    } else {
        0
    };
    let seconds = (sign * i64::from(step.days) + leap_days) * 86_400
        + sign * (i64::from(step.hours) * 3600 + i64::from(step.minutes) * 60 + i64::from(step.seconds));
    let length = SignedDuration::from_secs(seconds) + SignedDuration::from_micros(sign * i64::from(step.microseconds));
    let moved = base.checked_add(length).ok()?;
    let Some((weekday, nth)) = step.weekday else {
        return Some(moved);
    };
    let nth = i64::from(nth.unwrap_or(1));
    let today = i64::from(moved.weekday().to_monday_zero_offset());
    let weeks = (nth.abs() - 1) * 7;
    let days = if nth > 0 {
        weeks + (7 - today + i64::from(weekday)).rem_euclid(7)
    } else {
        -(weeks + (today - i64::from(weekday)).rem_euclid(7))
    };
    moved.checked_add(SignedDuration::from_hours(days * 24)).ok()
}

/// A `relativedelta` without months and years in seconds, as Airflow counts them.
pub(super) fn fixed_seconds(step: &RelativeDelta) -> i64 {
    i64::from(step.days) * 86_400
        + i64::from(step.hours) * 3600
        + i64::from(step.minutes) * 60
        + i64::from(step.seconds)
}
