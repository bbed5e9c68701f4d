#!/usr/bin/env python3
"""What a task costs in a small and in a large Dag: scale.py SERVER_PID DATABASE_PID (environment as bench.py)."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["BENCH_FOLDER"])
import benchlib  # noqa: E402

SIZES = [("layers", size, size) for size in (50, 500, 5000)]
SIZES += [("join", size, size) for size in (50, 500, 5000)]
SIZES += [("mapped", length, length + 2) for length in (20, 200, 1000)]
TICK = os.sysconf("SC_CLK_TCK")


def spent(pid):
    """Processor seconds of a process and of its children, those that ended included; not of its grandchildren."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if stat.parent.name == str(pid):
            total += sum(map(int, fields[11:15]))
        elif fields[1] == str(pid):
            total += int(fields[11]) + int(fields[12])
    return total / TICK


def own(pid):
    """Processor seconds of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main():
    server, database = sys.argv[1:3]
    api = benchlib.api_from_env(os.environ.get("BENCH_URL"))
    print("| Dag | tasks | wall seconds | ms a task | server: CPU ms a task | database: CPU ms a task |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, size, tasks in SIZES:
        dag, run_id = f"{name}_{size}", f"scale_{time.time_ns()}"
        before, stored, began = own(server), spent(database), time.time()
        api.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None})
        while (run := api.get(f"/api/v2/dags/{dag}/dagRuns/{run_id}"))["state"] not in ("success", "failed"):
            time.sleep(0.2)
        if run["state"] != "success":
            sys.exit(f"the run of {dag} failed")
        wall = benchlib.ts(run["end_date"]) - began
        server_ms, stored_ms = ((now - then) / tasks * 1e3 for now, then in ((own(server), before), (spent(database), stored)))
        print(f"| {dag} | {tasks} | {wall:.2f} | {wall / tasks * 1e3:.2f} | {server_ms:.2f} | {stored_ms:.2f} |", flush=True)


main()
