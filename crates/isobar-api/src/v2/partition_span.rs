//! A span of partition dates: dates on the clock of the Dag's timetable, as instants.

use isobar_engine::timetable::{Bound, Timetable};
use isobar_model::dag::SerializedDag;
use jiff::Timestamp;

use super::run_dates::unanswered;
use crate::ApiError;
use crate::extract::{Ask, Target};

/// The first and the last instant, where there are such.
pub(super) type Span = [Option<Timestamp>; 2];

/// Reads the dates as the Dag's timetable does; a custom one is asked.
///
/// # Errors
/// 503 where the team's Python does not answer within 5 s.
pub(super) async fn read(
    ask: &Ask,
    target: &Target,
    dag: &SerializedDag,
    dates: [Option<Bound>; 2],
) -> Result<Span, ApiError> {
    let timetable = Timetable::from_model(&dag.timetable).ok();
    let question = timetable.as_ref().and_then(Timetable::question);
    if let Some(question) = question.filter(|_| dates.iter().any(Option::is_some)) {
        let (execution, dag_id) = (&ask.state.execution, dag.dag_id.as_str());
        let asking = execution.ask_partition_moments(target.scope, dag_id, question, dates);
        return asking.await.map_err(unanswered);
    }
    let moment = |date: Bound| (timetable.as_ref()).map_or(date.at, |timetable| timetable.partition_moment(date));
    Ok(dates.map(|date| date.map(moment)))
}
