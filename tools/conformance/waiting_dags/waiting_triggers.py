"""Triggers that do what they are told as soon as their file is there, and note what becomes of them."""

import asyncio
import datetime as dt
import os
import pathlib
import time

from airflow.triggers.base import (
    BaseEventTrigger,
    BaseTrigger,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

WORK = pathlib.Path(os.environ["CONFORMANCE_WORK"])
# Airflow's scheduler fails a task whose trigger fires before it has heard of the end of the task's first process.
SETTLE = float(os.environ.get("CONFORMANCE_SETTLE", "0"))


def note(name: str, what: str, text: str = "x") -> None:
    with open(WORK / f"{name}.{what}", "a") as notes:
        notes.write(text + "\n")


class FileTrigger(BaseTrigger):
    def __init__(self, name, mode="event", payload=None):
        super().__init__()
        self.name, self.mode, self.payload = name, mode, payload

    def serialize(self):
        return "waiting_triggers.FileTrigger", {"name": self.name, "mode": self.mode, "payload": self.payload}

    async def run(self):
        note(self.name, "begun")
        self.log.info("waiting for a file")
        await asyncio.sleep(SETTLE)
        while not (WORK / self.name).exists():
            await asyncio.sleep(0.05)
        if self.mode == "boom":
            raise RuntimeError("the trigger is broken")
        if self.mode == "nothing":
            return
        if self.mode == "success":
            yield TaskSuccessEvent(xcoms={"return_value": "from the trigger", "more": {"deep": [1, None]}})
        elif self.mode == "bare":
            yield TaskSuccessEvent()
        elif self.mode == "failed":
            yield TaskFailedEvent(xcoms={"why": "told so"})
        elif self.mode == "skipped":
            yield TaskSkippedEvent(xcoms={"why": "told so"})
        elif self.mode == "odd":
            yield TriggerEvent(odd(self.payload))
        elif self.mode == "many":
            yield TriggerEvent("first")
            yield TriggerEvent("second")
        else:
            yield TriggerEvent(self.payload)

    async def on_kill(self):
        note(self.name, "killed")

    async def cleanup(self):
        note(self.name, "cleaned")


def odd(kind):
    """Payloads of events that JSON does not know."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.timezone.utc)
    return {
        "fine": {
            "tuple": ("a", 1, None),
            "datetime": moment,
            "zoned": [moment.astimezone(dt.timezone(dt.timedelta(hours=2)))],
            "nested": {"a": {"b": [{"c": (1, 2)}]}},
            "float": 1.5,
            "text": "ünï\n\"",
            "big": 2**40,
        },
        "int_keys": {1: "one"},
        "set": {"s"},
        "delta": dt.timedelta(seconds=90),
        "object": object(),
    }[kind]


class WithArguments(BaseTrigger):
    """Cannot be made anew: it does not say what it needs."""

    def __new__(cls, *arguments):
        if not arguments:
            time.sleep(SETTLE)
        return super().__new__(cls)

    def __init__(self, needed):
        super().__init__()

    def serialize(self):
        return "waiting_triggers.WithArguments", {}

    async def run(self):
        yield TriggerEvent(None)


def __getattr__(name):
    if name == "NotThere":
        time.sleep(SETTLE)
    raise AttributeError(name)


class Missing(BaseTrigger):
    """Says a path where nothing is."""

    def serialize(self):
        return "waiting_triggers.NotThere", {}

    async def run(self):
        yield TriggerEvent(None)


class Watcher(BaseEventTrigger):
    """Fires once for each file with its prefix; `mode` says how it ends."""

    def __init__(self, prefix, mode="for ever"):
        super().__init__()
        self.prefix, self.mode = prefix, mode

    def serialize(self):
        return "waiting_triggers.Watcher", {"prefix": self.prefix, "mode": self.mode}

    async def run(self):
        note(self.prefix, "begun")
        if self.mode == "fails":
            raise RuntimeError("the watcher is broken")
        seen = set()
        while True:
            for path in sorted(WORK.glob(self.prefix + "-*")):
                if path.name not in seen:
                    seen.add(path.name)
                    if self.mode == "once":
                        path.unlink()
                    yield TriggerEvent({"file": path.name})
                    if self.mode == "once":
                        return
            await asyncio.sleep(0.05)

    async def on_kill(self):
        note(self.prefix, "killed")

    async def cleanup(self):
        note(self.prefix, "cleaned")
