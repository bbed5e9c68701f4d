"""Runs with deadlines: which of them call back, and with what."""

from __future__ import annotations

import json
import time

from waiting_facts import Server, ask, base, start, wait, wait_for, wait_for_end

DAGS = {
    *("late_queued", "late_soon", "late_logical", "late_fixed", "late_average", "late_average_failed", "late_variable"),
    *("late_no_variable", "late_odd_variable", "late_once", "late_paused", "late_deleted"),
}


def go(server: Server, run: str, how: str = "") -> None:
    server.touch(f"{run}.go")
    (server.work / f"{run}.go").write_text(how)


def called(server: Server, run: str, count: int | None = None) -> list:
    """What was called for a run; where no number is given, what was after all that could have been."""
    if count is None:
        time.sleep(4 + server.settle)
    else:
        server.wait_for_note(f"{run}.late", count)
    return sorted((json.loads(line) for line in server.notes(run).get("late", [])), key=lambda one: one["name"])


def end(server: Server, dag: str, run: str, how: str = "") -> str:
    rest = server.rest()
    go(server, run, how)
    wait_for_end(rest, dag, run)
    return rest.get(base(dag, run))["state"]


def clear(server: Server, dag: str, run: str) -> None:
    server.rest().post(f"/dags/{dag}/clearTaskInstances", {"dry_run": False, "dag_run_id": run, "only_failed": False})


def begin(server: Server, dag: str, run: str) -> None:
    """A run whose task waits to be let go."""
    rest = server.rest()
    start(rest, dag, run)
    wait_for(rest, dag, run, {"held": "running"})


def missed(server: Server) -> dict:
    """Deadlines that pass while the run goes on; the run is not the worse for it, and clearing it sets none anew."""
    begin(server, "late_queued", "l_queued")
    found = {"missed": called(server, "l_queued", 7), "state": end(server, "late_queued", "l_queued")}
    found["without context"] = [server.notes(name) for name in ("without context", "notifier async")]
    clear(server, "late_queued", "l_queued")
    wait_for_end(server.rest(), "late_queued", "l_queued")
    found["cleared"] = len(called(server, "l_queued"))
    return found


def in_time(server: Server) -> dict:
    """A run that succeeds in time, and one that fails in time: only that which succeeded is in time."""
    start(server.rest(), "late_soon", "l_met")
    start(server.rest(), "late_soon", "l_failed")
    states = [end(server, "late_soon", "l_met"), end(server, "late_soon", "l_failed", "fail")]
    return {"states": states, "failed": called(server, "l_failed", 1), "met": called(server, "l_met")}


def cleared(server: Server) -> dict:
    """What succeeded in time has no deadline any more. (What failed in time cannot be cleared in Airflow: it answers 500.)"""
    start(server.rest(), "late_soon", "l_met_again")
    found = {"states": [end(server, "late_soon", "l_met_again")]}
    (server.work / "l_met_again.go").unlink()
    clear(server, "late_soon", "l_met_again")
    time.sleep(20 + 5 * server.settle)
    found["missed"] = called(server, "l_met_again")
    found["states"].append(end(server, "late_soon", "l_met_again"))
    return found


def marked(server: Server) -> dict:
    """A person ends the run in time."""
    found = {}
    for state in ("success", "failed"):
        begin(server, "late_soon", f"l_marked_{state}")
        server.rest().patch(base("late_soon", f"l_marked_{state}"), {"state": state})
    for state in ("failed", "success"):
        found[state] = called(server, f"l_marked_{state}", 1)
    return found


def dated(server: Server) -> dict:
    """Deadlines that count from the logical date, which not every run has, or from a moment long ago."""
    rest = server.rest()
    rest.post("/dags/late_logical/dagRuns", {"dag_run_id": "l_dated", "logical_date": "2024-03-06T10:20:30Z"})
    start(rest, "late_logical", "l_undated")
    start(rest, "late_fixed", "l_fixed")
    found = {"dated": called(server, "l_dated", 1), "fixed": called(server, "l_fixed", 1), "undated": called(server, "l_undated")}
    states = [end(server, *one) for one in (("late_logical", "l_dated"), ("late_logical", "l_undated"), ("late_fixed", "l_fixed"))]
    once = wait(lambda: rest.all("/dags/late_once/dagRuns", "dag_runs"), "the run of late_once")[0]["dag_run_id"]
    return {**found, "states": states, "once": called(server, once, 1), "once ended": end(server, "late_once", once)}


def average(server: Server) -> dict:
    """As long as the runs before took: those that succeeded, and where there are enough."""
    found: dict = {}
    for run, dag, how in (
        ("l_first", "late_average", ""),
        ("l_broken", "late_average", "fail"),
        ("l_second", "late_average", ""),
        ("l_only_broken", "late_average_failed", "fail"),
    ):
        begin(server, dag, run)
        found[run] = [end(server, dag, run, how), len(server.notes(run).get("late", []))]
    begin(server, "late_average", "l_third")
    begin(server, "late_average_failed", "l_next")
    return {
        **found,
        "third": [one["name"] for one in called(server, "l_third", 1)],
        "next": called(server, "l_next"),
        "states": [end(server, "late_average", "l_third"), end(server, "late_average_failed", "l_next")],
    }


def variable(server: Server) -> dict:
    """A time that a variable holds."""
    rest = server.rest()
    for key, value in (("late_seconds", "2"), ("late_odd", "1.5")):
        rest.post("/variables", {"key": key, "value": value})
    begin(server, "late_variable", "l_variable")
    found = {"missed": called(server, "l_variable", 1), "state": end(server, "late_variable", "l_variable")}
    for kind in ("no", "odd"):
        dag, run = f"late_{kind}_variable", f"l_{kind}_variable"
        go(server, run)
        status, answer = ask(server, "admin", "POST", f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None})
        # Airflow adds what the variable holds.
        why = None if status == 200 else answer["detail"].partition(", got")[0]
        found[kind] = [status, why, ask(server, "admin", "GET", base(dag, run))[0]]
    return found


def not_running(server: Server) -> dict:
    """Runs that wait as their Dag is paused; and one that is deleted in time."""
    rest = server.rest()
    for dag in ("late_paused", "late_deleted"):
        rest.patch(f"/dags/{dag}", {"is_paused": True})
    start(rest, "late_paused", "l_paused")
    start(rest, "late_deleted", "l_deleted")
    found = {"deleted": ask(server, "admin", "DELETE", base("late_deleted", "l_deleted"))[0]}
    found["paused"] = called(server, "l_paused", 1)
    time.sleep(4 + server.settle)
    return {**found, "of the deleted": called(server, "l_deleted")}


CASES = {
    "deadlines missed": missed,
    "deadlines in time": in_time,
    "deadlines, cleared in time": cleared,
    "deadlines, marked by a person": marked,
    "deadlines by dates": dated,
    "deadlines by average": average,
    "deadlines by variable": variable,
    "deadlines, not running": not_running,
}
