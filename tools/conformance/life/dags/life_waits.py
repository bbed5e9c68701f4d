"""Tasks that wait: what clearing, marking and deleting do to their triggers."""

from datetime import timedelta

from airflow.sdk import DAG, BaseOperator, task
from life_evidence import RUN_TOLD, TOLD, say
from life_triggers import FileTrigger


class Defers(BaseOperator):
    def execute(self, context):
        ti = context["ti"]
        say(ti.dag_id, f"{ti.task_id} try {ti.try_number} defers")
        self.defer(trigger=FileTrigger(f"{ti.dag_id}_{ti.try_number}", ti.dag_id), method_name="resumed", timeout=timedelta(minutes=5))

    def resumed(self, context, event):
        say(context["ti"].dag_id, f"resumed with {event}")

    def on_kill(self):
        say(self.dag_id, "the task is killed")


for case in ("clear", "success", "failed", "run_failed", "delete_run", "delete_ti"):
    with DAG(dag_id=f"wait_{case}", schedule=None, default_args=TOLD, **RUN_TOLD) as dag:

        @task
        def below(ti=None):
            say(ti.dag_id, "below")

        Defers(task_id="defers") >> below()
    globals()[dag.dag_id] = dag
