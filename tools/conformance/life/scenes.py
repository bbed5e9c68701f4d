"""The scenes: what is done to runs, and what is looked at afterwards."""

from __future__ import annotations

import re
import time

from changing import SCENES as CHANGING
from outcome import without
from scene import FREE, Scene

KILLS = ("clear", "clear_run", "success", "failed", "skipped", "run_success", "run_failed", "requeue", "delete_ti", "delete_run", "pause")
DAGS = {
    *(f"kill_{case}" for case in KILLS), "kill_delete_dag", "contexts", "contexts_killed", "contexts_killed_again",
    "contexts_keys", "contexts_lists", "contexts_late", "mailed", "linked", "flow", "tries", "daily", "past", "asked", "limited",
    "policy_changed", *(f"wait_{case}" for case in ("clear", "success", "failed", "run_failed", "delete_run", "delete_ti")),
}  # fmt: skip
# (scene, label): what differs on purpose; docs/differences.md says why.
ON_PURPOSE: set[tuple[str, str]] = set()


def settle(s: Scene, *names: str, seconds: float = 4) -> None:
    """Waits until nothing more is said: callbacks of runs come late, where they come."""
    if not any(re.match("run (success|failure)", line) for name in names for line in s.said(name)):
        seconds = 25
    before, since = None, time.monotonic()
    while time.monotonic() - since < seconds:
        now = [s.said(name) for name in names]
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.2)


# What happens to a task that runs


def kill(case: str, act, ends=True):
    def scene(s: Scene):
        dag = f"kill_{case}"
        s.run(dag, "r")
        s.wait_said(dag, "works try 1 begins")
        s.wait_ti(dag, "r", "works", "running")
        act(s, dag, f"/dags/{dag}/dagRuns/r")
        if ends:
            s.wait_run(dag, "r")
        settle(s, dag)
        s.open(dag)
        s.facts("afterwards", dag, "r")
        s.tell("said", dag)
        s.tell("heard", f"listener_{dag}")

    return scene


def clear_task(s, dag, base):
    s.call("cleared", "POST", f"/dags/{dag}/clearTaskInstances", {
        "dag_run_id": "r", "task_ids": ["works"], "dry_run": False, "only_failed": False, "note": "once more",
    })  # fmt: skip


def clear_run(s, dag, base):
    s.call("cleared", "POST", f"{base}/clear", {"dry_run": False, "only_failed": False})


def mark(state):
    return lambda s, dag, base: s.call("marked", "PATCH", f"{base}/taskInstances/works", {"new_state": state})


def mark_run(state, note=None):
    def act(s, dag, base):
        s.call("marked", "PATCH", base, {"state": state, **({"note": note} if note else {})})
        if state == "queued":
            s.wait_run(dag, "r", "running")
            s.open(dag)

    return act


def delete_ti(s, dag, base):
    s.call("deleted", "DELETE", f"{base}/taskInstances/works")
    s.wait_said(dag, "is killed", seconds=20)


def delete_run(s, dag, base):
    s.call("refused", "DELETE", base)
    s.call("marked", "PATCH", base, {"state": "failed"})
    s.call("deleted", "DELETE", base)
    s.wait_said(dag, "is (killed|cancelled)", seconds=20)


def pause(s, dag, base):
    s.call("paused", "PATCH", f"/dags/{dag}", {"is_paused": True})
    s.open(dag)
    s.wait_ti(dag, "r", "works", "success")
    time.sleep(3)
    s.facts("while paused", dag, "r")
    s.rest.patch(f"/dags/{dag}", {"is_paused": False})


def delete_dag(s: Scene):
    dag = "kill_delete_dag"
    s.run(dag, "r")
    s.wait_said(dag, "works try 1 begins")
    s.wait_ti(dag, "r", "works", "running")
    s.call("refused", "DELETE", f"/dags/{dag}")
    s.open(dag)
    s.wait_run(dag, "r")
    s.call("deleted", "DELETE", f"/dags/{dag}")
    s.tell("said", dag)


