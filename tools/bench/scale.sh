#!/usr/bin/env bash
# What a task costs in Dags of 50 to 5,000 tasks and in mappings over 20 to 1,000 values, on PostgreSQL: scale.sh BENCH_FOLDER VENV
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$here/../..")
BENCH_FOLDER=$(realpath "$1")
BENCH_VENV=$(realpath "$2")
scratch=$(mktemp -d /tmp/isobar-scale-XXXXXX) && chmod 755 "$scratch"
export BENCH_FOLDER BENCH_VENV BENCH_DAGS=$scratch/dags BENCH_WORK=$scratch/work BENCH_PORT=${BENCH_PORT:-18080}
export BENCH_URL=http://127.0.0.1:$BENCH_PORT BENCH_USER=bench BENCH_PASSWORD=bench-only-on-loopback
export ISOBAR_BIN=${ISOBAR_BIN:-$root/target/release/isobar} ISOBAR_CONFIG=$here/isobar.toml
PG_PORT=15499
trap 'python3 "$BENCH_FOLDER/stack.py" down "$here/isobar-stack.json"; "$root/tools/postgres.sh" stop "$scratch/pg"; rm -rf "$scratch"' EXIT
cp -r "$here/scale" "$BENCH_DAGS"
mkdir "$BENCH_WORK" && chmod 755 "$BENCH_WORK"
ISOBAR_DB_URL=$("$root/tools/postgres.sh" start "$scratch/pg" $PG_PORT)
export ISOBAR_DB_URL
python3 "$BENCH_FOLDER/stack.py" init "$here/isobar-stack.json"
python3 "$BENCH_FOLDER/stack.py" up "$here/isobar-stack.json" >/dev/null
python3 "$BENCH_FOLDER/bench.py" listed --count 9 >/dev/null
server=$(pgrep -f "^$ISOBAR_BIN .*standalone" | head -1)
python3 "$here/scale.py" "$server" "$(head -1 "$scratch/pg/data/postmaster.pid")"
