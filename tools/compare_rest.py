#!/usr/bin/env python3
"""Compare Isobar's REST API with Airflow's own: the same requests to both, statuses and bodies side by side.

  compare_rest.py AIRFLOW_URL ISOBAR_URL [--only WORD] [--quiet] [--user admin] [--password admin]

Both servers must have the same Dags (crates/isobar-api/tests/data/rest_dags.json holds the source of those that the cases
use) and no scheduler, so that nothing moves by itself. What differs by nature (ids, times, tokens, paths) is made equal
before comparing; what differs on purpose is named in ON_PURPOSE. Exit code 1 where anything else differs.
Cases are in the modules compare_rest_cases*.py beside this file, each with a list CASES of
(method, path, body or None[, headers]), or ("SQL", statement, None) for what no request can bring about.
What becomes of runs has cases of its own: --cases compare_life_cases.py, with the Dags of life_dags.json.
"""

from __future__ import annotations

import argparse
import glob
import importlib.util
import json
import os
import re
import sqlite3
import sys
import urllib.error
import urllib.request

PLACE = ("dag_id", "dag_run_id", "task_id", "map_index", "try_number")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
RANDOM = re.compile(r"(?<=__)[A-Za-z0-9]{8}$")
SET = re.compile(r"\{'[^{}:]*'\}")
LOG_ID = re.compile(r"(?<=when you look for ID )\w+")
# What the tests that ask the recorded answers again (crates/isobar-api/tests/airflow_answers.rs) read too: names of values that
# no two servers share, whose kind (null, text, number) is compared all the same; and where the two differ on purpose: path of
# the request and place in the body as regular expressions, and why.
WHAT_DIFFERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../crates/isobar-api/tests/data/what_differs.json")
with open(WHAT_DIFFERS) as file:
    what_differs = json.load(file)
FREE, ON_PURPOSE = set(what_differs["free"]), what_differs["on_purpose"]


class Server:
    def __init__(self, url: str, user: str, password: str):
        self.url = url.rstrip("/")
        status, body = self.send("POST", "/auth/token", {"username": user, "password": password}, login=True)
        if status != 201:
            raise SystemExit(f"{url}: login: {status} {body}")
        self.token = body["access_token"]

    def send(self, method, path, body=None, headers=None, login=False):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Accept", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if not login and (headers or {}).get("Authorization") is None:
            request.add_header("Authorization", "Bearer " + self.token)
        if (headers or {}).get("Authorization") == "":
            request.remove_header("Authorization")
        data = None
        if body is not None:
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout=60) as response:
                return response.status, self.read(response.read())
        except urllib.error.HTTPError as error:
            return error.code, self.read(error.read())

    @staticmethod
    def read(raw: bytes):
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode(errors="replace")


# Lists that come in the order of ids or hashes, which differ by nature; filled from the modules' ANY_ORDER.
ANY_ORDER = set()


def plain(value, name=""):
    """The value with everything that differs by nature made equal."""
    if isinstance(value, dict):
        return {key: plain(item, key) for key, item in value.items()}
    if isinstance(value, list) and name in ANY_ORDER:
        place = lambda item: [str(item.get(key)) for key in PLACE] if isinstance(item, dict) else [str(item)]  # noqa: E731
        return [plain(item) for item in sorted(value, key=place)]
    if isinstance(value, list):
        # A set in Airflow, in the order of its hashes.
        return sorted(value) if name == "downstream_task_ids" else [plain(item, name) for item in value]
    if value is not None and name in FREE:
        return f"<{type(value).__name__}>" if not isinstance(value, (int, float)) or isinstance(value, bool) else "<number>"
    if isinstance(value, str):
        value = RANDOM.sub("<random>", value) if value.startswith("backfill__") else value
        value = SET.sub(lambda found: "{" + ", ".join(sorted(found[0][1:-1].split(", "))) + "}", value)
        return LOG_ID.sub("<id>", TIME.sub("<time>", UUID.sub("<uuid>", value)))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def differences(airflow, isobar, place=""):
    if isinstance(airflow, dict) and isinstance(isobar, dict):
        for key in airflow:
            if key not in isobar:
                yield f"{place}.{key}", airflow[key], "(missing)"
            else:
                yield from differences(airflow[key], isobar[key], f"{place}.{key}")
        for key in isobar:
            if key not in airflow:
                yield f"{place}.{key}", "(missing)", isobar[key]
        if list(airflow) != list(isobar) and set(airflow) == set(isobar):
            yield f"{place} (order of keys)", list(airflow), list(isobar)
    elif isinstance(airflow, list) and isinstance(isobar, list):
        if len(airflow) != len(isobar):
            yield f"{place} (length)", len(airflow), len(isobar)
        for index, (one, other) in enumerate(zip(airflow, isobar)):
            yield from differences(one, other, f"{place}[{index}]")
    elif airflow != isobar:
        yield place, airflow, isobar


def change(database, statement):
    """What only a scheduler or a worker could bring about, by hand: the tables and columns that both servers have."""
    with sqlite3.connect(database, timeout=30) as connection:
        connection.execute(statement)
    connection.close()


def cases(pattern):
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, pattern))):
        spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for case in module.CASES:
            method, path, body, *headers = case
            ANY_ORDER.update(getattr(module, "ANY_ORDER", ()))
            yield method, path, body, (headers[0] if headers else {}), getattr(module, "FREE_TOO", ())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("airflow")
    parser.add_argument("isobar")
    parser.add_argument("--only", help="cases whose path holds this")
    parser.add_argument("--record", metavar="FILE", help="keep Airflow's answers, for `cargo test`: one case a line")
    parser.add_argument("--cases", default="compare_rest_cases*.py", help="modules with cases, beside this file")
    parser.add_argument("--databases", nargs=2, metavar="FILE", help="Airflow's and Isobar's SQLite file, for cases of kind SQL")
    parser.add_argument("--quiet", action="store_true", help="show differing cases only")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", default="admin")
    asked = parser.parse_args()
    airflow, isobar = (Server(url, asked.user, asked.password) for url in (asked.airflow, asked.isobar))
    same = differ = 0
    record = open(asked.record, "w") if asked.record else None
    for method, path, body, headers, free in cases(asked.cases):
        if method == "SQL":
            for database in asked.databases:
                change(database, path)
            if record:
                record.write(json.dumps({"method": "SQL", "path": path}) + "\n")
            continue
        if asked.only and asked.only not in path:
            continue
        FREE.update(free)
        (status, theirs), (our_status, ours) = (server.send(method, path, body, headers) for server in (airflow, isobar))
        found = [] if status == our_status else [("status", status, our_status)]
        if record:
            case = {
                "method": method,
                "path": path,
                "body": body,
                "headers": headers,
                "free": list(free),
                "any_order": sorted(ANY_ORDER),
                "status": status,
                "answer": plain(theirs),
            }
            record.write(json.dumps(case) + "\n")
        for place, one, other in differences(plain(theirs), plain(ours)):
            if not any(re.search(where, path) and re.fullmatch(what, place) for where, what, _ in ON_PURPOSE):
                found.append((place, one, other))
        same += not found
        differ += bool(found)
        if found or not asked.quiet:
            print(f"{'DIFFERS' if found else 'same   '} {status} {method} {path} {'' if body is None else json.dumps(body)[:100]}")
        for place, one, other in found[:8]:
            print(f"    {place}\n      airflow: {json.dumps(one)[:400]}\n      isobar:  {json.dumps(other)[:400]}")
    print(f"{same} the same, {differ} different")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
