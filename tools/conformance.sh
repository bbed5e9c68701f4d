#!/usr/bin/env bash
# Asks Airflow 3.3.2 afresh: every part in tools/conformance.d records new cases with a fresh seed and compares Isobar with them.
#
#     tools/conformance.sh [PART...]
#
# A part is a script that finds in its environment
#   CONFORMANCE_PYTHON   an interpreter with Airflow 3.3.2
#   CONFORMANCE_SCRATCH  an empty folder of its own, gone afterwards unless KEEP=1
#   CONFORMANCE_SEED     a number, new each day unless given; print it with what differs
#   CONFORMANCE_COUNT    roughly how many cases to record (default 1000)
# and AIRFLOW_HOME in that folder, with a migrated SQLite database to write to. It ends with an error where anything differs.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=${ISOBAR_TEST_HOME:-/var/tmp/isobar-test-$(id -u)}
mkdir -p "$scratch"
chmod 755 "$scratch"
CONFORMANCE_PYTHON=${CONFORMANCE_PYTHON:-${ISOBAR_TEST_PYTHON:-$(tools/test_python.sh "$scratch/python")}}
CONFORMANCE_SEED=${CONFORMANCE_SEED:-$(date +%Y%m%d)}
CONFORMANCE_COUNT=${CONFORMANCE_COUNT:-1000}
export CONFORMANCE_PYTHON CONFORMANCE_SEED CONFORMANCE_COUNT

work=$(mktemp -d /tmp/isobar-conformance-XXXXXX)
chmod 755 "$work"
trap '[ -n "${KEEP:-}" ] && echo "kept: $work" || rm -rf "$work"' EXIT
echo "==> Airflow $("$CONFORMANCE_PYTHON" -c 'import importlib.metadata as m; print(m.version("apache-airflow"))'), seed $CONFORMANCE_SEED"
AIRFLOW_HOME=$work/migrated AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR \
    "$CONFORMANCE_PYTHON" -m airflow db migrate >"$work/migrate.log" 2>&1 || { tail -20 "$work/migrate.log"; exit 1; }

failed=()
for script in tools/conformance.d/*.sh; do
    part=$(basename "$script" .sh)
    if [ $# -gt 0 ] && [[ " $* " != *" $part "* ]]; then continue; fi
    echo "==> $part"
    export CONFORMANCE_SCRATCH=$work/$part AIRFLOW_HOME=$work/$part/airflow
    export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
    export AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:///$AIRFLOW_HOME/airflow.db
    mkdir -p "$AIRFLOW_HOME"
    cp "$work/migrated/airflow.db" "$AIRFLOW_HOME/airflow.db"
    "$script" || failed+=("$part")
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "differs from Airflow: ${failed[*]} (seed $CONFORMANCE_SEED)"
    exit 1
fi
echo "==> as in Airflow"
