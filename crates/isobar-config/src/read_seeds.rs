//! Pools, connections and variables of a team, or of everybody.

use std::collections::BTreeSet;

use crate::reader::Reader;
use crate::tree::{Entry, Value};
use crate::wording::as_json_text;
use crate::{Connection, Pool, Secret, Variable, connection_uri};

/// What a team's, or the shared, part of the configuration makes.
pub(crate) struct Seeds {
    pub(crate) pools: Vec<Pool>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) variables: Vec<Variable>,
}

/// Reads `pool`, `connections` and `variables` below a table called `place`.
pub(crate) fn seeds(reader: &Reader<'_>, place: &str) -> Seeds {
    Seeds {
        pools: pools(reader, place),
        variables: variables(&reader.section("variables", &format!("[{place}.variables]"))),
        connections: connections(reader, place),
    }
}

fn pools(reader: &Reader<'_>, place: &str) -> Vec<Pool> {
    let mut names = BTreeSet::new();
    let mut pools = Vec::new();
    for (table, at) in reader.tables("pool") {
        let pool = Reader::new(reader.reading, table, at, &format!("[[{place}.pool]]"));
        let name = pool.text("name");
        let slots = pool.number("slots", -1, i64::from(i32::MAX));
        let read = Pool {
            name: name.as_ref().map(|name| name.value.clone()).unwrap_or_default(),
            slots: slots
                .as_ref()
                .and_then(|slots| i32::try_from(slots.value).ok())
                .unwrap_or(1),
            description: pool.text("description").map(|text| text.value),
            include_deferred: pool.bool("include_deferred", false),
        };
        if name.is_none() && !pool.has("name") {
            pool.problem("a pool has no name", "give it `name = \"…\"`");
        }
        if slots.is_none() && !pool.has("slots") {
            pool.problem(
                format!("pool `{}` has no slots", read.name),
                "give it `slots = 4`, or -1 for no bound",
            );
        }
        if read.name.contains(':') {
            pool.problem_at(
                "name",
                "a pool's name holds no `:`",
                "it parts team and name: `team:pool`",
            );
        }
        if !names.insert(read.name.clone()) {
            pool.problem_at(
                "name",
                format!("there are two pools `{}`", read.name),
                "keep one of them",
            );
        }
        pool.finish();
        pools.push(read);
    }
    pools
}

fn variables(reader: &Reader<'_>) -> Vec<Variable> {
    let read = |entry: &Entry| {
        let described = match &entry.node.value {
            // `{ value = …, description = "…" }`; any other table is the variable's JSON value.
            Value::Table(inner) => inner.get("value").filter(|_| {
                inner
                    .entries()
                    .all(|part| matches!(part.key.as_str(), "value" | "description"))
            }),
            _ => None,
        };
        let Some(value) = described else {
            let value = reader.free_secret(entry)?;
            return Some(Variable {
                key: entry.key.clone(),
                value: Secret::new(value.value),
                description: None,
            });
        };
        reader.show(&crate::wording::quote_key(&entry.key), "\"***\"", &entry.node.origin);
        let description = match &entry.node.value {
            Value::Table(inner) => inner.text("description").map(str::to_owned),
            _ => None,
        };
        Some(Variable {
            key: entry.key.clone(),
            value: Secret::new(as_json_text(&value.node)),
            description,
        })
    };
    reader.free_entries().into_iter().filter_map(read).collect()
}

fn connections(reader: &Reader<'_>, place: &str) -> Vec<Connection> {
    let header = format!("[{place}.connections]");
    let all = reader.section("connections", &header);
    let read = |entry: &&Entry| match &entry.node.value {
        Value::Table(inner) if inner.get("cmd").is_none() && inner.get("secret").is_none() => {
            let header = format!("[{place}.connections.{}]", crate::wording::quote_key(&entry.key));
            let parts = Reader::new(reader.reading, inner, &entry.node.origin, &header);
            connection_from_parts(&entry.key, parts)
        }
        Value::Text(_) | Value::Table(_) => {
            let uri = all.free_secret(entry)?;
            let parsed = connection_uri::parse(&entry.key, &uri.value);
            if parsed.is_none() {
                reader.reading.problem(
                    &uri.at,
                    format!("connection `{}` is not a URI", entry.key),
                    "write `type://login:password@host:port/schema?extra=…`, or a table with `conn_type`, `host`, …",
                );
            }
            parsed
        }
        _ => {
            reader.reading.problem(
                &entry.node.origin,
                format!(
                    "connection `{}` must be a text or a table, not {}",
                    entry.key,
                    entry.node.kind()
                ),
                "write a URI in quotes, or a table with `conn_type`, `host`, …",
            );
            None
        }
    };
    all.free_entries().iter().filter_map(read).collect()
}

fn connection_from_parts(id: &str, reader: Reader<'_>) -> Option<Connection> {
    let text = |key: &str| reader.text(key).map(|placed| placed.value);
    if let Some(uri) = reader.secret("uri") {
        let parsed = connection_uri::parse(id, &uri.value);
        if parsed.is_none() {
            reader.problem_at(
                "uri",
                format!("`uri` of connection `{id}` is not a URI"),
                "write `type://host`",
            );
        }
        let description = text("description");
        reader.finish();
        return parsed.map(|connection| Connection {
            description,
            ..connection
        });
    }
    let conn_type = text("conn_type");
    if conn_type.is_none() && !reader.has("conn_type") {
        reader.problem(
            format!("connection `{id}` has no type"),
            "give it `conn_type = \"postgres\"`, `\"http\"`, …",
        );
    }
    let extra = match reader.raw("extra").map(|node| &node.value) {
        Some(Value::Table(_)) => {
            reader.show_value("extra", "\"***\"");
            reader.raw("extra").map(|node| Secret::new(as_json_text(node)))
        }
        _ => reader.secret("extra").map(|placed| {
            let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&placed.value).is_ok();
            if !is_object {
                let hint = "write a table: `extra = { key = \"value\" }`";
                reader.reading.problem(
                    &placed.at,
                    format!("`extra` of connection `{id}` is not a JSON object"),
                    hint,
                );
            }
            Secret::new(placed.value)
        }),
    };
    let connection = Connection {
        id: id.to_owned(),
        conn_type: conn_type.unwrap_or_default(),
        description: text("description"),
        host: text("host"),
        schema: text("schema"),
        login: text("login"),
        password: reader.secret("password").map(|placed| Secret::new(placed.value)),
        port: reader
            .number("port", 1, i64::from(u16::MAX))
            .and_then(|placed| u16::try_from(placed.value).ok()),
        extra,
    };
    reader.finish();
    Some(connection)
}
