"""Callbacks of tasks and Dags leave marks; a later task of the next run reads them."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

WORK = os.environ.get("CONFORMANCE_WORK", "/nonexistent")


def mark(kind):
    def note(context):
        ti, run = context.get("ti"), context["dag_run"]
        name = ti.task_id if ti is not None and not kind.startswith("dag") else "-"
        tries = ti.try_number if ti is not None and not kind.startswith("dag") else 0
        with open(os.path.join(WORK, f"callbacks.{run.dag_id}"), "a") as file:
            file.write(f"{run.run_id} {kind} {name} {tries}\n")

    return note


ALL = {
    "on_execute_callback": mark("execute"),
    "on_success_callback": mark("success"),
    "on_failure_callback": mark("failure"),
    "on_retry_callback": mark("retry"),
    "on_skipped_callback": mark("skipped"),
}

with DAG(
    dag_id="own_callbacks",
    schedule=None,
    default_args=ALL,
    on_success_callback=mark("dag success"),
    on_failure_callback=mark("dag failure"),
    tags=["own"],
):

    @task
    def works():
        return 1

    @task
    def skips():
        raise AirflowSkipException("x")

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def fails():
        raise ValueError("x")

    @task
    def below():
        return 2

    [works(), skips()]
    fails() >> below()

with DAG(
    dag_id="own_callbacks_fine",
    schedule=None,
    default_args=ALL,
    on_success_callback=[mark("dag success"), mark("dag success again")],
    on_failure_callback=mark("dag failure"),
    tags=["own"],
):

    @task
    def fine():
        return 1

    fine()

with DAG(dag_id="own_callbacks_break", schedule=None, on_success_callback=lambda context: 1 / 0, tags=["own"]):

    def breaks(context):
        raise RuntimeError("the callback itself is broken")

    @task(on_success_callback=breaks, on_execute_callback=breaks)
    def works_all_the_same():
        return 1

    @task(on_failure_callback=breaks)
    def fails_all_the_same():
        raise AirflowFailException("x")

    works_all_the_same(), fails_all_the_same()

with DAG(dag_id="own_callbacks_read", schedule=None, tags=["own"]):

    @task.sensor(mode="poke", poke_interval=1, timeout=120)
    def marks():
        from airflow.sdk import PokeReturnValue

        found = []
        for dag in ("own_callbacks", "own_callbacks_fine"):
            path = os.path.join(WORK, f"callbacks.{dag}")
            lines = open(path).read().splitlines() if os.path.exists(path) else []
            found += [f"{dag}: {line}" for line in lines]
        done = any("dag failure" in line for line in found) and any("success again" in line for line in found)
        return PokeReturnValue(is_done=done, xcom_value=sorted(found))

    marks()