def waiting(case: str, act, resumes=None):
    def scene(s: Scene):
        dag = f"wait_{case}"
        s.run(dag, "r")
        s.wait_said(dag, "trigger wait_.*_1 begins")
        s.wait_ti(dag, "r", "defers", "deferred")
        act(s, dag, f"/dags/{dag}/dagRuns/r")
        s.wait_said(dag, "trigger .* is (killed|cancelled)", seconds=20)
        if resumes:
            s.wait_said(dag, f"trigger {dag}_{resumes} begins")
            s.open(f"{dag}_{resumes}")
        if not case.startswith("delete"):
            s.wait_run(dag, "r")
        settle(s, dag)
        s.facts("afterwards", dag, "r")
        # The trigger and the tasks are processes of their own.
        s.tell("said", dag, ordered=False)

    return scene


def clear_waiting(s, dag, base):
    s.rest.post(f"/dags/{dag}/clearTaskInstances", {"dag_run_id": "r", "task_ids": ["defers"], "dry_run": False, "only_failed": False})


def mark_waiting(state):
    return lambda s, dag, base: s.rest.patch(f"{base}/taskInstances/defers", {"new_state": state})


def delete_waiting_ti(s, dag, base):
    s.call("deleted", "DELETE", f"{base}/taskInstances/defers")


# What callbacks and listeners are told


def contexts(dag: str, more=None, seconds=60):
    def scene(s: Scene):
        s.run(dag, "r", **(more or {}))
        s.wait_run(dag, "r", seconds=seconds)
        settle(s, dag, f"listener_{dag}", seconds=6)
        s.facts("afterwards", dag, "r")
        s.tell("said", dag, ordered=False)
        s.tell("heard", f"listener_{dag}", ordered=False)
        s.tell("heard of runs", f"runs_{dag}")

    return scene


def mailed(s: Scene):
    s.run("mailed", "r")
    s.wait_run("mailed", "r")
    settle(s, "mail", seconds=6)
    s.facts("afterwards", "mailed", "r")
    s.tell("mail", "mail", ordered=False)


def linked(s: Scene):
    s.run("linked", "r")
    s.wait_run("linked", "r")
    s.facts("afterwards", "linked", "r")
    for task, index in (
        ("first", None),
        ("fails", None),
        ("unknown", None),
        ("long", None),
        ("never", None),
        ("secret", None),
        ("mapped", 0),
        ("mapped", 2),
    ):
        tail = "" if index is None else f"/{index}"
        name = f"{task}{'' if index is None else index}"
        base = f"/dags/linked/dagRuns/r/taskInstances/{task}"
        links = f"{base}/links" if index is None else f"{base}/links?map_index={index}"
        s.call(f"links of {name}", "GET", links)
        s.show(f"rendered {name}", s.rest.get(f"{base}{tail}")["rendered_fields"])


def policies(s: Scene):
    changed = without(s.rest.get("/dags/policy_changed/details"), FREE)
    s.show("Dag", {key: changed[key] for key in ("tags", "doc_md", "owners")})
    task = s.rest.get("/dags/policy_changed/tasks/works")
    s.show("task", {key: task[key] for key in ("retries", "queue", "doc_md", "priority_weight")})
    s.run("policy_changed", "r")
    s.wait_run("policy_changed", "r")
    ti = s.ti("policy_changed", "r", "works")
    s.show("instance", {key: ti[key] for key in ("state", "max_tries", "priority_weight", "try_number")})
    s.call("variable", "GET", "/dags/policy_changed/dagRuns/r/taskInstances/works/xcomEntries/return_value")
    s.until("import errors", lambda: s.rest.get("/importErrors")["total_entries"] >= 4)
    errors = s.rest.all("/importErrors", "import_errors")
    s.show("errors", sorted([e["filename"], e["stack_trace"].strip().splitlines()[-1]] for e in errors if "policy" in e["filename"]))
    s.show("Dags", sorted(d["dag_id"] for d in s.rest.all("/dags", "dags") if d["dag_id"].startswith("policy_")))


# Runs that really ran, cleared and marked


