//! Searching forwards and backwards on a wall clock.

use jiff::civil::{Date, DateTime, Weekday, date};

use super::{Column, Cron, LAST};

/// How many years may pass between two matches, as in croniter.
const YEARS: i16 = 50;

/// A wall-clock time under construction.
#[derive(Clone, Copy)]
struct Clock {
    date: Date,
    hour: i8,
    minute: i8,
    second: i8,
}

impl Clock {
    fn of(at: DateTime) -> Self {
        Self {
            date: at.date(),
            hour: at.hour(),
            minute: at.minute(),
            second: at.second(),
        }
    }

    fn first_of(date: Date) -> Self {
        Self {
            date,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    fn last_of(date: Date) -> Self {
        Self {
            date,
            hour: 23,
            minute: 59,
            second: 59,
        }
    }

    fn time(self) -> DateTime {
        self.date.at(self.hour, self.minute, self.second, 0)
    }
}

/// Seconds of an expression with five columns: only :00.
const ON_THE_MINUTE: Column = Column {
    values: 1,
    star: false,
    whole: false,
};

impl Column {
    fn from(self, value: i8, max: i8) -> Option<i8> {
        (value..=max).find(|v| self.has(*v))
    }

    fn until(self, value: i8) -> Option<i8> {
        (0..=value).rev().find(|v| self.has(*v))
    }
}

/// What a search asks of a day, besides what `#` and `w` always ask.
#[derive(Clone, Copy)]
enum Day {
    /// Both day columns: one of them has a star.
    Both,
    /// The day of the month.
    OfMonth,
    /// The day of the week.
    OfWeek,
}

pub(super) fn next_after(cron: &Cron, at: DateTime) -> Option<DateTime> {
    nearest(cron, |day| search_on(cron, day, at), DateTime::min)
}

pub(super) fn prev_before(cron: &Cron, at: DateTime) -> Option<DateTime> {
    nearest(cron, |day| search_back(cron, day, at), DateTime::max)
}

/// Where both day columns are restricted, either may match: the nearer of the two matches counts.
///
/// With `#` or `w`, croniter gives up when one side has no match at all (the fifth Friday never is the 20th), and so do we.
fn nearest(
    cron: &Cron,
    search: impl Fn(Day) -> Option<DateTime>,
    nearer: fn(DateTime, DateTime) -> DateTime,
) -> Option<DateTime> {
    if cron.day.star || cron.weekday.star {
        return search(Day::Both);
    }
    match (search(Day::OfMonth), search(Day::OfWeek)) {
        (Some(one), Some(other)) => Some(nearer(one, other)),
        (one, other) if cron.nearest_weekday.is_none() && !cron.has_nth() => one.or(other),
        _ => None,
    }
}

fn search_on(cron: &Cron, day: Day, at: DateTime) -> Option<DateTime> {
    let step = if cron.second.is_some() {
        jiff::Span::new().seconds(1)
    } else {
        jiff::Span::new().minutes(1)
    };
    let mut clock = Clock::of(at.checked_add(step).ok()?);
    if cron.second.is_none() {
        clock.second = 0;
    }
    let limit = clock.date.year().checked_add(YEARS)?;
    let seconds = cron.second.unwrap_or(ON_THE_MINUTE);
    loop {
        let year = clock.date.year();
        if year > limit {
            return None;
        }
        if let Some(years) = &cron.year {
            let next = *years.iter().find(|y| **y >= year)?;
            if next != year {
                clock = Clock::first_of(date(next, 1, 1));
                continue;
            }
        }
        if !cron.month.has(clock.date.month()) {
            clock = Clock::first_of(clock.date.last_of_month().tomorrow().ok()?);
            continue;
        }
        let Some(time) = cron
            .day_fits(clock.date, day)
            .then(|| time_from(cron, seconds, clock))
            .flatten()
        else {
            clock = Clock::first_of(clock.date.tomorrow().ok()?);
            continue;
        };
        return Some(time.time());
    }
}

/// The first fitting time of a clock's own day, not before the clock.
fn time_from(cron: &Cron, seconds: Column, clock: Clock) -> Option<Clock> {
    let Clock {
        mut hour,
        mut minute,
        mut second,
        ..
    } = clock;
    loop {
        let fits = cron.hour.from(hour, 23)?;
        if fits != hour {
            (hour, minute, second) = (fits, 0, 0);
        }
        let Some(fits) = cron.minute.from(minute, 59) else {
            (hour, minute, second) = (hour + 1, 0, 0);
            continue;
        };
        if fits != minute {
            (minute, second) = (fits, 0);
        }
        match seconds.from(second, 59) {
            Some(second) => {
                return Some(Clock {
                    hour,
                    minute,
                    second,
                    ..clock
                });
            }
            None => (minute, second) = (minute + 1, 0),
        }
    }
}

fn search_back(cron: &Cron, day: Day, at: DateTime) -> Option<DateTime> {
    let mut clock = Clock::of(at.checked_sub(jiff::Span::new().microseconds(1)).ok()?);
    let limit = clock.date.year().checked_sub(YEARS)?;
    let seconds = cron.second.unwrap_or(ON_THE_MINUTE);
    loop {
        let year = clock.date.year();
        if year < limit {
            return None;
        }
        if let Some(years) = &cron.year {
            let prev = *years.iter().rev().find(|y| **y <= year)?;
            if prev != year {
                clock = Clock::last_of(date(prev, 12, 31));
                continue;
            }
        }
        if !cron.month.has(clock.date.month()) {
            clock = Clock::last_of(clock.date.first_of_month().yesterday().ok()?);
            continue;
        }
        let Some(time) = cron
            .day_fits(clock.date, day)
            .then(|| time_until(cron, seconds, clock))
            .flatten()
        else {
            clock = Clock::last_of(clock.date.yesterday().ok()?);
            continue;
        };
        return Some(time.time());
    }
}

/// The last fitting time of a clock's own day, not after the clock.
fn time_until(cron: &Cron, seconds: Column, clock: Clock) -> Option<Clock> {
    let Clock {
        mut hour,
        mut minute,
        mut second,
        ..
    } = clock;
    loop {
        let fits = cron.hour.until(hour)?;
        if fits != hour {
            (hour, minute, second) = (fits, 59, 59);
        }
        let Some(fits) = cron.minute.until(minute) else {
            (hour, minute, second) = (hour - 1, 59, 59);
            continue;
        };
        if fits != minute {
            (minute, second) = (fits, 59);
        }
        match seconds.until(second) {
            Some(second) => {
                return Some(Clock {
                    hour,
                    minute,
                    second,
                    ..clock
                });
            }
            None => (minute, second) = (minute - 1, 59),
        }
    }
}

impl Cron {
    fn has_nth(&self) -> bool {
        self.nth.iter().any(|nth| *nth != 0)
    }

    /// Whether a date meets the day columns that a search asks about. `#` and `w` are asked about by every search.
    fn day_fits(&self, date: Date, ask: Day) -> bool {
        let of_month = match (self.nearest_weekday, ask) {
            (Some(wanted), _) => date.day() == nearest_weekday(date, wanted),
            (None, Day::OfWeek) => true,
            (None, _) => self.day.has(date.day()) || (self.last_day && date.day() == date.days_in_month()),
        };
        let of_week = || match ask {
            _ if self.has_nth() => self.is_nth(date),
            Day::OfMonth => true,
            Day::Both | Day::OfWeek => self.weekday.has(date.weekday().to_sunday_zero_offset()),
        };
        of_month && of_week()
    }

    fn is_nth(&self, day: Date) -> bool {
        let wanted = self.nth[usize::from(day.weekday().to_sunday_zero_offset().unsigned_abs())];
        let which = (day.day() - 1) / 7 + 1;
        wanted >> which & 1 == 1 || (wanted & LAST != 0 && day.day() + 7 > day.days_in_month())
    }
}

/// The weekday nearest to a day of a month, without leaving the month.
fn nearest_weekday(month: Date, wanted: i8) -> i8 {
    let last = month.days_in_month();
    let wanted = wanted.min(last);
    let weekday = date(month.year(), month.month(), wanted).weekday();
    match weekday {
        Weekday::Saturday if wanted > 1 => wanted - 1,
        Weekday::Saturday => wanted + 2,
        Weekday::Sunday if wanted < last => wanted + 1,
        Weekday::Sunday => wanted - 2,
        _ => wanted,
    }
}
