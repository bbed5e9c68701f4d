"""A Dag that a policy minds, and one that it does not."""

from airflow.sdk import DAG, task

for name in ("policy_skipped", "policy_beside_skipped"):
    with DAG(dag_id=name, schedule=None) as dag:

        @task
        def works():
            return 1

        works()
    globals()[name] = dag