def flow(s: Scene):
    dag, run = "flow", "flow"
    base = f"/dags/{dag}/dagRuns/{run}"

    def clear(label, wait=True, **body):
        s.rest.post(f"/dags/{dag}/clearTaskInstances", {"dag_run_id": run, "dry_run": False, "only_failed": False, **body})
        if wait:
            s.wait_run(dag, run)
            s.facts(label, dag, run)

    s.run(dag, run)
    s.wait_run(dag, run)
    s.facts("ran", dag, run)
    s.write(f"flow_{run}", "4")
    clear("longer", task_ids=["first"], include_downstream=True)
    s.write(f"flow_{run}", "1")
    clear("shorter", task_ids=["first"], include_downstream=True)
    s.write(f"flow_{run}", "3")
    clear("longer without what is below", task_ids=["first"])
    clear("one index and below", task_ids=[["each", 0]], include_downstream=True)
    clear("above a group", task_ids=[["pair.two", 0]], include_upstream=True)
    clear("a setup", task_ids=["opens"])
    clear("inside", task_ids=["inside"])
    s.open(f"flow_{run}_fails_1")
    clear("whole, one fails", task_ids=["first"], include_downstream=True)
    (s.folder / "work" / f"flow_{run}_fails_1").unlink()
    clear("only failed", only_failed=True, task_ids=None)
    s.open(f"flow_{run}_fails_0")
    clear("fails again", task_ids=["each"], include_downstream=True)
    s.call("marked", "PATCH", f"{base}/taskInstances/each/0", {"new_state": "success", "note": "by hand"})
    s.wait_run(dag, run, "success")
    s.facts("marked success", dag, run)
    s.call("again", "PATCH", f"{base}/taskInstances/each/0", {"new_state": "success"})
    s.call("fails by hand", "PATCH", f"{base}/taskInstances/inside", {"new_state": "failed", "include_downstream": True})
    time.sleep(3)
    s.facts("marked failed after the end", dag, run)
    s.call("group", "PATCH", f"{base}/taskGroupInstances/pair", {"new_state": "skipped"})
    s.facts("group skipped", dag, run)
    s.call("note", "PATCH", base, {"note": "what is this"})
    s.call("queued again", "PATCH", base, {"state": "queued"})
    s.wait_run(dag, run)
    s.facts("queued again", dag, run)
    s.call("cleared whole", "POST", f"{base}/clear", {"dry_run": False, "only_failed": False, "note": "all"})
    s.wait_run(dag, run)
    s.facts("cleared whole", dag, run)
    settle(s, dag)
    s.show("said of runs", [line for line in s.said(dag) if line.startswith("run ")])


def tries(s: Scene):
    dag, run = "tries", "tries"
    base = f"/dags/{dag}/dagRuns/{run}"

    def clear(task):
        s.rest.post(f"/dags/{dag}/clearTaskInstances", {"dag_run_id": run, "dry_run": False, "only_failed": False, "task_ids": [task]})

    s.run(dag, run)
    s.wait_ti(dag, run, "patient", "up_for_retry")
    s.wait_ti(dag, run, "flaky", "failed")
    s.wait_ti(dag, run, "pokes", "up_for_reschedule")
    s.facts("waits", dag, run)
    clear("patient")
    s.wait_said(dag, "^patient try 2")
    s.wait_ti(dag, run, "patient", "up_for_retry")
    clear("flaky")
    s.wait_said(dag, "^flaky try 6")
    s.wait_ti(dag, run, "flaky", "failed")
    s.facts("cleared", dag, run)
    s.call("patient marked", "PATCH", f"{base}/taskInstances/patient", {"new_state": "failed"})
    s.call("pokes marked", "PATCH", f"{base}/taskInstances/pokes", {"new_state": "skipped"})
    s.wait_run(dag, run)
    s.facts("marked", dag, run)
    clear("pokes")
    s.wait_ti(dag, run, "pokes", "up_for_reschedule")
    s.open(f"tries_{run}_well")
    clear("flaky")
    clear("patient")
    s.wait_run(dag, run)
    s.facts("ended", dag, run)
    for task in ("flaky", "patient", "pokes"):
        s.call(f"tries of {task}", "GET", f"{base}/taskInstances/{task}/tries")
        s.call(f"try 1 of {task}", "GET", f"{base}/taskInstances/{task}/tries/1")
    settle(s, dag)
    s.tell("said", dag, ordered=False)


def limited(s: Scene):
    dag = "limited"
    s.run(dag, "one")
    s.wait_said(dag, "held try 1 begins")
    s.wait_ti(dag, "one", "waiting", "scheduled")
    base = f"/dags/{dag}/dagRuns/one/taskInstances/waiting"
    s.call("marked", "PATCH", base, {"new_state": "success"})
    time.sleep(2)
    s.facts("marked while scheduled", dag, "one")
    s.rest.post(f"/dags/{dag}/clearTaskInstances", {"dag_run_id": "one", "dry_run": False, "only_failed": False, "task_ids": ["waiting"]})
    s.wait_ti(dag, "one", "waiting", "scheduled")
    s.call("deleted", "DELETE", f"/dags/{dag}/dagRuns/one/taskInstances/below")
    s.open(dag)
    s.wait_ti(dag, "one", "waiting", "success")


