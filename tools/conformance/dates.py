"""Timetables on the clock, in Airflow and in Isobar side by side: which runs they make, with which dates, and which they show as next.

    dates.py [--only NAME] [--path PACKAGES] ISOBAR_BINARY FOLDER PYTHON POSTGRES PORT

Both servers read the same Dags, whose dates lie around the moment at which this begins, have them unpaused together, and get the same
requests for runs by hand. Nothing is recorded: what is compared is how both go by one clock.
"""

from __future__ import annotations

import argparse
import datetime as dt
import pathlib
import shutil
import sys
import time

import place
from airflow_server import Airflow
from isobar_server import Isobar
from rest import Refused, Rest, quote

DAGS = pathlib.Path(__file__).resolve().parent / "dates_dags.py"
OF_DAGS = (
    "timetable_type", "timetable_summary", "timetable_description", "timetable_partitioned", "timetable_periodic",
    "is_backfillable", "next_dagrun_logical_date", "next_dagrun_data_interval_start", "next_dagrun_data_interval_end",
    "next_dagrun_run_after", "max_active_runs", "has_import_errors", "allowed_run_types",
)  # fmt: skip
OF_RUNS = (
    "dag_run_id", "run_type", "triggered_by", "logical_date", "data_interval_start", "data_interval_end", "run_after",
    "partition_key", "partition_date", "state",
)  # fmt: skip
# Dates that are the moment itself: only whether they are there is compared.
BY_THE_MOMENT = ("delta_trigger_latest", "once_at_once")
REQUESTS = {
    "at": {"dag_run_id": "at", "logical_date": "2026-05-03T04:05:06+02:00", "run_after": "2026-05-03T05:00:00Z"},
    "at_change": {"dag_run_id": "at_change", "logical_date": "2026-10-25T00:30:00Z", "run_after": "2026-10-25T00:30:00Z"},
    "no_date": {"dag_run_id": "no_date", "logical_date": None, "run_after": "2026-05-03T05:00:00Z"},
    "span": {
        "dag_run_id": "span", "logical_date": "2026-02-01T00:00:00Z", "run_after": "2026-02-03T00:00:00Z",
        "data_interval_start": "2026-01-30T00:00:00Z", "data_interval_end": "2026-01-31T00:00:00Z",
    },
    "key": {"dag_run_id": "key", "logical_date": None, "partition_key": "2026-05-03", "run_after": "2026-05-03T05:00:00Z"},
    "no_key": {"dag_run_id": "no_key", "logical_date": None, "partition_key": "??", "run_after": "2026-05-03T05:00:00Z"},
}  # fmt: skip
DRY_RUNS = [
    ("2026-01-01T00:00:00Z", "2026-01-09T00:00:00Z"),
    ("2026-03-28T00:00:00+01:00", "2026-03-30T12:00:00+02:00"),
    ("2026-10-24T12:00:00Z", "2026-10-26T00:00:00Z"),
]


