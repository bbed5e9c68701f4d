"""Dags of every kind of timetable, with dates around BASE, which `dates.py` writes in."""

import datetime as dt

import pendulum
from airflow.example_dags.plugins.workday import AfterWorkdayTimetable
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    CronDataIntervalTimetable,
    CronPartitionTimetable,
    CronTriggerTimetable,
    DeltaDataIntervalTimetable,
    DeltaTriggerTimetable,
    MultipleCronTriggerTimetable,
)
from airflow.timetables.events import EventsTimetable  # the SDK's own cannot be serialized in 3.3.2
from dateutil.relativedelta import relativedelta

BASE = None
NOW = pendulum.parse(BASE or "2026-01-01T00:00:00+00:00")
BERLIN, NEW_YORK, TOKYO, KOLKATA = "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Asia/Kolkata"
hours, days = (lambda n: dt.timedelta(hours=n)), (lambda n: dt.timedelta(days=n))


def dag(dag_id, schedule, start=None, end=None, catchup=None, task=None, **more):
    if catchup is not None:
        more["catchup"] = catchup
    with DAG(dag_id=dag_id, schedule=schedule, start_date=start, end_date=end, max_active_runs=64, **more) as made:
        EmptyOperator(task_id="t", **(task or {}))
    globals()[dag_id] = made


def around(*hours_ago):
    """The hour or day in cron's words, so that something is just past or just to come."""
    return [(NOW - hours(n)).hour for n in hours_ago]


one, two, three = around(1, 2, 3)
# croniter's dialect
dag("cron_names", "30 6 * JAN-DEC MON-FRI", NOW - days(9), catchup=True)
dag("cron_last", "0 0 L * *", NOW - days(130), catchup=True)
dag("cron_nth", "0 12 * * MON#2,FRI#1", NOW - days(100), catchup=True)
dag("cron_last_friday", "15 4 * * L5", NOW - days(100), catchup=True)
dag("cron_question", "0 0 ? * *", NOW - days(3), catchup=True)
dag("cron_day_or_weekday", "0 0 1,15 * WED", NOW - days(40), catchup=True)
dag("cron_steps", "*/20 1-22/3 */2 * *", NOW - days(5), catchup=True)
dag("cron_wrapped", "0 22-2 * * SAT-MON", NOW - days(10), catchup=True)
dag("cron_six", "0 12 * * * 30", NOW - days(3), catchup=True)
dag("cron_leap", "0 0 29 2 *", pendulum.datetime(2019, 1, 1, tz="UTC"), catchup=True)
# presets
for preset in ("hourly", "daily", "weekly", "monthly", "quarterly", "yearly"):
    dag(f"preset_{preset}", f"@{preset}", NOW - days(800), catchup=False)
dag("preset_weekly_made_up", "@weekly", NOW - days(40), catchup=True)
dag("preset_quarterly_made_up", "@quarterly", NOW - days(800), catchup=True)
# data intervals
dag("interval_made_up", CronDataIntervalTimetable(f"0 {two} * * *", timezone="UTC"), NOW - days(4), catchup=True)
dag("interval_latest", CronDataIntervalTimetable(f"0 {two} * * *", timezone="UTC"), NOW - days(400), catchup=False)
dag("interval_without_start", CronDataIntervalTimetable("@hourly", timezone="UTC"), catchup=False)
dag("interval_weekdays", CronDataIntervalTimetable("0 5 * * MON-FRI", timezone=NEW_YORK), NOW - days(12), catchup=True)
# triggers
dag("trigger_interval", CronTriggerTimetable(f"0 {one} * * *", timezone="UTC", interval=hours(2)), NOW - days(3), catchup=True)
for word, value in {"at_once": True, "if_recent": False, "recent": hours(5)}.items():
    for ago, hour in {"one": one, "three": three}.items():
        timetable = CronTriggerTimetable(f"0 {hour} * * *", timezone="UTC", run_immediately=value)
        dag(f"trigger_{word}_{ago}", timetable, catchup=False)
        dag(f"trigger_{word}_{ago}_started", timetable, NOW - days(2), catchup=False)
many = MultipleCronTriggerTimetable(f"0 {one} * * *", f"30 {three} * * *", timezone="UTC", interval=hours(1))
dag("many_made_up", many, NOW - days(2), catchup=True)
dag("many_latest", many, NOW - days(2), catchup=False)
# deltas
dag("delta_trigger", dt.timedelta(hours=5), NOW - days(2), catchup=True)
dag("delta_trigger_latest", dt.timedelta(hours=5), NOW - days(2), catchup=False)
dag("delta_trigger_wide", DeltaTriggerTimetable(days(1), interval=hours(6)), NOW - days(3), catchup=True)
dag("delta_months", relativedelta(months=1), pendulum.datetime(2026, 1, 31, tz="UTC"), catchup=True)
dag("delta_interval", DeltaDataIntervalTimetable(hours(7)), NOW - days(2), catchup=True)
dag("delta_interval_latest", DeltaDataIntervalTimetable(hours(7)), NOW - days(2) - hours(1), catchup=False)
# the rest by the clock
dag("once", "@once", NOW - days(2))
dag("once_at_once", "@once")
dag("once_later", "@once", NOW + days(2))
dag("once_too_late", "@once", NOW - days(2), NOW - days(3))
dag("none", None, NOW - days(2))
moments = [NOW - days(5), NOW - days(3), NOW - days(1), NOW + days(1), NOW + days(3)]
for restrict in (True, False):
    timetable = EventsTimetable(moments, restrict_to_events=restrict, description="now and then")
    dag(f"events_{'only' if restrict else 'free'}", timetable, NOW - days(4), catchup=True)
    dag(f"events_{'only' if restrict else 'free'}_latest", timetable, NOW - days(4), catchup=False)
