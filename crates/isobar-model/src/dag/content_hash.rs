//! A fingerprint of a serialized Dag, by which a changed Dag is told from one merely parsed again.
//!
//! Like Airflow's it leaves out where the file is, and does not depend on the order in which Python wrote sets and tasks. It is
//! not the same number as Airflow's: that one is an MD5 of Python's own JSON text.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The hash of a serialized Dag, 64 hex digits.
pub(crate) fn of(root: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(root, Place::Root, &mut hasher);
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where a value stands; decides what is left out and what is sorted.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Dag,
    Tasks,
    Timetable,
    Said,
    Elsewhere,
}

/// Keys of the Dag that tell where its file is, not what it does.
const LOCATION: [&str; 2] = ["fileloc", "_processor_dags_folder"];
/// What a custom timetable says of itself to people, which may be another thing each day.
const WORDS: [&str; 2] = ["summary", "description"];

fn feed(value: &Value, place: Place, hasher: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map
                .iter()
                .filter(|(key, _)| match place {
                    Place::Dag => !LOCATION.contains(&key.as_str()),
                    Place::Said => !WORDS.contains(&key.as_str()),
                    _ => true,
                })
                .collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            hasher.update(b"{");
            for (key, inner) in entries {
                text(key, hasher);
                feed(inner, below(place, key), hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in in_order(items, place) {
                feed(item, Place::Elsewhere, hasher);
            }
            hasher.update(b"]");
        }
        Value::String(content) => text(content, hasher),
        scalar => {
            hasher.update(scalar.to_string().as_bytes());
            hasher.update(b";");
        }
    }
}

fn below(place: Place, key: &str) -> Place {
    match (place, key) {
        (Place::Root, "dag") => Place::Dag,
        (Place::Dag, "tasks") => Place::Tasks,
        (Place::Timetable, "__says") => Place::Said,
        (Place::Dag, "timetable") | (Place::Timetable, _) => Place::Timetable,
        _ => Place::Elsewhere,
    }
}

/// Tasks by id, and lists of texts alone by text, as Airflow sorts them; other lists as they are.
fn in_order(items: &[Value], place: Place) -> Vec<&Value> {
    let mut sorted: Vec<&Value> = items.iter().collect();
    if place == Place::Tasks {
        sorted.sort_by_key(|task| task.pointer("/__var/task_id").and_then(Value::as_str));
    } else if items.iter().all(Value::is_string) {
        sorted.sort_by_key(|item| item.as_str());
    }
    sorted
}

/// A text with its length before it, so that no two different values feed the same bytes.
fn text(content: &str, hasher: &mut Sha256) {
    hasher.update(b"\"");
    hasher.update((content.len() as u64).to_le_bytes());
    hasher.update(content.as_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::of;

    #[test]
    fn the_place_of_the_file_and_the_order_of_sets_do_not_count() {
        let one = json!({"__version": 3, "dag": {"dag_id": "a", "fileloc": "/x.py", "tags": ["b", "a"], "tasks": [
            {"__var": {"task_id": "s"}}, {"__var": {"task_id": "t"}}]}});
        let other = json!({"dag": {"tasks": [{"__var": {"task_id": "t"}}, {"__var": {"task_id": "s"}}],
            "tags": ["a", "b"], "fileloc": "/y.py", "dag_id": "a"}, "__version": 3});
        assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn what_a_timetable_says_to_people_does_not_count_and_what_it_does_counts() {
        let with = |says| {
            let custom = json!({"__type": "acme.T", "__var": {}, "__says": says});
            json!({"dag": {"timetable": {"__type": "o", "__var": {"timetable": custom}}}})
        };
        let one = of(&with(json!({"periodic": true, "summary": "today"})));
        assert_eq!(one, of(&with(json!({"periodic": true, "summary": "tomorrow"}))));
        assert_ne!(one, of(&with(json!({"periodic": false, "summary": "today"}))));
    }

    #[test]
    fn a_change_of_a_task_counts() {
        let with = |retries| json!({"dag": {"tasks": [{"__var": {"task_id": "t", "retries": retries}}]}});
        assert_ne!(of(&with(1)), of(&with(2)));
        assert_ne!(of(&json!(["ab", 1])), of(&json!(["a", "b", 1])));
    }
}
