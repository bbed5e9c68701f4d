//! XComs.

use isobar_config::ConsentAction;
use isobar_model::{MapIndex, UNMAPPED};
use isobar_store::xcoms::{self, Span, Which, XComPlace};
use isobar_wire::execution::{Answer, Caller, XComKey};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::answers::{broken, not_found, refusal};
use crate::execution::{Execution, Outcome};
use crate::names::Meant;
use crate::standing::{Reach, may_read, may_write, over, reach_of};

/// `start`, `stop` and `step` of a slice.
pub(crate) type SliceBounds = (Option<i64>, Option<i64>, Option<i64>);

fn place<'a>(meant: &'a Meant, xcom: &'a XComKey) -> XComPlace<'a> {
    XComPlace {
        dag_id: &meant.dag_id,
        run_id: &xcom.run_id,
        task_id: &xcom.task_id,
        key: &xcom.key,
    }
}

/// Python's `repr` of an ordinary string, as Airflow's messages quote ids.
fn quoted(text: &str) -> String {
    if text.contains('\'') && !text.contains('"') {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

fn missing(xcom: &XComKey, which: &str) -> isobar_wire::execution::Refusal {
    not_found(format!(
        "XCom with key={} {which} not found for task {} in DAG run {} of {}",
        quoted(&xcom.key),
        quoted(&xcom.task_id),
        quoted(&xcom.run_id),
        quoted(&xcom.dag_id)
    ))
}

impl Execution {
    pub(crate) async fn get_xcom(
        &self,
        caller: &Caller,
        xcom: &XComKey,
        map_index: Option<MapIndex>,
        prior: bool,
        offset: Option<i64>,
    ) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &xcom.dag_id, ConsentAction::Read).await).map_err(broken)?;
        let index = map_index.unwrap_or(UNMAPPED);
        let which = offset.map_or(Which::Index(index), Which::Offset);
        let found = xcoms::find(&mut tx, meant.scope, place(&meant, xcom), which, prior)
            .await
            .map_err(broken)?;
        let value = found.ok_or_else(|| match offset {
            None => missing(xcom, &format!("map_index={index}")),
            Some(offset) => missing(xcom, &format!("offset={offset}")),
        })?;
        Ok(Answer::ok(json!({"key": xcom.key, "value": value})))
    }

    pub(crate) async fn count_xcom(&self, caller: &Caller, xcom: &XComKey) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &xcom.dag_id, ConsentAction::Read).await).map_err(broken)?;
        let count = xcoms::count(&mut tx, meant.scope, place(&meant, xcom), false)
            .await
            .map_err(broken)?;
        Ok(Answer {
            status: 200,
            body: Value::Null,
            count: Some(count),
        })
    }

    pub(crate) async fn xcom_item(&self, caller: &Caller, xcom: &XComKey, offset: i64) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &xcom.dag_id, ConsentAction::Read).await).map_err(broken)?;
        xcoms::find(&mut tx, meant.scope, place(&meant, xcom), Which::Offset(offset), false)
            .await
            .map_err(broken)?
            .map(Answer::ok)
            .ok_or_else(|| missing(xcom, &format!("offset={offset}")))
    }

    pub(crate) async fn xcom_slice(
        &self,
        caller: &Caller,
        xcom: &XComKey,
        bounds: SliceBounds,
        prior: bool,
    ) -> Outcome {
        let mut tx = self.store.read().await.map_err(broken)?;
        may_read(&mut tx, self.own(caller), caller).await?;
        let meant = (self.meant(&mut tx, caller, &xcom.dag_id, ConsentAction::Read).await).map_err(broken)?;
        let place = place(&meant, xcom);
        let count = xcoms::count(&mut tx, meant.scope, place, prior).await.map_err(broken)?;
        let (first, last, step) = python_slice(bounds, count);
        let values = if first > last {
            Vec::new()
        } else {
            let span = Span {
                descending: false,
                offset: first,
                limit: Some(last - first + 1),
            };
            xcoms::span(&mut tx, meant.scope, place, prior, span)
                .await
                .map_err(broken)?
        };
        Ok(Answer::ok(Value::Array(take_steps(values, step))))
    }

    pub(crate) async fn set_xcom(
        &self,
        caller: &Caller,
        xcom: &XComKey,
        value: &Value,
        map_index: Option<MapIndex>,
        dag_result: bool,
        mapped_length: Option<i64>,
    ) -> Outcome {
        let scope = self.own(caller);
        let index = map_index.unwrap_or(UNMAPPED);
        let mut tx = self.store.begin().await.map_err(broken)?;
        let now = Timestamp::now();
        match reach_of(&mut tx, scope, caller, true).await? {
            Reach::Everything => {}
            // After its end a try still pushes its own extra links, never a result that others were scheduled by.
            Reach::Finishing if is_own_link(caller, xcom, index) => {}
            _ => return Err(over()),
        }
        if xcom.key.is_empty() {
            return Err(refusal(400, "invalid_key", "XCom key must be a non-empty string."));
        }
        let place = XComPlace {
            dag_id: own_id(caller, &xcom.dag_id),
            run_id: &xcom.run_id,
            task_id: &xcom.task_id,
            key: &xcom.key,
        };
        if let Some(length) = mapped_length {
            if length > self.settings.max_map_length {
                return Err(refusal(
                    400,
                    "unmappable_return_value_length",
                    "pushed value is too large to map as a downstream's dependency",
                ));
            }
            xcoms::set_mapped_length(&mut tx, scope, place, index, length)
                .await
                .map_err(broken)?;
        }
        let written = xcoms::set(&mut tx, scope, place, index, value, dag_result, now)
            .await
            .map_err(broken)?;
        if !written {
            return Err(isobar_wire::execution::Refusal::new(
                404,
                format!(
                    "DAG run not found on DAG {} with ID {}",
                    quoted(&xcom.dag_id),
                    quoted(&xcom.run_id)
                ),
            ));
        }
        tx.commit().await.map_err(broken)?;
        Ok(Answer::created(json!({"message": "XCom successfully set"})))
    }

    pub(crate) async fn delete_xcom(&self, caller: &Caller, xcom: &XComKey, map_index: Option<MapIndex>) -> Outcome {
        let scope = self.own(caller);
        let mut tx = self.store.begin().await.map_err(broken)?;
        may_write(&mut tx, scope, caller).await?;
        let place = XComPlace {
            dag_id: own_id(caller, &xcom.dag_id),
            run_id: &xcom.run_id,
            task_id: &xcom.task_id,
            key: &xcom.key,
        };
        xcoms::delete(&mut tx, scope, place, map_index.unwrap_or(UNMAPPED))
            .await
            .map_err(broken)?;
        tx.commit().await.map_err(broken)?;
        Ok(Answer::ok(json!({"message": "XCom successfully deleted"})))
    }
}

