"""Carries out the families' steps on a server, all families at once."""

from __future__ import annotations

import pathlib
import sys
import time

import families as f
import place
from rest import Refused, Rest, quote

ENDED = ("success", "failed")


class Family:
    """One family under way."""

    def __init__(self, name: str, steps: list, expected: list | None):
        self.name, self.steps = name, steps
        self.dags = sorted({dag for step in steps for dag in f.dags_of(step)})
        self.at = 0
        # Runs by Dag at each settling, as they were in the recording; without one, quiet is all that tells.
        self.expected = expected
        self.settled: list[dict[str, int]] = []
        self.quiet_since: float | None = None
        self.last: dict[str, int] = {}
        self.late = False
        self.waits_for_dag_until: float | None = None
        self.refused: list[str] = []

    @property
    def done(self) -> bool:
        return self.at >= len(self.steps)


class Driver:
    """`quiet`: seconds without a new run after which a family counts as settled where nothing tells how many runs to expect."""

    def __init__(self, rest: Rest, folder: pathlib.Path | None, quiet: float, patience: float, thinking: float):
        self.rest, self.folder, self.quiet, self.patience = rest, folder, quiet, patience
        self.thinking = thinking
        self.asked_since: dict[str, float] = {}

    def carry_out(self, group: list[Family], limit: float) -> None:
        end = time.monotonic() + limit
        for family in group:
            self.go_on(family)
        while waiting := [family for family in group if not family.done]:
            if time.monotonic() > end:
                for family in waiting:
                    family.late = True
                return
            time.sleep(0.5)
            self.answer({dag for family in waiting for dag in family.dags})
            runs = self.runs()
            for family in waiting:
                if family.steps[family.at][0] != "settle":
                    self.go_on(family)
                elif self.is_settled(family, [run for dag in family.dags for run in runs.get(dag, [])]):
                    family.settled.append(dict(family.last))
                    family.at += 1
                    family.quiet_since = None
                    self.go_on(family)

    def runs(self) -> dict[str, list]:
        found: dict[str, list] = {}
        for run in self.rest.all("/dags/~/dagRuns", "dag_runs", order_by="id"):
            found.setdefault(run["dag_id"], []).append(run)
        return found

    def go_on(self, family: Family) -> None:
        """Carries out the steps up to the next settling, or to a Dag that is not there yet."""
        while not family.done and family.steps[family.at][0] != "settle":
            try:
                self.carry_out_one(family, family.steps[family.at])
            except Refused as refused:
                if refused.status == 404 and time.monotonic() < (family.waits_for_dag_until or 0):
                    return
                if refused.status == 503:  # the team's Python is slow to answer; it is safe to try again
                    return
                family.refused.append(str(refused))
                print(refused, file=sys.stderr)
            family.at += 1

    def carry_out_one(self, family: Family, step: tuple) -> None:
        if step[0] == "on":
            for dag in step[1]:
                self.rest.patch(f"/dags/{quote(dag)}", {"is_paused": False})
        elif step[0] == "run":
            self.rest.post(f"/dags/{quote(step[1])}/dagRuns", step[2])
        elif step[0] == "parse":
            token = self.rest.get(f"/dags/{quote(step[1])}")["file_token"]
            self.rest.put(f"/parseDagFile/{quote(token)}")
        elif step[0] == "clear":
            self.rest.post(f"/dags/{quote(step[1])}/clearTaskInstances", step[2])
        elif step[0] == "file":
            place.add(self.folder, step[1])
            family.waits_for_dag_until = time.monotonic() + 120

    def is_settled(self, family: Family, runs: list) -> bool:
        counted = [run for run in runs if is_compared(run, runs)]
        count: dict[str, int] = {}
        for run in counted:
            count[run["dag_id"]] = count.get(run["dag_id"], 0) + 1
        now = time.monotonic()
        busy = any(not self.has_ended(run) for run in counted)
        if count != family.last or busy:
            family.last, family.quiet_since = count, None
        if busy:
            return False
        family.quiet_since = family.quiet_since or now
        quiet = now - family.quiet_since
        patience = max((self.patience, *family.steps[family.at][1:]))
        if family.expected is None or len(family.settled) >= len(family.expected):
            return quiet >= max(self.quiet, patience)
        wanted = family.expected[len(family.settled)]
        if all(count.get(dag, 0) >= number for dag, number in wanted.items()):
            return True
        return quiet >= patience

    def has_ended(self, run: dict) -> bool:
        if run["state"] in ENDED:
            return True
        if (waiting := f.LEFT_WAITING.get(run["dag_id"])) is None:
            return False
        path = f"/dags/{quote(run['dag_id'])}/dagRuns/{quote(run['dag_run_id'])}/taskInstances"
        instances = self.rest.all(path, "task_instances")
        return all(row["end_date"] is not None or row["task_id"] in waiting for row in instances) and bool(instances)

    def answer(self, dags: set[str]) -> None:
        """Answers, as people would, the tasks that ask."""
        if not any(dag in dags for dag, _ in f.ANSWERS):
            return
        try:
            asked = self.rest.all("/dags/~/dagRuns/~/hitlDetails", "hitl_details", response_received="false")
        except Refused:
            return
        for detail in asked:
            instance = detail["task_instance"]
            answer = f.ANSWERS.get((instance["dag_id"], instance["task_id"]))
            if answer is None or instance["state"] not in ("deferred", "awaiting_input"):
                continue
            # People think first. Airflow 3.3.2 fails a task that is queued again before its scheduler heard of the deferral.
            since = self.asked_since.setdefault(instance["id"], time.monotonic())
            if time.monotonic() - since < self.thinking:
                continue
            path = (
                f"/dags/{quote(instance['dag_id'])}/dagRuns/{quote(instance['dag_run_id'])}"
                f"/taskInstances/{quote(instance['task_id'])}/{instance['map_index']}/hitlDetails"
            )
            try:
                self.rest.patch(path, answer)
            except Refused as refused:
                print(refused, file=sys.stderr)


def is_compared(run: dict, siblings: list) -> bool:
    """Whether a run belongs to the outcome: all do, but scheduled ones beyond the first, and what today's partitions cause."""
    key = run.get("partition_key")
    if key and "|" not in key and key[:2] == "20" and key > "2025" and not key.startswith("2026-06-14"):
        return False
    if run["run_type"] != "scheduled":
        return True
    earlier = [
        other
        for other in siblings
        if other["dag_id"] == run["dag_id"]
        and other["run_type"] == "scheduled"
        and (other["run_after"], other["dag_run_id"]) < (run["run_after"], run["dag_run_id"])
    ]
    return len(earlier) < f.SCHEDULED.get(run["dag_id"], 1)
