//! From text to columns.

use super::{Column, Cron, CronError, LAST, expand_preset};

/// A column's name and range.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first_name: u32,
}

const fn numbers(name: &'static str, min: u32, max: u32) -> Kind {
    Kind {
        name,
        min,
        max,
        names: &[],
        first_name: 0,
    }
}

const MINUTE: Kind = numbers("minute", 0, 59);
const HOUR: Kind = numbers("hour", 0, 23);
const DAY: Kind = numbers("day of month", 1, 31);
const SECOND: Kind = numbers("second", 0, 59);
const YEAR: Kind = numbers("year", 1970, 2099);
const MONTH: Kind = Kind {
    name: "month",
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    first_name: 1,
};
const WEEKDAY: Kind = Kind {
    name: "day of week",
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    first_name: 0,
};

impl Kind {
    /// A number or name; 7 is Sunday. Values out of range pass here and are refused where they are used.
    fn value(self, text: &str) -> Option<u32> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let number = text.parse().unwrap_or(u32::MAX);
            return Some(if self.max == WEEKDAY.max && number == 7 {
                0
            } else {
                number
            });
        }
        let position = self.names.iter().position(|name| *name == text)?;
        u32::try_from(position).ok().map(|position| self.first_name + position)
    }

    fn range(self, from: u32, to: u32, step: u32, written_as_range: bool) -> Vec<u32> {
        let stepping = |from: u32, to: u32| (from..=to).step_by(step as usize);
        if from == to && written_as_range {
            return stepping(self.min, self.max).collect();
        }
        if from == to {
            return vec![from];
        }
        if from < to {
            return stepping(from, to).collect();
        }
        // Backwards: on to the end of the cycle, then from its start.
        let mut values: Vec<u32> = stepping(from, self.max).collect();
        let last = values.last().copied().unwrap_or(from);
        let (size, position, left) = (self.max - self.min + 1, last - self.min, self.max - last);
        // One more than plain stepping would skip; the schedules of existing Dags depend on it.
        let skip = if position.saturating_add(step) > size && left < step {
            step - left
        } else {
            0
        };
        values.extend(stepping(self.min.saturating_add(skip), to));
        values
    }
}

/// What a column holds while it is being read.
#[derive(Default)]
struct Items {
    values: Vec<u32>,
    star: bool,
    last_day: bool,
    nearest_weekday: Option<i8>,
    nth: [u8; 7],
}

impl Items {
    fn count(&self) -> usize {
        self.values.len() + usize::from(self.star) + usize::from(self.last_day)
    }
}

/// The longest expression read; what a team's Dag file says is not trusted to be short.
const LONGEST: usize = 2000;

pub(super) fn parse(expression: &str) -> Result<Cron, CronError> {
    if expression.len() > LONGEST {
        return Err(CronError::TooLong(expression.len()));
    }
    let expression = expand_preset(expression);
    let lower = expression.to_lowercase();
    let text = match lower.as_str() {
        "@midnight" | "@daily" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" | "@annually" => "0 0 1 1 *",
        other => other,
    };
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let bad = |kind: Kind, part: &str| CronError::Column {
        expression: expression.to_owned(),
        column: kind.name,
        part: part.to_owned(),
    };
    let read = |index: usize, kind: Kind| items(kind, parts[index]).map_err(|part| bad(kind, &part));
    if !(5..=7).contains(&parts.len()) {
        return Err(CronError::Columns(expression.to_owned()));
    }
    let (day, weekday) = (read(2, DAY)?, read(4, WEEKDAY)?);
    let has_nth = weekday.nth.iter().any(|nth| *nth != 0);
    let plain_beside_nth = weekday.values.iter().any(|day| weekday.nth[*day as usize] == 0);
    if has_nth && plain_beside_nth && weekday.count() != 7 {
        return Err(CronError::MixedWeekdays(expression.to_owned()));
    }
    // A full list of days is a star only beside a star, or "every 1st to 31st, or Monday" would lose its Mondays.
    let day_column = column(&day, DAY, parts[4].contains('*'));
    let weekday_column = column(&weekday, WEEKDAY, parts[2].contains('*'));
    let plain = |index: usize, kind: Kind| read(index, kind).map(|items| column(&items, kind, true));
    Ok(Cron {
        minute: plain(0, MINUTE)?,
        hour: plain(1, HOUR)?,
        month: plain(3, MONTH)?,
        second: if parts.len() > 5 { Some(plain(5, SECOND)?) } else { None },
        year: if parts.len() > 6 { years(&read(6, YEAR)?) } else { None },
        day: day_column,
        weekday: weekday_column,
        last_day: day.last_day,
        nearest_weekday: day.nearest_weekday,
        nth: weekday.nth,
        columns: parts.len(),
        expression: expression.to_owned(),
    })
}

