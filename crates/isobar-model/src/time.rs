//! Instants as Airflow writes and reads them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant that serializes as Airflow's JSON does: UTC, `Z`, six digits of fraction or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AirflowTime(pub Timestamp);

impl Serialize for AirflowTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&render_time(self.0))
    }
}

impl<'de> Deserialize<'de> for AirflowTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text)
            .map(AirflowTime)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an ISO 8601 date and time with a zone")))
    }
}

/// Writes an instant as Airflow's REST API does: `2026-01-01T00:00:00Z`, or with six digits of fraction.
#[must_use]
pub fn render_time(at: Timestamp) -> String {
    if at.subsec_nanosecond() / 1000 == 0 {
        format!("{at:.0}")
    } else {
        format!("{at:.6}")
    }
}

/// Reads an ISO 8601 date and time with an offset or `Z`; none where it is not one.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Microseconds since 1970, the form in which the store keeps instants.
#[must_use]
pub fn to_micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// The instant of a stored count of microseconds since 1970; out-of-range counts become the nearest instant.
#[must_use]
pub fn from_micros(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_have_six_digits_or_none() {
        assert_eq!(
            render_time("2026-01-01T01:00:00+01:00".parse().unwrap()),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(
            render_time("2026-01-01T00:00:00.5Z".parse().unwrap()),
            "2026-01-01T00:00:00.500000Z"
        );
    }
}
