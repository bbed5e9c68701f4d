"""A process that has read one Dag file, so that the tasks forked from it need not.

In Airflow each task reads its whole Dag file before it begins: for a file of a thousand tasks that is a second of a
processor, a thousand times. `examine` finds out whether reading a file could come out differently the next time; where
it could not, a burst of its tasks is forked from a process that has read it already.
"""

import os
from pathlib import Path

from airflow.dag_processing import dagbag
from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.sdk.execution_time import task_runner

# What was read, and the arguments of the one who asks for just that.
_kept: tuple[dict, dagbag.BundleDagBag] | None = None


class NotAskable:
    """Stands where a task's channel to its supervisor will be: nobody listens before the fork."""

    def __init__(self, found=lambda what: None) -> None:
        self.found = found

    def send(self, message: object, *_: object, **__: object) -> object:
        """Refuses."""
        self.found(f"it asks for {type(message).__name__}")
        raise RuntimeError("a Dag file that is read ahead of its tasks cannot ask for anything")

    asend = send


def arguments(bundle: str, version: str | None, path: str) -> dict:
    """What Airflow's task runner passes on to read this file."""
    found = DagBundlesManager().get_bundle(name=bundle, version=version)
    if type(found) is not LocalDagBundle:
        raise RuntimeError(f"its bundle is a {type(found).__name__}")
    found.initialize()
    return {
        "dag_folder": os.fspath(Path(found.path, path)),
        "safe_mode": False,
        "load_op_links": False,
        "bundle_path": found.path,
        "bundle_name": bundle,
    }


def read(bundle: str, version: str | None, path: str) -> None:
    """Reads the file and keeps the outcome for the tasks that are forked from here."""
    global _kept
    task_runner.SUPERVISOR_COMMS = NotAskable()
    given = arguments(bundle, version, path)
    bag = dagbag.BundleDagBag(**given)
    if bag.import_errors:
        raise RuntimeError("it cannot be imported")
    _kept = given, bag


def offer() -> None:
    """In the fork of a task: hands what was read to Airflow's task runner, which is about to ask for it, once."""
    if _kept is None:
        return
    (same, bag), reading = _kept, dagbag.BundleDagBag

    def hand_over(**given):
        dagbag.BundleDagBag = reading
        # Airflow says here whose turn it is. What is not there may have come since: then as in any other task.
        dag = bag.dags.get(os.environ.get("_AIRFLOW_PARSING_CONTEXT_DAG_ID"))
        if given != same or dag is None or os.environ.get("_AIRFLOW_PARSING_CONTEXT_TASK_ID") not in dag.task_dict:
            return reading(**given)
        bag.log.info("Filling up the DagBag from %s", bag.dag_folder)
        return bag

    dagbag.BundleDagBag = hand_over
    # The task's own channel is made by its runner; until then there is none, as in any other task.
    del task_runner.SUPERVISOR_COMMS
