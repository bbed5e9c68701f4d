"""What callbacks are told."""

import os
import signal
import time
from datetime import timedelta

from airflow.sdk import DAG, BaseNotifier, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from life_evidence import RUN_TOLD, TOLD, keys, say, told


def breaks(context):
    raise RuntimeError("the callback itself is broken")


class Notifies(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, text):
        super().__init__()
        self.text = text

    def notify(self, context):
        say(context["dag"].dag_id, f"notified {self.text}")


with DAG(dag_id="contexts", schedule=None, default_args=TOLD, params={"n": 3}, **RUN_TOLD):

    @task
    def works():
        return 1

    @task
    def skips():
        raise AirflowSkipException("not today")

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def fails():
        raise ValueError("broken\nin two lines")

    @task(retries=3)
    def gives_up():
        raise AirflowFailException("for good")

    @task(execution_timeout=timedelta(seconds=1))
    def takes_too_long():
        time.sleep(60)

    @task
    def leaves():
        raise SystemExit(3)

    @task
    def below():
        return 2

    @task
    def mapped(n):
        if n == 1:
            raise ValueError("the second")

    [works(), skips(), gives_up(), takes_too_long(), leaves(), mapped.expand(n=[0, 1])]
    fails() >> below()

with DAG(dag_id="contexts_killed", schedule=None, default_args=TOLD, **RUN_TOLD):

    @task
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def exits():
        os._exit(7)

    killed(), exits()

with DAG(dag_id="contexts_killed_again", schedule=None, default_args=TOLD, **RUN_TOLD):

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def killed_at_first(ti=None):
        if ti.try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    killed_at_first()

with DAG(dag_id="contexts_keys", schedule=None, on_failure_callback=keys("run failure")):

    @task(on_execute_callback=keys("execute"), on_success_callback=keys("success"))
    def works():
        return 1

    @task(on_failure_callback=keys("failure"), on_retry_callback=keys("retry"), retries=1, retry_delay=timedelta(seconds=0.1))
    def fails():
        raise ValueError("broken")

    @task(on_failure_callback=keys("failure"))
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    [works(), killed()] >> fails.override(trigger_rule="all_done")()

with DAG(
    dag_id="contexts_lists",
    schedule=None,
    on_success_callback=[breaks, told("first"), told("second"), Notifies("run {{ run_id }} {{ reason }}")],
):

    @task(on_success_callback=[told("first"), breaks, told("second"), Notifies("{{ ti.task_id }} {{ dag_run.run_type }}")])
    def works():
        return 1

    @task(on_skipped_callback=[breaks, told("skip")], on_failure_callback=told("never"))
    def skips():
        raise AirflowSkipException("no")

    works() >> skips()

with DAG(dag_id="contexts_late", schedule=None, dagrun_timeout=timedelta(seconds=4), default_args=TOLD, **RUN_TOLD):

    @task
    def sleeps():
        time.sleep(60)

    sleeps()
