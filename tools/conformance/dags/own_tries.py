"""Retries, time limits, and the ways in which a task can end."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, PokeReturnValue, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, AirflowTaskTimeout

SOON = timedelta(seconds=1)

with DAG(dag_id="own_retries", schedule=None, tags=["own"]):

    @task(retries=3, retry_delay=SOON, retry_exponential_backoff=True, max_retry_delay=timedelta(seconds=3))
    def third_time_lucky(ti=None):
        if ti.try_number < 3:
            raise AirflowException("not yet")
        return ti.try_number

    @task(retries=1, retry_delay=SOON)
    def never_lucky(ti=None):
        ti.xcom_push(key="tried", value=ti.try_number)
        raise ValueError("never")

    @task(retries=5, retry_delay=SOON)
    def no_second_try():
        raise AirflowFailException("no use")

    @task(retries=1, retry_delay=SOON)
    def skips_at_second(ti=None):
        if ti.try_number == 2:
            raise AirflowSkipException("enough")
        raise ValueError("first")

    @task(trigger_rule="all_done")
    def after_all(ti=None):
        return ti.xcom_pull(task_ids="never_lucky", key="tried")

    [third_time_lucky(), never_lucky(), no_second_try(), skips_at_second()] >> after_all()

with DAG(dag_id="own_endings", schedule=None, tags=["own"]):

    @task
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def terminated():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    @task
    def left_with_three():
        sys.exit(3)

    @task
    def left_with_nothing():
        sys.exit(0)

    @task
    def interrupted():
        raise KeyboardInterrupt

    @task
    def timed_out_by_itself():
        raise AirflowTaskTimeout("too slow")

    @task(execution_timeout=timedelta(seconds=2))
    def too_slow():
        time.sleep(30)

    @task(execution_timeout=timedelta(seconds=2), retries=1, retry_delay=SOON)
    def too_slow_at_first(ti=None):
        if ti.try_number == 1:
            time.sleep(30)

    @task
    def recursion():
        return recursion_of(1)

    def recursion_of(n):
        return recursion_of(n + 1)

    @task
    def exit_code():
        raise SystemExit("words")

    BashOperator(task_id="bash_fails", bash_command="exit 7")
    BashOperator(task_id="bash_skips", bash_command="exit 99")
    BashOperator(task_id="bash_skips_otherwise", bash_command="exit 42", skip_on_exit_code=[41, 42])
    killed(), terminated(), left_with_three(), left_with_nothing(), interrupted(), timed_out_by_itself()
    too_slow(), too_slow_at_first(), recursion(), exit_code()

with DAG(dag_id="own_sensors", schedule=None, tags=["own"]):

    @task.sensor(mode="reschedule", poke_interval=1, timeout=60)
    def on_the_third_poke(ti=None):
        mark = os.path.join(os.environ["CONFORMANCE_WORK"], f"poked_{ti.run_id}".replace(":", "."))
        with open(mark, "a") as file:
            file.write("x")
        size = os.path.getsize(mark)
        return PokeReturnValue(is_done=size >= 3, xcom_value=size)

    @task.sensor(mode="reschedule", poke_interval=1, timeout=2)
    def gives_up():
        return False

    @task.sensor(mode="reschedule", poke_interval=1, timeout=2, soft_fail=True)
    def gives_up_softly():
        return PokeReturnValue(is_done=False)

    @task.sensor(mode="poke", poke_interval=0.2, timeout=1)
    def pokes_in_vain():
        return False

    @task.sensor(mode="poke", poke_interval=0.2, timeout=1, soft_fail=True)
    def pokes_in_vain_softly():
        return False

    @task.sensor(mode="poke", poke_interval=0.2, timeout=10, retries=1, retry_delay=SOON)
    def raises_first(ti=None):
        if ti.try_number == 1:
            raise ValueError("no")
        return True

    @task.sensor(mode="poke", poke_interval=0.2, timeout=10, soft_fail=True)
    def raises_softly():
        raise ValueError("no")

    @task.sensor(mode="reschedule", poke_interval=1, timeout=10, never_fail=True)
    def never_fails():
        raise ValueError("no")

    on_the_third_poke()
    gives_up(), gives_up_softly(), pokes_in_vain(), pokes_in_vain_softly(), raises_first(), raises_softly(), never_fails()

with DAG(dag_id="own_run_too_slow", schedule=None, dagrun_timeout=timedelta(minutes=2), tags=["own"]):

    @task
    def quick():
        return 1

    @task
    def for_ever():
        time.sleep(600)

    @task
    def never():
        return 2

    quick() >> for_ever() >> never()
