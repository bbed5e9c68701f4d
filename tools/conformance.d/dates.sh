#!/usr/bin/env bash
# Timetables of every kind, in a real Airflow and in Isobar side by side and by one clock; ends with an error where anything differs.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$CONFORMANCE_SCRATCH
chmod 755 "$scratch"
. tools/conformance/airflow_database.sh

cargo build -q -p isobar
python3 tools/conformance/dates.py --path "$packages" target/debug/isobar "$scratch/run" "$CONFORMANCE_PYTHON" "$address" \
    "${CONFORMANCE_PORT:-18280}"
