//! What was recorded of Airflow 3.3.2 comes out the same in Isobar.
//!
//! Programs of `tools/conformance` do to the built binary what was done to Airflow, and compare with what they recorded
//! there (`data/*.json.gz`). `make conformance` records and compares afresh.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Airflow's own example Dags, and more of ours; `docs/conformance.md` lists them all.
#[test]
fn every_example_dag_comes_out_as_in_airflow() {
    compare("examples.py", "example_dags.json.gz");
}

/// Tasks that wait for triggers and for people.
#[test]
fn tasks_that_wait_come_out_as_in_airflow() {
    compare("waiting.py", "waiting.json.gz");
}

/// Runs a program of `tools/conformance` on the built binary.
fn compare(program: &str, recording: &str) {
    let python = std::env::var_os("ISOBAR_TEST_PYTHON")
        .expect("ISOBAR_TEST_PYTHON must name a Python with Airflow 3.3.2; `make test` sets it");
    let binary = std::env::var_os("ISOBAR_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_isobar").into());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::Builder::new()
        .prefix("isobar-compared-")
        .tempdir()
        .expect("a temporary folder");
    // Children run as users of their own and must be able to walk down here.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    let output = Command::new(&python)
        .arg(here.join("../../tools/conformance").join(program))
        .arg("isobar")
        .arg(folder.path())
        .arg(here.join("tests/data").join(recording))
        .arg("--binary")
        .arg(binary)
        .arg("--python")
        .arg(&python)
        .args(["--port", &port.to_string()])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the driver runs");
    assert!(
        output.status.success(),
        "these differ from Airflow:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
