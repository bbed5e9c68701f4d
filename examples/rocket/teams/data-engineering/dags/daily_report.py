"""Data engineering's report of the day. Analytics has a Dag, a variable and a connection of the same names."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import Connection, Variable, dag, task

PUBLISHED = Path(os.environ.get("ROCKET_PUBLISHED", "/tmp/rocket/published"))


@dag(schedule="*/5 * * * *", start_date=datetime(2026, 1, 1), catchup=False, tags=["report"], doc_md=__doc__)
def daily_report():
    @task
    def look() -> dict[str, int]:
        """The published files and their sizes."""
        return {file.name: file.stat().st_size for file in sorted(PUBLISHED.glob("*.*"))}

    @task
    def write(files: dict[str, int]) -> str:
        warehouse = Connection.get("warehouse")
        title = Variable.get("report_title")
        lines = [
            f"{title} ({Variable.get('company', default='?')})",
            f"loaded as {warehouse.login} into {warehouse.host}/{warehouse.schema}",
            *(f"{name}: {size} bytes" for name, size in files.items() if name != "daily_report.txt"),
        ]
        target = PUBLISHED / "daily_report.txt"
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
        return str(target)

    write(look())


daily_report()
