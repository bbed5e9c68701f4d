"""What became of a Dag: everything the REST API says of it, with what differs from place to place and day to day made equal."""

from __future__ import annotations

import datetime as dt
import re

import families as f
from drive import is_compared
from rest import Rest, quote

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"20(?!24-03)\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
TODAY = re.compile(r"20(2[6-9]|3\d)-\d\d-\d\d")
RUN = re.compile(r"\b(manual|scheduled|asset_triggered|backfill|operator_triggered)__<time>(_\w{8})?")
DATE = re.compile(r"\b[A-Z]\w\w [A-Z]\w\w +\d+ \d\d:\d\d:\d\d UTC \d{4}\b")  # as `date` prints it
HOST = re.compile(r"http://127\.0\.0\.1:\d+")
HOME = re.compile(r"/[\w./-]+/airflow/dags\b")
RECENT = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc).timestamp()
MODULE = re.compile(r"\bunusual_prefix_[0-9a-f]{40}_")
SCRIPT = re.compile(r"/\S*/(dags|plugins)/(?=core/|standard/|own/)")
# Of the Dag and its tasks: what no two servers share.
OF_THE_SERVER = {
    "asset_id", "bundle_name", "bundle_version", "created_at", "dag_version_id", "file_token", "fileloc", "id",
    "is_favorite", "is_paused", "last_expired", "last_parse_duration", "last_parsed", "last_parsed_time", "latest_dag_version",
    "next_dagrun_data_interval_end", "next_dagrun_data_interval_start", "next_dagrun_logical_date",
    "next_dagrun_run_after", "team_name", "owner_links", "active_runs_count",
}  # fmt: skip
USUAL = {
    "queue": "default", "pool": "default_pool", "pool_slots": 1, "priority_weight": 1, "max_tries": 0,
    "executor": None, "note": None, "rendered_map_index": None, "executor_config": "{}",
}  # fmt: skip
ORDERED_RULES = {
    "all_success", "all_done", "none_failed", "none_skipped", "none_failed_min_one_success",
    "all_done_min_one_success", "all_done_setup_success", "none_upstream_failed",
}  # fmt: skip


def plain(value):
    """A value without times, ids and paths of this server."""
    if isinstance(value, str):
        value = SCRIPT.sub("<dags>/", value)
        value = UUID.sub("<uuid>", value)
        value = TIME.sub("<time>", value)
        value = HOME.sub("<home>/dags", HOST.sub("<host>", DATE.sub("<time>", MODULE.sub("", value))))
        return TODAY.sub("<date>", RUN.sub(r"\1__<time>", value))
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if isinstance(value.get("timestamp"), float) and value["timestamp"] > RECENT:
            value = {**value, "timestamp": "<time>"}
        return {plain(key): sorted(item) if key in ("followed", "skipped") else plain(item) for key, item in value.items()}
    # PostgreSQL's JSON writes large fractions out in full.
    return float(value) if isinstance(value, int) and abs(value) > 2**63 else value


def without(value, keys: set):
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    if isinstance(value, dict):
        return {key: without(item, keys) for key, item in value.items() if key not in keys}
    return value


def moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


class Reader:
    """Reads outcomes from one server."""

    def __init__(self, rest: Rest):
        self.rest = rest

    def definition(self, dag: str) -> dict:
        """The Dag as it was read."""
        details = self.rest.get(f"/dags/{quote(dag)}/details")
        tasks = self.rest.get(f"/dags/{quote(dag)}/tasks")["tasks"]
        tasks = sorted(tasks, key=lambda task: task["task_id"])
        for task in tasks:  # sets, whose order no process shares with another
            for key in ("downstream_task_ids", "template_fields", "extra_links"):
                task[key] = sorted(task[key])
        return plain(without({"details": details, "tasks": tasks}, OF_THE_SERVER))

    def runs(self, dag: str, definition: dict) -> list[dict]:
        """The runs of a Dag that are compared, in an order that does not depend on names or ids."""
        rows = self.rest.all(f"/dags/{quote(dag)}/dagRuns", "dag_runs")
        found = [self.run(dag, row, definition) for row in rows if is_compared(row, rows)]
        return sorted(found, key=lambda run: repr(sorted(run.items(), key=lambda item: item[0])))

    def run(self, dag: str, row: dict, definition: dict) -> dict:
        base = f"/dags/{quote(dag)}/dagRuns/{quote(row['dag_run_id'])}"
        instances = self.rest.all(f"{base}/taskInstances", "task_instances")
        outcome = {
            "id": plain(row["dag_run_id"]),
            "type": row["run_type"],
            "triggered_by": row["triggered_by"],
            "state": row["state"],
            "conf": plain(row["conf"]),
            "partition_key": row.get("partition_key"),
            "note": row["note"],
            "interval": interval(row, definition["details"]["timetable_summary"]),
            "tasks": {name_of(instance): instance_facts(instance) for instance in sorted(instances, key=name_of)},
            "tries": self.tries(base, instances),
            "xcoms": self.xcoms(dag, base),
            "emitted": self.emitted(dag, row["dag_run_id"]),
            "consumed": self.consumed(base, row),
            "out_of_order": out_of_order(dag, instances, definition),
        }
        return by_chance(dag, {key: value for key, value in outcome.items() if value not in (None, {}, [])})

    def tries(self, base: str, instances: list) -> dict:
        found = {}
        for instance in instances:
            if instance["try_number"] > 1:
                index = f"/{instance['map_index']}" if instance["map_index"] >= 0 else ""
                rows = self.rest.get(f"{base}/taskInstances/{quote(instance['task_id'])}{index}/tries")["task_instances"]
                found[name_of(instance)] = sorted([row["try_number"], row["state"]] for row in rows)
        return found

    def xcoms(self, dag: str, base: str) -> dict:
        found = {}
        for entry in self.rest.all(f"{base}/taskInstances/~/xcomEntries", "xcom_entries"):
            task, key, index = entry["task_id"], entry["key"], entry["map_index"]
            path = f"{base}/taskInstances/{quote(task)}/xcomEntries/{quote(key)}"
            value = self.rest.get(path, map_index=index, deserialize="false", stringify="false")["value"]
            if (dag, task) in f.ANY_VALUE:
                value = f"<{type(value).__name__}>"
            found[f"{name_of(entry)} {key}"] = short(plain(value))
        return dict(sorted(found.items()))

    def emitted(self, dag: str, run_id: str) -> list:
        events = self.rest.all("/assets/events", "asset_events", source_dag_id=dag)
        mine = [event for event in events if event["source_run_id"] == run_id]
        return sorted((event_facts(event) for event in mine), key=repr)

    def consumed(self, base: str, row: dict) -> list:
        if row["run_type"] not in ("asset_triggered", "asset_materialization"):
            return []
        events = self.rest.get(f"{base}/upstreamAssetEvents")["asset_events"]
        return sorted((event_facts(event) for event in events), key=repr)


