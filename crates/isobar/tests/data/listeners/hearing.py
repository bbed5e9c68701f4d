"""Listeners that write down what they hear, a line of JSON a call; run by Airflow and by Isobar alike."""

import json
import os
import pathlib

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin

EVIDENCE = pathlib.Path(os.environ["LISTENERS_EVIDENCE"])


def say(hook, **what):
    with (EVIDENCE / "heard.jsonl").open("a") as file:
        file.write(json.dumps({"hook": hook, **what}, default=str) + "\n")


def of_run(run):
    return {
        "dag": run.dag_id,
        "run": run.run_id,
        "state": str(run.state),
        "type": str(run.run_type),
        "conf": run.conf,
        "logical": run.logical_date is not None,
        "interval": run.data_interval_start == run.data_interval_end == run.logical_date,
        "started": run.start_date is not None,
        "ended": run.end_date is not None,
        "tasks": sorted(run.dag.task_ids) if run.dag else None,
    }


def of_task(ti):
    return {
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "index": ti.map_index,
        "try": ti.try_number,
        "state": str(ti.state),
    }


def of_asset(asset):
    return {"name": asset.name, "uri": asset.uri, "group": asset.group, "extra": asset.extra}


class Runs:
    @hookimpl
    def on_dag_run_running(self, dag_run, msg):
        say("run_running", msg=msg, **of_run(dag_run))

    @hookimpl
    def on_dag_run_success(self, dag_run, msg):
        say("run_success", msg=msg, **of_run(dag_run))

    @hookimpl
    def on_dag_run_failed(self, dag_run, msg):
        say("run_failed", msg=msg, **of_run(dag_run))
        if dag_run.dag_id == "bad":
            raise RuntimeError("this listener is broken")


class Tasks:
    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        say("task_running", before=str(previous_state), **of_task(task_instance))

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        say("task_success", before=str(previous_state), **of_task(task_instance))

    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        say("task_failed", before=str(previous_state), error=type(error).__name__, **of_task(task_instance))

    @hookimpl
    def on_task_instance_skipped(self, previous_state, task_instance):
        say("task_skipped", before=str(previous_state), **of_task(task_instance))


class Assets:
    @hookimpl
    def on_asset_created(self, asset):
        say("asset_created", asset=of_asset(asset))

    @hookimpl
    def on_asset_alias_created(self, asset_alias):
        say("alias_created", alias=asset_alias.name, group=asset_alias.group)

    @hookimpl
    def on_asset_changed(self, asset):
        say("asset_changed", asset=of_asset(asset))

    @hookimpl
    def on_asset_event_emitted(self, asset_event):
        say(
            "asset_event",
            asset=of_asset(asset_event.asset),
            extra=asset_event.extra,
            dag=asset_event.source_dag_id,
            run=asset_event.source_run_id,
            task=asset_event.source_task_id,
            index=asset_event.source_map_index,
            aliases=[alias.name for alias in asset_event.source_aliases],
            key=asset_event.partition_key,
        )


class ImportErrors:
    @hookimpl
    def on_new_dag_import_error(self, filename, stacktrace):
        say("error_new", file=pathlib.Path(filename).name, absolute=os.path.isabs(filename), last=stacktrace.splitlines()[-1])

    @hookimpl
    def on_existing_dag_import_error(self, filename, stacktrace):
        say("error_again", file=pathlib.Path(filename).name, absolute=os.path.isabs(filename), last=stacktrace.splitlines()[-1])


class Hearing(AirflowPlugin):
    name = "hearing"
    listeners = [Runs(), Tasks(), Assets(), ImportErrors()]
