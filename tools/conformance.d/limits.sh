#!/usr/bin/env bash
# Who gets a slot, and when runs are made, started and given up: decided by Airflow's own scheduler and by Isobar.
set -euo pipefail
admission=$CONFORMANCE_SCRATCH/admission.jsonl run_limits=$CONFORMANCE_SCRATCH/run_limits.jsonl
record() {
    "$CONFORMANCE_PYTHON" "$@" >"$CONFORMANCE_SCRATCH/record.log" 2>&1 || { tail -20 "$CONFORMANCE_SCRATCH/record.log"; exit 1; }
}
record crates/isobar-engine/tests/data/record_admission.py "$CONFORMANCE_COUNT" "$CONFORMANCE_SEED" "$admission"
record crates/isobar-scheduler/tests/data/record_run_limits.py "$run_limits" "$CONFORMANCE_SEED" $((CONFORMANCE_COUNT / 8))
wc -l "$admission" "$run_limits"
ISOBAR_ADMISSION=$admission cargo test -q -p isobar-engine --test admission_agrees_with_airflow
ISOBAR_RECORDED_RUN_LIMITS=$run_limits cargo test -q -p isobar-scheduler --test driving run_limits_agree
