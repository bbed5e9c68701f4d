"""What is done to tasks that wait, the same on both servers. Each case answers what became of it."""

from __future__ import annotations

import time

from waiting_facts import Server, ask, base, instances, outcome, start, wait, wait_for, wait_for_end


def whole(dag: str, *files: str, callbacks: dict[str, int] | None = None):
    """A run to its end, with files that its triggers wait for there from the beginning."""

    def case(server: Server) -> dict:
        rest = server.rest()
        server.touch(*files)
        start(rest, dag, "whole")
        wait_for_end(rest, dag, "whole")
        found = outcome(rest, dag, "whole")
        noted = {name.split("[")[0] for name in found["tasks"]}
        # Callbacks that no task ran come a moment after the end.
        for name, count in (callbacks or {}).items():
            server.wait_for_note(f"{name}.callbacks", count)
        found["callbacks"] = {name: sorted(server.notes(name).get("callbacks", [])) for name in sorted(noted)}
        found["pokes"] = {name: pokes for name in sorted(noted) if (pokes := server.notes(name).get("pokes"))}
        return found

    return case


def pools(server: Server) -> dict:
    """Whether a deferred task holds its slot."""
    rest = server.rest()
    start(rest, "wait_pools", "pools")
    deferred = {"wait_counts_1": "deferred", "wait_free_1": "deferred", "wait_free_2": "deferred"}
    wait_for(rest, "wait_pools", "pools", {**deferred, "wait_counts_2": "scheduled"})
    shown = {}
    for name in ("wait_counts", "wait_free"):
        pool = rest.get(f"/pools/{name}")
        shown[name] = {key: value for key, value in pool.items() if key.endswith("_slots")}
    server.touch("wait_counts_1", "wait_counts_2", "wait_free_1", "wait_free_2")
    wait_for_end(rest, "wait_pools", "pools")
    return {"shown": shown, **outcome(rest, "wait_pools", "pools")}


def person(name: str, act, ends: bool = True):
    """A person acts while a task is deferred."""

    def case(server: Server) -> dict:
        rest = server.rest()
        start(rest, "wait_people", name)
        server.wait_for_note(f"{name}.begun")
        wait_for(rest, "wait_people", name, {"waits": "deferred"})
        answer = act(server, rest, name)
        # The trigger has to have gone before anything else happens.
        server.wait_for_note(f"{name}.cleaned")
        found = {"answer": answer}
        if ends:
            wait_for_end(rest, "wait_people", name)
            found |= outcome(rest, "wait_people", name)
        found["notes"] = server.notes(name)
        return found

    return case


def marks_task(state: str):
    def act(server, rest, name):
        return rest.patch(f"{base('wait_people', name)}/taskInstances/waits", {"new_state": state})["task_instances"][0]["state"]

    return act


def marks_run(state: str):
    def act(server, rest, name):
        return rest.patch(base("wait_people", name), {"state": state})["state"]

    return act


def clears(server, rest, name):
    body = {"dry_run": False, "dag_run_id": name, "task_ids": ["waits"], "only_failed": False}
    answer = rest.post("/dags/wait_people/clearTaskInstances", body)
    # It begins anew, and its trigger with it.
    server.wait_for_note(f"{name}.begun", 2)
    wait_for(rest, "wait_people", name, {"waits": "deferred"})
    server.touch(name)
    return len(answer["task_instances"])


def deletes(server, rest, name):
    """What runs is not deleted; once it is marked, it goes with all its notes."""
    first = ask(server, "admin", "DELETE", base("wait_people", name))
    rest.patch(base("wait_people", name), {"state": "failed"})
    return [first, ask(server, "admin", "DELETE", base("wait_people", name))]


def too_long(server: Server) -> dict:
    rest = server.rest()
    start(rest, "wait_too_long", "long")
    wait_for_end(rest, "wait_too_long", "long")
    server.wait_for_note("too_long.cleaned")
    return {**outcome(rest, "wait_too_long", "long"), "notes": server.notes("too_long")}


def paused(server: Server) -> dict:
    """A Dag is paused while a task is deferred: the trigger runs on, the task does not."""
    rest = server.rest()
    start(rest, "wait_paused", "paused")
    wait_for(rest, "wait_paused", "paused", {"paused": "deferred"})
    rest.patch("/dags/wait_paused", {"is_paused": True})
    server.touch("paused")
    wait_for(rest, "wait_paused", "paused", {"paused": "scheduled"})
    time.sleep(3)
    between = instances(rest, "wait_paused", "paused")["paused"]["state"]
    rest.patch("/dags/wait_paused", {"is_paused": False})
    wait_for_end(rest, "wait_paused", "paused")
    return {"while paused": between, **outcome(rest, "wait_paused", "paused")}


