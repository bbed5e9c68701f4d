"""Scenes in which the Dag changes, or its file goes, while a run of it is under way."""

from __future__ import annotations

import re
import time

from scene import Scene

HEAD = """\
from datetime import timedelta
from airflow.sdk import DAG, task
from life_evidence import RUN_TOLD, Waits, say

with DAG(dag_id="{dag}", schedule=None, max_active_runs=1, **RUN_TOLD):

    def step(name, **more):
        @task(task_id=name, **more)
        def tells(ti=None):
            say(ti.dag_id, f"{{ti.task_id}} try {{ti.try_number}}")

        return tells()

    def waits(name, **more):
        return Waits(task_id=name, gate="{dag}", **more)

"""


def write(s: Scene, dag: str, body: str) -> None:
    """A new version; waits until it was read."""
    there = s.rest.all("/dags", "dags")
    before = s.version(dag) if any(row["dag_id"] == dag for row in there) else 0
    text = HEAD.format(dag=dag) + "".join(f"    {line}\n" for line in body.splitlines())
    s.write_dag(f"{dag}.py", text)

    def read():
        if before == 0:
            s.rest.patch(f"/dags/{dag}", {"is_paused": False})
            return True
        return s.version(dag) > before or tasks_are(s, dag, text)

    s.until(f"{dag} is read", read)


def tasks_are(s: Scene, dag: str, text: str) -> bool:
    names = {task["task_id"] for task in s.rest.get(f"/dags/{dag}/tasks")["tasks"]}
    return all(f'"{name}"' in text for name in names)


def removed(s: Scene):
    dag = "change_removed"
    write(s, dag, 'waits("first") >> step("second") >> step("last")')
    s.run(dag, "r")
    s.wait_said(dag, "first try 1 begins")
    write(s, dag, 'waits("first") >> [step("added"), step("last")]')
    s.wait_ti(dag, "r", "second", "removed")
    s.facts("another version", dag, "r")
    s.open(dag)
    s.wait_run(dag, "r")
    s.facts("ended", dag, "r")
    s.call("marked", "PATCH", f"/dags/{dag}/dagRuns/r/taskInstances/second", {"new_state": "success"})
    write(s, dag, 'waits("first") >> step("second") >> step("last")')
    s.call("cleared", "POST", f"/dags/{dag}/dagRuns/r/clear", {"dry_run": False, "only_failed": False})
    s.wait_run(dag, "r")
    s.facts("restored and cleared", dag, "r")
    s.wait_said(dag, "run success", 2)
    s.tell("said", dag, ordered=False)


def renamed(s: Scene):
    dag = "change_renamed"
    write(s, dag, 'waits("first", retries=2, retry_delay=timedelta(seconds=0.1)) >> step("last")')
    s.run(dag, "r")
    s.wait_said(dag, "first try 1 begins")
    write(s, dag, 'step("other") >> step("last")')
    s.wait_ti(dag, "r", "other", "success")
    s.wait_run(dag, "r", "success")
    s.facts("while what is gone runs", dag, "r")
    s.open(dag)
    s.wait_run(dag, "r")
    time.sleep(2)
    s.facts("ended", dag, "r")
    s.tell("said", dag, ordered=False)


def mapped(s: Scene):
    dag = "change_mapped"
    body = '@task\ndef each(n, ti=None):\n    say(ti.dag_id, f"each {{n}} try {{ti.try_number}}")\n\neach.expand(n={})'
    write(s, dag, body.format([1, 2, 3]).replace("{{", "{").replace("}}", "}"))
    s.run(dag, "r")
    s.wait_run(dag, "r")
    s.facts("three", dag, "r")
    for label, values in (("two", [1, 2]), ("five", [1, 2, 3, 4, 5])):
        write_literal(s, dag, body, values)
        s.rest.post(f"/dags/{dag}/dagRuns/r/clear", {"dry_run": False, "only_failed": False})
        s.wait_run(dag, "r")
        s.facts(label, dag, "r")
    write_literal(s, dag, body, [])
    s.rest.post(f"/dags/{dag}/dagRuns/r/clear", {"dry_run": False, "only_failed": False, "run_on_latest_version": True})
    s.wait_run(dag, "r")
    s.facts("none", dag, "r")
    s.wait_said(dag, "run success", 4)
    # Which of those that ran at once ended last is chance.
    s.show("said", sorted(re.sub(r"each\[\d\] try=\d", "each[n]", line) for line in s.said(dag)))


