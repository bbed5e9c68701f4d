"""Dags whose doings listeners hear of; run by Airflow and by Isobar alike."""

import os
import signal
import time
from datetime import timedelta

from airflow.sdk import DAG, Asset, AssetAlias, Metadata, task

made = Asset(name="made", uri="s3://listeners/made", group="things", extra={"by": "the file"})
named = AssetAlias("named", group="names")

with DAG(dag_id="good", schedule=None):

    @task(outlets=[made])
    def makes():
        yield Metadata(made, {"rows": 3})

    @task(outlets=[named])
    def finds(*, outlet_events):
        outlet_events[named].add(Asset("found"), extra={"rows": 4})

    makes() >> finds()

with DAG(dag_id="bad", schedule=None):

    @task
    def raises():
        raise ValueError("not today")

    raises()

with DAG(dag_id="killed", schedule=None):

    @task(retries=1, retry_delay=timedelta(seconds=0.1))
    def dies(ti=None):
        if ti.try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    dies()

with DAG(dag_id="marked", schedule=None):

    @task
    def waits():
        time.sleep(600)

    waits()

with DAG(dag_id="ended", schedule=None):

    @task
    def waits():
        time.sleep(600)

    @task
    def comes_after():
        pass

    waits() >> comes_after()
