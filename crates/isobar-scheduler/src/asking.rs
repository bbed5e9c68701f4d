//! Questions to teams' own Python: put while a pass runs, answered by events.

use isobar_engine::admission::DagKey;
use isobar_engine::dagplan::{Event, NextRun, NextSaid, Restriction};
use isobar_model::{RunId, parse_time, render_time};
use isobar_store::events::StoredEvent;
use isobar_store::questions::{self, Answered, NewQuestion};
use isobar_store::{StoreError, loading};
use isobar_wire::questions::{QuestionKind, Said};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pass::Pass;

/// The kind of a stored warning that says why a Dag's timetable gives no runs.
pub(crate) const SCHEDULE_PROBLEM: &str = "schedule problem";
/// The kind of a stored warning that says why what arrived for a Dag's partitions waits.
pub(crate) const PARTITION_PROBLEM: &str = "partition problem";
/// The kind of a stored warning that says why tasks of a Dag wait for the team's Python.
pub(crate) const TASK_PROBLEM: &str = "task problem";

fn interval_json(interval: Option<(Timestamp, Timestamp)>) -> Value {
    interval.map_or(Value::Null, |(start, end)| {
        json!([render_time(start), render_time(end)])
    })
}

fn run_json(run: &NextRun) -> Value {
    json!({
        "run_after": render_time(run.run_after),
        "data_interval": interval_json(run.data_interval),
        "partition_key": run.partition_key,
        "partition_date": run.partition_date.map(render_time),
    })
}

/// As many runs as are asked about at once, where there are years to make up for.
const RUNS_AT_ONCE: u32 = 64;

/// One next run in a helper's answer; an error says what is wrong with it.
fn read_next(answer: &Value) -> Result<NextSaid, String> {
    let next = &answer["next"];
    if next.is_null() {
        return Ok(NextSaid::default());
    }
    let time = |value: &Value| value.as_str().and_then(parse_time);
    let run_after = time(&next["run_after"]).ok_or("it gave a next run without `run_after`")?;
    let run_id = answer["run_id"]
        .as_str()
        .filter(|id| !id.is_empty() && id.len() <= 250)
        .ok_or("it gave the next run an id that is empty or longer than 250 characters")?;
    Ok(NextSaid {
        next: Some(NextRun {
            run_after,
            data_interval: time(&next["data_interval"][0]).zip(time(&next["data_interval"][1])),
            partition_key: next["partition_key"].as_str().map(str::to_owned),
            partition_date: time(&next["partition_date"]),
        }),
        run_id: Some(RunId::from(run_id)),
    })
}

/// All next runs in a helper's answer, each after the one before it.
fn read_steps(answer: &Value, partitioned: bool) -> Result<Vec<NextSaid>, String> {
    let steps = answer["steps"].as_array().filter(|steps| !steps.is_empty());
    let steps = steps.ok_or("it gave an answer without runs")?;
    let said = steps.iter().map(read_next).collect::<Result<Vec<_>, _>>()?;
    for run in said.iter().filter_map(|step| step.next.as_ref()) {
        // Airflow makes no such run either, and says so in its scheduler's log alone.
        if partitioned && run.partition_key.is_none() {
            return Err("it is a timetable of partitions and gave a run without a partition key".to_owned());
        }
        if !partitioned && run.data_interval.is_none() {
            return Err("it is no timetable of partitions and gave a run without a data interval".to_owned());
        }
    }
    Ok(said)
}

