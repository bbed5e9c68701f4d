"""Mappings of three lengths; each index is a process of its own."""

from airflow.sdk import DAG, task

for length in (20, 200, 1000):
    with DAG(dag_id=f"mapped_{length}", schedule=None, max_active_tasks=10_000):

        @task
        def values(length=length):
            return list(range(length))

        @task
        def same(value):
            return value

        @task
        def total(numbers):
            return sum(numbers)

        total(same.expand(value=values()))
