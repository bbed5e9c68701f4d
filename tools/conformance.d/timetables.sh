#!/usr/bin/env bash
# Cron expressions, timetables, zones and dates: recorded afresh from croniter and Airflow's timetables, compared with the engine.
set -euo pipefail
"$CONFORMANCE_PYTHON" crates/isobar-engine/tests/data/record_timetables.py \
    "$CONFORMANCE_SCRATCH" "$CONFORMANCE_SEED" "$CONFORMANCE_COUNT" >"$CONFORMANCE_SCRATCH/record.log" 2>&1 ||
    { tail -20 "$CONFORMANCE_SCRATCH/record.log"; exit 1; }
ISOBAR_RECORDED=$CONFORMANCE_SCRATCH cargo nextest run -p isobar-engine --test timetable_cases --test cron_cases
