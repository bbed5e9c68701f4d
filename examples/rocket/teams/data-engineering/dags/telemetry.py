"""Telemetry of each region: waits for the uploads, loads each region on its own, and survives a flaky source."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import Asset, PokeReturnValue, Variable, dag, get_current_context, task

TELEMETRY = Asset(name="telemetry", uri="rocket://data-engineering/telemetry")
RAW = Path(os.environ.get("ROCKET_RAW", "/tmp/rocket/raw"))
PUBLISHED = Path(os.environ.get("ROCKET_PUBLISHED", "/tmp/rocket/published"))


@dag(
    schedule="*/3 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["etl", "telemetry"],
    doc_md=__doc__,
)
def telemetry():
    @task
    def regions() -> list[str]:
        return Variable.get("regions", default=["eu", "us"], deserialize_json=True)

    @task
    def upload(region: str) -> str:
        """What a region's servers would have uploaded."""
        chance = random.Random(region)
        folder = RAW / "telemetry"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{region}.jsonl"
        with file.open("w") as out:
            for session in range(200):
                minutes, crashed = chance.randint(1, 90), chance.random() < 0.02
                out.write(json.dumps({"session": session, "minutes": minutes, "crashed": crashed}) + "\n")
        return str(file)

    @task.sensor(mode="reschedule", poke_interval=3, timeout=120)
    def all_uploaded(files: list[str]) -> PokeReturnValue:
        """Gives its slot back between looks; the first look always comes too early."""
        early = get_current_context()["task_reschedule_count"] == 0
        missing = [file for file in files if not Path(file).exists()]
        return PokeReturnValue(is_done=not early and not missing, xcom_value=len(files))

    @task(retries=2, retry_delay=timedelta(seconds=2))
    def summarise(file: str) -> dict:
        """The source of Asia times out at the first try, as it does in life."""
        try_number = get_current_context()["ti"].try_number
        if "asia" in file and try_number == 1:
            raise ConnectionError("the telemetry gateway did not answer; the next try will")
        sessions = [json.loads(line) for line in Path(file).read_text().splitlines()]
        return {
            "region": Path(file).stem,
            "sessions": len(sessions),
            "minutes": sum(session["minutes"] for session in sessions),
            "crashes": sum(session["crashed"] for session in sessions),
        }

    @task(outlets=[TELEMETRY])
    def publish(summaries: list[dict]) -> int:
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        summaries = sorted(summaries, key=lambda summary: summary["region"])
        (PUBLISHED / "telemetry.json").write_text(json.dumps(summaries, indent=2))
        return len(summaries)

    files = upload.expand(region=regions())
    summaries = summarise.expand(file=files)
    all_uploaded(files) >> summaries
    publish(summaries)


telemetry()
