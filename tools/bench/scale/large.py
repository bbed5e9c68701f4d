"""Dags of three sizes: layers in a row, one join, and a mapping."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

for size in (50, 500, 5000):
    with DAG(dag_id=f"layers_{size}", schedule=None, max_active_tasks=10_000):
        above = []
        for layer in range(size // 10):
            here = [EmptyOperator(task_id=f"l{layer}_{at}") for at in range(10)]
            for upstream, downstream in zip(above, here):
                upstream >> downstream
            above = here

    with DAG(dag_id=f"join_{size}", schedule=None, max_active_tasks=10_000):
        first, last = EmptyOperator(task_id="first"), EmptyOperator(task_id="last")
        first >> [EmptyOperator(task_id=f"m{at}") for at in range(size - 2)] >> last
