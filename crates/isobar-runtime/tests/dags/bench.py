"""The Dag whose tasks the fork benchmark runs."""

from datetime import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task


@dag(schedule=None, start_date=datetime(2025, 1, 1))
def bench():
    @task
    def noop():
        return None

    noop() >> BashOperator(task_id="bash", bash_command="true")


bench()
