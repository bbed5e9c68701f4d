//! A cron expression in English, in the words that Airflow's UI shows (those of the `cron-descriptor` package, 24-hour clock).

use std::borrow::Cow;

/// The words of one column. `{0}` and `{1}` stand for values.
struct Words<'a> {
    /// For a star.
    every: &'a str,
    /// A value as people say it; none where it is no value at all.
    value: &'a dyn Fn(&str) -> Option<String>,
    /// For a step.
    step: &'a dyn Fn(&str) -> String,
    /// For a range.
    range: &'a str,
    /// For one value or a list of them.
    one: &'a dyn Fn(&str) -> Cow<'a, str>,
    /// For a range inside a list.
    range_in_list: &'a str,
}

/// The five columns as written, made alike.
struct Columns {
    minute: String,
    hour: String,
    day: String,
    month: String,
    weekday: String,
}

/// The description of an expression of five columns; empty where there are no words for it.
pub(super) fn describe(expression: &str) -> String {
    let parts: Vec<&str> = expression.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts[..] else {
        return String::new();
    };
    let words = |day: &str, weekday: &str| Columns::new(minute, hour, day, month, weekday).describe();
    let described = if day != "*" && weekday != "*" {
        words(day, "*")
            .zip(words("*", weekday))
            .map(|(by_day, by_weekday)| format!("{by_day} (or) {by_weekday}"))
    } else {
        words(day, weekday)
    };
    described.unwrap_or_default()
}

impl Columns {
    fn new(minute: &str, hour: &str, day: &str, month: &str, weekday: &str) -> Self {
        const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
        const MONTHS: [&str; 12] = [
            "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
        ];
        let from_first = |column: &str, first: &str| match column.strip_prefix(first) {
            Some(step) if step.starts_with('/') => format!("*{step}"),
            _ => column.to_owned(),
        };
        let numbered = |column: String, names: &[&str], first: usize| {
            names
                .iter()
                .enumerate()
                .fold(column.to_uppercase(), |text, (position, name)| {
                    text.replace(name, &(position + first).to_string())
                })
        };
        let minute = from_first(minute, "0");
        let mut hour = from_first(hour, "0");
        let weekday = sunday_is_zero(&from_first(&weekday.replace('?', "*"), "1"));
        if minute.contains(['*', '/']) && !hour.contains(['*', '-', ',', '/']) {
            hour = format!("{hour}-{hour}");
        }
        Self {
            minute: plain_star(minute),
            hour: plain_star(hour),
            day: plain_star(from_first(&day.replace('?', "*"), "1")),
            month: until_end(plain_star(numbered(from_first(month, "1"), &MONTHS, 1)), "12"),
            weekday: until_end(plain_star(numbered(weekday, &WEEKDAYS, 0)), "6"),
        }
    }

    fn describe(&self) -> Option<String> {
        let text = [self.time()?, self.days()?, self.weekdays()?, self.months()?].concat();
        let text = text
            .replace(", every minute", "")
            .replace(", every hour", "")
            .replace(", every day", "");
        let text = text.strip_suffix(' ').unwrap_or(&text);
        let text = text.strip_suffix(',').unwrap_or(text);
        let first = text.chars().next()?;
        Some(first.to_uppercase().chain(text.chars().skip(1)).collect())
    }

    fn time(&self) -> Option<String> {
        let special = |column: &str| column.contains(['/', '-', ',', '*']);
        if !special(&self.minute) && !special(&self.hour) {
            return Some(format!("at {}", clock(&self.hour, &self.minute)?));
        }
        if !special(&self.hour) && self.minute.contains('-') && !self.minute.contains(',') {
            let (from, to) = self.minute.split_once('-')?;
            return Some(format!(
                "every minute between {} and {}",
                clock(&self.hour, from)?,
                clock(&self.hour, to)?
            ));
        }
        if !special(&self.minute) && self.hour.contains(',') && !self.hour.contains('-') {
            let times: Option<Vec<String>> = self.hour.split(',').map(|hour| clock(hour, &self.minute)).collect();
            let times = times?;
            let (last, others) = times.split_last()?;
            return Some(format!("at {} and {last}", others.join(", ")));
        }
        let (minutes, hours) = (self.minutes()?, self.hours()?);
        let joint = if minutes.is_empty() || hours.is_empty() {
            ""
        } else {
            ", "
        };
        Some(format!("{minutes}{joint}{hours}"))
    }

