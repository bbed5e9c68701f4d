#!/usr/bin/env bash
# Seconds from the server's launch until 1,000 small Dag files are listed: thousand.sh BENCH_FOLDER VENV
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bench=$(realpath "$1")
BENCH_VENV=$(realpath "$2")
scratch=$(mktemp -d /tmp/isobar-thousand-XXXXXX) && chmod 755 "$scratch"
python3 "$bench/gen_dags.py" "$scratch/dags" 1000
export BENCH_VENV BENCH_DAGS=$scratch/dags BENCH_WORK=$scratch/work BENCH_PORT=${BENCH_PORT:-18080}
export BENCH_URL=http://127.0.0.1:$BENCH_PORT BENCH_USER=bench BENCH_PASSWORD=bench-only-on-loopback
export ISOBAR_BIN=${ISOBAR_BIN:-$(realpath "$here/../..")/target/release/isobar} ISOBAR_CONFIG=$here/isobar.toml
export ISOBAR_DB_URL=sqlite://$scratch/work/isobar.db
mkdir -p "$BENCH_WORK" && chmod 755 "$BENCH_WORK"
trap 'python3 "$bench/stack.py" down "$here/isobar-stack.json"; rm -rf "$scratch"' EXIT
python3 "$bench/stack.py" init "$here/isobar-stack.json"
began=$(date +%s.%N)
python3 "$bench/stack.py" up "$here/isobar-stack.json" >/dev/null
python3 "$bench/bench.py" listed --count 1000 --seconds 300
echo "from launch: $(python3 -c "import time; print(round(time.time() - $began, 1))") s"
