//! Mappers of keys that are dates: to the start of the hour, day, week, month, quarter or year.

use std::collections::BTreeMap;

use isobar_model::dag::Zone;
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};
use serde_json::Value;

use super::format::strftime;
use super::mapper::{Broken, MapperError};
use super::moment::Moment;
use super::strptime::strptime;

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Period {
    pub(super) fn of_class(class: &str) -> Option<Self> {
        Some(match class {
            "StartOfHourMapper" => Self::Hour,
            "StartOfDayMapper" => Self::Day,
            "StartOfWeekMapper" => Self::Week,
            "StartOfMonthMapper" => Self::Month,
            "StartOfQuarterMapper" => Self::Quarter,
            "StartOfYearMapper" => Self::Year,
            _ => return None,
        })
    }

    fn quarter(month: i8) -> i8 {
        (month - 1) / 3 + 1
    }

    /// The start of the period that holds a moment.
    fn start(self, moment: &Moment) -> Option<Moment> {
        let at = moment.civil;
        let midnight = at.date().at(0, 0, 0, 0);
        let first = |month: i8| midnight.with().month(month).day(1).build().ok();
        if self == Self::Week {
            // Python subtracts days from the moment, whichever of two equal hours it was in.
            let back = SignedDuration::from_hours(24 * i64::from(at.weekday().to_monday_zero_offset()));
            let monday = moment.plus(-back)?;
            let start = monday.civil.date().at(0, 0, 0, 0);
            return Some(monday.with(start));
        }
        Some(moment.with(match self {
            Self::Hour => at.date().at(at.hour(), 0, 0, 0),
            Self::Day | Self::Week => midnight,
            Self::Month => first(at.month())?,
            Self::Quarter => first((Self::quarter(at.month()) - 1) * 3 + 1)?,
            Self::Year => first(1)?,
        }))
    }
}

/// A mapper of dates.
#[derive(Clone, Debug)]
pub(super) struct Temporal {
    period: Period,
    zone: Zone,
    input: String,
    output: String,
}

impl Temporal {
    pub(super) fn read(period: Period, fields: &Value) -> Result<Self, MapperError> {
        let text = |key: &str| {
            let found = fields[key].as_str().map(str::to_owned);
            found.ok_or_else(|| Broken::new(&format!("`{key}` is missing")))
        };
        let zone = match &fields["timezone"] {
            Value::String(name) => Zone::named(name),
            Value::Number(seconds) => seconds
                .as_i64()
                .and_then(|seconds| i32::try_from(seconds).ok())
                .and_then(Zone::fixed),
            _ => Some(Zone::utc()),
        };
        Ok(Self {
            period,
            zone: zone.ok_or_else(|| Broken::new("its time zone is unknown"))?,
            input: text("input_format")?,
            output: text("output_format")?,
        })
    }

    fn start(&self, moment: &Moment) -> Result<Moment, MapperError> {
        self.period
            .start(moment)
            .ok_or_else(|| Broken::new("the period begins before the year 1"))
    }

    fn placed(&self, civil: DateTime) -> Result<Moment, MapperError> {
        Moment::placed(civil, self.zone.rules()).ok_or_else(|| Broken::new("outside the years 1 to 9999"))
    }

    pub(super) fn downstream(&self, key: &str) -> Result<String, MapperError> {
        let read = strptime(key, &self.input).ok_or_else(|| MapperError::key(key, &self.input))?;
        let shown = if read.zone.is_none() {
            self.placed(read.civil)?
        } else {
            read.moved_to(self.zone.rules())
                .ok_or_else(|| Broken::new("outside the years 1 to 9999"))?
        };
        self.format(&self.start(&shown)?)
    }

    /// Writes a moment in the format of the downstream key.
    pub(super) fn format(&self, moment: &Moment) -> Result<String, MapperError> {
        let written = strftime(moment, &self.output);
        if self.period != Period::Quarter {
            return Ok(written);
        }
        let quarter = Period::quarter(moment.civil.month()).to_string();
        let filled = written.replace("{quarter}", &quarter);
        if filled.contains(['{', '}']) {
            return Err(Broken::new("its output format has braces that are not `{quarter}`"));
        }
        Ok(filled)
    }

    /// The start of the period that a downstream key names, as the key has it.
    pub(super) fn decode(&self, key: &str) -> Result<Moment, MapperError> {
        let wrong = || MapperError::key(key, &self.output);
        let date = |year: i32, month: i32, day: i32| -> Option<Moment> {
            let small = |value: i32| i8::try_from(value).ok();
            let date = Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()?;
            (date.year() >= 1).then(|| Moment::naive(date.at(0, 0, 0, 0)))
        };
        match self.period {
            Period::Week => {
                let found = parts(key, &self.output).ok_or_else(wrong)?;
                let part = |name: &str| found.get(name).copied().ok_or_else(wrong);
                date(part("Y")?, part("m")?, part("d")?).ok_or_else(wrong)
            }
            Period::Quarter => {
                let found = parts(key, &self.output).ok_or_else(wrong)?;
                let part = |name: &str| found.get(name).copied().ok_or_else(wrong);
                date(part("Y")?, (part("quarter")? - 1) * 3 + 1, 1).ok_or_else(wrong)
            }
            Period::Hour | Period::Day | Period::Month | Period::Year => strptime(key, &self.output).ok_or_else(wrong),
        }
    }

    /// The start of the period that a downstream key names, in the mapper's zone.
    pub(super) fn date(&self, key: &str) -> Result<Moment, MapperError> {
        let anchor = self.start(&self.decode(key)?)?;
        if anchor.zone.is_none() {
            self.placed(anchor.civil)
        } else {
            Ok(anchor)
        }
    }

    /// The upstream key of a part of a window.
    pub(super) fn encode(&self, moment: &Moment) -> Result<String, MapperError> {
        let shown = if moment.zone.is_some() {
            let moved = moment.moved_to(self.zone.rules());
            moved.ok_or_else(|| Broken::new("outside the years 1 to 9999"))?.civil
        } else {
            moment.civil
        };
        Ok(strftime(&self.placed(shown)?, &self.input))
    }
}

/// The numbers in a key that was written in a format of fixed widths: `%Y` and its like, and `{quarter}`.
fn parts(key: &str, format: &str) -> Option<BTreeMap<String, i32>> {
    let mut found = BTreeMap::new();
    let (mut key, mut format) = (key, format);
    while !format.is_empty() {
        let directive = format
            .strip_prefix('%')
            .and_then(|rest| rest.chars().next())
            .filter(|letter| "YmdHMSVUW".contains(*letter));
        if let Some(letter) = directive {
            let width = if letter == 'Y' { 4 } else { 2 };
            let digits = key
                .get(..width)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            found.insert(letter.to_string(), digits.parse().ok()?);
            (key, format) = (&key[width..], &format[2..]);
        } else if let Some(rest) = format.strip_prefix("{quarter}") {
            let digit = key.get(..1).filter(|digit| ("1"..="4").contains(digit))?;
            found.insert("quarter".to_owned(), digit.parse().ok()?);
            (key, format) = (&key[1..], rest);
        } else {
            let letter = format.chars().next()?;
            key = key.strip_prefix(letter)?;
            format = &format[letter.len_utf8()..];
        }
    }
    // `$` also stands before a last line break.
    (key.is_empty() || key == "\n").then_some(found)
}
