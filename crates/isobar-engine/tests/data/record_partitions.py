"""Record what Airflow's partition mappers answer, for tests/partition_cases.rs.

Usage: python record_partitions.py OUT_DIR [SEED [COUNT]]    (needs Airflow 3.3.2; the test itself does not)

Writes `partitions.jsonl`, one mapper a line: `down` holds [upstream key, downstream keys or null], `up` holds
[downstream key, [number, SHA-1 of the sorted upstream keys it waits for] or null or "any", date in microseconds or null or
"error", what arrived of these, whether that is enough].
"""

import datetime as dt
import hashlib
import json
import os
import random
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())

import pendulum  # noqa: E402
from airflow.partition_mappers import wait_policy, window  # noqa: E402
from airflow.partition_mappers.allowed_key import AllowedKeyMapper  # noqa: E402
from airflow.partition_mappers.base import RollupMapper  # noqa: E402
from airflow.partition_mappers.chain import ChainMapper  # noqa: E402
from airflow.partition_mappers.fixed_key import FixedKeyMapper  # noqa: E402
from airflow.partition_mappers.identity import IdentityMapper  # noqa: E402
from airflow.partition_mappers.product import ProductMapper  # noqa: E402
from airflow.partition_mappers import temporal  # noqa: E402
from airflow.serialization.encoders import encode_partition_mapper  # noqa: E402

rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 332)
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 1500
ZONES = ["UTC", "America/New_York", "Europe/Vienna", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", pendulum.timezone(19800)]
INPUTS = [
    "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H", "%Y-%m-%dT%H%z", "%Y-%m-%d", "%Y%m%d", "%Y-%m", "%Y",
    "%d/%m/%y %H:%M", "%Y-W%W-%w", "%G-W%V-%u", "%Y-%j", "%d %b %Y %I%p", "%Y-%m-%dT%H:%M:%S.%f", "%A, %d. %B %Y", "%H:%M",
]
OUTPUTS = {
    "StartOfHourMapper": [None, None, "%Y-%m-%dT%H:00", "%Y%m%d%H", "%Y-%m-%dT%H%z", "hour %H of %Y-%m-%d"],
    "StartOfDayMapper": [None, None, "%Y%m%d", "%Y-%m-%d%z", "%a %d %b %Y", "%Y-%j", "%d.%m.%y"],
    "StartOfWeekMapper": [None, None, "%Y-%m-%d", "%Y-W%V", "%G-W%V %Y/%m/%d", "w%W of %Y (%d.%m)"],
    "StartOfMonthMapper": [None, None, "%Y%m", "%B %Y", "%m.%Y%z"],
    "StartOfQuarterMapper": [None, None, "Q{quarter}/%Y", "%Y{quarter}", "%Y-%m-Q{quarter}", "{quarter}"],
    "StartOfYearMapper": [None, None, "%y", "year %Y", "%Y%z"],
}
TEXTS = ["us", "eu", "apac", "", "a|b", "us|eu", "x/y", "é", "2024-03-13", "2024-03-10T02:30:00", "us|2024-03-10T02:30:00"]
CHANGES = [
    dt.datetime(2024, 3, 10, 2), dt.datetime(2024, 11, 3, 1), dt.datetime(2024, 3, 31, 2), dt.datetime(2024, 10, 27, 2),
    dt.datetime(2024, 4, 7, 1, 45), dt.datetime(2024, 10, 6, 2, 15), dt.datetime(2011, 12, 30), dt.datetime(2024, 12, 30),
    dt.datetime(2024, 2, 29), dt.datetime(2023, 1, 1), dt.datetime(1, 1, 1), dt.datetime(9998, 12, 31, 23),
]


def moment():
    if rng.random() < 0.5:
        base = rng.choice(CHANGES)
        try:
            return base + dt.timedelta(minutes=rng.randint(-180, 180))
        except OverflowError:
            return base
    return dt.datetime(2020, 1, 1) + dt.timedelta(seconds=rng.randint(0, 10 * 365 * 86400), microseconds=rng.choice([0, 0, 123000]))


def temporal_mapper(plain=False):
    name = rng.choice(list(OUTPUTS))
    output = None if plain else rng.choice(OUTPUTS[name])
    fmt = rng.choice(INPUTS[:4] if rng.random() < 0.7 else INPUTS)
    return getattr(temporal, name)(timezone=rng.choice(ZONES), input_format=fmt, output_format=output)


def a_window():
    kind = rng.choice(["HourWindow", "DayWindow", "DayWindow", "WeekWindow", "MonthWindow", "QuarterWindow", "YearWindow"])
    return getattr(window, kind)(direction=rng.choice(list(window.Window.Direction)))


def policy():
    roll = rng.random()
    if roll < 0.4:
        return wait_policy.WaitForAll()
    return wait_policy.MinimumCount(rng.choice([-40, -3, -1, 1, 2, 3, 7, 24, 61]))


def mapper(depth=0):
    kind = rng.choice(["t", "t", "t", "rollup", "rollup", "fan", "product", "chain", "id", "allowed", "fixed", "segments"])
    if depth > 1:
        kind = rng.choice(["t", "id", "allowed", "fixed"])
    if kind == "t":
        return temporal_mapper()
    if kind == "rollup":
        while True:
            try:
                return RollupMapper(upstream_mapper=temporal_mapper(), window=a_window(), wait_policy=policy())
            except TypeError:
                pass
    if kind == "fan":
        while True:
            try:
                down = rng.choice([None, None, temporal_mapper(), IdentityMapper()])
                up = temporal_mapper(True) if rng.random() < 0.9 else mapper(depth + 1)
                return temporal.FanOutMapper(upstream_mapper=up, window=a_window(), downstream_mapper=down,
                                             max_downstream_keys=rng.choice([None, None, 5]))
            except ValueError:
                pass
    if kind == "product":
        return ProductMapper(*[mapper(depth + 1) for _ in range(rng.choice([2, 2, 3]))], delimiter=rng.choice(["|", "|", "::"]))
    if kind == "chain":
        return ChainMapper(*[mapper(depth + 1) for _ in range(rng.choice([2, 2, 3]))])
    if kind == "allowed":
        return AllowedKeyMapper(rng.sample(["us", "eu", "apac", "", "2024-03-13"], 3))
    if kind == "fixed":
        return FixedKeyMapper(rng.choice(["all", "x|y", "2024-03-13"]))
    if kind == "segments":
        keys = rng.sample(["us", "eu", "apac", "latam"], rng.randint(1, 4))
        up = rng.choice([FixedKeyMapper("all"), IdentityMapper(), AllowedKeyMapper(keys)])
        return RollupMapper(upstream_mapper=up, window=window.SegmentWindow(keys), wait_policy=policy())
    return IdentityMapper()


def leaves(m):
    if isinstance(m, temporal._BaseTemporalMapper):
        return [m]
    for name in ("upstream_mapper",):
        if hasattr(m, name):
            return leaves(getattr(m, name))
    return []


def upstream_key(m):
    if isinstance(m, ProductMapper) and rng.random() < 0.9:
        return m.delimiter.join(upstream_key(child) for child in m.mappers)
    if isinstance(m, ChainMapper):
        return upstream_key(m.mappers[0])
    found = leaves(m)
    if found and rng.random() < 0.93:
        at = moment()
        fmt = found[0].input_format
        if "%z" in fmt:
            at = at.replace(tzinfo=dt.timezone(dt.timedelta(minutes=rng.choice([0, 0, 330, -300, 60]))))
        return at.strftime(fmt)
    if found:
        return rng.choice(["2024-13-01", "2024-3-1", "24-03-01T05", "", "nonsense", "2024-03-13T10:42:15 ", "2024-02-30"])
    return rng.choice(TEXTS)


def micros(at):
    return (at - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(microseconds=1)


def case(m):
    down, up, keys = [], [], set()
    for _ in range(4):
        key = upstream_key(m)
        try:
            mapped = m.to_downstream(key)
            mapped = mapped if isinstance(mapped, str) else list(mapped)
            keys.update([mapped] if isinstance(mapped, str) else mapped[:2])
            if not isinstance(mapped, str) and len(mapped) > 8:
                mapped = [len(mapped), hashlib.sha1("\n".join(mapped).encode()).hexdigest()]
        except Exception:
            mapped = None
        down.append([key, mapped])
    keys.update(rng.choice(TEXTS) for _ in range(1))
    for key in sorted(keys):
        try:
            date = m.to_partition_date(key)
            date = None if date is None else micros(date)
        except Exception:
            date = "error"
        expected, arrived, enough = "any", [], True
        if m.is_rollup:
            try:
                full = m.to_upstream(key)
                expected = [len(full), hashlib.sha1("\n".join(sorted(full)).encode()).hexdigest()]
                arrived = rng.sample(sorted(full), min(len(full), rng.choice([0, 1, 2, 3])))
                if rng.random() < 0.3:
                    arrived.append("stranger")
                elif rng.random() < 0.3 and len(full) < 13:
                    arrived = sorted(full)
                result = m.wait_policy.is_satisfied_by_keys(matched=set(arrived), expected=full)
                enough = result.satisfied and not result.unreachable
            except Exception:
                expected, arrived, enough = None, [], False
        up.append([key, expected, date, arrived, enough])
    return {"mapper": encode_partition_mapper(m), "rollup": m.is_rollup, "down": down, "up": up}


def main(out):
    with (Path(out) / "partitions.jsonl").open("w") as file:
        for _ in range(COUNT):
            file.write(json.dumps(case(mapper()), separators=(",", ":"), ensure_ascii=False) + "\n")


main(sys.argv[1])
