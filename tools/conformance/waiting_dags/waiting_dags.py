"""Tasks that wait in every way, and what becomes of them."""

import datetime as dt
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG, Asset, PokeReturnValue, task
from waiting_operators import CALLBACKS, Defers, Starts, Twice, Waits
from waiting_triggers import SETTLE, WORK, Missing, WithArguments, note

SECOND = dt.timedelta(seconds=1)
RETRY = {"retries": 1, "retry_delay": SECOND}
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc)

with DAG("wait_ends", schedule=None) as dag:
    for end in ("success", "bare", "failed", "skipped"):
        Waits(task_id=f"end_{end}", mode=end, **CALLBACKS) >> EmptyOperator(task_id=f"below_{end}")
    Waits(task_id="end_failed_retry", mode="failed", **RETRY, **CALLBACKS)
    DateTimeSensorAsync(task_id="end_date", target_time="2020-01-01T00:00:00+00:00", end_from_trigger=True)
    Waits(task_id="end_many", mode="many")

    @task(trigger_rule="all_done")
    def pulls(ti=None):
        keys = {"end_success": ["return_value", "more"], "end_failed": ["why"], "end_skipped": ["why"]}
        return {f"{name} {key}": repr(ti.xcom_pull(task_ids=name, key=key)) for name, some in keys.items() for key in some}

    [dag.get_task(name) for name in ("end_success", "end_failed", "end_skipped")] >> pulls()

with DAG("wait_defer", schedule=None):
    Waits(task_id="defer_plain", payload={"n": 1}, **CALLBACKS)
    Waits(task_id="defer_timeout", name="never", patience=5 * SECOND, **RETRY, **CALLBACKS)
    Waits(task_id="defer_execution_timeout", name="never", execution_timeout=3 * SECOND, patience=10 * SECOND)
    Waits(task_id="defer_boom", mode="boom", **RETRY, **CALLBACKS)
    Waits(task_id="defer_nothing", mode="nothing")
    Waits(task_id="defer_fails_after", method="fail", **RETRY, **CALLBACKS)
    Waits(task_id="defer_no_method", method="not_there")
    Defers(task_id="defer_missing", to=Missing())
    Defers(task_id="defer_with_arguments", to=WithArguments(1))
    Twice(task_id="defer_twice", **CALLBACKS)
    Waits(task_id="defer_outlet", outlets=[Asset("wait_outlet")])


@dataclass
class Point:
    x: int


# What can be told, in one task each; what cannot be told, or comes out as something else, in a task of its own.
ARGUMENTS = {
    "fine": {
        "datetime": MOMENT,
        "zoned": MOMENT.astimezone(zoneinfo.ZoneInfo("Europe/Berlin")),
        "delta": dt.timedelta(days=1, microseconds=5),
        "set": {1},
        "frozenset": frozenset({"a"}),
        "tuple": (1, ("two",)),
        "decimal": Decimal("1.50"),
        "none": None,
        "nested": {"a": [{"b": (1, None)}], "é": "ü"},
        "float": 0.1,
        "big": 2**40,
        "asset": Asset("wait_argument"),
    },
    "offset": {"own": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=2)))},
    "date": {"own": dt.date(2026, 1, 2)},
    "int_keys": {"own": {1: "one"}},
    "bytes": {"own": b"abc"},
    "dataclass": {"own": Point(3)},
    "object": {"own": object()},
}

with DAG("wait_odd", schedule=None):
    for kind, value in ARGUMENTS.items():
        Waits(task_id=f"argument_{kind}", name="odd_go", arguments=value)
    for kind in ("fine", "int_keys", "set", "delta", "object"):
        Waits(task_id=f"event_{kind}", name="odd_go", mode="odd", payload=kind)


def third_time(**context):
    ti = context["ti"]
    first = ti.get_first_reschedule_date(context)
    seen = [*note_lines(ti.task_id), "x"]
    note(ti.task_id, "pokes", f"{first is not None} {ti.try_number}")
    return PokeReturnValue(is_done=len(seen) >= 3, xcom_value=f"poke {len(seen)}")


def note_lines(name):
    path = WORK / f"{name}.pokes"
    return path.read_text().splitlines() if path.exists() else []


def breaks_once(**context):
    ti = context["ti"]
    seen = note_lines(ti.task_id)
    note(ti.task_id, "pokes", f"{ti.get_first_reschedule_date(context) is not None} {ti.try_number}")
    if len(seen) == 1:
        raise RuntimeError("broken at the second poke")
    return len(seen) >= 3


def never(**context):
    note(context["ti"].task_id, "pokes", str(context["ti"].try_number))
    return False


def broken():
    raise RuntimeError("broken")


POKE = {"mode": "reschedule", "poke_interval": 3 + SETTLE}
with DAG("wait_sensors", schedule=None):
    PythonSensor(task_id="sensor_third", python_callable=third_time, timeout=600, **POKE, **CALLBACKS)
    PythonSensor(task_id="sensor_retry", python_callable=breaks_once, timeout=600, **POKE, **RETRY, **CALLBACKS)
    PythonSensor(task_id="sensor_timeout", python_callable=never, timeout=2, **POKE, **RETRY, **CALLBACKS)
    PythonSensor(task_id="sensor_soft", python_callable=never, timeout=2, soft_fail=True, **POKE, **CALLBACKS)
    PythonSensor(task_id="sensor_never_fail", python_callable=broken, timeout=2, never_fail=True, **POKE)
    PythonSensor(task_id="sensor_silent", python_callable=broken, timeout=2, silent_fail=True, **POKE)
    nowhere = str(WORK / "nowhere")
    FileSensor(task_id="sensor_file", filepath=nowhere, deferrable=True, poke_interval=0.5, timeout=5)
    FileSensor(task_id="sensor_file_soft", filepath=nowhere, deferrable=True, poke_interval=0.5, timeout=5, soft_fail=True)
    FileSensor(task_id="sensor_file_retry", filepath=nowhere, deferrable=True, poke_interval=0.5, timeout=5, **RETRY)
    FileSensor(task_id="sensor_file_there", filepath=str(WORK / "there"), deferrable=True, poke_interval=0.5, timeout=60)

with DAG("wait_starts", schedule=None):
    Starts(task_id="start_plain", name="start_go", **CALLBACKS)
    Starts(task_id="start_rendered", name="{{ dag.dag_id }}_go")
    Starts(task_id="start_boom", name="start_go", mode="boom", **RETRY, **CALLBACKS)
    Starts(task_id="start_failed", name="start_go", mode="failed", **RETRY, **CALLBACKS)
    Starts(task_id="start_success", name="start_go", mode="success", **CALLBACKS)
    Starts(task_id="start_late", name="never", patience=2 * SECOND, **CALLBACKS)
    Starts(task_id="start_limited", name="never", execution_timeout=2 * SECOND, **CALLBACKS)

with DAG("wait_pools", schedule=None):
    for pool in ("wait_counts", "wait_free"):
        for n in (1, 2):
            Waits(task_id=f"{pool}_{n}", pool=pool, priority_weight=10 - n)

# What a person does while a task is deferred: a run for each case, whose name its trigger has.
with DAG("wait_people", schedule=None, max_active_runs=20):
    Waits(task_id="waits", name="{{ run_id }}", payload="go", **RETRY) >> EmptyOperator(task_id="below", trigger_rule="all_done")

with DAG("wait_too_long", schedule=None, dagrun_timeout=(12 + 4 * SETTLE) * SECOND):
    Waits(task_id="too_long")

with DAG("wait_paused", schedule=None):
    Waits(task_id="paused", payload="go")
