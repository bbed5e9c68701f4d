#!/usr/bin/env python3
"""Plays a scene in a real Airflow whose plugin writes down what listeners hear, and keeps that for `crates/isobar/tests/listeners.rs`,
which plays the same scene in Isobar with the same plugin and the same Dags.

  listeners.py FOLDER OUT.json --python PYTHON --path PACKAGES --database ADDRESS [--port PORT] [--compare]

With --compare OUT.json is not written; exit code 1 where Airflow was heard to do something else.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import sys
import time

from airflow_server import Airflow
from rest import Refused, Rest

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "crates/isobar/tests/data/listeners"
DAGS = ("good", "bad", "killed", "marked", "ended")


def until(what: str, look, seconds: int = 300):
    """What `look` gives, once it gives anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = look()
        except (Refused, OSError):
            found = None
        if found:
            return found
        time.sleep(0.5)
    raise SystemExit(f"never seen: {what}")


class Scene:
    """What happens, step by step."""

    def __init__(self, rest: Rest, folder: pathlib.Path):
        self.rest, self.folder = rest, folder

    def heard(self) -> list[dict]:
        """What was heard until now."""
        file = self.folder / "evidence/heard.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def hear(self, **wanted) -> None:
        """Waits until something like this was heard."""
        until(str(wanted), lambda: [one for one in self.heard() if wanted.items() <= one.items()])

    def run(self, dag: str) -> str:
        """Starts a run."""
        return self.rest.post(f"/dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"]

    def play(self) -> None:
        """The scene."""
        for dag in DAGS:
            until(dag, lambda dag=dag: self.rest.patch(f"/dags/{dag}", {"is_paused": False}))
        good = self.run("good")
        self.hear(hook="run_success", dag="good")
        self.run("bad")
        self.hear(hook="run_failed", dag="bad")
        self.run("killed")
        self.hear(hook="run_success", dag="killed")
        for dag in ("marked", "ended"):
            run = self.run(dag)
            self.hear(hook="task_running", dag=dag)
            if dag == "marked":
                self.rest.patch(f"/dags/marked/dagRuns/{run}/taskInstances/waits", {"new_state": "failed"})
            else:
                self.rest.patch(f"/dags/ended/dagRuns/{run}", {"state": "success"})
            self.hear(hook="run_failed" if dag == "marked" else "run_success", dag=dag)
        self.rest.patch(f"/dags/good/dagRuns/{good}/taskInstances/makes", {"new_state": "skipped"})
        self.hear(hook="task_skipped", dag="good")
        asset = self.rest.get("/assets", uri_pattern="s3://listeners/made")["assets"][0]["id"]
        self.rest.post("/assets/events", {"asset_id": asset, "extra": {"rows": 5}})
        self.hear(hook="asset_event", dag=None)
        broken = self.folder / "dags/broken.py"
        broken.write_text("from airflow.sdk import DAG\nraise ValueError('broken')\n")
        self.hear(hook="error_new")
        broken.write_text("from airflow.sdk import DAG\nraise ValueError('broken again')\n")
        self.hear(hook="error_again", last="ValueError: broken again")


def settled(heard: list[dict]) -> dict:
    """What was heard, in the form in which it is compared: runs of a Dag in their order, the rest, which several processes say, by
    contents. An error that is found again and again was found again."""
    runs: dict[str, list] = {}
    rest = []
    for one in heard:
        one = {key: value for key, value in one.items() if key != "run"}
        if one["hook"].startswith("run_"):
            runs.setdefault(one["dag"], []).append(one)
        elif not (one["hook"] == "error_again" and one in rest):
            rest.append(one)
    # Airflow reads a file every so often; one that was not changed meanwhile is broken as it was.
    rest = [one for one in rest if (one["hook"], one.get("last")) != ("error_again", "ValueError: broken")]
    return {"runs": runs, "rest": sorted(rest, key=lambda one: json.dumps(one, sort_keys=True))}


def main() -> None:
    """Records, or compares."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--python", required=True)
    parser.add_argument("--path", default="")
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, default=18310)
    parser.add_argument("--compare", action="store_true")
    given = parser.parse_args()
    folder = given.folder.resolve()
    for name in ("dags", "plugins", "evidence"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    shutil.copy(DATA / "heard.py", folder / "dags")
    shutil.copy(DATA / "hearing.py", folder / "plugins")
    more = {
        "LISTENERS_EVIDENCE": str(folder / "evidence"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
    }
    address, _, _ = given.database.rpartition("/")
    database = f"{address.replace('postgres://', 'postgresql+psycopg2://')}/isobar_listeners"
    airflow = Airflow(folder, given.python, database, given.port, given.path, more)
    airflow.fresh_database(given.database)
    scene = Scene(Rest(airflow.url, "admin", "admin"), folder)
    try:
        airflow.start()
        scene.play()
        time.sleep(5)
    finally:
        airflow.stop()
    found = settled(scene.heard())
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if not given.compare:
        given.out.write_text(text)
    elif text != given.out.read_text():
        (folder / "heard.json").write_text(text)
        sys.exit(f"Airflow's listeners heard something else: compare {given.out} with {folder}/heard.json")


if __name__ == "__main__":
    main()
