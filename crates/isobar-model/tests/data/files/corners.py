"""Dags that use the corners of the serialized format; recorded by serialize_dags.py."""

from datetime import datetime, timedelta, timezone

import pendulum
from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AssetAll,
    AssetAny,
    Label,
    Param,
    TaskGroup,
    chain,
    dag,
    setup,
    task,
    task_group,
    teardown,
)
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.bash import BashSensor
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.events import EventsTimetable
from airflow.timetables.interval import CronDataIntervalTimetable, DeltaDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable
from dateutil.relativedelta import FR, relativedelta

VIENNA = pendulum.timezone("Europe/Vienna")


def nothing(context=None):
    pass


async def late(context=None):
    pass


with DAG(
    "corner_attributes",
    schedule=CronTriggerTimetable("15 3 * * 1-5", timezone="Europe/Vienna", interval=timedelta(hours=2)),
    start_date=datetime(2024, 1, 31, 1, 30, 0, 250000, tzinfo=VIENNA),
    end_date=datetime(2030, 1, 1, tzinfo=timezone.utc),
    catchup=True,
    max_active_runs=3,
    max_active_tasks=7,
    max_consecutive_failed_dag_runs=4,
    dagrun_timeout=timedelta(hours=6, seconds=1.5),
    fail_fast=False,
    is_paused_upon_creation=False,
    tags=["b", "a"],
    owner_links={"ann": "https://example.org/ann"},
    description="Everything at once",
    doc_md="# Title",
    dag_display_name="Corner ✓",
    default_args={"owner": "ann", "retries": 2, "retry_delay": timedelta(minutes=1), "on_failure_callback": nothing},
    params={
        "plain": 3,
        "typed": Param("x", type=["null", "string"], description="a text", maxLength=5),
        "nested": Param({"a": [1, {"b": 2}]}, type="object"),
        "missing": Param(type="integer", minimum=1) if False else Param(None, type=["integer", "null"]),
    },
    access_control={"Op": {"DAGs": {"can_read", "can_edit"}}},
    on_failure_callback=nothing,
    render_template_as_native_obj=True,
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=5),
        callback=AsyncCallback(late, kwargs={"x": 1}),
    ),
):
    all_set = BashOperator(
        task_id="all_set",
        bash_command="echo {{ params.plain }}",
        task_display_name="All set",
        trigger_rule="none_failed_min_one_success",
        weight_rule="upstream",
        priority_weight=2_000_000_000,
        pool="p",
        pool_slots=2,
        queue="q",
        retries=5,
        retry_delay=timedelta(seconds=2.5),
        retry_exponential_backoff=True,
        max_retry_delay=timedelta(minutes=9),
        execution_timeout=timedelta(seconds=30),
        depends_on_past=True,
        wait_for_downstream=True,
        max_active_tis_per_dag=2,
        max_active_tis_per_dagrun=1,
        start_date=datetime(2025, 6, 1, tzinfo=timezone.utc),
        do_xcom_push=False,
        map_index_template="{{ task.task_id }}",
        on_success_callback=nothing,
        on_retry_callback=nothing,
        inlets=[Asset("in")],
        outlets=[Asset(name="out", uri="s3://out/x", group="g", extra={"k": 1}), AssetAlias("al", group="g")],
        params={"own": Param(1, type="integer")},
        doc_md="task doc",
        executor_config={"a": (1, 2)},
        wait_for_past_depends_before_skipping=True,
        email="a@example.org",
        email_on_retry=False,
    )
    heavy = EmptyOperator(task_id="heavy", priority_weight=2_000_000_000)
    custom = EmptyOperator(task_id="end", weight_rule="absolute", priority_weight=9)
    sensor = BashSensor(task_id="sensor", bash_command="true", mode="reschedule", poke_interval=3)
    heavy >> Label("then") >> all_set >> custom
    sensor >> all_set

with DAG("corner_groups", schedule=timedelta(minutes=10), catchup=False) as groups_dag:
    with TaskGroup("outer", tooltip="tip", ui_color="#123456") as outer:
        first = EmptyOperator(task_id="first")
        with TaskGroup("inner", prefix_group_id=False) as inner:
            second = EmptyOperator(task_id="second")
            with TaskGroup("deep"):
                third = EmptyOperator(task_id="third")
        first >> inner
    last = EmptyOperator(task_id="last")
    outer >> last

