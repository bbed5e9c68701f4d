"""Mail of tasks; the backend writes it down."""

import os
import signal
from datetime import timedelta

from airflow.sdk import DAG, task

with DAG(dag_id="mailed", schedule=None, default_args={"email": ["ops@example.com", "dev@example.com"]}):

    @task
    def raises():
        raise ValueError("broken for good")

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def retried(ti=None):
        if ti.try_number == 1:
            raise ValueError("not yet")

    @task(retries=1, retry_delay=timedelta(seconds=0.1), email_on_retry=False, email="one@example.com, two@example.com")
    def quiet(ti=None):
        raise ValueError("each time")

    @task(email_on_failure=False)
    def silent():
        raise ValueError("no mail")

    @task
    def dies():
        os.kill(os.getpid(), signal.SIGKILL)

    raises(), retried(), quiet(), silent(), dies()
