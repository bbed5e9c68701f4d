#!/usr/bin/env bash
# Measures Isobar beside Airflow 3.3.2, one after the other on this machine: run.sh BENCH_FOLDER VENV OUT [WHAT …]
# BENCH_FOLDER holds bench.py and stack.py; VENV has Airflow 3.3.2 (with psycopg2 and asyncpg for its own PostgreSQL runs).
# WHAT: airflow airflow-tuned isobar-postgres isobar-sqlite (all). REPEAT (3), SHAPES (the harness's own list).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bench=$(realpath "$1") venv=$(realpath "$2") out=$3
shift 3
mkdir -p "$out" && out=$(realpath "$out")
root=$(realpath "$here/../..")
everything=(airflow airflow-tuned isobar-postgres isobar-sqlite)
what=("${@:-${everything[@]}}")
repeat=${REPEAT:-3}
shapes=${SHAPES:-chain50,fan200,mapped200,windmill40,windmill10,bash20,many_dags,one50}

export BENCH_FOLDER=$bench BENCH_VENV=$venv AIRFLOW_BIN=$venv/bin/airflow
export ISOBAR_BIN=${ISOBAR_BIN:-$root/target/release/isobar} ISOBAR_CONFIG=$here/isobar.toml
export BENCH_PORT=${BENCH_PORT:-18080} BENCH_URL=http://127.0.0.1:${BENCH_PORT:-18080} BENCH_API_WORKERS=1
scratch=$(mktemp -d /tmp/isobar-bench-XXXXXX) && chmod 755 "$scratch"
trap '"$root/tools/postgres.sh" stop "$scratch/pg"; rm -rf "$scratch"' EXIT
mkdir "$scratch/dags" && cp "$bench"/dags/*.py "$here"/dags/*.py "$scratch/dags/"
export BENCH_DAGS=$scratch/dags
PG_PORT=15499
"$root/tools/postgres.sh" start "$scratch/pg" $PG_PORT >/dev/null
BENCH_EXTRA_PIDS=postgres=$(head -1 "$scratch/pg/data/postmaster.pid")
export BENCH_EXTRA_PIDS

measure() { # NAME STACK
    local name=$1 stack=$2 log=$out/$1.jsonl
    export BENCH_WORK=$scratch/$name
    mkdir -p "$BENCH_WORK" && chmod 755 "$BENCH_WORK"
    : >"$log"
    psql -qh 127.0.0.1 -p $PG_PORT -U isobar isobar_test -c 'DROP DATABASE IF EXISTS bench WITH (FORCE)' -c 'CREATE DATABASE bench'
    echo "==> $name"
    python3 "$bench/stack.py" init "$stack"
    python3 "$bench/stack.py" up "$stack"
    python3 "$bench/bench.py" listed --count 108 --label "$name" --out "$log"
    python3 "$bench/bench.py" shapes --only one --label "$name" >/dev/null # the first task is slow everywhere
    python3 "$bench/bench.py" shapes --only "$shapes" --repeat "$repeat" --label "$name" --out "$log"
    python3 "$here/clocks.py" | tee "$out/$name.clocks.json"
    sleep 5
    python3 "$bench/bench.py" idle --seconds "${IDLE:-60}" --label "$name" --out "$log"
    python3 "$bench/bench.py" api --seconds "${API_SECONDS:-10}" --label "$name" --out "$log"
    for _ in 1 2 3; do python3 "$bench/stack.py" cold "$stack" | tee -a "$log"; done
    python3 "$bench/stack.py" down "$stack"
}

for name in "${what[@]}"; do
    unset BENCH_USER BENCH_PASSWORD AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL
    case $name in
    airflow | airflow-tuned)
        export BENCH_DB_URL=postgresql+psycopg2://isobar@127.0.0.1:$PG_PORT/bench
        if [ "$name" = airflow-tuned ]; then
            export AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.1 AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL=1
        fi
        measure "$name" "$bench/stacks/airflow-local.json"
        ;;
    isobar-postgres | isobar-sqlite)
        export BENCH_USER=bench BENCH_PASSWORD=bench-only-on-loopback
        if [ "$name" = isobar-sqlite ]; then
            export ISOBAR_DB_URL=sqlite://$scratch/$name/isobar.db
        else
            export ISOBAR_DB_URL=postgres://isobar@127.0.0.1:$PG_PORT/bench
        fi
        measure "$name" "$here/isobar-stack.json"
        ;;
    *) echo "run.sh: unknown stack $name" >&2 && exit 2 ;;
    esac
done
python3 "$bench/bench.py" table "$out"/*.jsonl >"$out/table.md"
echo "rows and table in $out"
