"""Reading one Dag file, or running its callbacks, in a fork that finds its work prepared.

Airflow's own entry point builds pydantic's adapters for the channel anew in each process; here they are built once,
before the fork. What is sent and what is answered is the same.
"""

import functools
import os
import sys

import structlog
from airflow import settings
from airflow.dag_processing import processor
from airflow.sdk.execution_time import comms, task_runner
from isobar_agent import timetables
from pydantic import TypeAdapter

NICENESS = 5
SAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sample_dag.py")


@functools.cache
def adapters() -> tuple[TypeAdapter, TypeAdapter]:
    """What reads answers, and what reads errors."""
    return TypeAdapter(processor.ToDagProcessor), TypeAdapter(comms.ToTask)


def warm() -> None:
    """Reads a Dag file of our own, so that the imports and caches which nearly every Dag file needs are there.

    The team's policies are left out of it: they are the team's code, and none of that may act before the fork.
    """
    adapters()
    policies = settings.dag_policy, settings.task_policy
    settings.dag_policy = settings.task_policy = lambda _: None
    try:
        folder = os.path.dirname(SAMPLE)
        request = processor.DagFileParseRequest(file=SAMPLE, bundle_path=folder, bundle_name="isobar-sample")
        result = processor._parse_file(request, structlog.get_logger(logger_name="task"))
        if result is not None:
            result.model_dump()
    except Exception as error:
        # An unusual environment makes parses slower, not impossible.
        print(f"preparing parses did not work ({type(error).__name__}: {error}); they will be slower", file=sys.stderr)
    finally:
        settings.dag_policy, settings.task_policy = policies


def run() -> None:
    """Does what the first frame asks for."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    # A thousand changed files must not slow the tasks that run meanwhile.
    os.nice(NICENESS)
    body, errors = adapters()
    channel = comms.CommsDecoder(body_decoder=body, err_decoder=errors)
    request = channel._get_response()
    if not isinstance(request, processor.DagFileParseRequest):
        raise RuntimeError(f"the first frame must be a DagFileParseRequest, not {type(request).__name__}")
    task_runner.SUPERVISOR_COMMS = channel
    result = processor._parse_file(request, structlog.get_logger(logger_name="task"))
    if result is not None:
        timetables.describe(result)
        channel.send(result)
