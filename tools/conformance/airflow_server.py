"""A real Airflow on a database of its own: LocalExecutor, every component a process."""

from __future__ import annotations

import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import time
import urllib.parse

# The Execution API has processes of its own: an API server that dies (3.3.2's was seen to end with a segmentation fault
# under load) must not fail tasks while it is away.
COMPONENTS = {
    "api-server": ("api-server", "--apps", "core"),
    "execution-server": ("api-server", "--apps", "execution", "--workers", "2", "--port", "{execution_port}"),
    "scheduler": ("scheduler",),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer",),
}


class Airflow:
    """Starts with `start`, ends with `stop`; what it starts lies below `folder`."""

    def __init__(
        self, folder: pathlib.Path, python: str, database: str, port: int, path: str = "", more: dict[str, str] | None = None
    ):
        self.folder, self.python, self.port = folder, python, port
        self.url = f"http://127.0.0.1:{port}"
        self.processes: dict[str, subprocess.Popen] = {}
        home = folder / "airflow"
        home.mkdir(parents=True, exist_ok=True)
        secret = secrets.token_hex(32)
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({"admin": "admin"}))
        (folder / "work").mkdir(exist_ok=True)
        settings = {
            "CONFORMANCE_WORK": str(folder / "work"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port + 3}/execution/",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
            # Patience: on a busy machine a request that timed out and had been served all the same fails its task.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "120",
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
        self.environment = {**inherited, "AIRFLOW_HOME": str(home), "TZ": "UTC", "PYTHONPATH": path, **settings, **(more or {})}

    def fresh_database(self, server: str) -> None:
        """Makes the database anew; `server` is an address that `psql` takes."""
        name = urllib.parse.urlsplit(self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).path.lstrip("/")
        for statement in (f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"):
            subprocess.run(["psql", server, "-qc", statement], check=True)

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-m", "airflow", *arguments]

    def start(self) -> None:
        for old in self.folder.glob("*.log"):
            old.unlink()
        with open(self.folder / "migrate.log", "wb") as log:
            subprocess.run(self.command("db", "migrate"), env=self.environment, check=True, stdout=log, stderr=log)
        for component in COMPONENTS:
            self.launch(component)

    def launch(self, component: str) -> None:
        with open(self.folder / f"{component}.log", "ab") as log:
            self.processes[component] = subprocess.Popen(
                self.command(*(word.format(execution_port=self.port + 3) for word in COMPONENTS[component])),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def mend(self) -> None:
        """Starts again what has died."""
        for component, process in list(self.processes.items()):
            if process.poll() is not None:
                print(f"airflow {component} ended with {process.returncode}; starting it again", flush=True)
                self.launch(component)

    def spoiled(self) -> set[str]:
        """Dags of which Airflow failed tasks that had not failed.

        A deferred task whose trigger fires before the scheduler hears that its first process has ended is queued again by then; the
        scheduler takes the end of the first for that of the second (a race in 3.3.2, on busy machines).
        """
        said = (self.folder / "scheduler.log").read_text(errors="replace")
        return set(re.findall(r"reported that the task instance <TaskInstance: ([^.\s]+)\.\S+ .*?state attribute is queued", said))

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        end = time.monotonic() + 30
        for process in self.processes.values():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                # Its own session: what it started ends with it.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()
