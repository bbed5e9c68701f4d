"""What clearing and marking reach, in runs that really ran."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, setup, task, task_group, teardown
from life_evidence import RUN_TOLD, TOLD, WORK, Waits, say, wait_while


def told_try(ti):
    say(ti.dag_id, f"{ti.task_id}{'' if ti.map_index < 0 else ti.map_index} try {ti.try_number}")


with DAG(dag_id="flow", schedule=None, **RUN_TOLD):

    @task
    def first(ti=None):
        told_try(ti)
        lengths = WORK / f"flow_{ti.run_id}"
        return list(range(int(lengths.read_text()) if lengths.exists() else 2))

    @task
    def each(n, ti=None):
        told_try(ti)
        if (WORK / f"flow_{ti.run_id}_fails_{n}").exists():
            raise ValueError("told to fail")
        return n

    @task
    def total(values, ti=None):
        told_try(ti)
        return sum(values)

    @task_group
    def pair(n):
        @task
        def one(n, ti=None):
            told_try(ti)
            return n

        @task
        def two(n, ti=None):
            told_try(ti)
            return n

        two(one(n))

    @setup
    def opens(ti=None):
        told_try(ti)

    @teardown
    def closes(ti=None):
        told_try(ti)

    @task
    def inside(ti=None):
        told_try(ti)

    @task
    def last(ti=None):
        told_try(ti)

    numbers = first()
    done = last()
    values = each.expand(n=numbers)
    total(values) >> done
    pair.expand(n=numbers) >> done
    opened, closed = opens(), closes()
    opened >> inside() >> closed
    opened >> closed

with DAG(dag_id="tries", schedule=None, **RUN_TOLD, default_args=TOLD):

    @task(retries=2, retry_delay=timedelta(seconds=0.2))
    def flaky(ti=None):
        told_try(ti)
        if not (WORK / f"tries_{ti.run_id}_well").exists():
            raise ValueError("not yet")

    @task(retries=5, retry_delay=timedelta(hours=1))
    def patient(ti=None):
        told_try(ti)
        if not (WORK / f"tries_{ti.run_id}_well").exists():
            raise ValueError("not for an hour")

    @task.sensor(mode="reschedule", poke_interval=1, timeout=600)
    def pokes(ti=None):
        return (WORK / f"tries_{ti.run_id}_well").exists()

    flaky(), patient(), pokes()

with DAG(
    dag_id="daily", schedule="@daily", start_date=datetime(2026, 1, 1), end_date=datetime(2026, 1, 31), catchup=False,
    max_active_runs=4,
):  # fmt: skip

    @task
    def day(logical_date=None, ti=None, dag_run=None, data_interval_end=None):
        say(ti.dag_id, f"{ti.run_id} {logical_date} to {data_interval_end} try {ti.try_number} {dag_run.conf}")
        wait_while("daily_hold")

    @task
    def fails_on_third(logical_date=None):
        if logical_date.day == 3 and not (WORK / "daily_well").exists():
            raise ValueError("the third")

    day() >> fails_on_third()

with DAG(
    dag_id="past", schedule="@daily", start_date=datetime(2026, 1, 1), end_date=datetime(2026, 1, 31), catchup=False,
    params={"n": 1},
):  # fmt: skip

    @task(depends_on_past=True)
    def chained(logical_date=None, ti=None, params=None):
        say(ti.dag_id, f"{logical_date} try {ti.try_number} {dict(params)}")
        if logical_date.day == 2 and not (WORK / "past_well").exists():
            raise ValueError("the second")

    chained()

with DAG(dag_id="asked", schedule=None, params={"n": 1, "text": "x"}):

    @task
    def tells(**context):
        names = ("run_id", "logical_date", "data_interval_start", "data_interval_end", "ds", "params", "inlet_events")
        run = context["dag_run"]
        words = {name: str(context[name]) for name in names if name in context and name != "inlet_events"}
        words |= {
            "run_after": str(run.run_after) if run.run_after.year < 2026 else "now", "conf": run.conf, "type": run.run_type,
            "partition_key": getattr(run, "partition_key", None), "note": run.note, "triggered_by": run.triggering_user_name,
        }  # fmt: skip
        return words

    tells()

with DAG(dag_id="limited", schedule=None, max_active_tasks=1):
    held = Waits(task_id="held", gate="limited", priority_weight=5)

    @task
    def waiting(ti=None):
        told_try(ti)

    @task
    def below(ti=None):
        told_try(ti)

    waiting() >> below()
