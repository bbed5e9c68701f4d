#!/usr/bin/env bash
# Runs Dags whose tasks wait, for triggers and for people, in a real Airflow and then in Isobar; ends with an error where
# anything differs. The new recording stays in $CONFORMANCE_SCRATCH; `cp` it to crates/isobar/tests/data/waiting.json.gz to keep it.
set -euo pipefail
cd "$(dirname "$0")/../.."
driver=tools/conformance/waiting.py
scratch=$CONFORMANCE_SCRATCH
chmod 755 "$scratch"
. tools/conformance/airflow_database.sh

python3 "$driver" airflow "$scratch/airflow-run" "$scratch/waiting.json.gz" --python "$CONFORMANCE_PYTHON" \
    --path "$packages" --database "$address" --port "${CONFORMANCE_PORT:-18280}"
cargo build -q -p isobar
python3 "$driver" isobar "$scratch/isobar-run" "$scratch/waiting.json.gz" --python "$CONFORMANCE_PYTHON" \
    --binary target/debug/isobar --port "${CONFORMANCE_PORT:-18280}"
