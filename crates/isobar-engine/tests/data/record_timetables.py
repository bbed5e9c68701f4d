"""Record what Airflow's timetables answer, for tests/timetable_cases.rs and tests/cron_cases.rs.

Usage: python record_timetables.py OUT_DIR [SEED [SCHEDULES]]    (needs Airflow 3.3.2; the tests themselves do not)

Without a seed: what is committed. With one: the same kinds of schedule drawn afresh, and SCHEDULES more of random
expressions in zones drawn from all there are, for `make conformance` (`tools/conformance.d/timetables.sh`).

Writes `timetables.jsonl` (one schedule a line, with chains of answers), `cron.jsonl` (croniter's answers on a wall clock) and
`cron_words.jsonl` (what is valid, and its description). Times are seconds since 1970, wall clocks are ISO without a zone.
"""

import datetime as dt
import itertools
import json
import os
import random
import sys
import tempfile
import time
import zoneinfo
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())

import pendulum  # noqa: E402
from airflow.serialization.decoders import decode_timetable  # noqa: E402
from airflow.serialization.encoders import encode_relativedelta  # noqa: E402
from airflow.timetables import events, interval, simple, trigger  # noqa: E402
from airflow.timetables._cron import CronMixin  # noqa: E402
from airflow.utils.dates import cron_presets  # noqa: E402
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction  # noqa: E402
from croniter import croniter  # noqa: E402
from dateutil.relativedelta import FR, MO, relativedelta  # noqa: E402

SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 33
MORE = int(sys.argv[3]) if len(sys.argv) > 3 else 0
rng = random.Random(SEED)
NOW = [None]


def now():
    return NOW[0]


trigger.utcnow = now
interval.utcnow = now


class Zone:
    """The module of Airflow's that tells the time, with our clock."""

    def __init__(self, real):
        self.real = real

    def __getattr__(self, name):
        return now if name == "utcnow" else getattr(self.real, name)


simple.timezone = Zone(simple.timezone)
events.timezone = Zone(events.timezone)


class Clock:
    @staticmethod
    def time():
        return NOW[0].timestamp()


trigger.time = Clock

ZONES = [
    "UTC", "Europe/Vienna", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Europe/Dublin",
    "Africa/Casablanca", "America/St_Johns", "Pacific/Apia", "Asia/Tehran", "America/Havana", 5400, -12600,
]
CRONS = [
    "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "*/5 * * * *", "30 * * * *", "30 2 * * *", "0 2,3 * * *",
    "15 1-3 * * *", "0 */2 * * *", "0 0 * * MON-FRI", "0 6 1,15 * *", "0 12 * * 5#2", "0 0 L * *", "*/30 0-4 * * 0", "59 23 31 * *",
    "0 0 13 * 5", "10 4 29 2 *", "0 3 15W * *", "5 0 * 8 *", "*/10 2 * * *", "0 1 * * L0", "0-10/3 1,2 * 3,10,11 *",
]
# Days around which clocks change somewhere, and ordinary ones.
DAYS = [
    "2024-03-10", "2024-03-31", "2024-10-27", "2024-11-03", "2024-04-06", "2024-10-05", "2018-11-03", "2018-02-17", "2011-12-29",
    "2024-02-28", "2024-12-31", "2025-06-15", "2021-09-24", "2024-04-13", "2022-09-21",
]


def secs(when):
    if when is None:
        return None
    value = when.timestamp()
    return int(value) if value == int(value) else round(value, 6)


def instant():
    if MORE and rng.random() < 0.5:
        # Years that have as many changes of the clocks as there are zones.
        day = pendulum.datetime(rng.randrange(1996, 2031), rng.randrange(1, 13), rng.randrange(1, 29))
    else:
        day = pendulum.parse(rng.choice(DAYS))
    at = day.add(minutes=rng.randrange(-600, 2400))
    choice = rng.random()
    if choice < 0.5:
        at = at.start_of("hour")
    elif choice < 0.7:
        at = at.add(seconds=rng.randrange(60))
    elif choice < 0.75:
        at = at.add(microseconds=rng.randrange(1_000_000))
    return at