with DAG("corner_setup_teardown", schedule="@daily", start_date=datetime(2024, 1, 1, tzinfo=timezone.utc)):
    s1 = EmptyOperator(task_id="s1").as_setup()
    w1 = EmptyOperator(task_id="w1")
    w2 = EmptyOperator(task_id="w2")
    t1 = EmptyOperator(task_id="t1").as_teardown(setups=s1)
    t2 = EmptyOperator(task_id="t2").as_teardown(setups=s1, on_failure_fail_dagrun=True)
    s1 >> w1 >> w2 >> [t1, t2]

with DAG("corner_only_teardowns", schedule="@once"):
    EmptyOperator(task_id="a").as_teardown() >> EmptyOperator(task_id="b").as_teardown()


@dag(schedule=MultipleCronTriggerTimetable("0 0 * * *", "30 12 * * 7", timezone="America/New_York", run_immediately=timedelta(minutes=3)))
def corner_mapped():
    @task
    def numbers():
        return [1, 2]

    @task
    def letters():
        return ["a"]

    @task(retries=4, pool="mp", priority_weight=3, trigger_rule="all_done", max_active_tis_per_dagrun=2)
    def both(n, s, c=0):
        return n

    @task
    def one(x):
        return x

    @task_group
    def group(g):
        a = one(g)
        return both.partial(s="x").expand(n=numbers_, c=[1, 2, 3])

    numbers_ = numbers()
    letters_ = letters()
    mapped = both.expand(n=numbers_, s=letters_, c=[7, 8])
    one.expand(x=numbers_.zip(letters_))
    one.override(task_id="filled").expand(x=numbers_.zip(letters_, fillvalue=None))
    one.override(task_id="joined").expand(x=numbers_.concat(letters_).map(lambda v: v))
    one.override(task_id="kwargs").expand_kwargs([{"x": 1}, {"x": numbers_}])
    one.override(task_id="kwargs_xcom").expand_kwargs(numbers_)
    one.override(task_id="dicts").expand(x={"a": 1, "b": 2})
    one.override(task_id="of_mapped").expand(x=mapped)
    BashOperator.partial(
        task_id="classic", retry_delay=timedelta(seconds=7), execution_timeout=timedelta(minutes=2), queue="mq", owner="bob",
        on_failure_callback=nothing, weight_rule="absolute", depends_on_past=True, outlets=[Asset("mapped_out")],
        start_date=datetime(2025, 1, 1, tzinfo=timezone.utc), task_display_name="Classic ✓",
    ).expand(bash_command=["a", "b", "c"])
    BashSensor.partial(task_id="mapped_sensor", mode="reschedule").expand(bash_command=["true"])

    @task_group
    def outer_group(g):
        one.override(task_id="in_group")(g)

    outer_group.override(group_id="og").expand(g=letters_)


corner_mapped()

for name, schedule in {
    "cron_interval": CronDataIntervalTimetable("0 6 * * MON#1", timezone="Asia/Tokyo"),
    "delta_interval": DeltaDataIntervalTimetable(timedelta(days=1, microseconds=5)),
    "relative": DeltaTriggerTimetable(relativedelta(months=1, weekday=FR(-1)), interval=relativedelta(days=2)),
    "relative_interval": DeltaDataIntervalTimetable(relativedelta(months=1, day=31)),
    "events": EventsTimetable([pendulum.datetime(2025, 1, 2, tz="Asia/Tokyo"), pendulum.datetime(2024, 1, 1)], restrict_to_events=True),
    "events_named": EventsTimetable([], description="Nothing at all"),
    "immediately": CronTriggerTimetable("@weekly", timezone=pendulum.FixedTimezone(5400), run_immediately=True),
    "continuous": "@continuous",
    "once": "@once",
    "none": None,
    "hourly": "@hourly",
    "asset": [Asset("one"), Asset("two")],
    "asset_any": AssetAny(Asset("one"), AssetAll(Asset("two"), AssetAlias("three")), Asset.ref(name="four"), Asset.ref(uri="s3://five/x")),
    "asset_or_time": AssetOrTimeSchedule(timetable=CronTriggerTimetable("*/5 * * * *", timezone="UTC"), assets=Asset("one") | Asset("two")),
}.items():
    with DAG(
        f"corner_schedule_{name}",
        schedule=schedule,
        max_active_runs=1 if name == "continuous" else 16,
        start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    ):
        EmptyOperator(task_id="t")
