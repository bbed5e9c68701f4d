"""Writes docs/conformance.md: a row for each Dag, and why where something is not as in the recording."""

from __future__ import annotations

import collections
import pathlib

import families as f

HEAD = """\
# The example Dags, in Airflow and in Isobar

Written by `tools/conformance/examples.py table`; do not edit. Each Dag of `airflow/example_dags` and
`airflow/providers/standard/example_dags` of the installed wheels, and of `tools/conformance/dags` (ours, for what the examples do
not do), is read and run by a real Airflow {version} (LocalExecutor, PostgreSQL) and by Isobar. Compared are: the Dag and its
tasks as the REST API shows them; each run's type, state, conf, dates, partition; each instance's state, try, operator, queue, pool,
slots, priority weight, map index and its name; all tries; all XComs; asset events with extras, source and the runs they caused;
that no task began before those it waits for had ended; and import errors. What no two servers share (ids, times, paths, the
order of Python's sets) is made equal first: `tools/conformance/outcome.py` says what.

- `make test` compares with the recording in `crates/isobar/tests/data/example_dags.json.gz`.
- `make conformance` records afresh, with the slow Dags and those that install packages, and compares.
- Each Dag is triggered by hand with the logical date {date} and then unpaused, which gives it its first scheduled run too.
  Dags that hang together (assets, triggers, sensors) follow steps of their own; people's answers are given by the driver
  (`tools/conformance/families.py`).
- Where chance chooses a branch, the branch taken is renamed to the first, on both sides; random numbers count by their kind.
"""


def write(golden: dict, result: dict | None) -> None:
    differences = collections.defaultdict(list)
    for line in (result or {}).get("differences", []):
        differences[line.partition(":")[0]].append(line)
    rows, counts = [], collections.Counter()
    for dag, entry in sorted(golden["dags"].items(), key=lambda item: (where(item[1]), item[0])):
        runs = entry.get("runs", [])
        states = collections.Counter(run["state"] for run in runs)
        instances = collections.Counter(fact["state"] for run in runs for fact in run.get("tasks", {}).values())
        verdict = judge(dag, entry, result, differences[dag])
        counts[verdict.split(":")[0]] += 1
        rows.append(f"| `{dag}` | {where(entry)} | {listed(states)} | {listed(instances)} | {verdict} |")
    summary = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    text = HEAD.format(version=golden["version"], date=f.LOGICAL_DATE)
    text += f"\n{len(rows)} Dags: {summary}.\n\n"
    text += "| Dag | file | its runs in Airflow | their task instances | in Isobar |\n| --- | --- | --- | --- | --- |\n"
    text += "\n".join(rows) + "\n"
    text += notes()
    (pathlib.Path(__file__).resolve().parents[2] / "docs/conformance.md").write_text(text)


def where(entry: dict) -> str:
    return entry["definition"]["details"]["relative_fileloc"]


def listed(counts: dict) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items(), key=str)) or "none"


def judge(dag: str, entry: dict, result: dict | None, differences: list) -> str:
    if dag in f.NOT_RUN:
        return f"read alike, not run: {f.NOT_RUN[dag]}"
    if differences:
        return "differs: " + differences[0].partition(": ")[2].replace("|", "/")
    if "runs" not in entry:
        return "read alike, not run"
    if result is None or "runs" not in result["dags"].get(dag, {}):
        return "read alike, run by `make conformance`"
    return "same" + (": where the clock chooses alike" if dag in f.BY_CLOCK else "")


def notes() -> str:
    text = "\n## Notes\n\n"
    text += "- `example_kubernetes_executor.py` and `example_local_kubernetes_executor.py` make no Dags without the Kubernetes\n"
    text += "  client: both are read without an error, in both.\n"
    for family, why in sorted(f.SLOW.items()):
        text += f"- `{family}` is run by `make conformance` only: {why}.\n"
    text += f"- These install from a package index, by `make conformance` only: {', '.join(f'`{dag}`' for dag in sorted(f.INDEX))}.\n"
    for dag, kind in sorted(f.BY_CLOCK.items()):
        text += f"- `{dag}` goes by the clock ({kind}): runs are compared where the recording was made in the same class of time.\n"
    for dag, tasks in sorted(f.LEFT_WAITING.items()):
        text += f"- `{dag}` waits for an hour; it is compared while {', '.join(f'`{task}`' for task in sorted(tasks))} wait.\n"
    for dag, number in sorted(f.SCHEDULED.items()):
        if number == 0:
            text += f"- Scheduled runs of `{dag}` are left out: they depend on the minute in which it was unpaused.\n"
    text += "- Runs for partitions of today, which hourly producers get as soon as they are unpaused, are left out.\n"
    return text
