"""What became of runs whose tasks wait: what the REST API says of them, and the notes that tasks and triggers left."""

from __future__ import annotations

import json
import pathlib
import re
import time
import urllib.parse

from outcome import plain
from rest import Refused, Rest, quote

ENDED = ("success", "failed")
# Times what a case takes on a machine with nothing else to do.
PATIENCE = 3
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
# Triggers have numbers of the server's own.
NUMBER = re.compile(r"\(ID \d+\)|run duration of [\d.]+ seconds")


class Server:
    """A server whose Dags are there, and the folder that its tasks and triggers leave notes in."""

    def __init__(self, url: str, passwords: dict[str, str], work: pathlib.Path, settle: float = 0):
        self.url, self.passwords, self.work, self.settle = url, passwords, work, settle

    def rest(self, user: str = "admin") -> Rest:
        return Rest(self.url, user, self.passwords[user])

    def touch(self, *names: str) -> None:
        for name in names:
            (self.work / name).touch()
            (self.work / name).chmod(0o666)

    def notes(self, prefix: str) -> dict[str, list[str]]:
        """Everything noted of `prefix`, by what it is."""
        found = {}
        for path in sorted(self.work.glob(f"{prefix}.*")):
            found[path.name.removeprefix(prefix + ".")] = plain(path.read_text().splitlines())
        return found

    def wait_for_note(self, name: str, count: int = 1, seconds: float = 120) -> None:
        def there() -> bool:
            path = self.work / name
            return path.exists() and len(path.read_text().splitlines()) >= count

        wait(there, f"{count} notes {name}", seconds)


def wait(until, what: str, seconds: float = 180):
    end = time.monotonic() + seconds * PATIENCE
    while True:
        found = until()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"still no {what} after {seconds * PATIENCE} s")
        time.sleep(0.2)


def start(rest: Rest, dag: str, run: str) -> None:
    rest.post(f"/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None})


def base(dag: str, run: str) -> str:
    return f"/dags/{quote(dag)}/dagRuns/{quote(run)}"


def instances(rest: Rest, dag: str, run: str) -> dict[str, dict]:
    rows = rest.all(f"{base(dag, run)}/taskInstances", "task_instances")
    return {name_of(row): row for row in rows}


def wait_for(rest: Rest, dag: str, run: str, states: dict[str, str], seconds: float = 120) -> None:
    """Waits until tasks of a run are in these states."""

    def reached() -> bool:
        rows = instances(rest, dag, run)
        return all(name in rows and rows[name]["state"] == state for name, state in states.items())

    wait(reached, f"{states} in {dag} {run}", seconds)


def wait_for_end(rest: Rest, dag: str, run: str, seconds: float = 240) -> None:
    wait(lambda: rest.get(base(dag, run))["state"] in ENDED, f"end of {dag} {run}", seconds)


def name_of(row: dict) -> str:
    return row["task_id"] if row["map_index"] < 0 else f"{row['task_id']}[{row['map_index']}]"


def outcome(rest: Rest, dag: str, run: str, logs: bool = True) -> dict:
    """The run, its tasks with all their tries, what they left, and what stands in their logs."""
    rows = instances(rest, dag, run)
    return {
        "state": rest.get(base(dag, run))["state"],
        "tasks": {name: task(rest, dag, run, row, logs) for name, row in sorted(rows.items())},
        "xcoms": xcoms(rest, dag, run),
    }


def task(rest: Rest, dag: str, run: str, row: dict, logs: bool) -> dict:
    index = f"/{row['map_index']}" if row["map_index"] >= 0 else ""
    path = f"{base(dag, run)}/taskInstances/{quote(row['task_id'])}"
    tries = rest.get(f"{path}{index}/tries")["task_instances"] if row["try_number"] else []
    facts = {
        "state": row["state"],
        "try": row["try_number"],
        "max_tries": row["max_tries"],
        "operator": row["operator_name"],
        "dates": "".join("-" if row[key] is None else "+" for key in ("start_date", "end_date", "queued_when", "scheduled_when")),
        "trigger": None if row["trigger"] is None else row["trigger"]["classpath"],
        "tries": sorted([one["try_number"], one["state"]] for one in tries),
    }
    if logs and row["try_number"]:
        facts["logs"] = {
            str(number): log(rest, f"{path}/logs/{number}", row["map_index"]) for number in range(1, row["try_number"] + 1)
        }
    return facts


def log(rest: Rest, path: str, index: int) -> list[str]:
    """What went wrong, as the log says it: lines above INFO, with the exceptions."""
    try:
        content = rest.get(path, full_content="true", map_index=index)["content"]
    except Refused as refused:
        return [f"refused: {refused.status}"]
    found = []
    for line in content:
        if isinstance(line, str):
            line = {"event": line}
        level = line.get("level", "")
        if level not in ("warning", "error", "critical"):
            continue
        lines = line["event"].strip().splitlines() or [""]
        # Airflow's own way to call callbacks; a reason that Isobar adds; what may come after the log was read.
        if any(words in lines[0] for words in ("determine_kwargs", "payload that cannot be serialized", "cancelled due to timeout")):
            continue
        # Of a traceback that which went wrong.
        text = f"{level}: {lines[0]}" + (f" … {lines[-1]}" if len(lines) > 1 else "")
        for error in line.get("error_detail") or line.get("exception") or ():
            if isinstance(error, dict):
                text += f" | {error.get('exc_type')}: {error.get('exc_value')}"
        found.append(NUMBER.sub("<number>", ADDRESS.sub("<address>", plain(text))))
    return sorted(found)


def xcoms(rest: Rest, dag: str, run: str) -> dict:
    found = {}
    for entry in rest.all(f"{base(dag, run)}/taskInstances/~/xcomEntries", "xcom_entries"):
        path = f"{base(dag, run)}/taskInstances/{quote(entry['task_id'])}/xcomEntries/{quote(entry['key'])}"
        value = rest.get(path, map_index=entry["map_index"], deserialize="false", stringify="false")["value"]
        text = ADDRESS.sub("<address>", json.dumps(plain(value), sort_keys=True, ensure_ascii=False))
        found[f"{name_of(entry)} {entry['key']}"] = json.loads(text)
    return dict(sorted(found.items()))


def ask(server: Server, user: str, method: str, path: str, body=None, query: dict | None = None):
    """Status and answer of one request, without what no two servers share."""
    rest = server.rest(user)
    rest.log_in()
    tail = "?" + urllib.parse.urlencode(query, doseq=True) if query else ""
    status, answer = rest.send(method, "/api/v2" + path + tail, body)
    return [status, unlike(json.loads(answer)) if answer else None]


def unlike(value, name: str = ""):
    """An answer in which what differs by nature is only there or not."""
    if isinstance(value, dict):
        # A task that was cleared shows how long it took before, in Airflow.
        return {key: unlike(item, key) for key, item in value.items() if key != "duration"}
    if isinstance(value, list):
        return [unlike(item, name) for item in value]
    # Numbers and names that each server gives itself.
    if name in {"id", "hostname", "unixname", "pid", "dag_version", "fileloc", "bundle_name", "version_number"}:
        return value if value is None or (name == "id" and isinstance(value, str) and "-" not in value) else f"<{name}>"
    return plain(value)