/// Writes go to the own team's rows only: `own-team:dag` is the plain name, any other prefix names nothing there.
fn own_id<'a>(caller: &Caller, name: &'a str) -> &'a str {
    match name.split_once(':') {
        Some((team, dag_id)) if team == caller.team_name().as_str() => dag_id,
        _ => name,
    }
}

fn is_own_link(caller: &Caller, xcom: &XComKey, index: MapIndex) -> bool {
    let Caller::Task(task) = caller else { return false };
    own_id(caller, &xcom.dag_id) == task.dag_id.as_str()
        && xcom.run_id == task.run_id.as_str()
        && xcom.task_id == task.task_id.as_str()
        && index == task.map_index
        && !matches!(xcom.key.as_str(), "return_value" | "skipmixin_key")
}

/// The range of indices (both ends in) that Python's `range(count)[start:stop:step]` touches, in ascending order, and the
/// step; the range is empty where the first exceeds the last.
fn python_slice((start, stop, step): SliceBounds, count: i64) -> (i64, i64, i64) {
    let step = match step {
        None | Some(0) => 1,
        Some(step) => step,
    };
    let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let bound = |value: Option<i64>, default: i64| match value {
        None => default,
        Some(value) if value < 0 => value.saturating_add(count).clamp(low, high),
        Some(value) => value.clamp(low, high),
    };
    if step > 0 {
        (bound(start, low), bound(stop, high) - 1, step)
    } else {
        (bound(stop, low) + 1, bound(start, high), step)
    }
}

/// Every `step`-th of an ascending range, from its end where the step is negative.
fn take_steps(mut values: Vec<Value>, step: i64) -> Vec<Value> {
    if step < 0 {
        values.reverse();
    }
    let step = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    values.into_iter().step_by(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python gives for `list(range(5))[start:stop:step]`.
    fn slice(start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Vec<i64> {
        let (first, last, step) = python_slice((start, stop, step), 5);
        let range = (first..=last).map(|n| json!(n)).collect();
        take_steps(range, step).iter().filter_map(Value::as_i64).collect()
    }

    #[test]
    fn slices_are_pythons() {
        assert_eq!(slice(None, None, None), [0, 1, 2, 3, 4]);
        assert_eq!(slice(None, None, Some(-1)), [4, 3, 2, 1, 0]);
        assert_eq!(slice(Some(1), Some(-1), Some(2)), [1, 3]);
        assert_eq!(slice(Some(-2), None, None), [3, 4]);
        assert_eq!(slice(Some(3), Some(0), Some(-2)), [3, 1]);
        assert_eq!(slice(Some(-100), Some(100), Some(3)), [0, 3]);
        assert_eq!(slice(Some(4), Some(2), None), Vec::<i64>::new());
        assert_eq!(slice(Some(100), None, Some(-3)), [4, 1]);
    }

    #[test]
    fn ids_are_quoted_as_python_quotes_them() {
        assert_eq!(quoted("a"), "'a'");
        assert_eq!(quoted("it's"), "\"it's\"");
    }
}
