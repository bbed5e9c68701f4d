#!/usr/bin/env bash
# Random runs and histories: worked by Airflow's own scheduler code and by the engine; retry times.
set -euo pipefail
data=crates/isobar-engine/tests/data
record() {
    "$CONFORMANCE_PYTHON" "$data/$1.py" "$2" "$CONFORMANCE_SEED" "$CONFORMANCE_SCRATCH/$3" >"$CONFORMANCE_SCRATCH/$1.log" 2>&1 ||
        { tail -20 "$CONFORMANCE_SCRATCH/$1.log"; exit 1; }
}
record record_runs "$CONFORMANCE_COUNT" runs.jsonl
record record_histories $((CONFORMANCE_COUNT / 2)) histories.jsonl
wc -l "$CONFORMANCE_SCRATCH"/*.jsonl
export ISOBAR_RUNS=$CONFORMANCE_SCRATCH/runs.jsonl ISOBAR_HISTORIES=$CONFORMANCE_SCRATCH/histories.jsonl
cargo test -q -p isobar-engine --test planner_agrees_with_airflow --test histories_agree_with_airflow
