#!/usr/bin/env bash
# Timetables of every kind, in a real Airflow and in Isobar side by side and by one clock; ends with an error where anything differs.
set -euo pipefail
cd "$(dirname "$0")/../.."
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

cargo build -q -p isobar
python3 tools/conformance/dates.py --path "$packages" target/debug/isobar "$scratch/run" "$CONFORMANCE_PYTHON" "$address" \
    "${CONFORMANCE_PORT:-18280}"
