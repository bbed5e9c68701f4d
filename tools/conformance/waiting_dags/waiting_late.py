"""What is called when a deadline passes: it notes what it was told."""

import datetime as dt
import json

from airflow.sdk import BaseNotifier
from waiting_triggers import SETTLE, note

# Of these the value is noted, of the rest the kind; of those that depend on who is quicker, that they are there.
SAME = ("conf", "dag_id", "dag_run_id", "logical_date", "note", "partition_key", "run_type", "triggered_by")


LONGER = 5 * SETTLE
QUICKER = ("start_date", "last_scheduling_decision")


def moment(value):
    return value if isinstance(value, dt.datetime) or value is None else dt.datetime.fromisoformat(value.replace("Z", "+00:00"))


def shown(name, context, own):
    run, due = context["dag_run"], moment(context["deadline"]["deadline_time"])
    kinds = {key: "" if key in QUICKER else type(value).__name__ for key, value in run.items()}
    run = {key: value if key in SAME or (key == "state" and "held" in name) else kinds[key] for key, value in run.items()}
    versions = [kinds_of(version) for version in context["dag_run"]["dag_versions"]]
    return {
        "name": name,
        "run": dict(sorted(run.items())),
        "versions": versions,
        "deadline": kinds_of(context["deadline"]),
        "more": sorted(context.keys() - {"dag_run", "deadline"}),
        "from queued": rounded(due, context["dag_run"]["queued_at"]),
        "from logical": rounded(due, context["dag_run"]["logical_date"]),
        "own": {key: f"{type(value).__name__}: {value!r}" for key, value in sorted(own.items())},
    }


def rounded(due, since):
    """How many seconds a deadline is after a moment, if that can be said alike."""
    seconds = (due - moment(since)).total_seconds() if since else None
    # That which waits for a short run to end waits longer in Airflow.
    seconds = seconds - LONGER if seconds is not None and seconds > LONGER > 0 else seconds
    return round(seconds, 2) if seconds is not None and abs(seconds) < 1000 else None


def kinds_of(values):
    return {key: "moment" if isinstance(value, dt.datetime) else type(value).__name__ for key, value in sorted(values.items())}


def said(name, context, **own):
    note(context["dag_run"]["dag_run_id"], "late", json.dumps(shown(name, context, own), ensure_ascii=False))


async def said_later(name, context, **own):
    said(name, context, **own)


def breaks(name, context):
    said(name, context)
    raise RuntimeError("the callback is broken")


def takes_no_context(name):
    note(name, "late", "called")


class Notifies(BaseNotifier):
    """May be called from both sides."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def notify(self, context):
        said(self.name, context, by="notify")

    async def async_notify(self, context):
        note(self.name, "late", f"told {sorted(context)}")