def schedules():
    def cron(path, expression, zone, **more):
        return {"__type": path, "__var": {"expression": expression, "timezone": zone, **more}}

    point, span, simple_ = "airflow.timetables.trigger.", "airflow.timetables.interval.", "airflow.timetables.simple."
    for zone in ZONES:
        for expression in CRONS:
            yield cron(span + "CronDataIntervalTimetable", expression, zone)
            length = rng.choice([0.0, 0.0, 3600.0, 86400.0, encode_relativedelta(relativedelta(months=1))])
            immediately = rng.choice([False, True, 120.0, 7200.0])
            yield cron(point + "CronTriggerTimetable", expression, zone, interval=length, run_immediately=immediately)
        for offset in (0, 1, -2):
            yield cron(
                point + "CronPartitionTimetable", rng.choice(CRONS), zone, run_immediately=False, run_offset=offset,
                key_format=rng.choice(["%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M %j"]),
            )
        yield {
            "__type": point + "MultipleCronTriggerTimetable",
            "__var": {"expressions": rng.sample(CRONS, 3), "timezone": zone, "interval": rng.choice([0.0, 1800.0]), "run_immediately": False},
        }
    deltas = [
        60.0, 3600.0, 86400.0, 5400.5, 604800.0, relativedelta(months=1), relativedelta(years=1), relativedelta(days=1, hours=2),
        relativedelta(months=1, day=31), relativedelta(months=1, weekday=FR(-1)), relativedelta(weeks=1, weekday=MO),
        relativedelta(months=3, leapdays=-1, hour=4, minute=30),
    ]
    for delta in deltas:
        delta = encode_relativedelta(delta) if isinstance(delta, relativedelta) else delta
        for length in (0.0, 1800.0, encode_relativedelta(relativedelta(days=3))):
            yield {"__type": point + "DeltaTriggerTimetable", "__var": {"delta": delta, "interval": length}}
        yield {"__type": span + "DeltaDataIntervalTimetable", "__var": {"delta": delta}}
    for name in ("NullTimetable", "OnceTimetable", "ContinuousTimetable", "PartitionedAtRuntime"):
        yield {"__type": simple_ + name, "__var": {}}
    for restrict in (True, False):
        dates = sorted(instant() for _ in range(12))
        yield {
            "__type": "airflow.timetables.events.EventsTimetable",
            "__var": {"event_dates": [d.isoformat() for d in dates], "restrict_to_events": restrict, "description": "d", "_summary": "s"},
        }
    asset = {"__type": "asset", "name": "a", "uri": "a", "group": "asset", "extra": {}}
    yield {"__type": simple_ + "AssetTriggeredTimetable", "__var": {"asset_condition": asset}}
    yield {
        "__type": "airflow.timetables.assets.AssetOrTimeSchedule",
        "__var": {"asset_condition": asset, "timetable": cron(point + "CronTriggerTimetable", "30 2 * * *", "Europe/Vienna", interval=0.0, run_immediately=False)},
    }


def random_schedules(count):
    """Expressions, zones and settings that nobody chose."""
    zones = sorted(zone for zone in zoneinfo.available_timezones() if "/" in zone and not zone.startswith(("Etc/", "posix/", "right/")))
    point, span = "airflow.timetables.trigger.", "airflow.timetables.interval."
    lengths = [0.0, 0.0, 60.0, 5400.0, 86400.0, encode_relativedelta(relativedelta(months=1, days=-1))]
    made = 0
    while made < count:
        drawn = [expression for expression in expressions(60) if len(expression.split()) == 5]
        for expression in drawn:
            try:
                croniter(expression).get_next()
            except Exception:
                continue
            if made == count:
                return
            made += 1
            zone = rng.choice(zones) if rng.random() < 0.9 else rng.randrange(-40, 50) * 900
            var = {"expression": expression, "timezone": zone}
            kind = rng.random()
            if kind < 0.4:
                yield {"__type": span + "CronDataIntervalTimetable", "__var": var}
            elif kind < 0.8:
                var |= {"interval": rng.choice(lengths), "run_immediately": rng.choice([False, True, 90.0, 90_000.0])}
                yield {"__type": point + "CronTriggerTimetable", "__var": var}
            elif kind < 0.9:
                var |= {"run_immediately": rng.choice([False, True]), "run_offset": rng.randrange(-4, 5), "key_format": "%Y-%m-%dT%H:%M:%S"}
                yield {"__type": point + "CronPartitionTimetable", "__var": var}
            else:
                several = {"expressions": [expression, rng.choice(CRONS)], "timezone": zone, "interval": rng.choice(lengths)}
                yield {"__type": point + "MultipleCronTriggerTimetable", "__var": several | {"run_immediately": rng.choice([False, True])}}


