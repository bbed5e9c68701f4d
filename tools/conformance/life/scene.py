"""What a scene has at hand: a client, the folder, and what it shows."""

from __future__ import annotations

import json
import pathlib
import re
import time

from outcome import plain, without
from rest import Refused, Rest, quote

ENDED = ("success", "failed")
# What no two servers share, or what goes by the clock.
FREE = {
    "id", "start_date", "end_date", "duration", "queued_when", "scheduled_when", "hostname", "unixname", "pid", "dag_version",
    "dag_versions", "executor", "last_scheduling_decision", "queued_at", "run_after", "trigger", "triggerer_job", "bundle_version",
    "dag_version_id", "created_at", "updated_at", "completed_at", "event_log_id", "when", "task_instance_id", "queued_dttm",
    "dag_run_id", "last_heartbeat_at", "file_token", "fileloc", "last_parse_duration", "last_parsed_time",
}  # fmt: skip


# In texts: process numbers, and instants as Python writes them.
CHANGING = re.compile(r"(PID: |start_date=|end_date=|context_carrier=)(?:\d+|None|\{\}|datetime\.datetime\([^()]*(?:\(0\))?\))")


class Scene:
    def __init__(self, rest: Rest, folder: pathlib.Path, kind: str):
        self.rest, self.folder, self.kind = rest, folder, kind
        self.shown: list = []

    def show(self, label: str, value) -> None:
        text = CHANGING.sub(lambda found: found[1] + "<any>", json.dumps(plain(value)))
        self.shown.append([label, json.loads(text)])

    def call(self, label: str, method: str, path: str, body=None):
        """A request whose answer is shown, refused or not; lists of instances in one order, as Airflow has none."""
        answer = self.ask(method, path, body)
        if isinstance(answer[1], dict) and "task_instances" in answer[1]:
            answer[1]["task_instances"].sort(key=lambda ti: (ti["task_id"], ti["map_index"], ti["try_number"]))
        self.show(label, without(answer, FREE))
        return answer[1]

    def ask(self, method: str, path: str, body=None):
        try:
            return [200, self.rest.call(method, "/api/v2" + path, body)]
        except Refused as refused:
            return [refused.status, str(refused).split(": ", 1)[-1].split(" ", 1)[-1]]

    def until(self, what: str, ready, seconds: float = 60):
        """Waits; where it never comes that is shown, and the scene goes on."""
        # Airflow's loops take their time, the more on a busy machine.
        end = time.monotonic() + seconds * (4 if self.kind == "airflow" else 1)
        while True:
            try:
                found = ready()
            except Refused:
                found = None
            if found:
                return found
            if time.monotonic() > end:
                self.shown.append([f"never: {what}", None])
                return None
            time.sleep(0.1)

    # Runs and instances

    def run(self, dag: str, run_id: str, **more):
        return self.rest.post(f"/dags/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": None, **more})

    def ti(self, dag: str, run_id: str, task: str, index: int | None = None) -> dict:
        tail = "" if index is None else f"/{index}"
        return self.rest.get(f"/dags/{dag}/dagRuns/{quote(run_id)}/taskInstances/{task}{tail}")

    def wait_ti(self, dag: str, run_id: str, task: str, state, index: int | None = None, seconds: float = 60):
        states = (state,) if isinstance(state, str) or state is None else state
        return self.until(
            f"{task} {'' if index is None else index} {state}",
            lambda: self.ti(dag, run_id, task, index)["state"] in states,
            seconds,
        )

    def wait_run(self, dag: str, run_id: str, state=ENDED, seconds: float = 90):
        states = (state,) if isinstance(state, str) else state
        path = f"/dags/{dag}/dagRuns/{quote(run_id)}"
        return self.until(f"{run_id} {state}", lambda: self.rest.get(path)["state"] in states, seconds)

    def facts(self, label: str, dag: str, run_id: str) -> None:
        """The run, its instances, and all their tries."""
        base = f"/dags/{dag}/dagRuns/{quote(run_id)}"
        status, run = self.ask("GET", base)
        if status != 200:
            self.show(label, {"run": [status, run]})
            return
        instances = self.rest.all(f"{base}/taskInstances", "task_instances")
        tasks, tries = {}, {}
        for ti in sorted(instances, key=lambda ti: (ti["task_id"], ti["map_index"])):
            name = ti["task_id"] if ti["map_index"] < 0 else f"{ti['task_id']}[{ti['map_index']}]"
            dates = "".join("-" if ti[key] is None else "+" for key in ("start_date", "end_date"))
            tasks[name] = [ti["state"], ti["try_number"], ti["max_tries"], dates, ti["note"]]
            index = "" if ti["map_index"] < 0 else f"/{ti['map_index']}"
            rows = self.rest.get(f"{base}/taskInstances/{quote(ti['task_id'])}{index}/tries")["task_instances"]
            if len(rows) > 1 or (rows and rows[0]["state"] != ti["state"]):
                tries[name] = [
                    [row["try_number"], row["state"], "".join("-" if row[key] is None else "+" for key in ("start_date", "end_date"))]
                    for row in rows
                ]
        dates = "".join("-" if run[key] is None else "+" for key in ("queued_at", "start_date", "end_date"))
        self.show(label, {
            "run": [run["state"], dates, run["note"], run["triggered_by"], run["conf"]], "tasks": tasks, "tries": tries,
        })  # fmt: skip

    # Files

    def open(self, gate: str) -> None:
        (self.folder / "work" / gate).touch()

    def write(self, name: str, text: str) -> None:
        (self.folder / "work" / name).write_text(text)

    def said(self, name: str) -> list[str]:
        path = self.folder / "work" / f"{name}.said"
        return path.read_text().splitlines() if path.exists() else []

    def tell(self, label: str, name: str, ordered: bool = True) -> None:
        lines = self.said(name)
        self.show(label, lines if ordered else sorted(lines))

    def wait_said(self, name: str, pattern: str, times: int = 1, seconds: float = 60):
        return self.until(
            f"{name} says {pattern}", lambda: sum(bool(re.search(pattern, line)) for line in self.said(name)) >= times, seconds
        )

    def write_dag(self, name: str, text: str) -> None:
        target, draft = self.folder / "dags" / name, self.folder / f"{name}.draft"
        draft.write_text(text)
        draft.chmod(0o644)
        draft.rename(target)

    def version(self, dag: str) -> int:
        rows = self.rest.all(f"/dags/{dag}/dagVersions", "dag_versions")
        return max((row["version_number"] for row in rows), default=0)