fn column(items: &Items, kind: Kind, full_is_star: bool) -> Column {
    let full = full_is_star && items.count() == (kind.max - kind.min + 1) as usize;
    Column {
        values: items.values.iter().fold(0, |bits, value| bits | 1 << value),
        star: items.star || full,
        whole: full || (items.star && items.count() == 1),
    }
}

fn years(items: &Items) -> Option<Vec<i16>> {
    if items.star {
        return None;
    }
    let mut years: Vec<i16> = items
        .values
        .iter()
        .filter_map(|year| i16::try_from(*year).ok())
        .collect();
    years.sort_unstable();
    Some(years)
}

/// Reads one column; an error is the part of it that is wrong.
fn items(kind: Kind, text: &str) -> Result<Items, String> {
    let is_day = kind.name == DAY.name || kind.name == WEEKDAY.name;
    let text = if text == "?" && is_day { "*" } else { text };
    let mut items = Items::default();
    let parts = text.split(',').count();
    for part in text.split(',') {
        item(kind, part, parts == 1, &mut items).ok_or_else(|| part.to_owned())?;
    }
    items.values.sort_unstable();
    items.values.dedup();
    Ok(items)
}

fn item(kind: Kind, part: &str, alone: bool, items: &mut Items) -> Option<()> {
    if part == "*" {
        items.star = true;
        return Some(());
    }
    if kind.name == DAY.name {
        if part == "l" {
            items.last_day = true;
            return Some(());
        }
        if let Some(day) = part.strip_suffix('w').or_else(|| part.strip_prefix('w')) {
            let day = kind.value(day).filter(|day| alone && (1..=31).contains(day))?;
            items.nearest_weekday = i8::try_from(day).ok();
            items.values.push(day);
            return Some(());
        }
    }
    let (part, nth) = match kind.name == WEEKDAY.name {
        true => which_of_month(part)?,
        false => (part, 0),
    };
    for value in values(kind, part)? {
        if !(kind.min..=kind.max).contains(&value) {
            return None;
        }
        items.values.push(value);
        if nth != 0 {
            items.nth[value as usize] |= nth;
        }
    }
    Some(())
}

/// Splits `mon#2` and `l5` into the day and which of the month it is.
fn which_of_month(part: &str) -> Option<(&str, u8)> {
    if let Some((days, nth)) = part.split_once('#') {
        let digits = nth.bytes().all(|b| b.is_ascii_digit());
        let nth = nth.parse::<u8>().ok().filter(|nth| digits && (1..=5).contains(nth))?;
        let is_range = days.contains('-');
        // Ranges before `#` are by name only.
        if days.contains(['/', '*']) || (is_range && days.split('-').any(|day| !WEEKDAY.names.contains(&day))) {
            return None;
        }
        return Some((days, 1 << nth));
    }
    match part.strip_prefix('l') {
        Some(day) if !day.is_empty() && day.bytes().all(|b| b.is_ascii_digit()) => Some((day, LAST)),
        _ => Some((part, 0)),
    }
}

/// The values of a number, name, range or step.
fn values(kind: Kind, part: &str) -> Option<Vec<u32>> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) if !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()) => {
            (span, Some(step.parse::<u32>().unwrap_or(u32::MAX)))
        }
        Some(_) => return None,
        None => (part, None),
    };
    if step == Some(0) {
        return None;
    }
    let (from, to, written_as_range) = match (span, span.split_once('-')) {
        ("*", _) => (kind.min, kind.max, true),
        (_, Some((from, to))) => {
            let to = if kind.name == DAY.name && to == "l" { "31" } else { to };
            (kind.value(from)?, kind.value(to)?, true)
        }
        (one, None) if step.is_some() => (kind.value(one)?, kind.max, false),
        (one, None) => return kind.value(one).map(|value| vec![value]),
    };
    if from.max(to) > kind.max {
        return None;
    }
    Some(kind.range(from, to, step.unwrap_or(1), written_as_range))
}
