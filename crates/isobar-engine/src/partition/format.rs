//! `datetime.strftime` of Python on Linux.

use jiff::fmt::strtime::BrokenDownTime;

use super::moment::{Moment, distance};

/// Writes a moment. What is no directive is written as it stands.
pub(super) fn strftime(moment: &Moment, format: &str) -> String {
    let mut written = String::new();
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            written.push(letter);
            continue;
        }
        let mut ahead = rest.clone();
        let mut directive = String::from("%");
        for next in ahead.by_ref() {
            directive.push(next);
            if !matches!(next, '-' | '_' | '0' | '^' | '#') {
                break;
            }
        }
        rest = ahead;
        written.push_str(&piece(moment, &directive));
    }
    written
}

fn piece(moment: &Moment, directive: &str) -> String {
    match directive {
        "%%" => "%".to_owned(),
        // glibc does not pad years; `%F` and `%c` go through jiff, whose years are four digits wide.
        "%Y" => moment.civil.year().to_string(),
        "%G" => moment.civil.date().iso_week_date().year().to_string(),
        "%f" => format!("{:06}", moment.civil.subsec_nanosecond() / 1000),
        "%z" => moment.offset().map_or(String::new(), |offset| distance(offset, "")),
        "%Z" => zone_name(moment),
        _ => BrokenDownTime::from(moment.civil)
            .to_string(directive)
            .unwrap_or_else(|_| directive.to_owned()),
    }
}

fn zone_name(moment: &Moment) -> String {
    let (Some(zone), Some(instant)) = (&moment.zone, moment.instant()) else {
        return String::new();
    };
    zone.to_offset_info(instant).abbreviation().to_owned()
}
