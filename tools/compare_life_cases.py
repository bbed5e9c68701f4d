"""What becomes of runs: backfills, clearing, marking, deleting, and why a task waits. Cases change both servers alike."""

ANY_ORDER = ("task_instances", "success")
D = "/api/v2/dags"
B = "/api/v2/backfills"
F = f"{D}/life_flow"


def get(path):
    return ("GET", path, None)


def post(path, body):
    return ("POST", path, body)


def patch(path, body):
    return ("PATCH", path, body)


def put(path, body=None):
    return ("PUT", path, body)


def delete(path):
    return ("DELETE", path, None)


def sql(statement):
    return ("SQL", statement, None)


def run(dag, run_id, logical_date, **more):
    return post(f"{D}/{dag}/dagRuns", {"dag_run_id": run_id, "logical_date": logical_date, **more})


def state(dag, run_id, task, state, map_index=None, try_number=1):
    index = "" if map_index is None else f" AND map_index = {map_index}"
    return sql(
        f"UPDATE task_instance SET state = '{state}', try_number = {try_number} "
        f"WHERE dag_id = '{dag}' AND run_id = '{run_id}' AND task_id = '{task}'{index}"
    )


def run_state(dag, run_id, state):
    return sql(f"UPDATE dag_run SET state = '{state}' WHERE dag_id = '{dag}' AND run_id = '{run_id}'")


def instances(run_id, dag="life_flow"):
    return get(f"{D}/{dag}/dagRuns/{run_id}/taskInstances?limit=100")


def clear(dag="life_flow", **body):
    return post(f"{D}/{dag}/clearTaskInstances", body)


def backfill(dag, start, end, **more):
    return post(B, {"dag_id": dag, "from_date": start, "to_date": end, **more})


def rehearse(dag, start, end, **more):
    return post(f"{B}/dry_run", {"dag_id": dag, "from_date": start, "to_date": end, **more})


NOBODY = {"Authorization": ""}
DAY = "2026-01-0%dT00:00:00Z"

