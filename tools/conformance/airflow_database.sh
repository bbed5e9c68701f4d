# To be sourced by a part of tools/conformance.d: a throw-away PostgreSQL for Airflow's side, whose driver the wheels do not bring.
# Sets `packages`, a folder for Airflow's PYTHONPATH, and `address`; the database is stopped and removed when the part ends.
packages=$CONFORMANCE_SCRATCH/packages
if command -v uv >/dev/null; then
    uv pip install -q --python "$CONFORMANCE_PYTHON" --target "$packages" psycopg2-binary
else
    "$CONFORMANCE_PYTHON" -m pip install -q --disable-pip-version-check --target "$packages" psycopg2-binary
fi
database=$(mktemp -d /tmp/isobar-postgres-XXXXXX)
trap 'tools/postgres.sh stop "$database/pg"; rm -rf "$database"' EXIT
chmod 755 "$database"
address=$(tools/postgres.sh start "$database/pg" "${CONFORMANCE_POSTGRES_PORT:-15439}")
