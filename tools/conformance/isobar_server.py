"""The built Isobar on SQLite, for one team that has the examples' Dag folder and plugins."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess

CONFIG = """\
[core]
dags_are_paused_at_creation = true
parallelism = {parallelism}
[database]
url = "sqlite://{folder}/isobar.db"
[server]
port = {port}
[auth]
manager = "simple"
[[auth.user]]
name = "admin"
password = "admin-password"
org = "org-admin"
[default_team]
folders = ["{folder}/dags"]
venv = "{venv}"
read_folders = [{read}]
write_folders = ["{folder}/work"]
[default_team.env]
AIRFLOW__CORE__PLUGINS_FOLDER = "{folder}/plugins"
CONFORMANCE_WORK = "{folder}/work"
TZ = "UTC"
{env}"""


class Isobar:
    """Starts with `start`, ends with `stop`."""

    def __init__(
        self,
        folder: pathlib.Path,
        binary: str,
        python: str,
        port: int,
        parallelism: int = 8,
        env: dict[str, str] | None = None,
        read: tuple[str, ...] = (),
    ):
        self.folder, self.binary, self.port = folder, str(pathlib.Path(binary).resolve()), port
        self.url = f"http://127.0.0.1:{port}"
        work = folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        work.chmod(0o777)
        venv = pathlib.Path(python).parent.parent
        self.config = folder / "isobar.toml"
        text = CONFIG.format(
            folder=folder,
            port=port,
            venv=venv,
            parallelism=parallelism,
            read=", ".join(json.dumps(name) for name in (f"{folder}/plugins", *read)),
            env="".join(f"{key} = {json.dumps(value)}\n" for key, value in (env or {}).items()),
        )
        self.config.write_text(text)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self.folder / "isobar.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "--config", str(self.config), "standalone"],
                env={**os.environ, "ISOBAR_HOME": str(self.folder / "home")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None
