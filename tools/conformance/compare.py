"""Compares two outcomes."""

from __future__ import annotations

import datetime as dt

import families as f


def clock() -> dict[str, str]:
    """The classes of time in which an outcome was made, for Dags that ask the clock."""
    now = dt.datetime.now(dt.timezone.utc)
    weekday = "Monday" if now.weekday() == 0 else "weekend" if now.weekday() >= 5 else "working day"
    return {"weekday": weekday, "half of day": "from 15:00" if now.hour >= 15 else "until 15:00"}


def compare(golden: dict, found: dict) -> list[str]:
    """What differs, a line each; runs are compared where both have them."""
    lines: list[str] = []
    differ(golden["import_errors"], found["import_errors"], "import errors", lines)
    for dag in sorted(golden["dags"].keys() | found["dags"].keys()):
        ours, theirs = found["dags"].get(dag), golden["dags"].get(dag)
        if ours is None and any(dag in dags for dags in f.LATER.values()):
            continue  # its family was not run
        if ours is None or theirs is None:
            lines.append(f"{dag}: only in {'the recording' if ours is None else 'this server'}")
            continue
        differ(theirs["definition"], ours["definition"], f"{dag}: definition", lines)
        same_clock = all(
            golden["clock"][kind] == found["clock"][kind] for name, kind in f.BY_CLOCK.items() if name == dag
        )
        if same_clock and "runs" in theirs and "runs" in ours:
            compare_runs(theirs["runs"], ours["runs"], dag, lines)
    return lines


def compare_runs(theirs: list, ours: list, dag: str, lines: list[str]) -> None:
    """Pairs runs of the same kind; those of equal kind in the order in which their outcomes sort."""
    groups: dict[tuple, list[list]] = {}
    for side, runs in enumerate((theirs, ours)):
        for run in runs:
            key = (run["type"], run["id"] if run["id"].startswith("conformance") else "", run.get("partition_key"))
            groups.setdefault(key, [[], []])[side].append(run)
    for (kind, name, partition), (expected, found) in sorted(groups.items(), key=lambda item: repr(item[0])):
        label = f"{dag}: {kind} run {name or partition or ''}".rstrip()
        # Equal ones first, so that one odd run does not shift all others.
        rest = list(found)
        unmatched = []
        for run in expected:
            if run in rest:
                rest.remove(run)
            else:
                unmatched.append(run)
        for one, other in zip(unmatched, rest):
            differ(one, other, label, lines)
        if len(unmatched) != len(rest):
            lines.append(f"{label}: {len(expected)} runs in the recording, {len(found)} here")


def differ(expected, found, where: str, lines: list[str]) -> None:
    """Adds a line for each place where two values differ."""
    if expected == found and type(expected) is type(found):
        return
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys(), key=str):
            if key not in found:
                lines.append(f"{where}: {key}: missing here, {brief(expected[key])} in the recording")
            elif key not in expected:
                lines.append(f"{where}: {key}: {brief(found[key])} here, missing in the recording")
            else:
                differ(expected[key], found[key], f"{where}: {key}", lines)
        return
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found)):
            differ(one, other, f"{where}[{index}]", lines)
        return
    lines.append(f"{where}: {brief(found)} here, {brief(expected)} in the recording")


def brief(value) -> str:
    text = repr(value)
    return text if len(text) < 300 else text[:300] + "…"