def asked(s: Scene):
    cases = {
        "plain": {},
        "dated": {"logical_date": "2024-03-10T02:30:00+05:00"},
        "interval": {
            "logical_date": "2024-03-10T00:00:00Z",
            "data_interval_start": "2024-03-01T00:00:00Z",
            "data_interval_end": "2024-03-08T00:00:00Z",
        },
        "conf": {"conf": {"n": 7, "more": [1, None]}, "note": "why not"},
        "after": {"run_after": "2024-03-11T00:00:00Z"},
        "partition": {"partition_key": "2024-03-12"},
    }
    for name, body in cases.items():
        s.call(f"made {name}", "POST", "/dags/asked/dagRuns", {"dag_run_id": name, "logical_date": None, **body})
    for name in cases:
        if name == "partition":
            continue
        s.wait_run("asked", name)
        s.facts(f"ran {name}", "asked", name)
        path = f"/dags/asked/dagRuns/{name}/taskInstances/tells/xcomEntries/return_value?deserialize=true"
        s.show(f"saw {name}", s.rest.get(path)["value"])


# Backfills


def backfill(s: Scene, dag: str, start: int, end: int, **more):
    body = {"dag_id": dag, "from_date": f"2026-01-{start:02}T00:00:00Z", "to_date": f"2026-01-{end:02}T00:00:00Z", **more}
    answer = s.ask("POST", "/backfills", body)
    s.show(f"backfill of {dag} {start}-{end}", without(answer, FREE))
    return answer[1]["id"] if answer[0] == 200 else None


def ended(s: Scene, number) -> None:
    s.until(f"backfill {number} ends", lambda: s.rest.get(f"/backfills/{number}")["completed_at"], 120)


def runs(s: Scene, label: str, dag: str) -> None:
    rows = s.rest.all(f"/dags/{dag}/dagRuns", "dag_runs", order_by="logical_date")
    s.show(label, [[row["logical_date"][8:10], row["state"], row["run_type"], row["conf"], row["triggered_by"]] for row in rows])


def daily(s: Scene):
    dag = "daily"
    ended(s, backfill(s, dag, 1, 5, max_active_runs=1, dag_run_conf={"why": "first"}))
    runs(s, "forward", dag)
    order = lambda: [line.split()[1][8:10] + " ".join(line.split()[-4:]) for line in s.said(dag)]  # noqa: E731
    s.show("order", order())
    for behaviour in ("none", "failed", "completed"):
        rows = s.rest.post("/backfills/dry_run", {
            "dag_id": dag, "from_date": "2026-01-02T00:00:00Z", "to_date": "2026-01-07T00:00:00Z", "reprocess_behavior": behaviour,
        })  # fmt: skip
        s.show(f"rehearsed {behaviour}", [row["logical_date"][8:10] for row in rows["backfills"]])
    s.open("daily_well")
    ended(s, backfill(s, dag, 1, 6, max_active_runs=1, reprocess_behavior="failed", dag_run_conf={"why": "second"}))
    runs(s, "failed again", dag)
    s.facts("the third", dag, "backfill__2026-01-03T00:00:00+00:00")
    ended(s, backfill(s, dag, 4, 7, max_active_runs=1, reprocess_behavior="completed", run_backwards=True))
    runs(s, "all again, backwards", dag)
    s.show("order of all", order())
    ended(s, backfill(s, dag, 1, 3, max_active_runs=1))
    runs(s, "nothing to do", dag)

    s.open("daily_hold")
    number = backfill(s, dag, 10, 14, max_active_runs=2)
    s.wait_said(dag, "2026-01-11 00:00:00.* try 1")
    s.wait_said(dag, "2026-01-10 00:00:00.* try 1")
    time.sleep(2)
    runs(s, "two at once", dag)
    s.call("paused", "PUT", f"/backfills/{number}/pause")
    (s.folder / "work" / "daily_hold").unlink()
    s.wait_run(dag, "backfill__2026-01-10T00:00:00+00:00")
    s.wait_run(dag, "backfill__2026-01-11T00:00:00+00:00")
    time.sleep(3)
    runs(s, "while paused", dag)
    backfill(s, dag, 10, 12)
    s.call("goes on", "PUT", f"/backfills/{number}/unpause")
    ended(s, number)
    runs(s, "went on", dag)

    s.open("daily_hold")
    number = backfill(s, dag, 20, 23, max_active_runs=1)
    s.wait_said(dag, "2026-01-20 00:00:00.* try 1")
    s.call("cancelled", "PUT", f"/backfills/{number}/cancel")
    (s.folder / "work" / "daily_hold").unlink()
    s.wait_run(dag, "backfill__2026-01-20T00:00:00+00:00")
    time.sleep(2)
    runs(s, "cancelled", dag)
    s.facts("running when cancelled", dag, "backfill__2026-01-20T00:00:00+00:00")
    s.facts("queued when cancelled", dag, "backfill__2026-01-22T00:00:00+00:00")
    s.rest.post("/dags/daily/dagRuns/backfill__2026-01-22T00:00:00+00:00/clear", {"dry_run": False, "only_failed": False})
    s.call("deleted", "DELETE", "/dags/daily/dagRuns/backfill__2026-01-23T00:00:00+00:00")
    backfill(s, dag, 23, 25)
    s.until("the last", lambda: s.rest.get("/dags/daily/dagRuns/backfill__2026-01-25T00:00:00+00:00")["state"] == "success")
    rows = s.rest.all("/backfills", "backfills", dag_id=dag)
    s.show("all", [[row["max_active_runs"], row["is_paused"], row["reprocess_behavior"], row["completed_at"] is not None] for row in rows])