def answer(timetable, last, restriction):
    try:
        info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
    except Exception:
        return "error", None
    if info is None:
        return None, None
    if info.data_interval is None:
        return [secs(info.run_after), info.partition_key, secs(info.partition_date)], info
    assert info.run_after == info.data_interval.end
    return [secs(info.data_interval.start), secs(info.data_interval.end)], info


def chain(timetable, length):
    start = rng.choice([None, instant(), instant()])
    end = rng.choice([None, None, None, instant().add(days=rng.choice([3, 40, 800]))])
    catchup = rng.random() < 0.5
    restriction = TimeRestriction(start, end, catchup)
    at = instant()
    if start is not None and rng.random() < 0.7:
        at = start.add(seconds=rng.randrange(0, 200_000))
    last = None
    if rng.random() < 0.2:  # a run made by an earlier schedule
        begin = instant()
        last = DagRunInfo.interval(begin, begin.add(seconds=rng.choice([0, 60, 3600, 86400])))
    given = None if last is None else [secs(last.data_interval.start), secs(last.data_interval.end)]
    steps = []
    for _ in range(length):
        NOW[0] = at
        found, info = answer(timetable, last, restriction)
        steps.append([secs(at), found])
        if info is None:
            break
        last = info
        at = pendulum.from_timestamp(max(at.timestamp(), info.run_after.timestamp()))
        jump = rng.random()
        if jump < 0.3:
            at = at.add(seconds=rng.randrange(1, 900))
        elif jump < 0.4:
            at = at.add(seconds=rng.randrange(1, 200_000))
    return [secs(start), secs(end), catchup, given, steps]


def manual(timetable):
    at = instant()
    try:
        found = timetable.infer_manual_data_interval(run_after=at)
        return [secs(at), secs(found.start), secs(found.end)]
    except Exception:
        return [secs(at), "error"]


def record_timetables(out):
    lines = []
    for schedule in itertools.chain(schedules(), random_schedules(MORE)):
        timetable = decode_timetable(schedule)
        chains = [chain(timetable, 5) for _ in range(4)]
        partition = "Partition" in schedule["__type"]
        lines.append(json.dumps({
            "schedule": schedule, "summary": timetable.summary, "description": timetable.description, "chains": chains,
            "manual": [] if partition else [manual(timetable) for _ in range(3)],
        }, separators=(",", ":")))
    (out / "timetables.jsonl").write_text("\n".join(lines) + "\n")


def random_field(low, high, names=()):
    def value():
        return rng.choice(names) if names and rng.random() < 0.2 else str(rng.randint(low, high))

    def item():
        kind = rng.random()
        if kind < 0.35:
            return value()
        if kind < 0.6:
            return f"{value()}-{value()}"
        if kind < 0.75:
            return f"*/{rng.randint(1, high)}"
        if kind < 0.9:
            return f"{value()}-{value()}/{rng.randint(1, 7)}"
        return f"{value()}/{rng.randint(1, 9)}"

    if rng.random() < 0.35:
        return "*"
    return ",".join(item() for _ in range(rng.choice([1, 1, 1, 2, 3])))


MONTHS = ["jan", "FEB", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "Dec"]
WEEKDAYS = ["sun", "MON", "tue", "wed", "thu", "Fri", "sat"]


def expressions(count=1000):
    for _ in range(count):
        day = random_field(1, 31)
        weekday = random_field(0, 7, WEEKDAYS)
        special = rng.random()
        if special < 0.05:
            day = rng.choice(["l", "L", "15,l", "1w", "31W", "w20", "?", "1-l", "*,5", "1-31"])
        elif special < 0.12:
            weekday = rng.choice(["mon#1", "5#5", "0#2,3#4", "l5", "L0", "mon-wed#2", "l1,fri#1", "?", "7", "5-7", "0-7", "*,1", "0-6", "sat-mon", "6-2/2"])
        fields = [random_field(0, 59), random_field(0, 23), day, random_field(1, 12, MONTHS), weekday]
        if rng.random() < 0.12:
            fields.append(random_field(0, 59))
            if rng.random() < 0.4:
                fields.append(rng.choice(["*", "2024-2030", "2023,2025", "*/3", "2099"]))
        yield " ".join(fields)


