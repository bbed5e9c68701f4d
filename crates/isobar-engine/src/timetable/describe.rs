//! A schedule in words, as Airflow's UI shows it.

use isobar_model::dag::{Delta, RelativeDelta, Timetable};
use jiff::SignedDuration;

use crate::cron::{Cron, expand_preset};

/// A few words that name a schedule.
pub(super) fn summary(timetable: &Timetable) -> String {
    match timetable {
        Timetable::Null => "None".to_owned(),
        Timetable::Once => "@once".to_owned(),
        Timetable::Continuous => "@continuous".to_owned(),
        Timetable::CronTrigger(cron) => expand_preset(&cron.expression).to_owned(),
        Timetable::CronPartition(cron) => expand_preset(&cron.expression).to_owned(),
        Timetable::CronDataInterval { expression, .. } => expand_preset(expression).to_owned(),
        Timetable::MultipleCronTrigger(crons) => each(&crons.expressions, |one| expand_preset(one).to_owned()),
        Timetable::DeltaTrigger { delta: step, .. } | Timetable::DeltaDataInterval { delta: step } => delta(step),
        Timetable::Events(events) => events.summary.clone(),
        Timetable::AssetTriggered { .. } => "Asset".to_owned(),
        Timetable::AssetOrTime { timetable, .. } => format!("Asset or {}", summary(timetable)),
        Timetable::PartitionedAtRuntime => "PartitionedAtRuntime".to_owned(),
        Timetable::PartitionedAsset(_) => "Partitioned Asset".to_owned(),
        Timetable::Custom { path, says, .. } => match &says.summary {
            Some(summary) => summary.clone(),
            None => path.rsplit('.').next().unwrap_or(path).to_owned(),
        },
    }
}

/// A schedule in English; empty where Airflow has nothing to say.
pub(super) fn description(timetable: &Timetable) -> String {
    let cron = |expression: &str| Cron::parse(expression).map_or_else(|_| String::new(), |cron| cron.description());
    match timetable {
        Timetable::Null => "Never, external triggers only".to_owned(),
        Timetable::Once => "Once, as soon as possible".to_owned(),
        Timetable::Continuous => "As frequently as possible, but only one run at a time.".to_owned(),
        Timetable::CronTrigger(model) => cron(&model.expression),
        Timetable::CronPartition(model) => cron(&model.expression),
        Timetable::CronDataInterval { expression, .. } => cron(expression),
        Timetable::MultipleCronTrigger(crons) => each(&crons.expressions, cron),
        Timetable::DeltaTrigger { .. } | Timetable::DeltaDataInterval { .. } => String::new(),
        Timetable::Custom { says, .. } => says.description.clone(),
        Timetable::Events(events) => events.description.clone(),
        Timetable::AssetTriggered { .. } | Timetable::PartitionedAsset(_) => "Triggered by assets".to_owned(),
        Timetable::AssetOrTime { timetable, .. } => format!("Triggered by assets or {}", description(timetable)),
        Timetable::PartitionedAtRuntime => "Never, partition key(s) set at runtime".to_owned(),
    }
}

fn each(expressions: &[String], mut word: impl FnMut(&str) -> String) -> String {
    expressions.iter().map(|one| word(one)).collect::<Vec<_>>().join(", ")
}

/// A step as Python prints it: `1 day, 0:00:00`, `relativedelta(months=+1)`.
pub(super) fn delta(step: &Delta) -> String {
    match step {
        Delta::Exact(length) => exact(*length),
        Delta::Calendar(calendar) => relative(calendar),
    }
}

/// Python's `str(timedelta)`: days may be negative, the rest of the day is not.
fn exact(length: SignedDuration) -> String {
    let micros = length.as_micros();
    let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let clock = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let clock = if fraction == 0 {
        clock
    } else {
        format!("{clock}.{fraction:06}")
    };
    match days {
        0 => clock,
        1 | -1 => format!("{days} day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

/// dateutil's `repr(relativedelta)`.
fn relative(step: &RelativeDelta) -> String {
    const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
    let added = [
        ("years", step.years),
        ("months", step.months),
        ("days", step.days),
        ("leapdays", step.leapdays),
        ("hours", step.hours),
        ("minutes", step.minutes),
        ("seconds", step.seconds),
        ("microseconds", step.microseconds),
    ];
    let before = [("year", step.year), ("month", step.month), ("day", step.day)];
    let after = [
        ("hour", step.hour),
        ("minute", step.minute),
        ("second", step.second),
        ("microsecond", step.microsecond),
    ];
    let set = |parts: &[(&str, Option<i32>)]| -> Vec<String> {
        parts
            .iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={value}")))
            .collect()
    };
    let mut parts: Vec<String> = added
        .iter()
        .filter(|(_, value)| *value != 0)
        .map(|(name, value)| format!("{name}={value:+}"))
        .collect();
    parts.extend(set(&before));
    parts.extend(step.weekday.and_then(|(day, nth)| {
        let name = WEEKDAYS.get(usize::try_from(day).ok()?)?;
        Some(nth.map_or_else(|| format!("weekday={name}"), |nth| format!("weekday={name}({nth:+})")))
    }));
    parts.extend(set(&after));
    format!("relativedelta({})", parts.join(", "))
}