dag(
    "asset_or_time",
    AssetOrTimeSchedule(timetable=CronTriggerTimetable(f"0 {one} * * *", timezone="UTC"), assets=[Asset("x")]),
    NOW - days(3),
    catchup=True,
)
dag(
    "asset_or_workday",
    AssetOrTimeSchedule(timetable=AfterWorkdayTimetable(), assets=[Asset("x")]),
    NOW.start_of("day") - days(6),
    catchup=True,
)
dag("asset_alone", [Asset("x"), Asset("y")], NOW - days(3))
for offset in (-1, 0, 2):
    name = f"partition_{'minus' if offset < 0 else 'plus'}_{abs(offset)}"
    timetable = CronPartitionTimetable("0 0 * * *", timezone=TOKYO, run_offset=offset, key_format="%Y-%m-%d")
    dag(name, timetable, NOW - days(3), catchup=True)
dag(
    "partition_hours",
    CronPartitionTimetable("0 */6 * * *", timezone="UTC", run_offset=0, key_format="%Y%m%dT%H"),
    NOW - days(1),
    catchup=False,
)
# changes of the clocks: forward in March, back in October and November
for name, start, end in (
    ("spring", pendulum.datetime(2026, 3, 28, tz=BERLIN), pendulum.datetime(2026, 3, 30, 12, tz=BERLIN)),
    ("autumn", pendulum.datetime(2026, 10, 24, tz=BERLIN), pendulum.datetime(2026, 10, 26, 12, tz=BERLIN)),
    ("november", pendulum.datetime(2026, 10, 31, tz=NEW_YORK), pendulum.datetime(2026, 11, 2, 12, tz=NEW_YORK)),
):
    zone = start.timezone.name
    dag(f"{name}_nightly", "30 2 * * *", start, end, catchup=True)
    dag(f"{name}_nightly_interval", CronDataIntervalTimetable("30 2 * * *", timezone=zone), start, end, catchup=True)
    dag(f"{name}_often", "15,45 0-4 * * *", start, end, catchup=True)
    dag(f"{name}_often_interval", CronDataIntervalTimetable("30 */2 * * *", timezone=zone), start, end, catchup=True)
    dag(f"{name}_many", MultipleCronTriggerTimetable("30 1 * * *", "30 2 * * *", timezone=zone), start, end, catchup=True)
    dag(f"{name}_delta", dt.timedelta(hours=9), start, end, catchup=True)
    dag(
        f"{name}_partition",
        CronPartitionTimetable("30 2 * * *", timezone=zone, run_offset=-1, key_format="%Y-%m-%d"),
        start,
        end,
        catchup=True,
    )
dag("half_hour_zone", CronDataIntervalTimetable("0 0 * * *", timezone=KOLKATA), NOW - days(3), catchup=True)
# bounds
dag(
    "ends_at_a_moment",
    CronTriggerTimetable("0 0 * * *", timezone="UTC"),
    NOW.start_of("day") - days(5),
    NOW.start_of("day") - days(2),
    catchup=True,
)
dag("ended", "@daily", NOW - days(9), NOW - days(5), catchup=False)
dag("ended_interval", CronDataIntervalTimetable("@daily", timezone="UTC"), NOW - days(9), NOW - days(5), catchup=True)
dag("not_yet", "@daily", NOW + days(3), catchup=True)
dag("not_yet_interval", CronDataIntervalTimetable("@daily", timezone="UTC"), NOW + days(3), catchup=False)
dag("of_tasks", "@daily", NOW - days(3), catchup=True, task={"start_date": NOW - days(5), "end_date": NOW - days(2)})
dag("of_both", "@daily", NOW - days(2), NOW + days(1), catchup=True, task={"start_date": NOW - days(4), "end_date": NOW - days(1)})
dag("local_start", "0 0 * * *", pendulum.datetime(2026, 11, 15, 13, tz=TOKYO), pendulum.datetime(2026, 11, 18, 13, tz=TOKYO), catchup=True)
dag("naive_start", "@daily", dt.datetime(2026, 11, 16), dt.datetime(2026, 11, 18), catchup=True)
dag("fixed_zone", "0 0 * * *", pendulum.parse("2026-11-15T00:00:00+05:30"), pendulum.parse("2026-11-18T00:00:00+05:30"), catchup=True)
dag("workday", AfterWorkdayTimetable(), NOW.start_of("day") - days(9), catchup=True)
dag("workday_latest", AfterWorkdayTimetable(), NOW.start_of("day") - days(9), catchup=False)
dag("no_backfills", "@daily", NOW - days(3), catchup=True, allowed_run_types=["manual", "scheduled"])
