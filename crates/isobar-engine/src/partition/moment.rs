//! A date and time as Python's `datetime` has it: on a wall clock, perhaps in a zone, and in the second of two equal hours or not.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// A date and time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    /// What the wall clock shows.
    pub(super) civil: DateTime,
    /// Where the clock hangs; none: it does not say (a naive `datetime`).
    pub(super) zone: Option<TimeZone>,
    /// The second of two equal hours.
    pub(super) second: bool,
}

impl Moment {
    /// On a wall clock without a zone.
    pub(super) fn naive(civil: DateTime) -> Self {
        Self {
            civil,
            zone: None,
            second: false,
        }
    }

    /// In a zone; the second of two equal hours, and after a gap that would hold it (Airflow's `make_aware`).
    pub(super) fn placed(civil: DateTime, zone: &TimeZone) -> Option<Self> {
        let (civil, second) = match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Gap { before, after } => {
                let gap = SignedDuration::from_secs(i64::from(after.seconds()) - i64::from(before.seconds()));
                (civil.checked_add(gap).ok()?, false)
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => (civil, true),
        };
        Some(Self {
            civil,
            zone: Some(zone.clone()),
            second,
        })
    }

    /// The distance from UTC, if known.
    pub(super) fn offset(&self) -> Option<Offset> {
        let zone = self.zone.as_ref()?;
        Some(match zone.to_ambiguous_timestamp(self.civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, after } | AmbiguousOffset::Fold { before, after } => {
                if self.second {
                    after
                } else {
                    before
                }
            }
        })
    }

    /// The instant that is meant; none without a zone.
    pub(super) fn instant(&self) -> Option<Timestamp> {
        self.offset()?.to_timestamp(self.civil).ok()
    }

    /// The same instant on the wall clock of another zone; none without a zone of its own.
    pub(super) fn moved_to(&self, zone: &TimeZone) -> Option<Self> {
        let instant = self.instant()?;
        let shown = zone.to_offset(instant);
        let civil = shown.to_datetime(instant);
        let second = match zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Fold { after, .. } => shown == after,
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => false,
        };
        Some(Self {
            civil,
            zone: Some(zone.clone()),
            second,
        })
    }

    /// Another wall clock time, all else as it is (`datetime.replace`).
    pub(super) fn with(&self, civil: DateTime) -> Self {
        Self { civil, ..self.clone() }
    }

    /// So much later on the wall clock (`datetime + timedelta`); none outside Python's years.
    pub(super) fn plus(&self, step: SignedDuration) -> Option<Self> {
        let civil = self.civil.checked_add(step).ok()?;
        (1..=9999).contains(&civil.year()).then(|| Self {
            civil,
            zone: self.zone.clone(),
            second: false,
        })
    }

    /// So many months later, on the same day (`replace(year=…, month=…)`); none outside Python's years.
    pub(super) fn plus_months(&self, months: i32) -> Option<Self> {
        let total = i32::from(self.civil.month()) - 1 + months;
        let year = i16::try_from(i32::from(self.civil.year()) + total.div_euclid(12)).ok()?;
        let month = i8::try_from(total.rem_euclid(12) + 1).ok()?;
        if !(1..=9999).contains(&year) {
            return None;
        }
        Some(self.with(self.civil.with().year(year).month(month).build().ok()?))
    }

    /// As `datetime.isoformat()` writes it.
    pub(super) fn iso(&self) -> String {
        let mut written = if self.civil.subsec_nanosecond() == 0 {
            self.civil.strftime("%Y-%m-%dT%H:%M:%S").to_string()
        } else {
            self.civil.strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string()
        };
        if let Some(offset) = self.offset() {
            written.push_str(&distance(offset, ":"));
        }
        written
    }
}

/// A distance from UTC as Python writes it: `+02:00`, with seconds where it has any.
pub(super) fn distance(offset: Offset, colon: &str) -> String {
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let (minutes, rest) = (seconds.abs() / 60, seconds.abs() % 60);
    let mut written = format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60);
    if rest != 0 {
        written.push_str(&format!("{colon}{rest:02}"));
    }
    written
}
