#!/usr/bin/env bash
# Plays the scene of crates/isobar/tests/listeners.rs in a real Airflow; ends with an error where its listeners heard something else
# than was recorded. `tools/conformance/listeners.py` without --compare records anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
scratch=$CONFORMANCE_SCRATCH
. tools/conformance/airflow_database.sh

python3 tools/conformance/listeners.py "$scratch/airflow-run" crates/isobar/tests/data/listeners/heard.json \
    --python "$CONFORMANCE_PYTHON" --path "$packages" --database "$address" --port "${CONFORMANCE_PORT:-18310}" --compare
