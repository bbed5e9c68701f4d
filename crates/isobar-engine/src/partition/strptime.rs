//! `datetime.strptime` of Python, in the C locale.
//!
//! Python builds a regular expression of the format and takes its first match; what is left over is an error. The choices
//! of each directive stand here in the order of that expression's alternatives.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, ToSpan as _};

use super::moment::Moment;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// What the directives of a format found.
#[derive(Clone, Debug, Default)]
struct Found {
    year: Option<i32>,
    month: Option<i32>,
    day: Option<i32>,
    hour: i32,
    hour_of_half: Option<i32>,
    afternoon: Option<bool>,
    minute: i32,
    second: i32,
    microsecond: i32,
    /// 0 is Monday.
    weekday: Option<i32>,
    day_of_year: Option<i32>,
    /// The week, and whether it starts on Monday.
    week: Option<(i32, bool)>,
    iso_year: Option<i32>,
    iso_week: Option<i32>,
    /// Seconds.
    offset: Option<i32>,
}

enum Item {
    Letter(char),
    Spaces,
    Directive(char),
}

/// Reads a moment; none where Python raises.
pub(super) fn strptime(text: &str, format: &str) -> Option<Moment> {
    let items = items(format)?;
    let text: Vec<char> = text.chars().collect();
    let (found, end) = first_match(&items, &text, 0, &Found::default())?;
    if end != text.len() {
        return None;
    }
    found.moment()
}

fn items(format: &str) -> Option<Vec<Item>> {
    let format = format
        .replace("%c", "%a %b %d %H:%M:%S %Y")
        .replace("%x", "%m/%d/%y")
        .replace("%X", "%H:%M:%S");
    let mut items = Vec::new();
    let mut seen = String::new();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter == '%' {
            let directive = letters.next()?;
            if directive == '%' {
                items.push(Item::Letter('%'));
                continue;
            }
            if !"aAbBdfHIjmMpSUwuVWyYGzZ".contains(directive) || seen.contains(directive) {
                return None;
            }
            seen.push(directive);
            items.push(Item::Directive(directive));
        } else if letter.is_whitespace() {
            while letters.peek().is_some_and(|next| next.is_whitespace()) {
                letters.next();
            }
            items.push(Item::Spaces);
        } else {
            items.push(Item::Letter(letter));
        }
    }
    Some(items)
}

/// The first match of a regular expression that backtracks.
fn first_match(items: &[Item], text: &[char], at: usize, found: &Found) -> Option<(Found, usize)> {
    let Some((item, rest)) = items.split_first() else {
        return Some((found.clone(), at));
    };
    let left = &text[at..];
    match item {
        Item::Letter(letter) => {
            let next = left.first()?;
            let same = next == letter || next.to_lowercase().eq(letter.to_lowercase());
            same.then(|| first_match(rest, text, at + 1, found)).flatten()
        }
        Item::Spaces => {
            let most = left.iter().take_while(|next| next.is_whitespace()).count();
            (1..=most)
                .rev()
                .find_map(|taken| first_match(rest, text, at + taken, found))
        }
        Item::Directive(directive) => choices(*directive, left).into_iter().find_map(|taken| {
            let mut found = found.clone();
            found.take(*directive, &left[..taken])?;
            first_match(rest, text, at + taken, &found)
        }),
    }
}

