//! The order of a list, from the names that a caller may order by.

/// How a key of an order is read back for a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Int,
    Real,
    Uuid,
}

/// A name that a caller may order by, and what it means in SQL.
pub(crate) struct Sortable {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
}

/// Everything by which one list can be ordered.
pub struct Sortables {
    pub(crate) names: &'static [Sortable],
    /// What makes the order total, appended with the direction of the first key.
    pub(crate) unique: &'static [(&'static str, Kind)],
    /// The order where none is asked for.
    pub(crate) default: &'static str,
}

/// The order asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// No column of that name, or not one to order by.
    #[error("Ordering with '{0}' is disallowed or the attribute does not exist on the model")]
    Unknown(String),
    /// More keys than Airflow takes.
    #[error("Ordering with more than 10 parameters is not allowed. Provided: {0}")]
    TooMany(String),
}

/// A checked order.
#[derive(Clone, Debug)]
pub struct Ordering {
    pub(crate) keys: Vec<(&'static str, Kind, bool)>,
}

const MOST_KEYS: usize = 10;

impl Sortables {
    /// Reads names, `-` before one for descending.
    ///
    /// # Errors
    /// [`BadOrder`], in Airflow's words.
    pub fn order(&self, asked: &[String]) -> Result<Ordering, BadOrder> {
        if asked.len() > MOST_KEYS {
            let shown: Vec<String> = asked.iter().map(|name| format!("'{name}'")).collect();
            return Err(BadOrder::TooMany(format!("[{}]", shown.join(", "))));
        }
        let default = [self.default.to_owned()];
        let asked = if asked.is_empty() { &default[..] } else { asked };
        let mut keys = Vec::new();
        for one in asked {
            let name = one.trim_start_matches('-');
            let descending = one.starts_with('-');
            let found = self
                .names
                .iter()
                .find(|known| known.name == name)
                .ok_or_else(|| BadOrder::Unknown(name.to_owned()))?;
            keys.extend(found.columns.iter().map(|(sql, kind)| (*sql, *kind, descending)));
        }
        let descending = asked.first().is_some_and(|first| first.starts_with('-'));
        for (sql, kind) in self.unique {
            if !keys.iter().any(|(known, ..)| known == sql) {
                keys.push((*sql, *kind, descending));
            }
        }
        Ok(Ordering { keys })
    }
}

impl Ordering {
    /// The `ORDER BY` clause, turned around where `backwards`.
    pub(crate) fn sql(&self, backwards: bool) -> String {
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|(sql, _, descending)| format!("{sql} {}", if *descending == backwards { "ASC" } else { "DESC" }))
            .collect();
        format!(" ORDER BY {}", keys.join(", "))
    }

    /// Whether a key names this SQL expression.
    pub(crate) fn mentions(&self, part: &str) -> bool {
        self.keys.iter().any(|(sql, ..)| sql.contains(part))
    }
}

/// `one("dag_id", "d.dag_id", Text)`: a name for one column.
macro_rules! sortables {
    ($($name:literal => $($sql:literal $kind:ident),+;)+) => {
        &[$($crate::lists::ordering::Sortable {
            name: $name,
            columns: &[$(($sql, $crate::lists::ordering::Kind::$kind)),+],
        }),+]
    };
}
pub(crate) use sortables;

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Sortables = Sortables {
        names: sortables! { "name" => "p.name" Text; "slots" => "p.slots" Int; },
        unique: &[("p.name", Kind::Text), ("p.team_no", Kind::Int)],
        default: "name",
    };

    #[test]
    fn an_order_is_made_total() {
        let order = LIST.order(&["-slots".into()]).unwrap();
        assert_eq!(order.sql(false), " ORDER BY p.slots DESC, p.name DESC, p.team_no DESC");
        assert_eq!(order.sql(true), " ORDER BY p.slots ASC, p.name ASC, p.team_no ASC");
        assert_eq!(
            LIST.order(&[]).unwrap().sql(false),
            " ORDER BY p.name ASC, p.team_no ASC"
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert_eq!(LIST.order(&["-x".into()]).unwrap_err(), BadOrder::Unknown("x".into()));
    }
}
