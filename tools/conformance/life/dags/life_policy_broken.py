"""A Dag that a policy minds, and one that it does not."""

from airflow.sdk import DAG, task

for name in ("policy_broken", "policy_beside_broken"):
    with DAG(dag_id=name, schedule=None) as dag:

        @task
        def works():
            return 1

        works()
    globals()[name] = dag