impl Pass<'_> {
    /// Asks the team's helper for the run after `last`.
    pub(crate) async fn ask_next_run(
        &mut self,
        key: &DagKey,
        timetable: &Value,
        last: Option<&NextRun>,
        within: &Restriction,
    ) -> Result<(), StoreError> {
        let question = NewQuestion {
            kind: QuestionKind::NextRun,
            dag_id: key.dag_id.clone(),
            subject: String::new(),
            body: json!({
                "ask": QuestionKind::NextRun.as_str(),
                "timetable": timetable,
                "last": last.map(run_json),
                "earliest": within.earliest.map(render_time),
                "latest": within.latest.map(render_time),
                "catchup": within.catchup,
                "ahead": RUNS_AT_ONCE,
            }),
            version_id: None,
            wanted_until: None,
        };
        let scope = self.setting.org.team(key.team);
        questions::ask(self.tx, scope, &question, self.now).await.map(drop)
    }

    /// Takes in what was said to a question.
    pub(crate) async fn take_said(&mut self, event: &StoredEvent) -> Result<(), StoreError> {
        let Some(id) = event.body.get("id").and_then(Value::as_i64) else {
            return Ok(());
        };
        let scope = self.setting.org.team(event.team);
        // None: a newer question took its place.
        let Some(Answered {
            kind,
            dag_id,
            subject,
            said: Some(said),
        }) = questions::get(self.tx, scope, id).await?
        else {
            return Ok(());
        };
        let key = DagKey {
            team: event.team,
            dag_id,
        };
        match kind {
            QuestionKind::NextRun => self.take_next_run(&key, said).await,
            QuestionKind::Partitions => self.take_partitions(&key, id, said).await,
            QuestionKind::Instances => self.take_shapes(&key, &RunId::from(subject), said).await,
            // Whoever waits reads the row.
            QuestionKind::ManualInterval | QuestionKind::RunsBetween | QuestionKind::PartitionMoments => Ok(()),
        }
    }

    async fn take_next_run(&mut self, key: &DagKey, said: Said) -> Result<(), StoreError> {
        let version = self.memory.dags.get(key).and_then(|dag| dag.version.as_ref());
        let asking =
            version.filter(|version| (version.schedule.as_ref()).is_some_and(|schedule| schedule.question().is_some()));
        let Some(partitioned) = asking.map(|version| version.partitioned) else {
            return Ok(());
        };
        let problem = match said {
            Said::Answer(answer) => match read_steps(&answer, partitioned) {
                Ok(steps) => {
                    self.step_dag(key, Event::Answered(steps));
                    None
                }
                Err(problem) => Some(problem),
            },
            Said::Problem(reason) | Said::Later(reason) => Some(reason),
        };
        let problem = problem.map(|reason| {
            tracing::warn!(team = %key.team, dag = %key.dag_id, reason, "the Dag's own timetable cannot say when its next run is");
            format!("the Dag gets no scheduled runs while its timetable cannot be asked: {reason}")
        });
        self.show_problem(key, SCHEDULE_PROBLEM, problem.as_deref()).await
    }

    /// Shows, or with none takes back, what keeps a Dag from running.
    pub(crate) async fn show_problem(
        &mut self,
        key: &DagKey,
        kind: &str,
        problem: Option<&str>,
    ) -> Result<(), StoreError> {
        let scope = self.setting.org.team(key.team);
        loading::set_dag_problem(self.tx, scope, &key.dag_id, kind, problem, self.now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helpers_answer_is_read_and_a_run_without_an_id_is_refused() {
        let next = json!({"run_after": "2026-01-02T00:00:00+00:00", "data_interval": null, "partition_key": "k", "partition_date": null});
        let said = read_next(&json!({"next": next, "run_id": "scheduled__x"})).unwrap();
        assert_eq!(said.next.unwrap().partition_key.as_deref(), Some("k"));
        assert_eq!(said.run_id, Some(RunId::from("scheduled__x")));
        assert_eq!(read_next(&json!({"next": null})).unwrap(), NextSaid::default());
        assert!(read_next(&json!({"next": next, "run_id": ""})).is_err());
        assert!(read_next(&json!({"next": {}, "run_id": "x"})).is_err());
        let steps = json!({"steps": [{"next": next, "run_id": "x"}, {"next": null}]});
        assert_eq!(read_steps(&steps, true).unwrap().len(), 2);
        assert!(read_steps(&steps, false).is_err());
        assert!(read_steps(&json!({"steps": []}), true).is_err());
    }
}
