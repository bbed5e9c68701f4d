//! The schemas of Dag params, as Python's `jsonschema` reads them in an Airflow environment.

use std::net::{Ipv4Addr, Ipv6Addr};

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// A validator of one param's schema. Formats are checked as Airflow's `FormatChecker` does with the packages that Airflow
/// brings: `time` is `HH:MM:SS` without a zone, as Airflow's forms send it, and `date-time`, `uri` and `hostname` admit all.
///
/// # Errors
/// Where the schema is none.
pub fn validator(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let anything = |_: &str| true;
    jsonschema::options()
        .should_validate_formats(true)
        .with_format("time", is_time)
        .with_format("email", |text: &str| text.contains('@'))
        .with_format("idn-email", |text: &str| text.contains('@'))
        .with_format("ipv4", |text: &str| text.parse::<Ipv4Addr>().is_ok())
        .with_format("ipv6", |text: &str| text.parse::<Ipv6Addr>().is_ok())
        .with_format("date-time", anything)
        .with_format("uri", anything)
        .with_format("uri-reference", anything)
        .with_format("iri", anything)
        .with_format("iri-reference", anything)
        .with_format("uri-template", anything)
        .with_format("hostname", anything)
        .with_format("json-pointer", anything)
        .with_format("relative-json-pointer", anything)
        .build(schema)
}

/// `12:13:14`; one digit will do, as for Python's `strptime`, and a leap second too.
fn is_time(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let limits = [23_u8, 59, 61];
    parts.len() == 3
        && parts.iter().zip(limits).all(|(part, limit)| {
            (1..=2).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && part.parse::<u8>().is_ok_and(|number| number <= limit)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_those_that_airflow_checks() {
        // Recorded from `jsonschema.FormatChecker().conforms` in an environment with Airflow 3.3.2.
        let cases = [
            ("time", "12:13:14", true),
            ("time", "12:13", false),
            ("time", "12:13:14Z", false),
            ("time", "24:00:00", false),
            ("time", "12:13:14.5", false),
            ("date", "2024-01-01", true),
            ("date", "2024-1-1", false),
            ("date-time", "x", true),
            ("duration", "P1D", true),
            ("duration", "1D", false),
            ("email", "@", true),
            ("email", "a", false),
            ("ipv4", "1.2.3.4", true),
            ("ipv4", "01.2.3.4", false),
            ("ipv6", "::1", true),
            ("ipv6", "1::2::3", false),
            ("uri", "x y", true),
            ("hostname", "-", true),
            ("uuid", "01a200a9-2b68-795e-9619-70d57742e1e3", true),
            ("uuid", "x", false),
        ];
        for (format, text, conforms) in cases {
            let schema = validator(&json!({"type": "string", "format": format})).unwrap();
            assert_eq!(schema.is_valid(&json!(text)), conforms, "{format} {text}");
        }
    }
}
