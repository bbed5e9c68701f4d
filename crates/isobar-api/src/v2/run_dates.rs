//! The data interval, the partition's date and the id of a run made by hand, as the Dag's timetable gives them. A custom
//! timetable is asked through its team's helper.

use axum::http::StatusCode;
use isobar_engine::timetable::Timetable;
use isobar_execution::{ManualAsk, Unanswered, python_timetable, random_tail};
use isobar_model::RunType;
use isobar_model::dag::SerializedDag;
use jiff::Timestamp;

use crate::ApiError;
use crate::extract::{Ask, Target};

/// What is known of the run.
pub(super) struct Given<'a> {
    pub run_id: Option<&'a str>,
    pub interval: Option<(Timestamp, Timestamp)>,
    pub logical_date: Option<Timestamp>,
    pub run_after: Timestamp,
    pub partition_key: Option<&'a str>,
    /// By the rules that need no Python.
    pub partition_date: Option<Timestamp>,
}

/// What follows from it.
pub(super) struct Dates {
    pub interval: Option<(Timestamp, Timestamp)>,
    pub run_id: String,
    pub partition_date: Option<Timestamp>,
}

/// Works them out.
///
/// # Errors
/// 400 where the timetable refuses, 503 with the reason where the team's Python does not answer within 5 s.
pub(super) async fn of_run(
    ask: &Ask,
    target: &Target,
    dag: &SerializedDag,
    given: &Given<'_>,
    kind: RunType,
) -> Result<Dates, ApiError> {
    let bad = |error: isobar_engine::timetable::TimetableError| ApiError::bad_request(error.to_string());
    let wanted = given.logical_date.filter(|_| given.interval.is_none());
    let known = given.interval.filter(|_| given.logical_date.is_some());
    if let Some(question) = python_timetable(dag, given.partition_key.is_some())
        && (wanted.is_some() || given.run_id.is_none() || given.partition_key.is_some())
    {
        let answered = ask
            .state
            .execution
            .ask_manual_run(
                target.scope,
                &ManualAsk {
                    dag_id: dag.dag_id.as_str(),
                    timetable: question,
                    at: wanted,
                    interval: known,
                    run_after: given.run_after,
                    kind,
                    partition_key: given.partition_key,
                },
            )
            .await
            .map_err(unanswered)?;
        return Ok(Dates {
            interval: known.or(answered.interval),
            run_id: given.run_id.map_or(answered.run_id, str::to_owned),
            partition_date: answered.partition_date,
        });
    }
    let timetable = Timetable::from_model(&dag.timetable).map_err(bad)?;
    let interval = match wanted {
        Some(at) => Some(timetable.manual_interval(at).map_err(bad)?),
        None => known,
    };
    // As in Airflow, the id of such a run does not name its partition.
    let run_id = match given.run_id {
        Some(run_id) => run_id.to_owned(),
        None => timetable.run_id(kind, given.run_after, None, &random_tail()),
    };
    Ok(Dates {
        interval,
        run_id,
        partition_date: given.partition_date,
    })
}

/// Why there is no answer of the team's Python.
pub(super) fn unanswered(error: Unanswered) -> ApiError {
    match error {
        Unanswered::Store(error) => error.into(),
        Unanswered::Refused(reason) => ApiError::bad_request(reason),
        Unanswered::Python(reason) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}