def watchers(server: Server) -> dict:
    """Assets that are watched: their triggers, what they cause, and that those that end are started again."""
    rest = server.rest()

    def shown() -> dict:
        rows = rest.all("/assets", "assets", name_pattern="watch_")
        return {row["name"]: row["watchers"] for row in rows if row["name"].startswith("watch_")}

    all_there = wait(lambda: (found := shown()) and all(found.values()) and len(found) == 5 and found, "watchers")
    numbers = sorted({watcher["trigger_id"] for some in all_there.values() for watcher in some})
    found = {
        "watchers": {
            name: sorted([one["name"], numbers.index(one["trigger_id"]), "created_date" in one] for one in some)
            for name, some in sorted(all_there.items())
        }
    }
    # Numbers say which share a trigger, whatever its place among all.
    seen: dict[int, int] = {}
    for some in found["watchers"].values():
        for one in some:
            one[1] = seen.setdefault(one[1], len(seen))
    for prefix in ("mail", "first", "second", "single"):
        server.wait_for_note(f"{prefix}.begun")
    server.touch("mail-1", "second-1", "single-1")

    def runs(dag: str) -> list:
        return rest.all(f"/dags/{dag}/dagRuns", "dag_runs")

    def wait_for_runs(dag: str, count: int) -> list:
        def succeeded() -> bool:
            return len([run for run in runs(dag) if run["state"] == "success"]) == count

        wait(succeeded, f"{count} runs of {dag}")
        return [plain_run(rest, dag, run) for run in runs(dag)]

    for dag in ("watch_inbox", "watch_copy", "watch_two", "watch_once"):
        found[dag] = wait_for_runs(dag, 1)
    # One that has ended, and one that fails, begin again and again.
    server.wait_for_note("single.begun", 2)
    server.wait_for_note("broken.begun", 3)
    server.touch("single-2")
    found["once more"] = wait_for_runs("watch_once", 2)
    found["began"] = {prefix: len(server.notes(prefix)["begun"]) for prefix in ("mail", "first", "second")}
    events = rest.all("/assets/events", "asset_events", name_pattern="watch_")
    found["events"] = sorted(
        (
            [event["name"], event["extra"], event["source_dag_id"], event["source_task_id"], event["source_run_id"]]
            for event in events
            if event["name"].startswith("watch_")
        ),
        key=repr,
    )
    return found


def plain_run(rest, dag: str, run: dict) -> dict:
    path = f"{base(dag, run['dag_run_id'])}/taskInstances/read/xcomEntries/return_value"
    return {"type": run["run_type"], "by": run["triggered_by"], "state": run["state"], "read": rest.get(path)["value"]}


def asked(dag: str, run: str, task: str, index: int = -1) -> str:
    return f"{base(dag, run)}/taskInstances/{task}/{index}/hitlDetails"


