#!/usr/bin/env python3
"""Hold the API's start_date and end_date against the clocks that tasks recorded: clocks.py (environment as bench.py)."""

import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.environ["BENCH_FOLDER"])
import benchlib  # noqa: E402

DAG = "bench_clocks"


def spread(values):
    values = sorted(values)
    return {
        "min_ms": round(values[0] * 1e3, 2),
        "median_ms": round(statistics.median(values) * 1e3, 2),
        "max_ms": round(values[-1] * 1e3, 2),
    }


def main():
    api = benchlib.api_from_env(os.environ.get("BENCH_URL"))
    if api.get(f"/api/v2/dags/{DAG}")["is_paused"]:
        api.call("PATCH", f"/api/v2/dags/{DAG}", {"is_paused": False})
    run_id = f"clocks_{int(time.time() * 1000)}"
    api.call("POST", f"/api/v2/dags/{DAG}/dagRuns", {"dag_run_id": run_id, "logical_date": None})
    while api.get(f"/api/v2/dags/{DAG}/dagRuns/{run_id}")["state"] not in ("success", "failed"):
        time.sleep(0.5)
    before_entry, after_exit = [], []
    for ti in api.pages(f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances", "task_instances"):
        path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/{ti['task_id']}/xcomEntries/return_value"
        value = api.get(path)["value"]
        value = json.loads(value) if isinstance(value, str) else value
        before_entry.append(value["entry"] - benchlib.ts(ti["start_date"]))
        after_exit.append(benchlib.ts(ti["end_date"]) - value["exit"])
    print(json.dumps({"entry_after_start_date": spread(before_entry), "end_date_after_exit": spread(after_exit)}))


if __name__ == "__main__":
    main()