/// How many letters a directive can take, best first.
fn choices(directive: char, left: &[char]) -> Vec<usize> {
    let digit = |at: usize, low: char, high: char| left.get(at).is_some_and(|c| (low..=high).contains(c));
    let any = |at: usize| digit(at, '0', '9');
    // An alternative is a list of ranges, one for each letter.
    let of = |alternatives: &[&[(char, char)]]| -> Vec<usize> {
        alternatives
            .iter()
            .filter(|ranges| {
                ranges
                    .iter()
                    .enumerate()
                    .all(|(at, (low, high))| digit(at, *low, *high))
            })
            .map(|ranges| ranges.len())
            .collect()
    };
    const D: (char, char) = ('0', '9');
    const ONE: (char, char) = ('1', '9');
    const fn only(digit: char) -> (char, char) {
        (digit, digit)
    }
    match directive {
        'Y' | 'G' => of(&[&[D, D, D, D]]),
        'y' => of(&[&[D, D]]),
        'd' => of(&[
            &[only('3'), ('0', '1')],
            &[('1', '2'), D],
            &[only('0'), ONE],
            &[ONE],
            &[only(' '), ONE],
        ]),
        'm' | 'I' => of(&[&[only('1'), ('0', '2')], &[only('0'), ONE], &[ONE]]),
        'H' => of(&[&[only('2'), ('0', '3')], &[('0', '1'), D], &[D]]),
        'M' => of(&[&[('0', '5'), D], &[D]]),
        'S' => of(&[&[only('6'), ('0', '1')], &[('0', '5'), D], &[D]]),
        'j' => of(&[
            &[only('3'), only('6'), ('0', '6')],
            &[only('3'), ('0', '5'), D],
            &[('1', '2'), D, D],
            &[only('0'), ONE, D],
            &[only('0'), only('0'), ONE],
            &[ONE, D],
            &[only('0'), ONE],
            &[ONE],
        ]),
        'U' | 'W' => of(&[&[only('5'), ('0', '3')], &[('0', '4'), D], &[D]]),
        'V' => of(&[&[only('5'), ('0', '3')], &[only('0'), ONE], &[('1', '4'), D], &[D]]),
        'w' => of(&[&[('0', '6')]]),
        'u' => of(&[&[('1', '7')]]),
        'f' => (1..=6).rev().filter(|count| (0..*count).all(any)).collect(),
        'p' => words(left, &["am", "pm"]),
        'b' => words(left, &MONTHS.map(|name| &name[..3])),
        'a' => words(left, &DAYS.map(|name| &name[..3])),
        'B' => words(left, &MONTHS),
        'A' => words(left, &DAYS),
        'Z' => words(left, &["utc", "gmt"]),
        'z' => offsets(left),
        _ => Vec::new(),
    }
}

fn starts_with(left: &[char], word: &str) -> bool {
    left.len() >= word.len() && word.chars().zip(left).all(|(a, b)| a == b.to_ascii_lowercase())
}

fn words(left: &[char], words: &[&str]) -> Vec<usize> {
    let mut lengths: Vec<usize> = words
        .iter()
        .filter(|word| starts_with(left, word))
        .map(|word| word.len())
        .collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths
}

/// `[+-]\d\d:?[0-5]\d(:?[0-5]\d(\.\d{1,6})?)?|Z`; fractions of a second are not known to any zone and are left out.
fn offsets(left: &[char]) -> Vec<usize> {
    let digit = |at: usize, high: char| left.get(at).is_some_and(|c| ('0'..=high).contains(c));
    let colon = |at: usize| left.get(at) == Some(&':');
    if left.first() == Some(&'Z') {
        return vec![1];
    }
    if !left.first().is_some_and(|sign| "+-".contains(*sign)) || !digit(1, '9') || !digit(2, '9') {
        return Vec::new();
    }
    let minutes = if colon(3) { 4 } else { 3 };
    if !digit(minutes, '5') || !digit(minutes + 1, '9') {
        return Vec::new();
    }
    let short = minutes + 2;
    let seconds = if colon(short) { short + 1 } else { short };
    if digit(seconds, '5') && digit(seconds + 1, '9') {
        return vec![seconds + 2, short];
    }
    vec![short]
}

fn number(letters: &[char]) -> Option<i32> {
    letters.iter().collect::<String>().trim().parse().ok()
}

fn place(words: &[&str], letters: &[char], length: usize) -> Option<i32> {
    let at = words
        .iter()
        .position(|word| starts_with(letters, &word[..length.min(word.len())]))?;
    i32::try_from(at).ok()
}

impl Found {
    fn take(&mut self, directive: char, letters: &[char]) -> Option<()> {
        match directive {
            'Y' => self.year = Some(number(letters)?),
            'y' => {
                let year = number(letters)?;
                self.year = Some(if year <= 68 { 2000 + year } else { 1900 + year });
            }
            'm' => self.month = Some(number(letters)?),
            'b' => self.month = Some(place(&MONTHS, letters, 3)? + 1),
            'B' => self.month = Some(place(&MONTHS, letters, letters.len())? + 1),
            'd' => self.day = Some(number(letters)?),
            'H' => self.hour = number(letters)?,
            'I' => self.hour_of_half = Some(number(letters)?),
            'p' => self.afternoon = Some(letters.first()?.eq_ignore_ascii_case(&'p')),
            'M' => self.minute = number(letters)?,
            'S' => self.second = number(letters)?,
            'f' => {
                let missing = 6 - u32::try_from(letters.len()).ok()?;
                self.microsecond = number(letters)? * 10_i32.pow(missing);
            }
            'a' => self.weekday = Some(place(&DAYS, letters, 3)?),
            'A' => self.weekday = Some(place(&DAYS, letters, letters.len())?),
            'w' => self.weekday = Some((number(letters)? + 6) % 7),
            'u' => self.weekday = Some(number(letters)? - 1),
            'j' => self.day_of_year = Some(number(letters)?),
            'U' => self.week = Some((number(letters)?, false)),
            'W' => self.week = Some((number(letters)?, true)),
            'G' => self.iso_year = Some(number(letters)?),
            'V' => self.iso_week = Some(number(letters)?),
            'z' => self.offset = Some(offset_of(letters)?),
            _ => {}
        }
        Some(())
    }

