//! What is reported after a child has ended, where it has not said everything itself.

use isobar_model::AirflowTime;
use isobar_wire::execution::TaskEnd;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::session::Ending;
use super::watch::{Killed, Watched};
use crate::tasklog::Level;
use crate::zygote::Exit;

/// What is left to do.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The control plane knows all there is.
    Settled,
    /// This is to be reported; the child said so itself.
    Report(TaskEnd),
    /// This is to be reported; the child said nothing, so that its callbacks never ran.
    Died(TaskEnd),
}

/// Decides, from what the child said and how it ended. `should_retry` is the control plane's word at the start.
pub(super) fn verdict(ending: &mut Ending, watched: &Watched, should_retry: bool, now: Timestamp) -> Verdict {
    if watched.killed == Some(Killed::Disowned) {
        return Verdict::Settled;
    }
    if let Some(end) = ending.undelivered.take() {
        return Verdict::Report(end);
    }
    if ending.reported.is_some() {
        return Verdict::Settled;
    }
    match ending.at_exit.take() {
        // What the child said of its end holds, whatever happened to it afterwards.
        Some(end) => Verdict::Report(end),
        None => {
            let end_date = AirflowTime(now);
            Verdict::Died(if should_retry {
                TaskEnd::UpForRetry {
                    end_date,
                    retry_delay_seconds: None,
                    retry_reason: None,
                    rendered_map_index: None,
                }
            } else {
                TaskEnd::Failed {
                    end_date,
                    rendered_map_index: None,
                }
            })
        }
    }
}

/// A line for the task's log about an unusual exit; none where it was as it should be.
pub(super) fn describe(watched: &Watched, said_its_end: bool) -> Option<(Level, String, Value)> {
    match watched.exit {
        Exit::Code(0) if said_its_end => None,
        Exit::Code(0) => Some((
            Level::Error,
            "The task's process exited without saying how the task ended (os._exit?).".to_owned(),
            json!({"exit_code": 0}),
        )),
        Exit::Code(code) => Some((
            Level::Warning,
            format!("The task's process exited with code {code}."),
            json!({"exit_code": code}),
        )),
        Exit::Lost => Some((
            Level::Error,
            "The task's process was lost together with the team's Python process.".to_owned(),
            json!({}),
        )),
        Exit::Signal(number) => Some(signalled(number, watched.killed.as_ref())),
    }
}

fn signalled(number: i32, killed: Option<&Killed>) -> (Level, String, Value) {
    let name = Signal::try_from(number).map_or("an unknown signal", Signal::as_str);
    let fields = json!({"signal": -number, "signal_name": name});
    let (level, text) = match (killed, name) {
        (Some(why), _) => {
            let why = match why {
                Killed::Cancelled => "it was asked to stop",
                Killed::Disowned => "this try no longer counts",
                Killed::Unheard => "its heartbeats could not be delivered",
                Killed::Overtime => "it went on for too long after the task's end",
                Killed::Garbled => "it sent what cannot be read",
            };
            (
                Level::Error,
                format!("The task's process was ended with {name} because {why}."),
            )
        }
        (None, "SIGKILL") => (
            Level::Critical,
            "The task's process was killed by SIGKILL. Most often that means that memory ran out (OOM).".to_owned(),
        ),
        (None, "SIGSEGV") => (
            Level::Critical,
            "The task's process crashed with SIGSEGV, an access to memory that is not there. Most often a library \
             with native code is at fault, or built for another machine; PYTHONFAULTHANDLER=1 shows where."
                .to_owned(),
        ),
        (None, _) => (Level::Error, format!("The task's process was ended by {name}.")),
    };
    (level, text, fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn died(exit: Exit) -> Watched {
        Watched {
            exit,
            cpu: std::time::Duration::ZERO,
            killed: None,
        }
    }

    fn failed() -> TaskEnd {
        TaskEnd::Failed {
            end_date: AirflowTime(now()),
            rendered_map_index: None,
        }
    }

    #[test]
    fn a_killed_child_is_retried_where_a_retry_is_left_and_failed_where_not() {
        for exit in [Exit::Signal(9), Exit::Code(1), Exit::Code(0), Exit::Lost] {
            let got = verdict(&mut Ending::default(), &died(exit), false, now());
            assert_eq!(got, Verdict::Died(failed()));
            let got = verdict(&mut Ending::default(), &died(exit), true, now());
            assert!(matches!(got, Verdict::Died(TaskEnd::UpForRetry { .. })));
        }
    }

    #[test]
    fn what_the_child_said_holds() {
        let mut reported = Ending {
            reported: Some("success"),
            ..Ending::default()
        };
        assert_eq!(
            verdict(&mut reported, &died(Exit::Signal(9)), true, now()),
            Verdict::Settled
        );
        let mut undelivered = Ending {
            undelivered: Some(failed()),
            ..Ending::default()
        };
        assert_eq!(
            verdict(&mut undelivered, &died(Exit::Code(1)), true, now()),
            Verdict::Report(failed())
        );
    }

    #[test]
    fn a_disowned_try_reports_nothing() {
        let disowned = Watched {
            exit: Exit::Signal(15),
            cpu: std::time::Duration::ZERO,
            killed: Some(Killed::Disowned),
        };
        assert_eq!(
            verdict(&mut Ending::default(), &disowned, true, now()),
            Verdict::Settled
        );
    }

    #[test]
    fn an_unexplained_sigkill_hints_at_memory_and_a_wanted_one_does_not() {
        let (_, text, fields) = describe(&died(Exit::Signal(9)), false).unwrap();
        assert!(text.contains("OOM"));
        assert_eq!(fields, json!({"signal": -9, "signal_name": "SIGKILL"}));
        let cancelled = Watched {
            exit: Exit::Signal(9),
            cpu: std::time::Duration::ZERO,
            killed: Some(Killed::Cancelled),
        };
        assert!(!describe(&cancelled, false).unwrap().1.contains("OOM"));
        assert_eq!(describe(&died(Exit::Code(0)), true), None);
    }
}
