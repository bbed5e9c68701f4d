"""A Dag of everyday parts. A zygote reads it once before its first fork, to have them at hand; it is never run."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Asset, Param, TaskGroup, Variable, dag, task, task_group  # noqa: F401

with DAG(
    "isobar_sample_classic",
    schedule="0 3 * * *",
    start_date=datetime(2024, 1, 1),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=5)},
    params={"size": Param(1, type="integer")},
    tags=["sample"],
):
    begin = EmptyOperator(task_id="begin")
    with TaskGroup("middle"):
        shell = BashOperator(task_id="shell", bash_command="echo {{ ds }}")
        function = PythonOperator(task_id="function", python_callable=print, op_args=["{{ ds }}"])
    begin >> [shell, function]


@dag(schedule=[Asset("isobar-sample://asset")], start_date=datetime(2024, 1, 1))
def isobar_sample_taskflow():
    @task(outlets=[Asset("isobar-sample://other")])
    def numbers() -> list[int]:
        return [1, 2]

    @task.branch
    def choose() -> str:
        return "group.double"

    @task_group
    def group(items):
        @task
        def double(item: int) -> int:
            return 2 * item

        return double.expand(item=items)

    found = numbers()
    choose() >> group(found)


isobar_sample_taskflow()

# Each kind of schedule: which classes a value does not belong to is remembered by its type.
for name, schedule in {
    "none": None,
    "preset": "@daily",
    "delta": timedelta(hours=1),
    "asset": Asset("isobar-sample://asset"),
    "assets": Asset("isobar-sample://asset") & Asset("isobar-sample://other"),
}.items():
    with DAG(f"isobar_sample_{name}", schedule=schedule, start_date=datetime(2024, 1, 1), catchup=False):
        EmptyOperator(task_id="only")
