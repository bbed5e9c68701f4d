//! A connection as one URI, taken apart by Airflow's rules for `AIRFLOW_CONN_*`
//! (<https://airflow.apache.org/docs/apache-airflow/3.3.2/howto/connection.html#uri-format>).

use crate::{Connection, Secret};

/// Takes a URI apart; none where it is none.
pub(crate) fn parse(id: &str, uri: &str) -> Option<Connection> {
    let (scheme, rest) = uri.trim().split_once("://")?;
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c)) {
        return None;
    }
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A host may be an address with a scheme of its own: `https://host` stands as `http://https%3a%2f%2fhost`.
    let (authority, schema) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (login, password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((login, password)) => (some(login), some(password)),
        None => (None, None),
    };
    let (host, port) = split_port(place)?;
    Some(Connection {
        id: id.to_owned(),
        conn_type: conn_type(scheme),
        description: None,
        host: some(host),
        schema: some(schema),
        login,
        password: password.map(Secret::new),
        port,
        extra: extra(query).map(Secret::new),
    })
}

fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    if let Some((address, after)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = after.strip_prefix(':').filter(|port| !port.is_empty());
        return Some((address, port.map(str::parse).transpose().ok()?));
    }
    match place.rsplit_once(':') {
        Some((host, "")) => Some((host, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((place, None)),
    }
}

fn conn_type(scheme: &str) -> String {
    match scheme.to_ascii_lowercase().replace('-', "_").as_str() {
        "postgresql" => "postgres".to_owned(),
        other => other.to_owned(),
    }
}

/// The query as a JSON object; `__extra__` holds a whole one.
fn extra(query: &str) -> Option<String> {
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(&key.replace('+', " ")), decode(&value.replace('+', " "))))
        .collect();
    if let Some((_, whole)) = pairs.iter().find(|(key, _)| key == "__extra__") {
        return Some(whole.clone());
    }
    let object: serde_json::Map<String, serde_json::Value> =
        pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
    (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| decode(text))
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_taken_apart_as_airflow_does() {
        let parsed = parse(
            "w",
            "postgresql://me%40corp:p%3Aw@db.example:5433/sales?sslmode=require&a=1+2",
        )
        .unwrap();
        assert_eq!(
            (
                parsed.conn_type.as_str(),
                parsed.host.as_deref(),
                parsed.port,
                parsed.schema.as_deref()
            ),
            ("postgres", Some("db.example"), Some(5433), Some("sales"))
        );
        assert_eq!(
            (parsed.login.as_deref(), parsed.password.unwrap().expose()),
            (Some("me@corp"), "p:w")
        );
        assert_eq!(parsed.extra.unwrap().expose(), r#"{"sslmode":"require","a":"1 2"}"#);

        let parsed = parse("g", "google-cloud-platform://?__extra__=%7B%22k%22%3A+1%7D").unwrap();
        assert_eq!(
            (parsed.conn_type.as_str(), parsed.host),
            ("google_cloud_platform", None)
        );
        assert_eq!(parsed.extra.unwrap().expose(), r#"{"k": 1}"#);

        let parsed = parse("h", "http://https%3A%2F%2Fapi.example/v1").unwrap();
        assert_eq!(
            (parsed.host.as_deref(), parsed.schema.as_deref()),
            (Some("https://api.example"), Some("v1"))
        );
    }

    #[test]
    fn what_is_not_a_uri_is_refused() {
        for text in ["", "plain", "://x", "a b://x", "http://host:port"] {
            assert!(parse("x", text).is_none(), "{text}");
        }
    }
}