def event_facts(event: dict) -> dict:
    facts = {
        "asset": [event["name"], event["uri"]],
        "extra": plain(event["extra"]),
        "source": [event["source_dag_id"], event["source_task_id"], event["source_map_index"]],
        "partition_key": event.get("partition_key"),
        "causes": sorted([run["dag_id"], run["state"]] for run in event.get("created_dagruns", [])),
    }
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def short(value):
    """Large values by their size and ends."""
    if isinstance(value, str) and len(value) > 600:
        return f"<{len(value)} characters: {value[:40]} … {value[-40:]}>"
    return value


def name_of(row: dict) -> str:
    return row["task_id"] if row["map_index"] < 0 else f"{row['task_id']}[{row['map_index']}]"


def instance_facts(instance: dict) -> dict:
    facts = {"state": instance["state"], "try": instance["try_number"], "operator": instance["operator_name"]}
    for key, usual in USUAL.items():
        if instance.get(key) != usual:
            facts[key] = plain(instance.get(key))
    # Whether it has these dates at all: a task that never ran must not claim to.
    dates = ("start_date", "end_date")
    facts["dates"] = "".join("-" if instance[key] is None else "+" for key in dates)
    return facts


def interval(row: dict, timetable: str | None) -> dict:
    """The dates of a run: as they are where they were given, else by their distances."""
    dates = {key: moment(row[key]) for key in ("logical_date", "data_interval_start", "data_interval_end", "run_after")}
    if row["run_type"] == "manual" and row["logical_date"] and row["logical_date"].startswith("2024-03"):
        return {key: row[key] for key in ("logical_date", "data_interval_start", "data_interval_end")}
    start, end = dates["data_interval_start"], dates["data_interval_end"]
    if start is None or end is None:
        return {key: None if value is None else "set" for key, value in dates.items() if key != "run_after"}
    facts = {"length": (end - start).total_seconds()}
    if row["run_type"] == "scheduled":
        if re.fullmatch(r"\d+ \d+ .*", timetable or ""):
            facts["at"] = start.strftime("%H:%M:%S.%f")
        facts["logical_date"] = (dates["logical_date"] - start).total_seconds() if dates["logical_date"] else None
        facts["run_after"] = (dates["run_after"] - end).total_seconds()
    return facts


def out_of_order(dag: str, instances: list, definition: dict) -> list:
    """Tasks that began before one they had to wait for had ended."""
    tasks = {task["task_id"]: task for task in definition["tasks"]}
    by_task: dict[str, list] = {}
    for instance in instances:
        by_task.setdefault(instance["task_id"], []).append(instance)
    wrong = []
    for task in tasks.values():
        for name in task["downstream_task_ids"]:
            if tasks[name]["trigger_rule"] not in ORDERED_RULES or (dag, name) in f.EITHER_ORDER:
                continue
            for above in by_task.get(task["task_id"], []):
                for below in by_task.get(name, []):
                    same_group = task["task_id"].rpartition(".")[0] == name.rpartition(".")[0] != ""
                    if same_group and above["map_index"] != below["map_index"]:
                        continue
                    # What never ran was decided by a rule, which need not wait for all that is above.
                    if below["try_number"] == 0 or above["state"] == "removed":
                        continue
                    ended, began = moment(above["end_date"]), moment(below["start_date"])
                    if began and above["try_number"] > 0 and (ended is None or ended > began):
                        wrong.append(f"{name_of(below)} began before {name_of(above)} had ended")
    return sorted(wrong)


def by_chance(dag: str, outcome: dict) -> dict:
    """The outcome with the option that chance took renamed to the first."""
    for prefixes in f.CHANCE.get(dag, []):
        for option in "bcd":
            instance = outcome["tasks"].get(f"{prefixes[0]}{option}")
            if instance is None or instance["state"] == "skipped":
                continue
            for prefix in prefixes:
                outcome = swap(outcome, f"{prefix}a", f"{prefix}{option}")
            break
    return outcome


def swap(value, one: str, other: str):
    if isinstance(value, str):
        words = {one: other, other: one}
        return re.sub(rf"\b({re.escape(one)}|{re.escape(other)})\b", lambda match: words[match[0]], value)
    if isinstance(value, list):
        return [swap(item, one, other) for item in value]
    if isinstance(value, dict):
        return dict(sorted((swap(key, one, other), swap(item, one, other)) for key, item in value.items()))
    return value
