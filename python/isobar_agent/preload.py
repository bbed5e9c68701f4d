"""What a zygote imports before it forks, and how a fork becomes a supervised process. Never a team's Dag files."""

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
from isobar_agent import parse


def _run_task() -> None:
    from airflow.sdk.execution_time.task_runner import main

    main()


TARGETS = {"task": _run_task, "parse": parse.run}


def preload() -> None:
    """Warms what tasks and parses use, beyond the imports above."""
    parse.warm()


def enter(target: str, fds: list[int]) -> None:
    """Becomes the supervised process over the four descriptors; never returns."""
    requests, stdout, stderr = (socket.socket(fileno=fd) for fd in fds[:3])
    supervisor._fork_main(requests, stdout, stderr, fds[3], TARGETS[target])
    os._exit(124)
