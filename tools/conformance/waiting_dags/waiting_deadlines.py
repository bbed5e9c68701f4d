"""Runs with deadlines of every kind."""

import datetime as dt
import time
import zoneinfo

from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, SyncCallback, task
from airflow.sdk.definitions.deadline import VariableInterval
from waiting_late import LONGER, Notifies, breaks, said, said_later, takes_no_context
from waiting_triggers import SETTLE, WORK

SECOND = dt.timedelta(seconds=1)
QUEUED, LOGICAL = DeadlineReference.DAGRUN_QUEUED_AT, DeadlineReference.DAGRUN_LOGICAL_DATE
# Time for a short run to end.
SOON = (20 + LONGER) * SECOND
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc)


def late(reference, interval, name, callback=SyncCallback, call=None, **own):
    call = call or (said if callback is SyncCallback else said_later)
    return DeadlineAlert(reference=reference, interval=interval, callback=callback(call, kwargs={"name": name, **own}))


@task
def held(dag_run=None):
    """Until its run's file is there, which says how it ends."""
    path = WORK / f"{dag_run.run_id}.go"
    while not path.exists():
        time.sleep(0.1)
    if path.read_text().strip() == "fail":
        raise RuntimeError("told so")


def dag(dag_id, *deadlines, **more):
    with DAG(dag_id, deadline=list(deadlines) if len(deadlines) > 1 else deadlines[0], **{"schedule": None, **more}):
        held()


dag(
    "late_queued",
    late(QUEUED, SECOND, "held sync"),
    late(QUEUED, SECOND, "held async", AsyncCallback),
    late(QUEUED, SECOND, "breaks", call=breaks),
    late(QUEUED, 2 * SECOND, "without context", call=takes_no_context),
    late(QUEUED, 2 * SECOND, "notifier", call=Notifies),
    late(QUEUED, 2 * SECOND, "notifier async", AsyncCallback, call=Notifies),
    late(QUEUED, 2 * SECOND, "by name", call="waiting_late.said"),
    late(QUEUED, 2 * SECOND, "nowhere", call="waiting_late.nowhere"),
    late(QUEUED, 2 * SECOND, "own", n=1, nested={"a": [None, 1.5, "ü"]}, pair=(1, 2), moment=MOMENT, delta=SECOND),
    late(QUEUED, 2 * SECOND, "own async", AsyncCallback, n=1, nested={"a": [None]}, pair=(1, 2), moment=MOMENT, delta=SECOND),
    late(QUEUED, 3600 * SECOND, "never"),
)
dag("late_soon", late(QUEUED, SOON, "held soon"))
dag("late_logical", late(LOGICAL, 3 * SECOND, "logical"), late(LOGICAL, dt.timedelta(days=9999), "never"))
dag(
    "late_fixed",
    late(DeadlineReference.FIXED_DATETIME(dt.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))), SECOND, "fixed"),
    late(DeadlineReference.FIXED_DATETIME(dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)), dt.timedelta(days=36500), "never"),
)
dag("late_average", late(DeadlineReference.AVERAGE_RUNTIME(max_runs=3, min_runs=2), -SECOND, "average"))
dag("late_average_failed", late(DeadlineReference.AVERAGE_RUNTIME(max_runs=3, min_runs=1), -SECOND, "average"))
dag("late_variable", late(QUEUED, VariableInterval("late_seconds"), "held variable"))
dag("late_no_variable", late(QUEUED, VariableInterval("late_nothing"), "variable"))
dag("late_odd_variable", late(QUEUED, VariableInterval("late_odd"), "variable"))
dag("late_once", late(LOGICAL, SECOND, "once"), schedule="@once", start_date=dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc))
dag("late_paused", late(QUEUED, SECOND, "paused"))
dag("late_deleted", late(QUEUED, (3 + SETTLE) * SECOND, "deleted"))
