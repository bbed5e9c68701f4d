"""A Dag that a policy minds, and one that it does not."""

from airflow.sdk import DAG, task

for name in ("policy_task_error", "policy_beside_task_error"):
    with DAG(dag_id=name, schedule=None) as dag:

        @task
        def works():
            return 1

        works()
    globals()[name] = dag
