#!/usr/bin/env bash
# Runs Dags whose tasks wait, for triggers and for people, in a real Airflow and then in Isobar; ends with an error where
# anything differs. The new recording stays in $CONFORMANCE_SCRATCH; `cp` it to crates/isobar/tests/data/waiting.json.gz to keep it.
set -euo pipefail
cd "$(dirname "$0")/../.."
driver=tools/conformance/waiting.py
scratch=$CONFORMANCE_SCRATCH
chmod 755 "$scratch"

# Airflow's database is PostgreSQL, whose driver the wheels do not bring.
packages=$scratch/packages
if command -v uv >/dev/null; then
    uv pip install -q --python "$CONFORMANCE_PYTHON" --target "$packages" psycopg2-binary
else
    "$CONFORMANCE_PYTHON" -m pip install -q --disable-pip-version-check --target "$packages" psycopg2-binary
fi
database=$(mktemp -d /tmp/isobar-postgres-XXXXXX)
trap 'tools/postgres.sh stop "$database/pg"; rm -rf "$database"' EXIT
chmod 755 "$database"
address=$(tools/postgres.sh start "$database/pg" "${CONFORMANCE_POSTGRES_PORT:-15439}")

python3 "$driver" airflow "$scratch/airflow-run" "$scratch/waiting.json.gz" --python "$CONFORMANCE_PYTHON" \
    --path "$packages" --database "$address" --port "${CONFORMANCE_PORT:-18280}"
cargo build -q -p isobar
python3 "$driver" isobar "$scratch/isobar-run" "$scratch/waiting.json.gz" --python "$CONFORMANCE_PYTHON" \
    --binary target/debug/isobar --port "${CONFORMANCE_PORT:-18280}"
