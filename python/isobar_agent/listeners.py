"""The team's listeners of what the control plane does: of runs, assets, import errors, tasks that people mark or that are lost.

A fork that loads the team's plugins, says which hooks they have, and calls them one after the other, in lock step over the
requests socket:

    -> {"type": "ListenersReady", "hooks": ["on_dag_run_running", ...], "all": true}
    <- {"type": "ListenerCall", "id": N, "hook": ..., "arguments": {...}, "version": "..."}
    -> {"type": "ListenerHeard", "id": N}                  the answer to that is the next call, or
    <- {"type": "ListenersStop"}                           after which it ends

Meanwhile the team's code may ask for variables and connections over the same socket, as a Dag file may. Runs and task instances
are instances of Airflow's own models that no database stands behind: their columns can be read, what would be looked up raises.
"""

import enum
import functools
import os
from typing import Any
from uuid import UUID

import structlog
from airflow.sdk.execution_time import comms, task_runner
from isobar_agent import parse
from isobar_agent.helper import moment
from pydantic import BaseModel

log = structlog.get_logger(logger_name="listeners")


class ListenersReady(BaseModel):
    """Says which hooks the plugins have, and whether all plugins could be loaded."""

    type: str = "ListenersReady"
    hooks: list[str]
    all: bool


class ListenerHeard(BaseModel):
    """Says that a call was made, well or badly."""

    type: str = "ListenerHeard"
    id: int


class GetListenerDag(BaseModel):
    """Asks for the Dag of a version."""

    type: str = "GetListenerDag"
    version: str


class ListenersMarker:
    """What `on_starting` and `before_stopping` are given here, as a task's process gives them its own marker."""


class Answers:
    """Reads what comes back: an order, or the answer to something the team's code asked for."""

    OURS = ("ListenerCall", "ListenersStop", "ListenerDag")

    def __init__(self, others) -> None:
        self.others = others

    def validate_python(self, body):
        """Pydantic's name for reading."""
        if isinstance(body, dict) and body.get("type") in self.OURS:
            return body
        return self.others.validate_python(body)


def run() -> None:
    """Calls what it is told to until it is told to stop."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    bodies, errors = parse.adapters()
    channel = comms.CommsDecoder(body_decoder=Answers(bodies), err_decoder=errors)
    task_runner.SUPERVISOR_COMMS = channel
    listeners = Listeners(channel)
    from airflow.plugins_manager import get_import_errors

    message: BaseModel = ListenersReady(hooks=listeners.hooks(), all=not get_import_errors())
    while True:
        try:
            order = channel.send(message)
        except (EOFError, OSError):
            return  # Nobody is there any more.
        if order["type"] == "ListenersStop":
            listeners.stop()
            return
        listeners.call(order)
        message = ListenerHeard(id=order["id"])


class Listeners:
    """The team's plugins, and what they were told of."""

    def __init__(self, channel) -> None:
        from airflow.listeners.listener import get_listener_manager

        self.channel = channel
        self.manager = get_listener_manager()
        self.started = False

    def hooks(self) -> list[str]:
        """The hooks that at least one plugin has."""
        return sorted(name for name, hook in vars(self.manager.hook).items() if hook.get_hookimpls())

    def call(self, order: dict) -> None:
        """Makes one call; what a listener raises is logged, as in Airflow, and nobody else's business."""
        if not self.started:
            self.started = True
            self.hook("on_starting", {"component": ListenersMarker()})
        try:
            dag = functools.cache(functools.partial(self.dag, order.get("version")))
            arguments = {name: self.argument(name, given, dag) for name, given in order["arguments"].items()}
        except Exception:
            log.exception("What a listener is to be told could not be made", hook=order["hook"])
            return
        self.hook(order["hook"], arguments)

    def stop(self) -> None:
        """Lets listeners finish what they have begun."""
        if self.started:
            self.hook("before_stopping", {"component": ListenersMarker()})

    def hook(self, name: str, arguments: dict[str, Any]) -> None:
        """Calls all that listen, the newest first; the first that raises ends it, as in Airflow."""
        try:
            getattr(self.manager.hook, name)(**arguments)
        except Exception:
            log.exception("error calling listener", hook=name)

    def argument(self, name: str, given: Any, dag) -> Any:
        """What Airflow would give under this name."""
        if name == "dag_run":
            return dag_run(given, dag)
        if name == "task_instance":
            return task_instance(given, dag)
        if name == "asset":
            return asset(given)
        if name == "asset_alias":
            return asset_alias(given)
        if name == "asset_event":
            return asset_event(given)
        if name == "previous_state" and given is not None:
            from airflow.utils.state import TaskInstanceState

            return TaskInstanceState(given)
        return given

    def dag(self, version: str | None):
        """The Dag of a version, as Airflow's scheduler has it; fetched only where a listener looks at it."""
        from airflow.serialization.serialized_objects import DagSerialization

        if version is None:
            return None
        data = self.channel.send(GetListenerDag(version=version))["dag"]
        return None if data is None else DagSerialization.from_dict(data)


