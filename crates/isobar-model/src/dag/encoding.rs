//! Airflow's tagged values: `{"__type": T, "__var": V}` inside generic containers, bare ones elsewhere.

use jiff::SignedDuration;
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;

use super::error::{DagError, Problem, Read, excerpt};
use super::read::{Object, each, object, or, out_of_range, required, seconds, small, text};

/// The tag and the content of a tagged value; none where the value is not tagged.
pub(crate) fn tagged(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object()?;
    Some((map.get("__type")?.as_str()?, map.get("__var")?))
}

/// The content of a tagged value, or the value itself.
pub(crate) fn bare(value: &Value) -> &Value {
    tagged(value).map_or(value, |(_, var)| var)
}

/// The tag and the fields of `{"__type", "__var": {..}}` or of the flat form `{"__type", ..}`; assets use both.
pub(crate) fn tagged_object(value: &Value) -> Read<(&str, &Object)> {
    let map = object(value)?;
    let tag = required(map, "__type", text)?;
    match map.get("__var") {
        Some(var) => Ok((tag, object(var).map_err(|e| e.under("__var"))?)),
        None => Ok((tag, map)),
    }
}

/// Plain JSON of a value that may hold tags: dicts become objects, sets and tuples lists, other tags their content.
#[must_use]
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(map) => match tagged(value) {
            Some(("arg_not_set", _)) => Value::Null,
            Some(("dict", Value::Object(inner))) => {
                Value::Object(inner.iter().map(|(k, v)| (k.clone(), plain(v))).collect())
            }
            Some((_, inner)) => plain(inner),
            None => Value::Object(map.iter().map(|(k, v)| (k.clone(), plain(v))).collect()),
        },
        scalar => scalar.clone(),
    }
}

/// A time zone as Airflow names one: an IANA name, or a fixed distance from UTC.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }

    /// A zone of the zone database, by its IANA name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("utc") {
            return Some(Self {
                name: name.to_owned(),
                rules: TimeZone::UTC,
            });
        }
        TimeZone::get(name).ok().map(|rules| Self {
            name: name.to_owned(),
            rules,
        })
    }

    /// A fixed distance from UTC, in seconds, east positive.
    #[must_use]
    pub fn fixed(seconds: i32) -> Option<Self> {
        let offset = Offset::from_seconds(seconds).ok()?;
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
        Some(Self {
            name: format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60),
            rules: TimeZone::fixed(offset),
        })
    }

    /// The name as Airflow shows it: `Europe/Vienna`, `UTC`, `+02:00`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone's rules.
    #[must_use]
    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }

    pub(crate) fn read(value: &Value) -> Read<Self> {
        let unknown = |shown: String| DagError::here(Problem::UnknownTimeZone(shown));
        let value = bare(value);
        if value.is_number() {
            let offset = small(value)?;
            return Self::fixed(offset).ok_or_else(|| unknown(offset.to_string()));
        }
        let name = text(value)?;
        Self::named(name).ok_or_else(|| unknown(excerpt(name)))
    }
}

/// A step in time: Python's `timedelta` or dateutil's `relativedelta`.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// A fixed length.
    Exact(SignedDuration),
    /// A calendar step.
    Calendar(RelativeDelta),
}

impl Delta {
    /// No step at all.
    pub const ZERO: Self = Self::Exact(SignedDuration::ZERO);

    pub(crate) fn read(value: &Value) -> Read<Self> {
        match bare(value) {
            Value::Object(map) => RelativeDelta::read(map).map(Self::Calendar),
            number => seconds(number).map(Self::Exact),
        }
    }
}

/// dateutil's `relativedelta`: relative parts are added, absolute parts replace, the weekday comes last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelativeDelta {
    /// Years to add.
    pub years: i32,
    /// Months to add.
    pub months: i32,
    /// Days to add.
    pub days: i32,
    /// Hours to add.
    pub hours: i32,
    /// Minutes to add.
    pub minutes: i32,
    /// Seconds to add.
    pub seconds: i32,
    /// Microseconds to add.
    pub microseconds: i32,
    /// Days to add after February of a leap year.
    pub leapdays: i32,
    /// The year to set.
    pub year: Option<i32>,
    /// The month to set.
    pub month: Option<i32>,
    /// The day of the month to set.
    pub day: Option<i32>,
    /// The hour to set.
    pub hour: Option<i32>,
    /// The minute to set.
    pub minute: Option<i32>,
    /// The second to set.
    pub second: Option<i32>,
    /// The microsecond to set.
    pub microsecond: Option<i32>,
    /// The weekday to move to (0 is Monday) and which of them (`+1`, also meant by none: next or same; `-1`: last or same).
    pub weekday: Option<(i32, Option<i32>)>,
}

impl RelativeDelta {
    fn read(map: &Object) -> Read<Self> {
        /// Enough for any calendar; small enough that sums of parts cannot overflow.
        const LARGEST: i32 = 400_000_000;
        let bounded = |value: &Value| {
            let number = small(value)?;
            if number.abs() > LARGEST {
                return Err(out_of_range("a part of a relativedelta", number));
            }
            Ok(number)
        };
        let part = |key: &str| or(map, key, 0, bounded);
        let set = |key: &str| or(map, key, None, |v| bounded(v).map(Some));
        Ok(Self {
            years: part("years")?,
            months: part("months")?,
            days: part("days")?,
            hours: part("hours")?,
            minutes: part("minutes")?,
            seconds: part("seconds")?,
            microseconds: part("microseconds")?,
            leapdays: part("leapdays")?,
            year: set("year")?,
            month: set("month")?,
            day: set("day")?,
            hour: set("hour")?,
            minute: set("minute")?,
            second: set("second")?,
            microsecond: set("microsecond")?,
            weekday: or(map, "weekday", None, |value| match each(value, small)?.as_slice() {
                [day @ 0..=6] => Ok(Some((*day, None))),
                [day @ 0..=6, nth @ (-1000..=-1 | 1..=1000)] => Ok(Some((*day, Some(*nth)))),
                other => Err(out_of_range("a weekday and its ordinal", format!("{other:?}"))),
            })?,
        })
    }
}
