"""What the Dags of the life scenes share: they say what happens in a file, and wait until a file says go on."""

from __future__ import annotations

import os
import pathlib
import time

from airflow.sdk import BaseOperator

WORK = pathlib.Path(os.environ.get("CONFORMANCE_WORK", "/nonexistent"))


def say(dag: str, text: str) -> None:
    with open(WORK / f"{dag}.said", "a") as file:
        file.write(text.replace("\n", " | ") + "\n")


def wait_for(gate: str) -> None:
    while not (WORK / gate).exists():
        time.sleep(0.05)


def wait_while(gate: str) -> None:
    while (WORK / gate).exists():
        time.sleep(0.05)


def told(kind: str):
    """A callback that says when it was called and with what."""

    def callback(context):
        ti, run = context.get("ti"), context.get("dag_run")
        words = [kind]
        if ti is not None:
            words.append(f"ti={ti.task_id}[{ti.map_index}] try={ti.try_number} state={ti.state}")
        exception = context.get("exception")
        if exception is not None:
            words.append(f"exception={type(exception).__name__}: {exception}")
        if "reason" in context:
            words.append(f"reason={context['reason']}")
        words.append(f"run={run.run_id} {run.run_type}" if run is not None else "no run")
        say(context["dag"].dag_id if "dag" in context else run.dag_id, " ".join(str(word) for word in words))

    return callback


def keys(kind: str):
    """A callback that says what its context holds."""

    def callback(context):
        say(context["dag"].dag_id, f"{kind} knows {' '.join(sorted(context))}")

    return callback


TOLD = {f"on_{kind}_callback": told(kind) for kind in ("execute", "success", "failure", "retry", "skipped")}
RUN_TOLD = {f"on_{kind}_callback": told(f"run {kind}") for kind in ("success", "failure")}


class Waits(BaseOperator):
    """Says that it begins, waits for its gate in its first try, and says that it ends, or that it is killed."""

    def __init__(self, *, gate: str, tries=(1,), **more):
        super().__init__(**more)
        self.gate, self.tries = gate, tuple(tries)

    def execute(self, context):
        ti = context["ti"]
        self.place = (ti.dag_id, f"{ti.task_id}{'' if ti.map_index < 0 else ti.map_index} try {ti.try_number}")
        say(self.place[0], f"{self.place[1]} begins")
        if ti.try_number in self.tries:
            wait_for(self.gate)
        say(self.place[0], f"{self.place[1]} ends")
        return ti.try_number

    def on_kill(self):
        say(self.place[0], f"{self.place[1]} is killed")
