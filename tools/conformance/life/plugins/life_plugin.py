"""Listeners that say what they hear."""

from __future__ import annotations

from airflow.listeners import hookimpl
from airflow.sdk.plugins_manager import AirflowPlugin
from life_evidence import say


def of(ti):
    return f"{ti.task_id}[{ti.map_index}] try={ti.try_number} state={ti.state}"


class Tasks:
    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        say(f"listener_{task_instance.dag_id}", f"running {of(task_instance)} before={previous_state}")

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        say(f"listener_{task_instance.dag_id}", f"success {of(task_instance)} before={previous_state}")

    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        say(f"listener_{task_instance.dag_id}", f"failed {of(task_instance)} before={previous_state} {type(error).__name__}: {error}")

    @hookimpl
    def on_task_instance_skipped(self, previous_state, task_instance):
        say(f"listener_{task_instance.dag_id}", f"skipped {of(task_instance)} before={previous_state}")


class Runs:
    @hookimpl
    def on_dag_run_running(self, dag_run, msg):
        say(f"runs_{dag_run.dag_id}", f"running {dag_run.run_id} {dag_run.state} {msg}")

    @hookimpl
    def on_dag_run_success(self, dag_run, msg):
        say(f"runs_{dag_run.dag_id}", f"success {dag_run.run_id} {dag_run.state} {msg}")

    @hookimpl
    def on_dag_run_failed(self, dag_run, msg):
        say(f"runs_{dag_run.dag_id}", f"failed {dag_run.run_id} {dag_run.state} {msg}")


class LifePlugin(AirflowPlugin):
    name = "life"
    listeners = [Tasks(), Runs()]
