//! What a body says of a connection, and what becomes of the connection.

use isobar_store::connections::Connection;
use serde_json::{Map, Value, json};

use super::redact::{self, HIDDEN};
use super::{owners, python_json};
use crate::extract::Fields;
use crate::names::Names;

/// Airflow's pattern of connection ids.
const ID_PATTERN: &str = r"^[\w.-]+$";

/// A body.
#[derive(Clone)]
pub(super) struct Body {
    pub(super) connection_id: String,
    conn_type: String,
    description: Option<String>,
    host: Option<String>,
    login: Option<String>,
    schema: Option<String>,
    port: Option<i64>,
    password: Option<String>,
    extra: Option<String>,
    pub(super) team_name: Option<String>,
    /// The fields that were given, null included, by Airflow's names.
    given: Vec<&'static str>,
}

const FIELDS: [&str; 9] = [
    "conn_type",
    "description",
    "host",
    "login",
    "schema",
    "port",
    "password",
    "extra",
    "team_name",
];

impl Body {
    pub(super) fn read(fields: &mut Fields, names: &Names) -> Self {
        let before = fields.is_sound();
        let connection_id = fields.required_text("connection_id", Some(200));
        let (_, plain) = names.read(&connection_id);
        if before && fields.is_sound() && !is_id(plain) {
            fields.mismatch("connection_id", ID_PATTERN);
        }
        let conn_type = fields.required_text("conn_type", None);
        let description = fields.text("description", None);
        let host = fields.text("host", None);
        let login = fields.text("login", None);
        let by_alias = fields.has("schema") || !fields.has("schema_");
        let schema = fields.text(if by_alias { "schema" } else { "schema_" }, None);
        let port = fields.int("port");
        let password = fields.text("password", None);
        let extra = fields.text("extra", None).map(|extra| checked_extra(fields, extra));
        let team_name = owners::team_name(fields, names.directory.multi_team());
        let given = FIELDS
            .into_iter()
            .filter(|name| fields.has(name) || (*name == "schema" && fields.has("schema_")))
            .collect();
        Self {
            connection_id,
            conn_type,
            description,
            host,
            login,
            schema,
            port,
            password,
            extra,
            team_name,
            given,
        }
    }

    fn gives(&self, name: &str) -> bool {
        self.given.contains(&name)
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c))
}

/// An extra must be a JSON object; an empty text stands for an empty one.
fn checked_extra(fields: &mut Fields, extra: String) -> String {
    if extra.is_empty() {
        return "{}".to_owned();
    }
    match serde_json::from_str::<Value>(&extra) {
        Ok(Value::Object(_)) => {}
        Ok(_) => fields.refuse(
            Some("extra"),
            "The `extra` field must be a valid JSON object (e.g., {'key': 'value'})",
        ),
        Err(_) => fields.refuse(
            Some("extra"),
            "The `extra` field must be a valid JSON object (e.g., {'key': 'value'}), \
             but encountered non-JSON in `extra` field",
        ),
    }
    extra
}

fn not_empty(text: Option<&String>) -> Option<String> {
    text.filter(|text| !text.is_empty()).cloned()
}

/// A new connection.
pub(super) fn new_connection(conn_id: &str, asked: &Body) -> Connection {
    Connection {
        conn_id: conn_id.to_owned(),
        conn_type: asked.conn_type.clone(),
        description: asked.description.clone(),
        host: asked.host.clone(),
        schema: asked.schema.clone(),
        login: asked.login.clone(),
        password: not_empty(asked.password.as_ref()),
        port: asked.port,
        extra: asked.extra.clone(),
    }
}

/// The fields that hold no secret, where they were given and the mask lets them.
fn with_plain_fields(mut connection: Connection, asked: &Body, mask: &[String]) -> Connection {
    let allows = |name: &str| asked.gives(name) && (mask.is_empty() || mask.iter().any(|one| one == name));
    if allows("conn_type") {
        connection.conn_type.clone_from(&asked.conn_type);
    }
    if allows("description") {
        connection.description.clone_from(&asked.description);
    }
    if allows("host") {
        connection.host.clone_from(&asked.host);
    }
    if allows("login") {
        connection.login.clone_from(&asked.login);
    }
    if allows("schema") {
        connection.schema.clone_from(&asked.schema);
    }
    if allows("port") {
        connection.port = asked.port;
    }
    connection
}

