#!/usr/bin/env python3
"""Runs Airflow's example Dags and our own on a server and records, or compares, what became of them.

  examples.py prepare FOLDER PYTHON                     make FOLDER/dags and FOLDER/plugins from PYTHON's wheels
  examples.py record  URL OUT.json.gz [options]         run everything, write the outcome
  examples.py compare URL GOLDEN.json.gz [options]      run everything, compare with the recording; exit code 1 where anything differs
  examples.py isobar  FOLDER GOLDEN.json.gz [options]   start --binary with --python's wheels in FOLDER, compare, stop
  examples.py airflow FOLDER OUT.json.gz [options]      the same with a real Airflow of --python on --database, and record
  examples.py differing RESULT.json                     say which families differ, for --only
  examples.py table   GOLDEN.json.gz [RESULT.json]      write docs/conformance.md

Options: --folder FOLDER (as prepared), --user NAME --password WORD (admin, admin), --only REGEX (families), --slow (also the slow ones),
--index (also those that install from a package index), --limit SECONDS, --out RESULT.json,
--port PORT,
--path FOLDER (more packages for Airflow), --database ADDRESS (of a PostgreSQL server, `postgres://user@host:port/database`),
--merge (record only what --only names,
keep the rest of the recording), --as-it-is (run nothing, read again what is there)
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import re
import sys
import threading
import time

import compare
import families as f
import place
from airflow_server import Airflow
from drive import Driver, Family
from isobar_server import Isobar
from outcome import Reader, plain
from rest import Refused, Rest


def load(path: str) -> dict:
    return json.loads(gzip.decompress(pathlib.Path(path).read_bytes()))


def save(path: str, value: dict) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Without a time in the header, so that equal outcomes are equal files.
    pathlib.Path(path).write_bytes(gzip.compress(text.encode(), mtime=0))


def wait_for_dags(rest: Rest, wanted: set[str] | None, seconds: float) -> list[str]:
    """All Dags, once those wanted are there, or once their number has not changed for 40 s."""
    end, since, seen = time.monotonic() + seconds, time.monotonic(), []
    while True:
        try:
            dags = sorted(dag["dag_id"] for dag in rest.all("/dags", "dags", exclude_stale="true"))
        except OSError:
            dags = []
        if dags != seen:
            seen, since = dags, time.monotonic()
        if wanted is not None and wanted <= set(dags):
            return dags
        if (wanted is None and dags and time.monotonic() - since > 40) or time.monotonic() > end:
            return dags
        time.sleep(0.5)


def chosen(dags: list[str], arguments) -> dict[str, list]:
    every = f.families(dags)
    names = {
        name
        for name in every
        if (arguments.slow or name not in f.SLOW)
        and (arguments.index or name not in f.INDEX)
        and (arguments.only is None or re.search(arguments.only, name))
    }
    return {name: every[name] for name in sorted(names)}


def run_all(rest: Rest, arguments, golden: dict | None) -> dict:
    later = {dag for dags in f.LATER.values() for dag in dags}
    dags = wait_for_dags(rest, set(golden["dags"]) - later if golden else None, 180)
    expected = golden["families"] if golden else {}
    group = [Family(name, steps, expected.get(name)) for name, steps in chosen(dags, arguments).items()]
    driver = Driver(rest, arguments.folder, quiet=arguments.quiet, patience=arguments.patience, thinking=1 if golden else 25)
    began = time.monotonic()
    if not arguments.as_it_is:
        driver.carry_out(group, arguments.limit)
    took = time.monotonic() - began
    reader = Reader(rest)
    found: dict = {"dags": {}, "families": {}, "clock": compare.clock(), "took": round(took, 1)}
    ran = {dag for family in group for dag in family.dags}
    for dag in sorted({*dags, *later} if ran & later else dags):
        definition = reader.definition(dag)
        found["dags"][dag] = {"definition": definition}
        if dag in ran:
            found["dags"][dag]["runs"] = reader.runs(dag, definition)
    for family in group:
        found["families"][family.name] = family.settled
        if family.late or family.refused:
            print(f"{family.name}: {'late' if family.late else ''} {family.refused}", file=sys.stderr)
    errors = rest.all("/importErrors", "import_errors")
    found["import_errors"] = sorted([plain(error["filename"]) for error in errors])
    found["version"] = rest.get("/version")["version"]
    return found


def merge(old: dict, new: dict) -> dict:
    """The old outcome with what was run anew replaced."""
    dags = dict(old["dags"])
    for dag, entry in new["dags"].items():
        if "runs" in entry or dag not in dags:
            dags[dag] = entry
    return {**new, "dags": dags, "families": {**old["families"], **new["families"]}, "clock": old["clock"]}


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=["prepare", "record", "compare", "isobar", "airflow", "differing", "table"])
    parser.add_argument("place")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", default="admin")
    parser.add_argument("--only")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--limit", type=float, default=1500)
    parser.add_argument("--quiet", type=float, default=15)
    parser.add_argument("--patience", type=float, default=10)
    parser.add_argument("--as-it-is", action="store_true")
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--binary")
    parser.add_argument("--python")
    parser.add_argument("--database")
    parser.add_argument("--path", default="")
    parser.add_argument("--port", type=int, default=18280)
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    if arguments.what == "prepare":
        place.prepare(pathlib.Path(arguments.place), arguments.file)
        return 0
    if arguments.what == "differing":
        found = json.loads(pathlib.Path(arguments.place).read_text())
        print(only(families_of({line.split(":")[0] for line in found["differences"]} & set(found["dags"]))))
        return 0
    if arguments.what == "table":
        import table

        table.write(load(arguments.place), json.loads(pathlib.Path(arguments.file).read_text()) if arguments.file else None)
        return 0
    if arguments.what == "isobar":
        return in_isobar(arguments)
    if arguments.what == "airflow":
        return in_airflow(arguments)
    rest = Rest(arguments.place, arguments.user, arguments.password)
    return recorded(rest, arguments) if arguments.what == "record" else compared(rest, arguments)


def recorded(rest: Rest, arguments) -> int:
    found = run_all(rest, arguments, None)
    if arguments.as_it_is:
        found["families"] = load(arguments.file)["families"]
    if arguments.merge:
        found = merge(load(arguments.file), found)
    save(arguments.file, found)
    return 0


def compared(rest: Rest, arguments) -> int:
    golden = load(arguments.file)
    found = run_all(rest, arguments, golden)
    differences = compare.compare(golden, found)
    if arguments.out:
        found["differences"] = differences
        pathlib.Path(arguments.out).write_text(json.dumps(found, sort_keys=True, indent=1, ensure_ascii=False))
    for line in differences:
        print(line)
    print(f"{len(found['dags'])} Dags, {len(found['families'])} families in {found['took']} s, {len(differences)} differences")
    return 1 if differences else 0


def in_isobar(arguments) -> int:
    folder = pathlib.Path(arguments.place).resolve()
    place.prepare(folder, arguments.python)
    server = Isobar(folder, arguments.binary, arguments.python, arguments.port)
    arguments.folder = folder
    server.start()
    try:
        result = compared(Rest(server.url, "admin", "admin-password"), arguments)
        if result:
            print("--- the end of isobar.log")
            print("\n".join((folder / "isobar.log").read_text().splitlines()[-40:]))
        return result
    finally:
        server.stop()


def in_airflow(arguments) -> int:
    folder = pathlib.Path(arguments.place).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    place.prepare(folder, arguments.python)
    server, _, _ = arguments.database.rpartition("/")
    database = f"{server.replace('postgres://', 'postgresql+psycopg2://')}/isobar_conformance"
    arguments.folder = folder
    for _ in range(3):
        airflow = Airflow(folder, arguments.python, database, arguments.port, arguments.path)
        airflow.fresh_database(arguments.database)
        recorded_in(airflow, arguments)
        spoiled = airflow.spoiled()
        again = families_of(spoiled)
        if not again:
            return 0
        print(f"recorded again, as Airflow's scheduler lost count of tasks of {', '.join(sorted(spoiled))}", flush=True)
        place.prepare(folder, arguments.python)
        arguments.merge, arguments.only = True, only(again)
    print("Airflow's scheduler lost count of tasks three times; what it made of them is in the recording")
    return 1


def families_of(dags: set[str]) -> set[str]:
    return {name for name, steps in f.families(sorted(dags)).items() if dags_in(steps) & dags}


def only(families: set[str]) -> str:
    return "^(" + "|".join(re.escape(name) for name in sorted(families)) + ")$"


def dags_in(steps: list) -> set[str]:
    return {dag for step in steps for dag in f.dags_of(step)}


def recorded_in(airflow: Airflow, arguments) -> None:
    airflow.start()
    over = threading.Event()
    threading.Thread(target=lambda: [airflow.mend() for _ in iter(lambda: over.wait(0.5), True)], daemon=True).start()
    try:
        recorded(Rest(airflow.url, "admin", "admin"), arguments)
    finally:
        over.set()
        airflow.stop()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refused:
        sys.exit(str(refused))
