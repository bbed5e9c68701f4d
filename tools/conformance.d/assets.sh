#!/usr/bin/env bash
# Partition mappers, and the runs that asset events make: asked of Airflow afresh.
set -euo pipefail

mappers=$CONFORMANCE_SCRATCH/mappers
mkdir -p "$mappers"
"$CONFORMANCE_PYTHON" crates/isobar-engine/tests/data/record_partitions.py "$mappers" "$CONFORMANCE_SEED" "$CONFORMANCE_COUNT"
ISOBAR_RECORDED_PARTITIONS=$mappers/partitions.jsonl cargo nextest run -p isobar-engine --test partition_cases

stories=$CONFORMANCE_SCRATCH/assets.jsonl
AIRFLOW__LOGGING__LOGGING_LEVEL=CRITICAL "$CONFORMANCE_PYTHON" crates/isobar-scheduler/tests/data/record_assets.py \
    "$stories" "$CONFORMANCE_SEED" "$((CONFORMANCE_COUNT / 5 + 1))"
ISOBAR_RECORDED_ASSETS=$stories cargo nextest run -p isobar-scheduler --test driving assets_agree
