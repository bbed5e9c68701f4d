"""Calling one function of the team's, by its import path: what a missed deadline causes.

Airflow runs synchronous ones in an executor and asynchronous ones in the triggerer. Here both get a process of their
own; what they are called with, and what they may ask, is the same.
"""

import asyncio
import importlib.util
import os
import sys
from typing import Any, Literal

import structlog
from airflow.dag_processing import processor
from airflow.sdk import serde, timezone
from airflow.sdk._shared.module_loading import UNUSUAL_MODULE_PREFIX
from airflow.sdk.execution_time import comms, task_runner
from airflow.serialization.serialized_objects import BaseSerialization
from pydantic import BaseModel, TypeAdapter


class RunCallback(BaseModel):
    """The first frame."""

    type: Literal["RunCallback"] = "RunCallback"
    path: str
    kwargs: dict[str, Any]
    is_async: bool
    file: str
    bundle_path: str


def run() -> None:
    """Does what the first frame asks for; the exit code says how it went."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    body = TypeAdapter(RunCallback | processor.ToDagProcessor)
    channel = comms.CommsDecoder(body_decoder=body, err_decoder=TypeAdapter(comms.ToTask))
    request = channel._get_response()
    if not isinstance(request, RunCallback):
        raise RuntimeError(f"the first frame must be a RunCallback, not {type(request).__name__}")
    task_runner.SUPERVISOR_COMMS = channel
    if request.bundle_path not in sys.path:
        sys.path.append(request.bundle_path)
    context = request.kwargs.pop("context", None)
    # Airflow's database keeps them in the older encoding, which knows one kind of date.
    request.kwargs = BaseSerialization.deserialize(BaseSerialization.serialize(serde.deserialize(request.kwargs)))
    if context is not None:
        context["deadline"]["deadline_time"] = timezone.parse(context["deadline"]["deadline_time"])
        request.kwargs["context"] = context
    log = structlog.get_logger(logger_name="callback")
    well = call_async(request) if request.is_async else call(request, log)
    if not well:
        sys.exit(1)


def call(request: RunCallback, log: Any) -> bool:
    """Airflow's own way to call a function or a notifier class."""
    from airflow.sdk.execution_time.callback_supervisor import execute_callback

    rel_path = os.path.relpath(request.file, request.bundle_path)
    well, _ = execute_callback(request.path, request.kwargs, rel_path, request.bundle_path, log)
    return well


def call_async(request: RunCallback) -> bool:
    """Airflow's own trigger for a coroutine function, driven to its end."""
    from airflow.triggers.callback import PAYLOAD_STATUS_KEY, CallbackTrigger

    module, _, _ = request.path.rpartition(".")
    if module.startswith(UNUSUAL_MODULE_PREFIX):
        # It is defined in the Dag file itself, whose module has a name that cannot be imported.
        spec = importlib.util.spec_from_file_location(module, request.file)
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])

    async def drive() -> bool:
        last = None
        async for event in CallbackTrigger(request.path, request.kwargs).run():
            last = event.payload[PAYLOAD_STATUS_KEY]
        return last == "success"

    return asyncio.run(drive())
