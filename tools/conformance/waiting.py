#!/usr/bin/env python3
"""Runs Dags whose tasks wait, for triggers and for people, on a server and records, or compares, what became of them.

  waiting.py airflow FOLDER OUT.json.gz --python PYTHON --path PACKAGES --database ADDRESS   a real Airflow; records
  waiting.py isobar FOLDER GOLDEN.json.gz --python PYTHON --binary ISOBAR                    Isobar; compares

Options: --port PORT, --only REGEX (cases), --out RESULT.json.gz, --merge (keep what was recorded of other cases). The cases are in
`waiting_cases.py`, their Dags in `waiting_dags/`. Exit code 1 where anything differs from Airflow.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import gzip
import json
import os
import pathlib
import re
import shutil
import sys
import traceback
import urllib.parse

import compare
import deadline_cases
from airflow_server import Airflow
from isobar_server import Isobar
from rest import Refused
from waiting_cases import CASES as WAITING
from waiting_facts import Server, wait

HERE = pathlib.Path(__file__).resolve().parent
# Seconds that a task which waits is left alone in Airflow, before its trigger fires or a person answers.
SETTLE = 10
ROLES = {"admin": "admin", "vera": "viewer", "una": "user", "otto": "op"}
CASES = {**WAITING, **deadline_cases.CASES}
ALONE = {"the run takes too long"}
DAGS = {
    *("wait_ends", "wait_defer", "wait_odd", "wait_sensors", "wait_starts", "wait_pools", "wait_people", "wait_too_long"),
    *("wait_paused", "ask_people", "ask_in_time", "ask_again", "ask_killed"),
    *deadline_cases.DAGS,
    *("watch_inbox", "watch_copy", "watch_two", "watch_once", "watch_fails"),
}


def load(path: str) -> dict:
    return json.loads(gzip.decompress(pathlib.Path(path).read_bytes()))


def save(path: str, value: dict) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Without a time in the header, so that equal outcomes are equal files.
    pathlib.Path(path).write_bytes(gzip.compress(text.encode(), mtime=0))


def prepare(folder: pathlib.Path) -> pathlib.Path:
    """Makes the folder of Dags, and the one for notes."""
    shutil.rmtree(folder / "dags", ignore_errors=True)
    shutil.copytree(HERE / "waiting_dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    work.chmod(0o777)
    (folder / "plugins").mkdir(exist_ok=True)
    return work


def outcome_of(name: str, case, *arguments) -> dict:
    try:
        return case(*arguments)
    except Exception:
        print(f"{name}: {traceback.format_exc()}", flush=True)
        return {"broken": traceback.format_exc().splitlines()[-1]}


def run_cases(server: Server, only: str | None, at_once: int) -> dict:
    rest = server.rest()

    def answers() -> bool:
        try:
            return rest.get("/pools") is not None
        except (OSError, Refused):
            return False

    def there() -> bool:
        return {dag["dag_id"] for dag in rest.all("/dags", "dags")} >= DAGS

    wait(answers, "server")
    rest.post("/connections", {"connection_id": "fs_default", "conn_type": "fs"})
    for name, counts in (("wait_counts", True), ("wait_free", False)):
        rest.post("/pools", {"name": name, "slots": 1, "include_deferred": counts})
    wait(there, "Dags")
    for dag in DAGS:
        rest.patch(f"/dags/{dag}", {"is_paused": False})
    # Airflow looks for watchers of a Dag that is not paused when it reads its file.
    (server.work.parent / "dags/waiting_watchers.py").touch()
    chosen = {name: case for name, case in CASES.items() if only is None or re.search(only, name)}
    found = {}
    # Alone, as its time is measured.
    for name in ALONE & chosen.keys():
        found[name] = outcome_of(name, chosen.pop(name), server)
    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        started = {threads.submit(case, server): name for name, case in chosen.items()}
        for done in concurrent.futures.as_completed(started):
            found[started[done]] = outcome_of(started[done], done.result)
    # As it would come back from a file.
    return json.loads(json.dumps(found))


def airflow(folder: pathlib.Path, asked) -> tuple[object, Server]:
    work = prepare(folder)
    name = f"waiting_{asked.port}"
    parts = urllib.parse.urlsplit(asked.database)
    address = parts._replace(scheme="postgresql+psycopg2", path=f"/{name}").geturl()
    started = Airflow(folder, asked.python, address, asked.port, os.pathsep.join((asked.path, str(folder / "dags"))))
    users = ",".join(f"{user}:{role}" for user, role in ROLES.items())
    started.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = users
    started.environment["CONFORMANCE_SETTLE"] = str(SETTLE)
    (folder / "airflow/passwords.json").write_text(json.dumps({user: user for user in ROLES}))
    started.fresh_database(asked.database)
    return started, Server(started.url, {user: user for user in ROLES}, work, SETTLE)


def isobar(folder: pathlib.Path, asked) -> tuple[object, Server]:
    work = prepare(folder)
    started = Isobar(folder, asked.binary, asked.python, asked.port)
    text = started.config.read_text().replace('org = "org-admin"', 'role = "admin"').replace("parallelism = 8", "parallelism = 32")
    for user, role in ROLES.items():
        if user != "admin":
            text += f'[[auth.user]]\nname = "{user}"\npassword = "{user}-password"\nrole = "{role}"\n'
    text = text.replace("[default_team.env]\n", f'[default_team.env]\nPYTHONPATH = "{folder}/dags"\n')
    started.config.write_text(text)
    return started, Server(started.url, {user: f"{user}-password" for user in ROLES}, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("airflow", "isobar"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("file")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--binary")
    parser.add_argument("--path", default="")
    parser.add_argument("--database")
    parser.add_argument("--port", type=int, default=18280)
    parser.add_argument("--only")
    parser.add_argument("--out")
    parser.add_argument("--merge", action="store_true")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started, server = (airflow if asked.what == "airflow" else isobar)(folder, asked)
    try:
        started.start()
        found = run_cases(server, asked.only, 6 if asked.what == "airflow" else len(CASES))
    finally:
        started.stop()
    if asked.out:
        save(asked.out, found)
    if asked.what == "airflow":
        save(asked.file, {**load(asked.file), **found} if asked.merge else found)
        sys.exit(any("broken" in case for case in found.values()))
    golden = load(asked.file)
    lines: list[str] = []
    for name, case in found.items():
        compare.differ(golden.get(name), case, name, lines)
    print("\n".join(lines) or f"{len(found)} cases, as in Airflow")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
