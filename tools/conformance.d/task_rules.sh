#!/usr/bin/env bash
# Random runs: planned by Airflow's own scheduler code and by the engine, and retry times.
set -euo pipefail
data=crates/isobar-engine/tests/data
"$CONFORMANCE_PYTHON" "$data/record_runs.py" "$CONFORMANCE_COUNT" "$CONFORMANCE_SEED" >"$CONFORMANCE_SCRATCH/runs.jsonl"
echo "$(wc -l <"$CONFORMANCE_SCRATCH/runs.jsonl") runs recorded"
ISOBAR_RUNS=$CONFORMANCE_SCRATCH/runs.jsonl cargo test -q -p isobar-engine --test planner_agrees_with_airflow
