//! The processes' own log, on standard error, for people or a JSON object a line. `ISOBAR_LOG=debug` (or a filter such as `isobar_scheduler=trace`) shows more.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; to be called once by a server command.
pub(crate) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("ISOBAR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        log.json().flatten_event(true).init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
}
