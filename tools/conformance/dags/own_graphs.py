"""Branches, short circuits, mapping, groups, pools, the past, other Dags."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.latest_only import LatestOnlyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import DAG, TaskGroup, chain, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

with DAG(dag_id="own_empty", schedule=None, tags=["own"]):
    pass

with DAG(dag_id="own_branches", schedule=None, tags=["own"]):

    @task.branch
    def to_two():
        return ["left", "right"]

    @task.branch
    def to_none():
        return None

    @task.branch
    def to_nowhere():
        return "no_such_task"

    @task.branch
    def into_group():
        return "inner.first"

    @task.short_circuit
    def stops():
        return []

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def stops_gently():
        return False

    to_two() >> [EmptyOperator(task_id=name) for name in ("left", "right", "middle")]
    to_none() >> EmptyOperator(task_id="after_none")
    to_nowhere() >> EmptyOperator(task_id="after_nowhere")
    with TaskGroup("inner") as inner:
        EmptyOperator(task_id="first") >> EmptyOperator(task_id="second")
        EmptyOperator(task_id="other")
    chosen = into_group()
    chosen >> inner
    chain(stops(), EmptyOperator(task_id="s1"), EmptyOperator(task_id="s2", trigger_rule="all_done"))
    chain(stops_gently(), EmptyOperator(task_id="g1"), EmptyOperator(task_id="g2", trigger_rule="all_done"))

with DAG(dag_id="own_mapping", schedule=None, tags=["own"]):

    @task
    def numbers():
        return [3, 1, 2]

    @task
    def nothing():
        return []

    @task
    def letters():
        return {"a": 1, "b": 2}

    @task
    def add(x, y=0):
        return x + y

    @task
    def pair(item):
        return list(item)

    @task
    def fragile(x):
        if x == 1:
            raise AirflowFailException("one")
        if x == 2:
            raise AirflowSkipException("two")
        return x

    @task
    def total(values):
        return sum(values)

    @task(trigger_rule="all_done")
    def survivors(values):
        return sorted(values)

    @task
    def not_a_list():
        return 7

    got = numbers()
    total.override(task_id="sum_of_product")(add.override(task_id="product").expand(x=got, y=[10, 20]))
    add.override(task_id="partial").partial(y=100).expand(x=got)
    add.override(task_id="kwargs").expand_kwargs([{"x": 1, "y": 2}, {"x": 3}])
    add.override(task_id="mapped_twice").expand(x=add.override(task_id="mapped_once").expand(x=got))
    add.override(task_id="of_map").expand(x=got.map(lambda x: x * 10))
    pair.override(task_id="of_zip").expand(item=got.zip(numbers.override(task_id="others")(), fillvalue=0))
    add.override(task_id="of_concat").expand(x=got.concat(numbers.override(task_id="more")()))
    pair.override(task_id="of_dict").expand(item=letters())
    total.override(task_id="sum_of_none")(add.override(task_id="of_nothing").expand(x=nothing()))
    survivors(fragile.expand(x=got))
    total.override(task_id="never")(fragile.override(task_id="fragile_again").expand(x=got))
    add.override(task_id="of_not_a_list").expand(x=not_a_list())

with DAG(dag_id="own_mapped_groups", schedule=None, tags=["own"]):

    @task
    def items():
        return [0, 1, 2, 3]

    @task
    def may_fail(n):
        if n == 1:
            raise AirflowFailException("one")
        if n == 2:
            raise AirflowSkipException("two")
        return n

    @task
    def after(n):
        return n

    @task(trigger_rule="all_done")
    def anyway():
        return "done"

    @task.branch
    def choose(n):
        return "branches.even" if n % 2 == 0 else "branches.odd"

    @task
    def even():
        return "even"

    @task
    def odd():
        return "odd"

    @task(trigger_rule="none_failed_min_one_success")
    def join():
        return "joined"

    @task_group
    def fallible(n):
        after(may_fail(n)) >> anyway()

    @task_group
    def branches(n):
        choose(n) >> [even(), odd()] >> join()

    @task_group
    def empty_group(n):
        after(n)

    listed = items()
    below = EmptyOperator(task_id="below_fallible", trigger_rule="all_done")
    fallible.expand(n=listed) >> below
    fallible.override(group_id="literal").expand(n=[5, 6]) >> EmptyOperator(task_id="below_literal")
    branches.expand(n=listed) >> EmptyOperator(task_id="below_branches")
    empty_group.expand(n=[]) >> EmptyOperator(task_id="below_empty")

with DAG(
    dag_id="own_past",
    schedule="@daily",
    start_date=datetime(2024, 3, 1, tzinfo=timezone.utc),
    end_date=datetime(2024, 3, 3, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=2,
    default_args={"depends_on_past": True},
    tags=["own"],
):

    @task
    def second_day_skips(ds=None):
        if ds == "2024-03-02":
            raise AirflowSkipException(ds)
        return ds

    @task(depends_on_past=False, wait_for_downstream=True)
    def waits_below(ds=None):
        return ds

    waits_below() >> second_day_skips()

with DAG(
    dag_id="own_past_fails",
    schedule="@daily",
    start_date=datetime(2024, 3, 1, tzinfo=timezone.utc),
    end_date=datetime(2024, 3, 3, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=1,
    max_consecutive_failed_dag_runs=2,
    tags=["own"],
):

    @task
    def always_fails(ds=None):
        raise AirflowFailException(ds)

    always_fails() >> EmptyOperator(task_id="never")

with DAG(
    dag_id="own_catchup_hours",
    schedule="0 */6 * * *",
    start_date=datetime(2024, 3, 9, 20, tzinfo=timezone.utc),
    end_date=datetime(2024, 3, 10, 14, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=1,
    tags=["own"],
):

    @task
    def dates(data_interval_start=None, data_interval_end=None, prev_data_interval_end_success=None):
        return [str(data_interval_start), str(data_interval_end), str(prev_data_interval_end_success)]

    dates() >> LatestOnlyOperator(task_id="latest") >> EmptyOperator(task_id="only_latest")

with DAG(dag_id="own_limits", schedule=None, max_active_tasks=2, tags=["own"]):

    @task(max_active_tis_per_dag=1, pool_slots=2, priority_weight=5)
    def one_at_a_time(n):
        return n

    @task(max_active_tis_per_dagrun=1, weight_rule="upstream", priority_weight=3)
    def one_per_run(n):
        return n

    @task(weight_rule="absolute", priority_weight=-4)
    def lowest():
        pass

    one_at_a_time.expand(n=[1, 2, 3]) >> one_per_run.expand(n=[1, 2]) >> lowest()

with DAG(dag_id="own_child", schedule=None, params={"depth": 0}, tags=["own"]):

    @task
    def says(dag_run=None, params=None):
        if dag_run.conf.get("fail"):
            raise AirflowFailException("told to")
        return [dag_run.conf, params["depth"]]

    says()

with DAG(dag_id="own_parent", schedule=None, tags=["own"]):
    common = {"trigger_dag_id": "own_child", "logical_date": None}
    waits = TriggerDagRunOperator(
        task_id="waits",
        conf={"depth": 1, "run": "{{ ds }}"},
        trigger_run_id="conformance.waits.{{ ds_nodash }}",
        wait_for_completion=True,
        poke_interval=1,
        **common,
    )
    sees_failure = TriggerDagRunOperator(
        task_id="sees_failure",
        conf={"fail": True},
        trigger_run_id="conformance.fails.{{ ds_nodash }}",
        wait_for_completion=True,
        poke_interval=1,
        allowed_states=["failed"],
        failed_states=["success"],
        **common,
    )
    again = TriggerDagRunOperator(
        task_id="again", trigger_run_id="conformance.waits.{{ ds_nodash }}", skip_when_already_exists=True, **common
    )
    again_fails = TriggerDagRunOperator(
        task_id="again_fails", trigger_run_id="conformance.waits.{{ ds_nodash }}", **common
    )
    bad = TriggerDagRunOperator(task_id="no_such_dag", trigger_dag_id="nobody_has_this_dag")
    waits >> [sees_failure, again, again_fails]

with DAG(dag_id="own_external_sensor", schedule=None, tags=["own"]):
    common = {"external_dag_id": "own_child_by_date", "poke_interval": 1, "mode": "reschedule", "timeout": 30}
    ExternalTaskSensor(task_id="task_there", external_task_id="there", **common)
    ExternalTaskSensor(task_id="dag_there", **common)
    ExternalTaskSensor(task_id="group_there", external_task_group_id="group", **common)
    ExternalTaskSensor(
        task_id="failed_there", external_task_id="broken", failed_states=["failed"], check_existence=True, **common
    )
    ExternalTaskSensor(
        task_id="skipped_there", external_task_id="absent", skipped_states=["skipped"], check_existence=True, **common
    )
    ExternalTaskSensor(task_id="no_such_task", external_task_id="nobody", check_existence=True, **common)
    ExternalTaskSensor(
        task_id="other_date",
        external_task_id="there",
        execution_delta=timedelta(days=1),
        **{**common, "timeout": 2, "soft_fail": True},
    )

with DAG(dag_id="own_child_by_date", schedule=None, tags=["own"]):

    @task
    def broken():
        raise AirflowFailException("on purpose")

    @task
    def absent():
        raise AirflowSkipException("on purpose")

    with TaskGroup("group"):
        EmptyOperator(task_id="one") >> EmptyOperator(task_id="two")
    EmptyOperator(task_id="there")
    broken() >> EmptyOperator(task_id="mended", trigger_rule="all_done")
    absent()