def people(server: Server) -> dict:
    """Questions, who may answer them and how, and what the tasks make of the answers."""
    rest = server.rest()
    start(rest, "ask_people", "asked")
    one = ["approve", "reject", "reject_all", "reject_fails", "branch", "entry", "entry_wrong", "entry_other", "several"]
    waiting = [*one, "one", "assigned", "mapped[0]", "mapped[1]"]
    wait_for(rest, "ask_people", "asked", dict.fromkeys(waiting, "awaiting_input"))
    time.sleep(server.settle)
    found: dict = {"asked": [], "answers": []}

    def of(task: str, index: int = -1) -> str:
        return asked("ask_people", "asked", task, index)

    def get(path: str, user: str = "admin", **query) -> None:
        found["asked"].append([user, path, query, ask(server, user, "GET", path, query=query)])

    def answer(user: str, task: str, body, index: int = -1) -> None:
        found["answers"].append([user, task, index, body, ask(server, user, "PATCH", of(task, index), body)])

    questions = f"{base('ask_people', 'asked')}/hitlDetails"
    for task in (*one, "one", "assigned"):
        get(of(task))
        get(of(task) + "/tries/1")
    get(of("mapped", 0))
    get(of("mapped", 0) + "/tries/1")
    get(of("approve"), "vera")
    # What there is not
    get(of("approved"))
    get(of("nothing"))
    get(of("mapped", 7))
    get(of("approve") + "/tries/7")
    get(of("approve") + "/tries/x")
    get(asked("ask_people", "none", "approve"))
    get(asked("no_dag", "asked", "approve"))
    get(f"{base('ask_people', 'none')}/hitlDetails")
    get(f"{base('no_dag', 'asked')}/hitlDetails")
    for query in (
        {"order_by": "subject", "limit": 3},
        {"order_by": "-task_id"},
        {"order_by": "rendered_map_index", "task_id": "mapped"},
        {"order_by": ["subject", "-ti_id"], "limit": 2, "offset": 1},
        {"order_by": "nonsense"},
        {"task_id": "approve"},
        {"task_id_pattern": "reject%", "order_by": "task_instance_operator"},
        {"task_id_prefix_pattern": "entry_w", "order_by": "created_at"},
        {"dag_id_pattern": "people"},
        {"dag_id_prefix_pattern": "nothing"},
        {"map_index": 1},
        {"state": "awaiting_input", "limit": 1, "order_by": "subject"},
        {"state": ["running", "success"]},
        {"state": "nonsense"},
        {"response_received": "false", "limit": 1, "order_by": "subject"},
        {"response_received": "true"},
        {"response_received": "perhaps"},
        {"subject_search": "SHIP", "order_by": "subject", "limit": 1},
        {"body_search": "ask_people"},
        {"created_at_gte": "2020-01-01T00:00:00Z", "limit": 1, "order_by": "subject"},
        {"created_at_lt": "2020-01-01T00:00:00Z"},
        {"created_at_gt": "x"},
        {"limit": -1},
        {"limit": "x"},
        {"task_id_pattern": "entry%", "order_by": "task_display_name"},
    ):
        get(questions, **query)
    get("/dags/~/dagRuns/~/hitlDetails", limit=1, order_by="subject", dag_id_pattern="ask_people")

    # What is not allowed, and changes nothing
    good = {"chosen_options": ["Approve"], "params_input": {}}
    answer("vera", "approve", good)
    for body in (
        {},
        [],
        "nonsense",
        {"chosen_options": []},
        {"chosen_options": "Approve"},
        {"chosen_options": [1]},
        {"chosen_options": None},
        {"chosen_options": ["Perhaps"]},
        {"chosen_options": ["b", "Approve", "a"]},
        {"chosen_options": ["Approve", "Reject"]},
        {"chosen_options": ["Approve"], "params_input": []},
        {"chosen_options": ["Approve"], "params_input": None},
        {"chosen_options": ["Approve"], "more": 1, "params_input": "x"},
        {"chosen_options": ["Perhaps"], "more": 1},
    ):
        answer("admin", "approve", body)
    answer("admin", "assigned", {"chosen_options": ["a"]})
    answer("admin", "approved", good)
    answer("admin", "nothing", good)
    answer("admin", "mapped", good, 7)
    # Answers
    answer("una", "approve", good)
    answer("una", "approve", good)
    answer("admin", "reject", {"chosen_options": ["Reject"]})
    answer("otto", "reject_all", {"chosen_options": ["Reject"], "unknown": True})
    answer("admin", "reject_fails", {"chosen_options": ["Reject"], "params_input": {}})
    answer("admin", "branch", {"chosen_options": ["up", "left"]})
    answer("admin", "entry", {"chosen_options": ["OK"], "params_input": {"n": 7, "text": "ü", "wanted": None}})
    answer("admin", "entry_wrong", {"chosen_options": ["OK"], "params_input": {"n": "seven"}})
    answer("admin", "entry_other", {"chosen_options": ["OK"], "params_input": {"m": 1}})
    answer("admin", "several", {"chosen_options": ["c", "a", "c"]})
    answer("admin", "one", {"chosen_options": ["a"]})
    answer("una", "assigned", {"chosen_options": ["a"]})
    answer("admin", "mapped", {"chosen_options": ["yes"]}, 0)
    answer("admin", "mapped", {"chosen_options": ["no"]}, 1)
    wait_for_end(rest, "ask_people", "asked")
    for task in ("approve", "entry", "several", "assigned"):
        get(of(task))
        get(of(task) + "/tries/1")
    for query in (
        {"response_received": "true", "order_by": "responded_by_user_name", "responded_by_user_id": ["una", "otto"]},
        {"responded_by_user_name": "una", "order_by": "-responded_at", "limit": 1},
        {"order_by": "task_instance_state", "task_id_pattern": "entry"},
    ):
        get(questions, **query)
    time.sleep(2)
    found |= outcome(rest, "ask_people", "asked")
    found["notes"] = {task: server.notes(task) for task in ("approve", "reject_fails", "one")}
    return found


