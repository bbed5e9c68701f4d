"""What a zygote imports before it forks, and how a fork becomes a supervised process. Never a team's Dag files (see `prepared`)."""

import os
import socket

import airflow
import airflow.dag_processing.bundles.manager
import airflow.dag_processing.dagbag
import airflow.sdk
import airflow.sdk.execution_time.supervisor as supervisor
import airflow.sdk.execution_time.task_runner
import airflow.sdk.plugins_manager
import airflow.sdk.serde
from isobar_agent import bytecode, callback, helper, parse, rehearsal, shortcuts, task


def run_triggers() -> None:
    """Imported only in the fork that needs it: few teams have triggers at every moment."""
    from isobar_agent import triggers

    triggers.run()


def run_listeners() -> None:
    """Imported only in the fork that needs it: few teams have any."""
    from isobar_agent import listeners

    listeners.run()


def run_examination() -> None:
    """Imported only in the fork that needs it."""
    from isobar_agent import examine

    examine.run()


TARGETS = {
    "task": task.run,
    "examine": run_examination,
    "parse": parse.run,
    "callback": callback.run,
    "helper": helper.run,
    "listeners": run_listeners,
    "triggers": run_triggers,
}


# Where the logs of this process go. Setting up logging takes a third of a parse, so it is done once: a fork puts its
# own log socket under this number.
_log_fd: int | None = None


def preload() -> None:
    """Warms what tasks and parses use, beyond the imports above."""
    global _log_fd
    bytecode.keep_apart()
    shortcuts.take()
    rehearsal.warm()
    parse.warm()
    _log_fd = os.open(os.devnull, os.O_WRONLY)
    supervisor._configure_logs_over_json_channel(_log_fd)
    # Airflow blocks it in each child anyway; without its engine the fork has none to put aside.
    supervisor.block_orm_access()


def log_fd() -> int:
    """The descriptor that logs are written to; a fork's own log socket where nothing was set up before."""
    if _log_fd is None:
        raise RuntimeError("logging is set up in warm processes only")
    return _log_fd


def enter(target: str, fds: list[int]) -> None:
    """Becomes the supervised process over the four descriptors; never returns."""
    requests, stdout, stderr = (socket.socket(fileno=fd) for fd in fds[:3])
    logs = fds[3]
    if _log_fd is not None:
        os.dup2(logs, _log_fd, inheritable=False)
        os.close(logs)
        logs = 0  # Airflow's word for: logging is set up
    supervisor._fork_main(requests, stdout, stderr, logs, TARGETS[target])
    os._exit(124)