class Fetched:
    """An attribute that is looked up when it is read; what an instance was given itself goes first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance, owner=None):
        """The value, or nothing where the instance was made in another way."""
        fetch = None if instance is None else instance.__dict__.get(f"_isobar_{self.name}")
        return None if fetch is None else fetch()


@functools.cache
def models() -> tuple[type, type]:
    """Airflow's models of runs and task instances, whose Dags are fetched."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

    DagRun.dag = Fetched("dag")
    TaskInstance.task = Fetched("task")
    return DagRun, TaskInstance


def without_database(model: type, given: dict[str, Any], related: dict[str, Any]):
    """An instance of a model as it is after its session was closed: columns can be read, relations that are not given raise."""
    from sqlalchemy import inspect
    from sqlalchemy.orm import make_transient_to_detached
    from sqlalchemy.orm.attributes import set_committed_value

    mapper = inspect(model)
    instance = mapper.class_manager.new_instance()
    for column in mapper.column_attrs:
        value = given.get(column.columns[0].name)
        set_committed_value(instance, column.key, as_column(value, column.columns[0].type))
    for name, value in related.items():
        set_committed_value(instance, name, value)
    make_transient_to_detached(instance)
    return instance


def as_column(value: Any, kind: Any) -> Any:
    """A value of JSON as the column's type gives it."""
    from airflow.utils.sqlalchemy import UtcDateTime
    from sqlalchemy import Enum, Uuid

    if value is None:
        return None
    if isinstance(kind, UtcDateTime):
        return moment(value)
    if isinstance(kind, Uuid):
        return UUID(value)
    if isinstance(kind, Enum) and isinstance(kind.enum_class, enum.EnumMeta):
        return kind.enum_class(value)
    return value


def dag_run(given: dict, dag):
    """A run."""
    from airflow.models.dagrun import DagRunNote

    model, _ = models()
    note = given.get("note")
    related = {"dag_run_note": None if note is None else DagRunNote(content=note)}
    run = without_database(model, {**given, "span_status": "not_started"}, related)
    run.__dict__["_isobar_dag"] = dag
    return run


def task_instance(given: dict, dag):
    """A task instance."""
    from airflow.models.taskinstance import TaskInstanceNote

    _, model = models()
    note = given.get("note")
    related = {"task_instance_note": None if note is None else TaskInstanceNote(content=note)}
    if given.get("dag_run"):
        related["dag_run"] = dag_run(given["dag_run"], dag)
    instance = without_database(model, {**given, "span_status": "not_started"}, related)

    def task():
        found = dag()
        return found.task_dict.get(given["task_id"]) if found else None

    instance.__dict__["_isobar_task"] = task
    return instance


def asset(given: dict):
    """An asset."""
    from airflow.serialization.definitions.assets import SerializedAsset

    made = SerializedAsset(name=given["name"], uri=given["uri"], group=given["group"], extra=given["extra"], watchers=[])
    if given.get("access_control"):
        made.access_control = given["access_control"]
    return made


def asset_alias(given: dict):
    """An alias of assets."""
    from airflow.serialization.definitions.assets import SerializedAssetAlias

    return SerializedAssetAlias(name=given["name"], group=given["group"])


def asset_event(given: dict):
    """An event of an asset."""
    from airflow.listeners.types import AssetEvent

    return AssetEvent(
        asset=asset(given["asset"]),
        extra=given["extra"],
        source_dag_id=given["source_dag_id"],
        source_task_id=given["source_task_id"],
        source_run_id=given["source_run_id"],
        source_map_index=given["source_map_index"],
        source_aliases=[asset_alias(alias) for alias in given["source_aliases"]],
        partition_key=given["partition_key"],
        partition_date=moment(given["partition_date"]),
    )
