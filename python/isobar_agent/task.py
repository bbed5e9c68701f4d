"""Running one task in a fork, or in a cold process."""

import datetime
import getpass
import sys

from airflow.sdk.configuration import conf
from airflow.sdk.execution_time import comms, task_runner


def run() -> None:
    """Airflow's own task runner, which would start again as another user through sudo: that is refused here."""
    parse = task_runner.parse

    def parse_and_check(what, log):
        ti = parse(what, log)
        user = getattr(ti.task, "run_as_user", None) or conf.get("core", "default_impersonation", fallback=None)
        if user and user != getpass.getuser():
            log.error(
                "`run_as_user` is not supported: all tasks of a team run as the team's own user. Remove it from the "
                "task, or move the Dag to a team of its own.",
                run_as_user=user,
            )
            now = datetime.datetime.now(datetime.UTC)
            task_runner.SUPERVISOR_COMMS.send(comms.TaskState(state="failed", end_date=now))
            sys.exit(1)
        return ti

    task_runner.parse = parse_and_check
    task_runner.main()
