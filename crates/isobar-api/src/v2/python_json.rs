//! JSON text as Python's `json.dumps` writes it: Airflow keeps and shows such texts inside strings, so every space counts.

use std::fmt::Write;

use serde_json::Value;

/// `json.dumps(value)`.
pub(super) fn dumps(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, None, 0);
    text
}

/// `json.dumps(value, indent=2)`.
pub(super) fn dumps_indented(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, Some(2), 0);
    text
}

fn write(text: &mut String, value: &Value, indent: Option<usize>, depth: usize) {
    match value {
        Value::String(string) => write_text(text, string),
        Value::Array(items) => {
            let items: Vec<(Option<&str>, &Value)> = items.iter().map(|item| (None, item)).collect();
            write_all(text, ['[', ']'], &items, indent, depth);
        }
        Value::Object(map) => {
            let items: Vec<(Option<&str>, &Value)> = map.iter().map(|(key, item)| (Some(key.as_str()), item)).collect();
            write_all(text, ['{', '}'], &items, indent, depth);
        }
        other => text.push_str(&other.to_string()),
    }
}

fn write_all(
    text: &mut String,
    brackets: [char; 2],
    items: &[(Option<&str>, &Value)],
    indent: Option<usize>,
    depth: usize,
) {
    let line = |text: &mut String, depth: usize| {
        if let Some(width) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    text.push(brackets[0]);
    for (at, (key, item)) in items.iter().enumerate() {
        if at > 0 {
            text.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(text, depth + 1);
        if let Some(key) = key {
            write_text(text, key);
            text.push_str(": ");
        }
        write(text, item, indent, depth + 1);
    }
    if !items.is_empty() {
        line(text, depth);
    }
    text.push(brackets[1]);
}

/// Everything beyond ASCII is escaped.
fn write_text(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spaces_and_escapes_are_pythons() {
        let value = json!({"x": [1, 2.5, null], "ü": "a\"\n😀", "e": {}});
        assert_eq!(
            dumps(&value),
            r#"{"x": [1, 2.5, null], "\u00fc": "a\"\n\ud83d\ude00", "e": {}}"#
        );
        assert_eq!(
            dumps_indented(&json!({"a": [1], "b": []})),
            "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}"
        );
    }
}
