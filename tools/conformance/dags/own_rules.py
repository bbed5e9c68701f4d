"""Every trigger rule over every mix of states; set-up and tear-down that fail."""

from __future__ import annotations

import os
import time

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, setup, task, teardown
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException


@task
def works():
    return "fine"


@task
def fails():
    raise AirflowFailException("on purpose")


@task
def skips():
    raise AirflowSkipException("on purpose")


MIXES = {
    "all_fine": ("works", "works"),
    "one_failed": ("works", "fails"),
    "one_skipped": ("works", "skips"),
    "all_failed": ("fails", "fails"),
    "all_skipped": ("skips", "skips"),
    "of_each": ("works", "fails", "skips"),
    "below_failed": ("works", "after_failed"),
}
KINDS = {"works": works, "fails": fails, "skips": skips}

for mix, kinds in MIXES.items():
    with DAG(dag_id=f"own_rules_{mix}", schedule=None, tags=["own"]):
        upstream = []
        for number, kind in enumerate(kinds):
            if kind == "after_failed":
                after = EmptyOperator(task_id="after_failed")
                fails.override(task_id="broken")() >> after
                upstream.append(after)
            else:
                upstream.append(KINDS[kind].override(task_id=f"{kind}_{number}", trigger_rule="all_done")())
        if mix == "of_each":  # where a rule could go either way, what ended first decides
            upstream[1] >> upstream[2]
        for rule in TriggerRule:
            if rule.value in ("all_done_setup_success",):
                continue
            upstream >> EmptyOperator(task_id=f"when_{rule.value}", trigger_rule=rule)


with DAG(dag_id="own_setup_fails", schedule=None, tags=["own"]):

    @setup
    def make():
        raise AirflowFailException("no cluster")

    @teardown
    def unmake():
        print("nothing to unmake")

    @task
    def use():
        print("never")

    made, unmade = make(), unmake()
    made >> use() >> unmade
    made >> unmade

with DAG(dag_id="own_teardown_fails", schedule=None, tags=["own"]):

    @setup
    def prepare():
        return "cluster"

    @teardown
    def clean(cluster):
        raise RuntimeError(f"{cluster} does not go away")

    @task
    def calculate():
        return 1

    with clean(prepare()):
        calculate()

with DAG(dag_id="own_teardown_fails_the_run", schedule=None, tags=["own"]):

    @teardown(on_failure_fail_dagrun=True)
    def tidy():
        raise RuntimeError("stuck")

    works() >> tidy()

with DAG(dag_id="own_work_between_fails", schedule=None, tags=["own"]):

    @setup
    def open_it():
        return "open"

    @teardown
    def close_it(it):
        print("closing", it)

    with close_it(open_it()):
        fails.override(task_id="breaks")() >> works.override(task_id="never")()
    works.override(task_id="outside")()

with DAG(dag_id="own_fail_fast", schedule=None, fail_fast=True, tags=["own"]):
    BEGUN = os.path.join(os.environ.get("CONFORMANCE_WORK", "/nonexistent"), "slow_began")

    @task
    def slow():
        open(BEGUN, "w").close()
        time.sleep(300)

    @task
    def fails_when_slow_has_begun():
        while not os.path.exists(BEGUN):
            time.sleep(0.1)
        raise AirflowFailException("on purpose")

    fails_when_slow_has_begun() >> works.override(task_id="later")()
    works.override(task_id="before")() >> slow() >> works.override(task_id="last")()
