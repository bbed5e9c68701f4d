//! `AIRFLOW__TEAM___SECTION__KEY`: how Airflow spells a key of one team (three underscores behind the team).

use crate::convert::Fate;
use crate::convert::fates::{find, knows_section};
use crate::environment::as_segment;
use crate::reading::Reading;
use crate::tree::{Node, Table, Value};

/// Puts what one such variable says into the team's table. What tasks read goes into the environment of the team's
/// children. Teams that are not declared here are none of our business.
pub(crate) fn place(root: &mut Table, team: &str, rest: &str, node: Node, reading: &Reading) {
    let Some((section, key)) = rest.split_once("__") else {
        return;
    };
    let Some(table) = declared(root, team) else { return };
    let (section_name, key_name) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let fate = find(&section_name, &key_name).map(|known| known.fate);
    match fate {
        Some(Fate::Same {
            section: "core",
            key: "dags_are_paused_at_creation",
            ..
        }) => table.set("dags_are_paused_at_creation", node),
        Some(Fate::Children) => set_variable(table, section, key, node),
        None if !knows_section(&section_name) => set_variable(table, section, key, node),
        _ => reading.warning(
            &node.origin,
            format!("`{key_name}` in `[{section_name}]` is not a key that one team can have here, and changes nothing"),
            "`ISOBAR__TEAM__NAME__KEY` sets the keys of `[[team]]`",
        ),
    }
}

/// Airflow only raises the name's letters; shells want `_` for `-`, too.
fn declared<'t>(root: &'t mut Table, team: &str) -> Option<&'t mut Table> {
    let Value::List(items) = &mut root.get_mut("team")?.node.value else {
        return None;
    };
    items.iter_mut().find_map(|item| match &mut item.value {
        Value::Table(table)
            if table
                .text("name")
                .is_some_and(|name| as_segment(name) == as_segment(team)) =>
        {
            Some(table)
        }
        _ => None,
    })
}

fn set_variable(table: &mut Table, section: &str, key: &str, node: Node) {
    let name = format!(
        "AIRFLOW__{}__{}",
        section.to_ascii_uppercase(),
        key.to_ascii_uppercase()
    );
    if table.get("env").is_none() {
        let origin = node.origin.clone();
        table.set(
            "env",
            Node {
                value: Value::Table(Table::default()),
                origin,
            },
        );
    }
    if let Some(Value::Table(env)) = table.get_mut("env").map(|entry| &mut entry.node.value) {
        env.set(&name, node);
    }
}