    fn minutes(&self) -> Option<String> {
        let hours_are_a_range = self.hour.contains('-') && !self.hour.contains(['/', ',']);
        let words = Words {
            every: "every minute",
            value: &|value| Some(value.to_owned()),
            step: &|step| format!("every {step} minutes"),
            range: "minutes {0} through {1} past the hour",
            one: &|value| {
                if value == "0" && !hours_are_a_range {
                    "".into()
                } else {
                    "at {0} minutes past the hour".into()
                }
            },
            range_in_list: "{0} through {1}",
        };
        words.describe(&self.minute)
    }

    fn hours(&self) -> Option<String> {
        let words = Words {
            every: "every hour",
            value: &|value| clock(value, "0"),
            step: &|step| format!("every {step} hours"),
            range: "between {0} and {1}",
            one: &|_| "at {0}".into(),
            range_in_list: "{0} through {1}",
        };
        words.describe(&self.hour)
    }

    fn days(&self) -> Option<String> {
        let day = self.day.as_str();
        if day == "*" && self.weekday != "*" {
            return Some(String::new());
        }
        if day == "L" {
            return Some(", on the last day of the month".to_owned());
        }
        if matches!(day, "LW" | "WL") {
            return Some(", on the last weekday of the month".to_owned());
        }
        if let Some(near) = day
            .strip_suffix('W')
            .or_else(|| day.strip_prefix('W'))
            .filter(|near| digits(near))
        {
            return Some(match near.parse::<u32>().ok()? {
                1 => ", on the first weekday of the month".to_owned(),
                near => format!(", on the weekday nearest day {near} of the month"),
            });
        }
        let words = Words {
            every: ", every day",
            value: &|value| Some(value.to_owned()),
            step: &|step| {
                if step == "1" {
                    ", every day".to_owned()
                } else {
                    format!(", every {step} days")
                }
            },
            range: ", between day {0} and {1} of the month",
            one: &|_| ", on day {0} of the month".into(),
            range_in_list: ", {0} through {1}",
        };
        words.describe(day)
    }

    fn months(&self) -> Option<String> {
        let words = Words {
            every: "",
            value: &month_name,
            step: &|step| format!(", every {step} months"),
            range: ", {0} through {1}",
            one: &|_| ", only in {0}".into(),
            range_in_list: ", {0} through {1}",
        };
        words.describe(&self.month)
    }

    fn weekdays(&self) -> Option<String> {
        if self.weekday == "*" {
            return Some(String::new());
        }
        let words = Words {
            every: ", every day",
            value: &weekday_name,
            step: &|step| format!(", every {step} days of the week"),
            range: ", {0} through {1}",
            one: &|value| match value.split_once('#') {
                Some((_, nth)) => format!(", on the {} {{0}} of the month", ordinal(nth)).into(),
                None if value.contains('L') => ", on the last {0} of the month".into(),
                None => ", only on {0}".into(),
            },
            range_in_list: ", {0} through {1}",
        };
        match self.weekly(&words) {
            Some(weekly) => weekly,
            None => words.describe(&self.weekday),
        }
    }

    /// A step that comes to at most one day of a week, or goes with a list of days, counts weeks.
    fn weekly(&self, words: &Words<'_>) -> Option<Option<String>> {
        let (days, step) = self.weekday.split_once('/').filter(|(_, step)| digits(step))?;
        let described = if days.contains(',') {
            words.describe(days)
        } else {
            let (from, to) = days.split_once('-')?;
            let (first, last): (i64, i64) = (from.parse().ok()?, to.parse().ok()?);
            let size = if last == 0 { 7 } else { last } - first + 1;
            if step.parse::<i64>().ok()? < size {
                return None;
            }
            if last == 6 {
                weekday_name(from).map(|day| format!(", only on {day}"))
            } else {
                words.between(days, words.range)
            }
        };
        Some(described.map(|described| format!(", every {step} weeks{described}")))
    }
}