BACKFILLS = [
    ("GET", f"{B}?dag_id=life_daily", None, NOBODY),
    ("POST", B, {"dag_id": "life_daily"}, NOBODY),
    get(B),
    get(f"{B}?dag_id=life_daily"),
    get(f"{B}?dag_id=made_up"),
    get(f"{B}?dag_id=life_daily&order_by=nonsense"),
    get(f"{B}?dag_id=life_daily&limit=x"),
    get(f"{B}/1"),
    get(f"{B}/-1"),
    get(f"{B}/x"),
    put(f"{B}/99/pause"),
    put(f"{B}/99/unpause"),
    put(f"{B}/99/cancel"),
    put(f"{B}/x/cancel"),
    # Bodies that are none
    post(B, {}),
    post(B, []),
    post(B, "nonsense"),
    ("POST", B, None),
    post(B, {"dag_id": 3}),
    post(B, {"dag_id": None, "from_date": None, "to_date": None}),
    post(B, {"dag_id": "life_daily", "from_date": "x", "to_date": 3.5, "more": 1}),
    backfill("life_daily", DAY % 1, DAY % 3, run_backwards=None, max_active_runs="x", reprocess_behavior="all", dag_run_conf=[1]),
    backfill("life_daily", DAY % 1, DAY % 3, run_backwards="perhaps", reprocess_behavior=None, run_on_latest_version="maybe"),
    post(f"{B}/dry_run", {}),
    post(f"{B}/dry_run", {"dag_id": []}),
    # Dags that have none
    backfill("made_up", DAY % 1, DAY % 3),
    rehearse("made_up", DAY % 1, DAY % 3),
    backfill("life_none", DAY % 1, DAY % 3),
    rehearse("life_none", DAY % 1, DAY % 3),
    backfill("life_once", DAY % 1, DAY % 3),
    backfill("life_refused", DAY % 1, DAY % 3),
    rehearse("life_refused", DAY % 1, DAY % 3),
    backfill("life_daily", DAY % 3, DAY % 1),
    backfill("life_daily", "2026-01-03T02:00:00.5+02:00", "2026-01-02T00:00:00-03:30"),
    rehearse("life_daily", DAY % 3, DAY % 1),
    backfill("life_daily", "2126-01-01T00:00:00Z", "2126-01-02T00:00:00Z"),
    rehearse("life_daily", "2126-01-01T00:00:00Z", "2126-01-02T00:00:00Z"),
    backfill("life_past", DAY % 1, DAY % 3, run_backwards=True, reprocess_behavior="completed"),
    backfill("life_past", DAY % 1, DAY % 3),
    rehearse("life_past", DAY % 1, DAY % 3),
    rehearse("life_past", DAY % 1, DAY % 3, reprocess_behavior="failed"),
    backfill("life_params", DAY % 1, DAY % 3, dag_run_conf={"n": 0}),
    rehearse("life_params", DAY % 1, DAY % 3, dag_run_conf={"n": "x"}),
    rehearse("life_params", DAY % 1, DAY % 2, dag_run_conf={"n": 4, "other": True}),
    backfill("life_daily", "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
    rehearse("life_daily", "2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"),
    # Dates of each timetable
    rehearse("life_daily", DAY % 1, DAY % 4),
    rehearse("life_daily", "2026-01-01", "2026-01-03T23:00:00+09:00", run_backwards=True),
    rehearse("life_delta", "2026-01-01T01:00:00Z", "2026-01-02T00:00:00Z"),
    rehearse("life_step", "2026-01-01T01:00:00Z", "2026-01-02T00:00:00Z"),
    rehearse("life_interval", "2026-03-25T00:00:00Z", "2026-04-02T00:00:00Z"),
    rehearse("life_multi", "2026-01-01T00:00:00Z", "2026-01-03T12:00:00Z"),
    rehearse("life_events", "2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"),
    rehearse("life_events", "2026-01-07T00:00:00Z", "2026-01-08T00:00:00Z"),
    rehearse("life_partition", DAY % 1, DAY % 3),
    rehearse("life_partition", "2026-01-01T01:00:00+05:00", "2026-01-03T01:00:00+05:00"),
    rehearse("life_partition_zone", DAY % 1, DAY % 3),
    rehearse("life_partition_zone", "2026-03-06T00:00:00Z", "2026-03-10T00:00:00Z", run_backwards=True),
    # Making them
    run("life_daily", "scheduled_by_hand", DAY % 2),
    run("life_daily", "ended", DAY % 4),
    run("life_daily", "failed", DAY % 5),
    run_state("life_daily", "ended", "success"),
    run_state("life_daily", "failed", "failed"),
    state("life_daily", "ended", "a", "success"),
    state("life_daily", "ended", "b", "success"),
    state("life_daily", "failed", "a", "failed"),
    state("life_daily", "failed", "b", "upstream_failed", try_number=0),
    rehearse("life_daily", DAY % 1, DAY % 5),
    rehearse("life_daily", DAY % 1, DAY % 5, reprocess_behavior="failed"),
    rehearse("life_daily", DAY % 1, DAY % 5, reprocess_behavior="completed"),
    backfill("life_daily", DAY % 1, DAY % 3, max_active_runs=2, dag_run_conf={"k": "v"}),
    backfill("life_daily", DAY % 1, DAY % 3),
    get(f"{B}?dag_id=life_daily"),
    get(f"{B}/1"),
    get(f"{D}/life_daily/dagRuns?order_by=logical_date"),
    instances("backfill__2026-01-01T00:00:00+00:00", "life_daily"),
    put(f"{B}/1/pause"),
    put(f"{B}/1/pause"),
    put(f"{B}/1/unpause"),
    put(f"{B}/1/unpause"),
    put(f"{B}/1/cancel"),
    put(f"{B}/1/cancel"),
    put(f"{B}/1/pause"),
    put(f"{B}/1/unpause"),
    get(f"{B}/1"),
    get(f"{D}/life_daily/dagRuns?order_by=logical_date"),
    backfill("life_daily", DAY % 1, DAY % 5, reprocess_behavior="failed", run_backwards=True, dag_run_conf={}),
    get(f"{D}/life_daily/dagRuns?order_by=logical_date"),
    instances("failed", "life_daily"),
    get(f"{D}/life_daily/dagRuns/failed/taskInstances/a/tries"),
    put(f"{B}/2/cancel"),
    backfill("life_daily", DAY % 1, DAY % 5, reprocess_behavior="completed", run_on_latest_version=False),
    get(f"{D}/life_daily/dagRuns?order_by=logical_date"),
    put(f"{B}/3/cancel"),
    get(f"{B}?dag_id=life_daily&order_by=-id&limit=2"),
    backfill("life_partition", DAY % 1, DAY % 2, dag_run_conf=None),
    get(f"{D}/life_partition/dagRuns?order_by=run_after"),
    put(f"{B}/4/cancel"),
    backfill("life_partition", DAY % 1, DAY % 3, reprocess_behavior="failed"),
    get(f"{D}/life_partition/dagRuns?order_by=run_after&order_by=id"),
    put(f"{B}/5/cancel"),
    rehearse("life_partition", DAY % 1, DAY % 3, reprocess_behavior="none"),
    backfill("life_dates", DAY % 2, DAY % 2),
    instances("backfill__2026-01-02T00:00:00+00:00", "life_dates"),
    get(f"{D}/life_partition/dagRuns?partition_key_pattern=2026-01-02"),
    post(f"{D}/life_partition/clearPartitions", {}),
    post(f"{D}/life_partition/clearPartitions", {"run_id": "x", "partition_key": "y"}),
    post(f"{D}/life_partition/clearPartitions", {"partition_date_start": DAY % 3, "partition_date_end": DAY % 1}),
    post(f"{D}/life_partition/clearPartitions", {"run_id": "x", "more": 1, "dry_run": None}),
    post(f"{D}/made_up/clearPartitions", {"run_id": "x"}),
    post(f"{D}/life_partition/clearPartitions", {"run_id": "x"}),
    post(f"{D}/life_partition/clearPartitions", {"partition_key": "2026-01-01T00:00:00"}),
    post(f"{D}/life_partition/clearPartitions", {"partition_date_start": DAY % 2, "clear_task_instances": True}),
    post(f"{D}/life_partition/clearPartitions", {"partition_date_start": DAY % 2, "clear_task_instances": True, "dry_run": False}),
    get(f"{D}/life_partition/dagRuns?order_by=run_after&order_by=id"),
]

RUNS = [
    run("life_flow", "r1", "2026-02-01T00:00:00Z"),
    run("life_flow", "r2", "2026-02-02T00:00:00Z"),
    run("life_flow", "r3", "2026-02-02T12:00:00Z"),
    run("life_flow", "r4", "2026-02-03T00:00:00Z"),
    run("life_flow", "r5", None),
    instances("r1"),
]

DEPENDENCIES = [
    get(f"{F}/dagRuns/r1/taskInstances/a/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/made_up/dependencies"),
    get(f"{F}/dagRuns/made_up/taskInstances/a/dependencies"),
    get(f"{D}/made_up/dagRuns/r1/taskInstances/a/dependencies"),
    patch(F, {"is_paused": False}),
    run_state("life_flow", "r1", "running"),
    get(f"{F}/dagRuns/r1/taskInstances/a/dependencies"),
    state("life_flow", "r1", "a", "scheduled"),
    get(f"{F}/dagRuns/r1/taskInstances/a/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/b/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/m/dependencies?map_index=1"),
    get(f"{F}/dagRuns/r1/taskInstances/m/1/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/m/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/m/x/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/total/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/mg.j/0/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/after_group/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/w/dependencies"),
    get(f"{F}/dagRuns/r1/taskInstances/t/dependencies"),
    state("life_flow", "r1", "s", "success"),
    get(f"{F}/dagRuns/r1/taskInstances/t/dependencies"),
    state("life_flow", "r1", "a", "running"),
    get(f"{F}/dagRuns/r1/taskInstances/a/dependencies"),
    run("life_past", "p1", "2026-02-01T00:00:00Z"),
    run("life_past", "p2", "2026-02-02T00:00:00Z"),
    run_state("life_past", "p2", "running"),
    get(f"{D}/life_past/dagRuns/p2/taskInstances/a/dependencies"),
    run("life_dates", "d9", "2126-02-01T00:00:00Z"),
    get(f"{D}/life_dates/dagRuns/d9/taskInstances/always/dependencies"),
    sql("UPDATE task_instance SET pool = 'gone' WHERE dag_id = 'life_dates' AND run_id = 'd9' AND task_id = 'always'"),
    get(f"{D}/life_dates/dagRuns/d9/taskInstances/always/dependencies"),
    post("/api/v2/pools", {"name": "small", "slots": 0}),
    sql("UPDATE task_instance SET pool = 'small' WHERE dag_id = 'life_dates' AND run_id = 'd9' AND task_id = 'always'"),
    get(f"{D}/life_dates/dagRuns/d9/taskInstances/always/dependencies"),
    patch(F, {"is_paused": True}),
    state("life_flow", "r1", "a", "scheduled"),
    run_state("life_flow", "r1", "queued"),
]

CLEARING = [
    # Which instances are meant
    clear(dag_run_id="r1", only_failed=False),
    clear(dag_run_id="r1", only_failed=False, task_ids=["b"]),
    clear(dag_run_id="r1", only_failed=False, task_ids=["b"], include_downstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=["g.y"], include_upstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=["w"]),
    clear(dag_run_id="r1", only_failed=False, task_ids=["s"]),
    clear(dag_run_id="r1", only_failed=False, task_ids=["t"], include_upstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=["t"]),
    clear(dag_run_id="r1", only_failed=False, task_ids=[["m", 1]]),
    clear(dag_run_id="r1", only_failed=False, task_ids=[["m", 1]], include_downstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=[["mg.i", 1]], include_downstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=[["mg.j", 0]], include_upstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=[["a", -1]], include_downstream=True),
    clear(dag_run_id="r1", only_failed=False, task_ids=["m", ["m", 1], ["mg.j", 1]]),
    clear(dag_run_id="r1", only_failed=False, task_ids=["made_up"]),
    clear(only_failed=False, task_ids=["b"], include_upstream=True),
    clear(only_failed=False, task_ids=[["mg.j", 0]], include_upstream=True, start_date="2026-02-02T00:00:00Z", end_date="2026-02-03T00:00:00Z"),  # noqa: E501
    clear(dag_run_id="r2", only_failed=False, task_ids=["b"], include_past=True),
    clear(dag_run_id="r2", only_failed=False, task_ids=["b"], include_future=True),
    clear(dag_run_id="r2", only_failed=False, task_ids=["b"], include_future=True, include_past=True),
    clear(dag_run_id="r5", only_failed=False, include_past=True),
    clear(dag_run_id="nope", only_failed=False),
    clear(dag_run_id="r1"),
    clear(dag_run_id="r1", only_failed=False, only_running=True),
    # For good
    state("life_flow", "r1", "a", "success"),
    state("life_flow", "r1", "b", "failed", try_number=2),
    state("life_flow", "r1", "c", "upstream_failed", try_number=0),
    state("life_flow", "r1", "d", "running"),
    state("life_flow", "r1", "m", "success", 0),
    state("life_flow", "r1", "m", "failed", 1, 4),
    state("life_flow", "r1", "m", "running", 2),
    run_state("life_flow", "r1", "failed"),
    clear(dag_run_id="r1", dry_run=False, prevent_running_task=True, only_failed=False),
    clear(dag_run_id="r1", dry_run=False, note="cleared", run_on_latest_version=False),
    instances("r1"),
    get(f"{F}/dagRuns/r1"),
    get(f"{F}/dagRuns/r1/taskInstances/b/tries"),
    get(f"{F}/dagRuns/r1/taskInstances/b/tries/2"),
    get(f"{F}/dagRuns/r1/taskInstances/m/1/tries"),
    clear(dag_run_id="r1", dry_run=False, only_failed=False, only_running=True, reset_dag_runs=False),
    instances("r1"),
    get(f"{F}/dagRuns/r1/taskInstances/d/tries"),
    clear(dag_run_id="r1", dry_run=False, only_failed=False, task_ids=["g.x"], include_downstream=True),
    get(f"{F}/dagRuns/r1/taskInstances/g.x/tries"),
    get(f"{F}/dagRuns/r1/taskInstances/g.x"),
    # Whole runs
    run_state("life_flow", "r2", "success"),
    state("life_flow", "r2", "a", "success"),
    post(f"{F}/dagRuns/r2/clear", {}),
    post(f"{F}/dagRuns/r2/clear", {"only_failed": True}),
    post(f"{F}/dagRuns/r2/clear", {"only_new": True}),
    post(f"{F}/dagRuns/r2/clear", {"only_new": True, "only_failed": True}),
    post(f"{F}/dagRuns/r2/clear", {"only_failed": True, "dry_run": False}),
    post(f"{F}/dagRuns/r2/clear", {"only_new": True, "dry_run": False}),
    post(f"{F}/dagRuns/r2/clear", {"dry_run": False, "note": "again"}),
    instances("r2"),
    post(f"{F}/clearDagRuns", {"dag_runs": [{"dag_run_id": "r2"}, {"dag_run_id": "r4"}], "dry_run": False}),
    run("life_latest", "l1", "2026-02-01T00:00:00Z"),
    run_state("life_latest", "l1", "success"),
    post(f"{D}/life_latest/dagRuns/l1/clear", {"dry_run": False}),
    instances("l1", "life_latest"),
]

MARKING = [
    run("life_flow", "k1", "2026-04-01T00:00:00Z"),
    run("life_flow", "k2", "2026-04-02T00:00:00Z"),
    run("life_flow", "k3", "2026-04-02T12:00:00Z"),
    run("life_flow", "k4", "2026-04-03T00:00:00Z"),
    run("life_flow", "k5", None),
    patch(f"{F}/dagRuns/k2/taskInstances/b/dry_run", {"new_state": "success", "include_past": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/b/dry_run", {"new_state": "success", "include_future": True}),
    patch(f"{F}/dagRuns/k3/taskInstances/b/dry_run", {"new_state": "success", "include_future": True, "include_past": True}),
    patch(f"{F}/dagRuns/k5/taskInstances/b/dry_run", {"new_state": "success", "include_future": True, "include_past": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/s/dry_run", {"new_state": "failed", "include_downstream": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/t/dry_run", {"new_state": "failed", "include_upstream": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/m/1/dry_run", {"new_state": "skipped", "include_downstream": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/m/dry_run", {"new_state": "skipped"}),
    patch(f"{F}/dagRuns/k2/taskGroupInstances/g/dry_run", {"new_state": "skipped", "include_upstream": True}),
    patch(f"{F}/dagRuns/k2/taskInstances/b/dry_run", {"note": "x"}),
    # A mark revives what failed below, in all the runs that it reaches.
    state("life_flow", "k1", "c", "upstream_failed", try_number=0),
    state("life_flow", "k2", "b", "failed", try_number=2),
    state("life_flow", "k2", "c", "upstream_failed", try_number=0),
    state("life_flow", "k2", "g.x", "failed"),
    state("life_flow", "k4", "c", "failed"),
    run_state("life_flow", "k1", "failed"),
    run_state("life_flow", "k2", "failed"),
    run_state("life_flow", "k4", "failed"),
    patch(f"{F}/dagRuns/k2/taskInstances/b", {"new_state": "success", "include_future": True, "note": "by hand"}),
    instances("k1"),
    instances("k2"),
    instances("k4"),
    get(f"{F}/dagRuns?run_id_pattern=k"),
    patch(f"{F}/dagRuns/k2/taskInstances/b", {"new_state": "success"}),
    patch(f"{F}/dagRuns/k2/taskInstances/m/1", {"new_state": "failed"}),
    patch(f"{F}/dagRuns/k2/taskInstances/w", {"new_state": "skipped", "include_downstream": True}),
    patch(f"{F}/dagRuns/k2/taskGroupInstances/g", {"new_state": "success", "note": "all of them"}),
    patch(f"{F}/dagRuns/k2/taskGroupInstances/g", {"new_state": "success"}),
    patch(f"{F}/dagRuns/k2/taskGroupInstances/mg", {"new_state": "skipped", "include_downstream": True}),
    instances("k2"),
    get(f"{F}/dagRuns/k2/taskInstances/c/tries"),
    patch(
        f"{F}/dagRuns/k4/taskInstances",
        {"actions": [{"action": "update", "entities": [{"task_id": "m", "new_state": "success", "note": "bulk"}]}]},
    ),
    patch(
        f"{F}/dagRuns/k4/taskInstances",
        {"actions": [{"action": "update", "entities": [{"task_id": "mg.i", "map_index": 1, "new_state": "failed", "include_downstream": True}]}]},  # noqa: E501
    ),
    instances("k4"),
    # Runs
    state("life_flow", "k1", "a", "running"),
    state("life_flow", "k1", "b", "deferred"),
    state("life_flow", "k1", "m", "failed", 0),
    state("life_flow", "k1", "m", "running", 1),
    run_state("life_flow", "k1", "running"),
    patch(f"{F}/dagRuns/k1", {"state": "success"}),
    instances("k1"),
    patch(f"{F}/dagRuns/k1", {"state": "queued"}),
    patch(f"{F}/dagRuns/k1", {"state": "failed", "note": "no"}),
    state("life_flow", "k1", "t", "success"),
    patch(f"{F}/dagRuns/k1", {"state": "failed", "note": ""}),
    get(f"{F}/dagRuns/k1"),
    patch(f"{F}/dagRuns/k1", {"state": "running"}),
    run("life_none", "n1", None),
    run_state("life_none", "n1", "running"),
    state("life_none", "n1", "a", "running"),
    patch(f"{D}/life_none/dagRuns/n1", {"state": "failed"}),
    instances("n1", "life_none"),
]

DELETING = [
    run("life_none", "x1", None),
    run("life_none", "x2", None),
    delete(f"{D}/life_none/dagRuns/x1/taskInstances/made_up"),
    delete(f"{D}/life_none/dagRuns/made_up/taskInstances/a"),
    delete(f"{D}/life_none/dagRuns/x1/taskInstances/a?map_index=3"),
    delete(f"{D}/life_none/dagRuns/x1/taskInstances/a?map_index=x"),
    delete(f"{D}/life_none/dagRuns/x1/taskInstances/a"),
    instances("x1", "life_none"),
    get(f"{D}/life_none/dagRuns/x1/taskInstances/a/tries"),
    delete(f"{F}/dagRuns/k4/taskInstances/m?map_index=1"),
    delete(f"{F}/dagRuns/k4/taskInstances/m"),
    get(f"{F}/dagRuns/k4/taskInstances/m/listMapped"),
    patch(f"{D}/life_none/dagRuns/x2/taskInstances", {"actions": [{"action": "delete", "entities": ["a"]}]}),
    patch(f"{D}/life_none/dagRuns/x2/taskInstances", {"actions": [{"action": "delete", "entities": ["made_up"]}]}),
    patch(
        f"{D}/life_none/dagRuns/x2/taskInstances",
        {"actions": [{"action": "delete", "entities": ["b", "made_up"], "action_on_non_existence": "skip"}]},
    ),
    patch(
        f"{F}/dagRuns/k4/taskInstances",
        {"actions": [{"action": "delete", "entities": [{"task_id": "m", "map_index": 2}, {"task_id": "mg.i", "map_index": 9}]}]},
    ),
    patch(
        f"{D}/~/dagRuns/~/taskInstances",
        {"actions": [{"action": "delete", "entities": ["a", {"task_id": "a"}, {"task_id": "c", "dag_id": "life_flow", "dag_run_id": "k4"}]}]},  # noqa: E501
    ),
    patch(f"{F}/dagRuns/k4/taskInstances", {"actions": [{"action": "delete", "entities": [{"task_id": "mg.j"}]}]}),
    instances("k4"),
    run_state("life_none", "x2", "running"),
    delete(f"{D}/life_none/dagRuns/x2"),
    delete(f"{D}/life_none/dagRuns/x1"),
    delete(f"{D}/life_none/dagRuns/x1"),
    delete(f"{D}/life_daily/dagRuns/failed"),
    get(f"{B}/2"),
]

CASES = RUNS + DEPENDENCIES + CLEARING + MARKING + DELETING + BACKFILLS