ODD = [
    "", "*", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * 0 *", "* * * * 8", "*/0 * * * *", "1-60 * * * *",
    "? * * * *", "* * ? * ?", "* * 1,? * *", "a * * * *", "* * * foo *", "* * * * mon#6", "* * * * mon#0", "* * * * mon#1,tue", "* * * * 1-5#2",
    "* * 15w,3 * *", "* * 32w * *", "* * w * *", "* * l-5 * *", "* * * * l", "* * * * 5l", "-1 * * * *", "1- * * * *", "1,,2 * * * *", "1/2/3 * * * *",
    "h * * * *", "h(1-5) * * * *", "@midnight", "@annually", "@Daily", "@once", "@reboot", "@quarterly", "0 0 30 2 *", "0 0 31 2,4 *",
    "0 0 29 2 *", "70/5 * * * *", "59/5 * * * *", "* * * * *#2", "* * * * 1#+1", "* * * DEC/3 *", "* * * * * *", "* * * * * * *", "* * * * * * * *",
    "0 0 * * 7-2", "0 0 * * 5-5", "0 0 * jan-jan *", "0 0 1-31 * 1", "0 0 * * 0-6", "0 0 1-31 * 0-6", "0 0 1,15,l * *", "0 0 1w * mon", "0 0 1w * mon#1",
    "0 0 13 * fri#2", "0 0 * * fri#2,sat#l", "  5   4 * * *  ", "5\t4 * * *", "*/61 * * * *", "0 0 31 * 1", "0 0 1 1 * 0 2020", "0 0 1 1 * 0 1969", "0 0 1 1 * 0 2100",
]
WORDS = [
    "0 0 * * *", "*/5 * * * *", "30 6 * * MON-FRI", "0 */2 * * *", "15 10 1 * *", "0 0 1 1 *", "0 12 * * 1", "0 12 * * 1,3,5", "5,10 * * * *", "0-10 * * * *",
    "* * * * *", "* 5 * * *", "*/15 9-17 * * 1-5", "0 0 L * *", "0 0 15W * *", "0 0 * * 5#2", "0 0 * * L5", "0 0 13 * 5", "0 9 * 1-3 *", "0 9 * 6 *", "0 9 * 1,6 *",
    "1 2 3 4 5", "0 0 */3 * *", "0 0 1-7 * *", "0 0 1,15 * *", "*/30 * * * *", "0 1-5 * * *", "0 1,5 * * *", "10-20/5 * * * *", "0 0 * */3 *", "0 0 * * */2",
    "0 8,20 * * *", "0 8-20/4 * * *", "23 4 * * 0", "0 0 * * 7", "0 0 ? * 1", "0 0 1 * ?", "0 0 2/5 * *", "5/10 * * * *", "30 8/4 * * *", "0 0 * 2/3 *",
    "0 0 * * sun", "0 22 * * 6,0", "1,2,3 4,5 * * *", "0 0 l * *", "0 5 lw * *", "*/1 * * * *", "0 */1 * * *", "0 0 1-31 * *", "0 0 31 12 *", "0 0 29 2 *",
    "0 0 * * 1#1,3#1", "0 0 * * mon#2", "0 0 * jan,jul mon", "0 0 * jan-mar *", "59 23 * * *", "5 * * * 1", "*/20 1 * * *", "1-5 1 * * *", "0,30 1-2 * * *",
]


def record_cron(out):
    lines, words = [], []
    every = ODD + WORDS + list(CRONS) + list(expressions())
    for number, expression in enumerate(dict.fromkeys(every)):
        written, expression = expression, cron_presets.get(expression, expression)
        try:
            croniter(expression)
            valid = True
        except Exception:
            valid = False
        if not valid:
            words.append(json.dumps([written, False, ""]))
            continue
        try:
            description = CronMixin(expression, "UTC").description
        except Exception as error:
            description = None
        if description is not None and number < 400:
            words.append(json.dumps([written, True, description]))
        starts = [instant().naive() for _ in range(3)] + [dt.datetime(2024, 2, 29), dt.datetime(2023, 12, 31, 23, 59, 59)]
        answers = []
        for start in starts:
            row = [start.isoformat()]
            for step in ("get_next", "get_prev"):
                began = time.time()
                try:
                    row.append(getattr(croniter(expression, start_time=start), step)(dt.datetime).isoformat())
                except Exception:
                    row.append(None)
                if time.time() - began > 1:
                    break
            if len(row) == 3:
                answers.append(row)
        lines.append(json.dumps([written, answers], separators=(",", ":")))
    (out / "cron.jsonl").write_text("\n".join(lines) + "\n")
    (out / "cron_words.jsonl").write_text("\n".join(words) + "\n")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    record_cron(folder)
    record_timetables(folder)