impl Words<'_> {
    fn describe(&self, column: &str) -> Option<String> {
        if column == "*" {
            return Some(self.every.to_owned());
        }
        if column.contains(',') {
            let items: Option<Vec<String>> = column.split(',').map(|item| self.in_list(item)).collect();
            return Some(fill(&(self.one)(column), &listed(&items?), ""));
        }
        if let Some((from, step)) = column.split_once('/') {
            return self.stepped(from, step);
        }
        if column.contains('-') {
            return self.between(column, self.range);
        }
        Some(fill(&(self.one)(column), &(self.value)(column)?, ""))
    }

    fn stepped(&self, from: &str, step: &str) -> Option<String> {
        let every = (self.step)(step);
        if from.contains('-') {
            let between = self.between(from, self.range)?;
            let joint = if between.starts_with(", ") { "" } else { ", " };
            return Some(format!("{every}{joint}{between}"));
        }
        if from.contains('*') {
            return Some(every);
        }
        let start = fill(&(self.one)(from), &(self.value)(from)?, "").replace(", ", "");
        Some(format!("{every}, starting {start}"))
    }

    fn in_list(&self, item: &str) -> Option<String> {
        let (span, step) = match item.split_once('/') {
            Some((span, step)) => (span, Some(step)),
            None => (item, None),
        };
        let said = match (span.contains('-'), step) {
            (true, _) => self.between(span, self.range_in_list)?.replace(", ", ""),
            (false, None) => return (self.value)(span),
            (false, Some(_)) if span == "*" => String::new(),
            (false, Some(_)) => format!("starting {}", (self.value)(span)?),
        };
        let Some(step) = step else {
            return Some(said);
        };
        let every = (self.step)(step);
        let every = every.strip_prefix(", ").unwrap_or(&every);
        Some(if said.is_empty() {
            every.to_owned()
        } else {
            format!("{every}, {said}")
        })
    }

    fn between(&self, range: &str, form: &str) -> Option<String> {
        let mut ends = range.split('-');
        let (from, to) = ((self.value)(ends.next()?)?, (self.value)(ends.next()?)?);
        Some(fill(form, &from, &to.replace(":00", ":59")))
    }
}

/// `a`, `a and b`, `a, b, and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [others @ .., last] => format!("{}, and {last}", others.join(", ")),
    }
}

fn fill(form: &str, first: &str, second: &str) -> String {
    form.replace("{0}", first).replace("{1}", second)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn clock(hour: &str, minute: &str) -> Option<String> {
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    Some(format!("{hour:02}:{minute:02}"))
}

fn ordinal(nth: &str) -> &'static str {
    match nth {
        "1" => "first",
        "2" => "second",
        "3" => "third",
        "4" => "fourth",
        "5" => "fifth",
        _ => "",
    }
}

fn month_name(number: &str) -> Option<String> {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let number: usize = number.parse().ok()?;
    NAMES.get(number.checked_sub(1)?).map(|name| (*name).to_owned())
}

fn weekday_name(number: &str) -> Option<String> {
    const NAMES: [&str; 7] = [
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
    ];
    let day = match number.split_once('#') {
        Some((day, _)) => day.to_owned(),
        None => number.replace('L', ""),
    };
    NAMES.get(day.parse::<usize>().ok()?).map(|name| (*name).to_owned())
}

/// 7 as a day of the week becomes 0; as a step or an ordinal it stays.
fn sunday_is_zero(column: &str) -> String {
    let mut before = ' ';
    column
        .chars()
        .enumerate()
        .map(|(position, c)| {
            let is_day = c == '7' && (position == 0 || !matches!(before, '#' | '/'));
            before = c;
            if is_day { '0' } else { c }
        })
        .collect()
}

fn plain_star(column: String) -> String {
    if column == "*/1" { "*".to_owned() } else { column }
}

/// `3/2` says where it starts; said is also where it ends.
fn until_end(column: String, end: &str) -> String {
    match column.split_once('/') {
        Some((from, step)) if !column.contains(['*', '-', ',']) => format!("{from}-{end}/{step}"),
        _ => column,
    }
}
