"""A task runs, one waits, one comes whatever happens: for everything that can happen to what runs."""

from datetime import timedelta

from airflow.sdk import DAG, task
from life_evidence import RUN_TOLD, TOLD, Waits, say

CASES = (
    "clear", "clear_run", "success", "failed", "skipped", "run_success", "run_failed", "requeue",
    "delete_ti", "delete_run", "delete_dag", "pause",
)  # fmt: skip

for case in CASES:
    with DAG(dag_id=f"kill_{case}", schedule=None, default_args=TOLD, **RUN_TOLD) as dag:

        @task
        def below(ti=None):
            say(ti.dag_id, f"below try {ti.try_number}")

        @task(trigger_rule="all_done")
        def always(ti=None):
            say(ti.dag_id, f"always try {ti.try_number}")

        works = Waits(task_id="works", gate=f"kill_{case}", retries=1, retry_delay=timedelta(seconds=0.2))
        works >> below() >> always()
    globals()[dag.dag_id] = dag
