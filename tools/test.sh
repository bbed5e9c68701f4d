#!/usr/bin/env bash
# Runs every test. Installs and starts what they need (PostgreSQL, an Airflow environment) and leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
# Outside the clone: as root, confined children run as users of their own, who must be able to walk here.
scratch=${ISOBAR_TEST_HOME:-/var/tmp/isobar-test-$(id -u)}
mkdir -p "$scratch"
chmod 755 "$scratch"

echo "==> Python environment with Airflow 3.3.2"
ISOBAR_TEST_PYTHON=${ISOBAR_TEST_PYTHON:-$(tools/test_python.sh "$scratch/python")}
export ISOBAR_TEST_PYTHON
ISOBAR_TEST_QUEUES=${ISOBAR_TEST_QUEUES:-$(tools/test_queues.sh "$scratch/queues")}
export ISOBAR_TEST_QUEUES

database=$(mktemp -d /tmp/isobar-postgres-XXXXXX)
trap 'tools/postgres.sh stop "$database/pg"; rm -rf "$database"' EXIT
chmod 755 "$database"
echo "==> PostgreSQL"
ISOBAR_TEST_POSTGRES=$(tools/postgres.sh start "$database/pg" "${ISOBAR_TEST_POSTGRES_PORT:-15432}")
export ISOBAR_TEST_POSTGRES

echo "==> building"
cargo build -q -p isobar
export ISOBAR_TEST_BINARY=$PWD/target/debug/isobar
# The same properties are tried on the same cases each time; another number, or `random`, tries others.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-20261122}
[ "$PROPTEST_RNG_SEED" != random ] || PROPTEST_RNG_SEED=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
echo "==> testing (properties from seed $PROPTEST_RNG_SEED)"
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast "$@"
else
    cargo test --workspace --no-fail-fast "$@"
fi