def in_time(server: Server) -> dict:
    rest = server.rest()
    start(rest, "ask_in_time", "timed")
    wait_for_end(rest, "ask_in_time", "timed")
    tasks = ("default", "defaults", "nobody", "entry_default", "approve_default")
    found = {"details": {task: ask(server, "admin", "GET", asked("ask_in_time", "timed", task)) for task in tasks}}
    found["late"] = ask(server, "admin", "PATCH", asked("ask_in_time", "timed", "nobody"), {"chosen_options": ["a"]})
    found["again"] = ask(server, "admin", "PATCH", asked("ask_in_time", "timed", "default"), {"chosen_options": ["a"]})
    time.sleep(2)
    found["callbacks"] = {task: server.notes(task).get("callbacks", []) for task in tasks}
    return {**found, **outcome(rest, "ask_in_time", "timed")}


def again(server: Server) -> dict:
    """Cleared after the answer: the task asks anew."""
    rest = server.rest()
    path = asked("ask_again", "again", "again")
    start(rest, "ask_again", "again")
    wait_for(rest, "ask_again", "again", {"again": "awaiting_input"})
    time.sleep(server.settle)
    found = {"first": ask(server, "admin", "PATCH", path, {"chosen_options": ["a"]})}
    wait_for_end(rest, "ask_again", "again")
    body = {"dry_run": False, "dag_run_id": "again", "task_ids": ["again"], "only_failed": False}
    rest.post("/dags/ask_again/clearTaskInstances", body)
    wait_for(rest, "ask_again", "again", {"again": "awaiting_input"})
    time.sleep(server.settle)
    found["asked again"] = ask(server, "admin", "GET", path)
    found["second"] = ask(server, "una", "PATCH", path, {"chosen_options": ["b"]})
    wait_for_end(rest, "ask_again", "again")
    found["tries"] = [ask(server, "admin", "GET", f"{path}/tries/{number}") for number in (1, 2)]
    found["all"] = ask(server, "admin", "GET", f"{base('ask_again', 'again')}/hitlDetails")
    return {**found, **outcome(rest, "ask_again", "again")}


def killed(state: str):
    """A person marks a task that waits for an answer."""

    def case(server: Server) -> dict:
        rest, run = server.rest(), f"killed_{state}"
        start(rest, "ask_killed", run)
        wait_for(rest, "ask_killed", run, {"killed": "awaiting_input"})
        rest.patch(f"{base('ask_killed', run)}/taskInstances/killed", {"new_state": state})
        found = {"late": ask(server, "admin", "PATCH", asked("ask_killed", run, "killed"), {"chosen_options": ["a"]})}
        wait_for_end(rest, "ask_killed", run)
        return {**found, **outcome(rest, "ask_killed", run)}

    return case


ENDS = [f"end_{end}" for end in ("success", "bare", "failed", "skipped", "failed_retry", "many")]
DEFERS = ["plain", "boom", "nothing", "fails_after", "no_method", "twice", "twice_2", "outlet"]

CASES = {
    "ends": whole("wait_ends", *ENDS, callbacks={"end_failed": 2, "end_failed_retry": 4}),
    "deferral": whole("wait_defer", *(f"defer_{name}" for name in DEFERS)),
    "odd values": whole("wait_odd", "odd_go"),
    "sensors": whole("wait_sensors", "there"),
    "start from trigger": whole("wait_starts", "start_go", "wait_starts_go", callbacks={"start_failed": 2}),
    "pools": pools,
    "a person marks it failed": person("p_failed", marks_task("failed")),
    "a person marks it success": person("p_success", marks_task("success")),
    "a person skips it": person("p_skipped", marks_task("skipped")),
    "a person clears it": person("p_clear", clears),
    "a person fails the run": person("p_run_failed", marks_run("failed")),
    "a person ends the run": person("p_run_success", marks_run("success")),
    "a person deletes the run": person("p_delete", deletes, ends=False),
    "the run takes too long": too_long,
    "the Dag is paused": paused,
    "watchers": watchers,
    "people": people,
    "people, in time": in_time,
    "people, again": again,
    "people, marked failed": killed("failed"),
    "people, marked success": killed("success"),
}