def prepare(folder: pathlib.Path, base: dt.datetime) -> None:
    for part in ("dags", "plugins"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True)
    (folder / "plugins" / "example_plugins.py").write_text(place.PLUGINS)
    (folder / "dags" / "dates.py").write_text(DAGS.read_text().replace("BASE = None", f"BASE = {base.isoformat()!r}"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def wait(what: str, seconds: float, there) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if there():
                return
        except (OSError, Refused):
            pass
        time.sleep(0.5)
    sys.exit(f"waited {seconds} s for {what}")


def ask(rest: Rest, dag: str) -> dict:
    """Asks for runs by hand and rehearses backfills; what comes back, or how it was refused."""
    found = {}
    for name, body in REQUESTS.items():
        try:
            run = rest.post(f"/dags/{quote(dag)}/dagRuns", body)
            found[name] = {key: run[key] for key in OF_RUNS if key != "state"}
        except Refused as refused:
            found[name] = refused.status
    for start, end in DRY_RUNS:
        body = {"dag_id": dag, "from_date": start, "to_date": end}
        try:
            found[f"{start} – {end}"] = rest.post("/backfills/dry_run", body)["backfills"]
        except Refused as refused:
            found[f"{start} – {end}"] = refused.status
    return found


def there(rest: Rest) -> bool:
    if errors := rest.get("/importErrors")["import_errors"]:
        # Neither shows the Dags of such a file.
        sys.exit(errors[0]["stack_trace"][-1000:])
    return rest.get("/dags", limit=1)["total_entries"] > 20


def settled(rest: Rest) -> bool:
    runs = rest.all("/dags/~/dagRuns", "dag_runs", order_by="id")
    return all(run["state"] in ("success", "failed") for run in runs if run["dag_id"] not in BY_THE_MOMENT)


def blur(facts: dict) -> dict:
    """Whether there are dates, and not which."""
    dates = ("date", "interval", "run_after", "_id")
    return {key: bool(value) if any(word in key for word in dates) else value for key, value in facts.items()}


def look(rest: Rest, dag: str) -> dict:
    found = rest.get(f"/dags/{quote(dag)}")
    runs = rest.all(f"/dags/{quote(dag)}/dagRuns", "dag_runs", order_by="run_after")
    facts = {key: found.get(key) for key in OF_DAGS}
    rows = [{key: row[key] for key in OF_RUNS} for row in runs]
    # The tail is random.
    for row in rows:
        if row["partition_key"] and row["dag_run_id"].count("__") == 3:
            row["dag_run_id"] = row["dag_run_id"].rpartition("__")[0]
    rows.sort(key=lambda row: (row["run_type"], row["run_after"], row["dag_run_id"]))
    if dag in BY_THE_MOMENT:
        rows = rows[:1]
        facts, rows = blur(facts), [blur(row) for row in rows]
        for row in rows:
            row["state"] = None
        for key in OF_DAGS:
            if key.startswith("next_"):
                facts[key] = None
    return {"dag": facts, "runs": rows}


def same_instant(one, other) -> bool:
    """Airflow answers what it is asked in the offset in which it was asked."""
    try:
        return dt.datetime.fromisoformat(one) == dt.datetime.fromisoformat(other)
    except (TypeError, ValueError):
        return False


def differences(path: str, one, other) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = list(one) + [key for key in other if key not in one]
        return [line for key in keys for line in differences(f"{path}.{key}", one.get(key), other.get(key))]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for at, (a, b) in pairs for line in differences(f"{path}[{at}]", a, b)]
    if isinstance(one, list) and isinstance(other, list):
        extra = [row for row in one if row not in other], [row for row in other if row not in one]
        return [f"{path}: {len(one)} and {len(other)}; only Airflow {extra[0][:3]}; only Isobar {extra[1][:3]}"]
    return [] if one == other or same_instant(one, other) else [f"{path}: Airflow {one!r}, Isobar {other!r}"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only")
    parser.add_argument("--path", default="", help="more Python packages for Airflow")
    parser.add_argument("binary"), parser.add_argument("folder", type=pathlib.Path), parser.add_argument("python")
    parser.add_argument("postgres"), parser.add_argument("port", type=int)
    given = parser.parse_args()
    base = dt.datetime.now(dt.timezone.utc).replace(second=0, microsecond=0)
    shutil.rmtree(given.folder, ignore_errors=True)
    database = given.postgres.rpartition("/")[0] + "/conformance_dates"
    servers = []
    for name in ("a", "i"):
        folder = given.folder / name
        folder.mkdir(parents=True)
        prepare(folder, base)
        if name == "a":
            server = Airflow(folder, given.python, database.replace("postgres://", "postgresql+psycopg2://"), given.port, given.path)
            server.fresh_database(given.postgres)
            rest = Rest(server.url, "admin", "admin")
        else:
            server = Isobar(folder, given.binary, given.python, given.port + 5)
            rest = Rest(server.url, "admin", "admin-password")
        servers.append((server, rest))
    try:
        for server, _ in servers:
            server.start()
        rests = [rest for _, rest in servers]
        for rest in rests:
            wait("the Dags", 400, lambda rest=rest: there(rest))
        dags = sorted(row["dag_id"] for row in rests[0].all("/dags", "dags"))
        ours = sorted(row["dag_id"] for row in rests[1].all("/dags", "dags"))
        lines = Lines()
        lines += [] if dags == ours else [f"Dags: {set(dags) ^ set(ours)}"]
        dags = [dag for dag in dags if dag in ours and given.only in (None, dag)]
        lines += compare(rests, dags)
    finally:
        for server, _ in servers:
            server.stop()
    print(f"{len(dags)} Dags, {len(lines)} differences")
    sys.exit(1 if lines else 0)


class Lines(list):
    """Shows what it is given at once: a look at both takes minutes."""

    def __iadd__(self, more):
        print(*more, sep="\n", end="\n" if more else "", flush=True)
        return super().__iadd__(more)


def compare(rests: list[Rest], dags: list[str]) -> list[str]:
    lines = Lines()
    for dag in dags:
        one, other = (look(rest, dag) for rest in rests)
        lines += differences(f"{dag} paused", one, other)
    for dag in dags:
        for rest in rests:
            rest.patch(f"/dags/{quote(dag)}", {"is_paused": False})
    time.sleep(20)
    for rest in rests:
        wait("the runs", 400, lambda rest=rest: settled(rest))
    for dag in dags:
        one, other = (look(rest, dag) for rest in rests)
        lines += differences(dag, one, other)
    for dag in dags:
        one, other = (ask(rest, dag) for rest in rests)
        lines += differences(f"{dag} asked", one, other)
    return lines


if __name__ == "__main__":
    main()