def write_literal(s: Scene, dag: str, body: str, values: list) -> None:
    before = s.version(dag)
    text = body.format(values).replace("{{", "{").replace("}}", "}")
    s.write_dag(f"{dag}.py", HEAD.format(dag=dag) + "".join(f"    {line}\n" for line in text.splitlines()))
    s.until(f"{values} is read", lambda: s.version(dag) > before)


def broken(s: Scene):
    dag = "change_broken"
    write(s, dag, 'waits("first") >> step("second") >> step("last", trigger_rule="all_done")')
    s.run(dag, "r")
    s.wait_said(dag, "first try 1 begins")
    s.write_dag(f"{dag}.py", "from airflow.sdk import DAG\nraise RuntimeError('half written')\n")
    s.until("the error", lambda: s.rest.get("/importErrors", filename_pattern=f"%{dag}%")["total_entries"])
    answer = s.rest.get(f"/dags/{dag}")
    s.show("Dag", {key: answer[key] for key in ("is_stale", "has_import_errors")})
    s.open(dag)
    s.wait_run(dag, "r")
    s.facts("ended", dag, "r")
    write_back(s, dag, 'waits("first") >> step("second") >> step("last", trigger_rule="all_done")')
    s.rest.post(f"/dags/{dag}/clearTaskInstances", {"dag_run_id": "r", "dry_run": False, "only_failed": True})
    s.wait_run(dag, "r")
    s.facts("mended", dag, "r")
    s.tell("said", dag)


def write_back(s: Scene, dag: str, body: str) -> None:
    s.write_dag(f"{dag}.py", HEAD.format(dag=dag) + f"    {body}\n")
    s.until("no error", lambda: not s.rest.get("/importErrors", filename_pattern=f"%{dag}%")["total_entries"])
    s.until("the Dag", lambda: not s.rest.get(f"/dags/{dag}")["is_stale"])
    time.sleep(1)


def gone(s: Scene):
    dag = "change_gone"
    body = 'waits("first") >> step("second") >> step("last")'
    write(s, dag, body)
    s.run(dag, "r")
    s.run(dag, "q")
    s.wait_said(dag, "first try 1 begins")
    (s.folder / "dags" / f"{dag}.py").unlink()
    s.until("it is stale", lambda: s.rest.get(f"/dags/{dag}")["is_stale"])
    listed = [row["dag_id"] for row in s.rest.all("/dags", "dags") if row["dag_id"] == dag]
    s.show("listed", listed)
    s.call("triggered", "POST", f"/dags/{dag}/dagRuns", {"dag_run_id": "x", "logical_date": None})
    s.call("cleared", "POST", f"/dags/{dag}/clearTaskInstances", {"dag_run_id": "r", "dry_run": True, "only_failed": False})
    time.sleep(2)
    s.facts("running while it is gone", dag, "r")
    s.facts("queued while it is gone", dag, "q")
    s.open(dag)
    s.wait_ti(dag, "r", "first", "success")
    time.sleep(5)
    s.facts("ended while it is gone", dag, "r")
    s.facts("queued still", dag, "q")
    write_back(s, dag, body)
    s.wait_run(dag, "r")
    s.wait_run(dag, "q")
    s.facts("back", dag, "r")
    s.facts("the other", dag, "q")
    s.wait_said(dag, "run success .* run=q")
    s.tell("said", dag)


SCENES = {
    "change_removed": removed,
    "change_renamed": renamed,
    "change_mapped": mapped,
    "change_broken": broken,
    "change_gone": gone,
}