    fn moment(&self) -> Option<Moment> {
        let hour = match (self.hour_of_half, self.afternoon) {
            (Some(hour), afternoon) => hour % 12 + if afternoon == Some(true) { 12 } else { 0 },
            (None, _) => self.hour,
        };
        let small = |value: i32| i8::try_from(value).ok();
        let time = Time::new(
            small(hour)?,
            small(self.minute)?,
            // Python has no leap seconds: 60 and 61 can be written and not kept.
            small(self.second).filter(|second| *second < 60)?,
            self.microsecond * 1000,
        )
        .ok()?;
        let date = self.date()?;
        if !(1..=9999).contains(&date.year()) {
            return None;
        }
        let civil = DateTime::from_parts(date, time);
        match self.offset {
            None => Some(Moment::naive(civil)),
            Some(seconds) => Some(Moment {
                civil,
                zone: Some(TimeZone::fixed(Offset::from_seconds(seconds).ok()?)),
                second: false,
            }),
        }
    }

    fn date(&self) -> Option<Date> {
        match (self.iso_year, self.iso_week) {
            (Some(_), _) if self.day_of_year.is_some() => return None,
            (Some(_), None) | (None, Some(_)) => return None,
            (Some(_), Some(_)) if self.weekday.is_none() => return None,
            _ => {}
        }
        let leap_day = self.year.is_none() && self.month == Some(2) && self.day == Some(29);
        let year = self.year.unwrap_or(if leap_day { 1904 } else { 1900 });
        let first = |year: i32| Date::new(i16::try_from(year).ok()?, 1, 1).ok();
        let by_day = |year: i32, day: i32| first(year)?.checked_add(i64::from(day - 1).days()).ok();
        if let Some(day) = self.day_of_year {
            return by_day(year, day);
        }
        if let Some(weekday) = self.weekday {
            if let Some((week, monday)) = self.week {
                return by_day(year, day_in_week(first(year)?, week, weekday, monday));
            }
            if let (Some(year), Some(week)) = (self.iso_year, self.iso_week) {
                let fourth = Date::new(i16::try_from(year).ok()?, 1, 4).ok()?;
                let start = i64::from(fourth.weekday().to_monday_zero_offset());
                let days = i64::from(week - 1) * 7 + i64::from(weekday) - start;
                let date = fourth.checked_add(Span::new().try_days(days).ok()?).ok()?;
                // The last week of a year that has 52 is not 53.
                return (i32::from(date.iso_week_date().week()) == week).then_some(date);
            }
        }
        let small = |value: i32| i8::try_from(value).ok();
        let date = Date::new(
            i16::try_from(year).ok()?,
            small(self.month.unwrap_or(1))?,
            small(self.day.unwrap_or(1))?,
        )
        .ok()?;
        // The year without a year: 1904 only served to have the day.
        if leap_day { None } else { Some(date) }
    }
}

/// The day of the year of a weekday in a week counted from the first Sunday or Monday.
fn day_in_week(first: Date, week: i32, weekday: i32, monday: bool) -> i32 {
    let mut first_weekday = i32::from(first.weekday().to_monday_zero_offset());
    let mut weekday = weekday;
    if !monday {
        first_weekday = (first_weekday + 1) % 7;
        weekday = (weekday + 1) % 7;
    }
    let week_zero = (7 - first_weekday) % 7;
    if week == 0 {
        1 + weekday - first_weekday
    } else {
        1 + week_zero + 7 * (week - 1) + weekday
    }
}

fn offset_of(letters: &[char]) -> Option<i32> {
    if letters == ['Z'] {
        return Some(0);
    }
    let colons = letters.iter().filter(|letter| **letter == ':').count();
    let digits: Vec<char> = letters[1..].iter().copied().filter(|letter| *letter != ':').collect();
    // `+01:0203` mixes both ways of writing.
    if colons == 1 && digits.len() == 6 {
        return None;
    }
    let part = |from: usize| digits.get(from..from + 2).map_or(Some(0), number);
    let seconds = part(0)? * 3600 + part(2)? * 60 + part(4)?;
    if seconds >= 24 * 3600 {
        return None;
    }
    Some(if letters[0] == '-' { -seconds } else { seconds })
}