/// What a connection becomes by a patch. Secrets that came back hidden stay what they were; an empty password or none takes
/// nothing away, as in Airflow.
pub(super) fn laid_over(old: Connection, asked: &Body, mask: &[String], words: &[String]) -> Connection {
    let mut connection = with_plain_fields(old, asked, mask);
    // A mask that names a secret means it even where the body does not give it.
    let means = |name: &str| {
        if mask.is_empty() {
            asked.gives(name)
        } else {
            mask.iter().any(|one| one == name)
        }
    };
    if means("password")
        && let Some(password) = not_empty(asked.password.as_ref())
        && !(password == HIDDEN && connection.password.is_some())
    {
        connection.password = Some(password);
    }
    if means("extra") {
        let read = |text: &Option<String>| {
            text.as_deref()
                .and_then(|text| serde_json::from_str::<Value>(text).ok())
        };
        connection.extra = match (read(&asked.extra), read(&connection.extra)) {
            (Some(new), Some(old)) => Some(python_json::dumps(&redact::merge(&new, &old, None, words))),
            _ => asked.extra.clone(),
        };
    }
    connection
}

/// What a connection becomes when a bulk action makes it over one that is there: what was given is written as it is.
pub(super) fn overwritten(old: Connection, asked: &Body) -> Connection {
    let mut connection = with_plain_fields(old, asked, &[]);
    if asked.gives("password")
        && let Some(password) = not_empty(asked.password.as_ref())
    {
        connection.password = Some(password);
    }
    if asked.gives("extra") {
        connection.extra.clone_from(&asked.extra);
    }
    connection
}

/// What of a body goes into the audit log: which keys an extra has, and no secret.
pub(super) fn masked(fields: &Map<String, Value>, words: &[String]) -> Map<String, Value> {
    fields
        .iter()
        .map(|(name, value)| {
            let shown = match (name.as_str(), value.as_str()) {
                ("password", Some(_)) => HIDDEN.into(),
                ("extra", Some(text)) if !text.is_empty() => match serde_json::from_str::<Value>(text) {
                    Ok(Value::Object(map)) => map.keys().map(|key| (key.clone(), json!(HIDDEN))).collect(),
                    _ => json!("Encountered non-JSON in `extra` field"),
                },
                _ => redact::hide(value, Some(name), words),
            };
            (name.clone(), shown)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            conn_id: "c".into(),
            conn_type: "http".into(),
            description: None,
            host: Some("h".into()),
            schema: None,
            login: None,
            password: Some("old".into()),
            port: None,
            extra: Some(r#"{"api_key": "k"}"#.into()),
        }
    }

    fn body(password: Option<&str>, extra: Option<&str>) -> Body {
        Body {
            connection_id: "c".into(),
            conn_type: "ftp".into(),
            description: None,
            host: None,
            login: None,
            schema: None,
            port: None,
            password: password.map(str::to_owned),
            extra: extra.map(str::to_owned),
            team_name: None,
            given: vec!["conn_type", "password", "extra"],
        }
    }

    #[test]
    fn secrets_that_come_back_hidden_stay() {
        let words = ["api_key".to_owned()];
        let asked = body(Some("***"), Some(r#"{"api_key": "***", "b": 1}"#));
        let changed = laid_over(connection(), &asked, &[], &words);
        assert_eq!(changed.password.as_deref(), Some("old"));
        assert_eq!(changed.extra.as_deref(), Some(r#"{"api_key": "k", "b": 1}"#));
        assert_eq!(changed.conn_type, "ftp");
        assert_eq!(changed.host.as_deref(), Some("h"));
    }

    #[test]
    fn a_mask_leaves_the_rest() {
        let asked = body(Some("new"), None);
        let changed = laid_over(connection(), &asked, &["password".to_owned()], &[]);
        assert_eq!(changed.password.as_deref(), Some("new"));
        assert_eq!(changed.conn_type, "http");
        assert_eq!(changed.extra.as_deref(), Some(r#"{"api_key": "k"}"#));
    }

    #[test]
    fn the_audit_log_gets_no_secret() {
        let sent = json!({"conn_type": "x", "password": "p", "extra": "{\"a\": \"s\"}"});
        let shown = masked(sent.as_object().unwrap(), &[]);
        assert_eq!(
            Value::Object(shown),
            json!({"conn_type": "x", "password": "***", "extra": {"a": "***"}})
        );
    }
}
