#!/usr/bin/env bash
# Runs every example Dag, and our own, in a real Airflow and then in Isobar; ends with an error where anything differs.
# The new recording stays in $CONFORMANCE_SCRATCH; `cp` it to crates/isobar/tests/data/example_dags.json.gz to keep it.
# EXAMPLES_OPTIONS adds options of tools/conformance/examples.py; `--slow --index` are the default.
set -euo pipefail
cd "$(dirname "$0")/../.."
driver=tools/conformance/examples.py
scratch=$CONFORMANCE_SCRATCH
read -ra options <<<"${EXAMPLES_OPTIONS:---slow --index}"
chmod 755 "$scratch"
. tools/conformance/airflow_database.sh

in_airflow() {
    python3 "$driver" airflow "$scratch/airflow-run" "$scratch/example_dags.json.gz" --python "$CONFORMANCE_PYTHON" \
        --path "$packages" --database "$address" --port "${CONFORMANCE_PORT:-18280}" --limit 3000 "${options[@]}" "$@"
}
in_isobar() {
    python3 "$driver" isobar "$scratch/isobar-run" "$scratch/example_dags.json.gz" --python "$CONFORMANCE_PYTHON" \
        --binary target/debug/isobar --port "${CONFORMANCE_PORT:-18280}" --out "$scratch/result.json" --limit 3000 "${options[@]}" "$@"
}
in_airflow
cargo build -q -p isobar
if ! in_isobar; then
    # Airflow with everything at once is slow enough for Dags that count seconds (`dagrun_timeout`, pokes): those alone, once more.
    only=$(python3 "$driver" differing "$scratch/result.json")
    echo "==> once more: $only"
    rm -rf "$scratch/airflow-run" "$scratch/isobar-run"
    in_airflow --merge --only "$only"
    in_isobar --only "$only"
fi
