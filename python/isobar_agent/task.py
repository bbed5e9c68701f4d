"""Running one task in a fork, or in a cold process."""

import datetime
import getpass
import os
import select
import socket
import sys
import traceback

from airflow.sdk.configuration import conf
from airflow.sdk.execution_time import comms, task_runner
from isobar_agent import prepared


class _Decoder:
    """The channel's class, asked for with its message types: they are hints only, and hashing all of them takes time."""

    def __class_getitem__(cls, kinds: object) -> type[comms.CommsDecoder]:
        return comms.CommsDecoder


def run() -> None:
    """Airflow's own task runner, which would start again as another user through sudo: that is refused here."""
    wait_for_work()
    prepared.offer()
    parse = task_runner.parse

    def parse_and_check(what, log):
        # The channel is there, and what follows may be the team's code.
        task_runner.CommsDecoder = comms.CommsDecoder
        ti = parse(what, log)
        user = getattr(ti.task, "run_as_user", None) or conf.get("core", "default_impersonation", fallback=None)
        if user and user != getpass.getuser():
            log.error(
                "`run_as_user` is not supported: all tasks of a team run as the team's own user. Remove it from the "
                "task, or move the Dag to a team of its own.",
                run_as_user=user,
            )
            now = datetime.datetime.now(datetime.timezone.utc)
            task_runner.SUPERVISOR_COMMS.send(comms.TaskState(state="failed", end_date=now))
            sys.exit(1)
        resume_or_fail(ti._ti_context_from_server)
        return ti

    task_runner.parse = parse_and_check
    task_runner.CommsDecoder = _Decoder
    task_runner.main()


def resume_or_fail(told) -> None:
    """Airflow's server reads the arguments with which a task goes on after it waited, and has a worker fail the task where it cannot.

    Here no server runs what arguments name: the worker looks, and fails the task in the same way.
    """
    given = {name: value for name, value in (told.next_kwargs or {}).items() if name != "event"} if told else {}
    if not given:
        return
    from airflow.sdk.serde import deserialize

    try:
        try:
            deserialize(given)
        except (ImportError, KeyError, AttributeError, TypeError):
            from airflow.serialization.serialized_objects import BaseSerialization

            BaseSerialization.deserialize(given)
    except Exception as error:
        told.next_method = "__fail__"
        said = f"Could not resume the task: its stored next_kwargs could not be decoded ({type(error).__name__}: {error})"
        told.next_kwargs = {"error": said, "traceback": traceback.format_exception(error)}


def wait_for_work() -> None:
    """A child may have been forked ahead: nothing may be logged or stamped before there is something to do."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.poll()
    with socket.socket(fileno=os.dup(0)) as requests:
        if not requests.recv(1, socket.MSG_PEEK):
            os._exit(0)  # Nobody needs it any more.