def past(s: Scene):
    dag = "past"
    backfill(s, dag, 1, 3, run_backwards=True)
    backfill(s, dag, 1, 3, dag_run_conf={"n": {"x": 1}})
    backfill(s, dag, 1, 3, dag_run_conf={"n": 5})
    number = backfill(s, dag, 1, 4, dag_run_conf={"n": 5}, reprocess_behavior="failed")
    s.wait_ti(dag, "backfill__2026-01-02T00:00:00+00:00", "chained", "failed")
    time.sleep(4)
    runs(s, "held up", dag)
    s.facts("waits", dag, "backfill__2026-01-03T00:00:00+00:00")
    s.open("past_well")
    s.call("cleared", "POST", "/dags/past/clearTaskInstances", {
        "dag_run_id": "backfill__2026-01-02T00:00:00+00:00", "dry_run": False, "include_future": True, "only_failed": True,
    })  # fmt: skip
    ended(s, number)
    runs(s, "ended", dag)
    s.show("said", [" ".join(line.split()) for line in s.said(dag)])


SCENES = {
    "kill_clear": kill("clear", clear_task),
    "kill_clear_run": kill("clear_run", clear_run),
    "kill_success": kill("success", mark("success")),
    "kill_failed": kill("failed", mark("failed")),
    "kill_skipped": kill("skipped", mark("skipped")),
    "kill_run_success": kill("run_success", mark_run("success")),
    "kill_run_failed": kill("run_failed", mark_run("failed", "enough")),
    "kill_requeue": kill("requeue", mark_run("queued")),
    "kill_delete_ti": kill("delete_ti", delete_ti, ends=False),
    "kill_delete_run": kill("delete_run", delete_run, ends=False),
    "kill_pause": kill("pause", pause),
    "kill_delete_dag": delete_dag,
    "wait_clear": waiting("clear", clear_waiting, resumes=2),
    "wait_success": waiting("success", mark_waiting("success")),
    "wait_failed": waiting("failed", mark_waiting("failed")),
    "wait_run_failed": waiting("run_failed", mark_run("failed")),
    "wait_delete_run": waiting("delete_run", delete_run),
    "wait_delete_ti": waiting("delete_ti", delete_waiting_ti),
    "contexts": contexts("contexts", {"conf": {"n": 4}}),
    "contexts_killed": contexts("contexts_killed"),
    "contexts_killed_again": contexts("contexts_killed_again", seconds=120),
    "contexts_keys": contexts("contexts_keys"),
    "contexts_lists": contexts("contexts_lists"),
    "contexts_late": contexts("contexts_late"),
    "mailed": mailed,
    "linked": linked,
    "policies": policies,
    "flow": flow,
    "tries": tries,
    "limited": limited,
    "asked": asked,
    "daily": daily,
    "past": past,
    **CHANGING,
}
