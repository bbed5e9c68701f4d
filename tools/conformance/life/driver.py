#!/usr/bin/env python3
"""What happens to runs while they run, in a real Airflow and in Isobar: the same scenes in both, and what they show compared.

  driver.py airflow FOLDER OUT.json.gz    start an Airflow of --python on --database, play the scenes, record what they show
  driver.py isobar  FOLDER GOLDEN.json.gz start --binary, play the scenes, compare; exit code 1 where anything differs
  driver.py diff    GOLDEN.json.gz OUT.json   compare again

What one recording shows is not fit to be compared for good: which of two tasks ends last, and what Airflow's loops make of a busy
machine, is chance. Read what differs; docs/differences.md names what differs on purpose.

Options: --only REGEX (scenes), --port PORT, --path FOLDER (more packages for Airflow), --out RESULT.json, --merge (keep what --only
leaves out), --keep (leave the server running until a key is pressed)
"""

from __future__ import annotations

import argparse
import gzip
import json
import pathlib
import re
import shutil
import sys
import threading
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import scenes as s  # noqa: E402
from airflow_server import Airflow  # noqa: E402
from isobar_server import Isobar  # noqa: E402
from rest import Refused, Rest  # noqa: E402
from scene import Scene  # noqa: E402

SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "40",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
    "AIRFLOW__API__DAG_CACHE_SIZE": "0",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL": "5",
}
# What both need: the folder with what the Dags share, the mail backend, what links and templates read.
TEAM = {
    "AIRFLOW__EMAIL__EMAIL_BACKEND": "life_mail_backend.send",
    "AIRFLOW_VAR_LIFE_PASSWORD": "hunter21",
    "AIRFLOW_CONN_LIFE_CONN": "http://me:hunter23@example.com",
}


def prepare(folder: pathlib.Path) -> None:
    for name in ("dags", "plugins", "site", "work", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for old in folder.glob("isobar.db*"):
        old.unlink()
    for name in ("dags", "plugins", "site"):
        shutil.copytree(HERE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "work").mkdir()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    (folder / "work").chmod(0o777)


def load(path: str) -> dict:
    raw = pathlib.Path(path).read_bytes()
    return json.loads(gzip.decompress(raw) if path.endswith(".gz") else raw)


def save(path: str, value: dict) -> None:
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    raw = text.encode()
    pathlib.Path(path).write_bytes(gzip.compress(raw, mtime=0) if path.endswith(".gz") else raw)


def play(server, folder: pathlib.Path, password: str, only: str | None, kind: str, together: int) -> dict:
    """All scenes, some at a time."""
    chosen = {name: scene for name, scene in s.SCENES.items() if only is None or re.search(only, name)}
    rest = Rest(server.url, "admin", password)
    end = time.monotonic() + 180
    while True:
        try:
            there = {dag["dag_id"] for dag in rest.all("/dags", "dags")}
        except (OSError, Refused):
            there = set()
        missing = s.DAGS - there
        if not missing:
            break
        if time.monotonic() > end:
            raise SystemExit(f"these Dags never came: {sorted(missing)}; {rest.all('/importErrors', 'import_errors')}")
        time.sleep(0.5)
    for dag in sorted(s.DAGS):
        rest.patch(f"/dags/{dag}", {"is_paused": False})
    shown: dict[str, list] = {}

    seats = threading.Semaphore(together)

    def one(name, scene):
        with seats:
            play_one(name, scene)

    def play_one(name, scene):
        stage = Scene(Rest(server.url, "admin", password), folder, kind)
        try:
            scene(stage)
        except Exception:  # the rest is played all the same
            stage.shown.append(["broke off", traceback.format_exc()])
            print(name, traceback.format_exc(), file=sys.stderr)
        shown[name] = stage.shown

    threads = [threading.Thread(target=one, args=item) for item in chosen.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return shown


def differences(golden: dict, found: dict) -> list[str]:
    lines = []
    for name in sorted(found):
        expected, ours = golden.get(name), found[name]
        if expected is None:
            lines.append(f"{name}: not recorded")
            continue
        for index in range(max(len(expected), len(ours))):
            one = expected[index] if index < len(expected) else None
            other = ours[index] if index < len(ours) else None
            if one != other:
                label = (one or other)[0]
                if (name, label) in s.ON_PURPOSE:
                    continue
                lines.append(f"{name}: {label}")
                lines += list(differ(one and one[1], other and other[1], "   "))
    return lines


def differ(one, other, indent):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                yield from differ(one.get(key), other.get(key), f"{indent}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other)):
            if a != b:
                yield from differ(a, b, f"{indent}[{index}]")
    else:
        theirs, ours = (json.dumps(value, ensure_ascii=False)[:1500] for value in (one, other))
        yield f"{indent}\n      airflow: {theirs}\n      isobar:  {ours}"


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=["airflow", "isobar", "diff"])
    parser.add_argument("place")
    parser.add_argument("file")
    parser.add_argument("--only")
    parser.add_argument("--binary")
    parser.add_argument("--python")
    parser.add_argument("--database")
    parser.add_argument("--path", default="")
    parser.add_argument("--port", type=int, default=18280)
    parser.add_argument("--out")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    if asked.what == "diff":
        lines = differences(load(asked.place), load(asked.file))
        print("\n".join(lines))
        return 1 if lines else 0
    folder = pathlib.Path(asked.place).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    prepare(folder)
    if asked.what == "airflow":
        path = ":".join(part for part in (str(folder / "site"), asked.path) if part)
        address, _, _ = asked.database.rpartition("/")
        database = f"{address.replace('postgres://', 'postgresql+psycopg2://')}/isobar_life"
        server = Airflow(folder, asked.python, database, asked.port, path, {**SETTINGS, **TEAM})
        server.fresh_database(asked.database)
        password = "admin"
    else:
        team = {
            **TEAM,
            "PYTHONPATH": str(folder / "site"),
        }
        server = Isobar(folder, asked.binary, asked.python, asked.port, 40, team, (str(folder / "site"),))
        password = "admin-password"
    server.start()
    over = threading.Event()
    if asked.what == "airflow":
        threading.Thread(target=lambda: [server.mend() for _ in iter(lambda: over.wait(0.5), True)], daemon=True).start()
    try:
        shown = play(server, folder, password, asked.only, asked.what, asked.together)
        if asked.out:
            save(asked.out, shown)
        if asked.what == "airflow":
            if asked.merge:
                shown = {**load(asked.file), **shown}
            save(asked.file, shown)
            return 0
        lines = differences(load(asked.file), shown)
        print("\n".join(lines))
        return 1 if lines else 0
    finally:
        if asked.keep:
            input("running at " + server.url)
        over.set()
        server.stop()


if __name__ == "__main__":
    raise SystemExit(main())
