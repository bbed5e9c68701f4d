"""Dags for the cluster policies; each is alone in the eyes of a policy, and the bad ones have files of their own."""

from airflow.sdk import DAG, task

with DAG(dag_id="policy_changed", schedule=None, tags=["one"]):

    @task
    def works():
        import os

        return os.environ.get("LIFE_TASK")

    works()
