"""A dashboard of marketing, made anew whenever data engineering has published.

The asset belongs to another team: without `producer_teams` its events would not start anything here.
"""

from __future__ import annotations

import html
import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import Asset, AssetAccessControl, dag, get_current_context, task

MARKETING = Asset(
    name="marketing",
    uri="rocket://data-engineering/marketing",
    access_control=AssetAccessControl(producer_teams=["data-engineering"]),
)
OUT = Path(os.environ.get("ROCKET_OUT", "/tmp/rocket/analytics"))
DEFAULT_SOURCE = Path(os.environ.get("ROCKET_PUBLISHED", "/tmp/rocket/published")) / "marketing.csv"


@dag(
    schedule=[MARKETING],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["dashboard", "marketing"],
    doc_md=__doc__,
)
def marketing_dashboard():
    @task
    def source() -> str:
        """The event says where the data lies."""
        events = [event for events in get_current_context()["triggering_asset_events"].values() for event in events]
        files = [event.extra["file"] for event in events if "file" in (event.extra or {})]
        print(f"{len(events)} events, files {files}")
        return files[-1] if files else str(DEFAULT_SOURCE)

    @task
    def per_channel(file: str) -> list[dict]:
        import pandas

        frame = pandas.read_csv(file)
        totals = frame.groupby("channel", as_index=False)[["spend", "installs"]].sum()
        totals["cost_per_install"] = (totals["spend"] / totals["installs"]).round(2)
        print(f"pandas {pandas.__version__}")
        print(totals.to_string(index=False))
        return totals.sort_values("cost_per_install").to_dict("records")

    @task
    def best_days(file: str) -> list[dict]:
        import pandas

        frame = pandas.read_csv(file)
        days = frame.groupby("day", as_index=False)["installs"].sum()
        return days.nlargest(5, "installs").to_dict("records")

    @task
    def dashboard(channels: list[dict], days: list[dict]) -> str:
        OUT.mkdir(parents=True, exist_ok=True)
        target = OUT / "dashboard.html"
        tables = "".join(table(title, rows) for title, rows in [("Channels", channels), ("Best days", days)])
        target.write_text(f"<!doctype html><meta charset=utf-8><title>Marketing</title><h1>Marketing</h1>{tables}\n")
        return str(target)

    file = source()
    dashboard(per_channel(file), best_days(file))


def table(title: str, rows: list[dict]) -> str:
    """Rows as an HTML table."""
    head = "".join(f"<th>{html.escape(str(name))}" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}" for value in row.values()) for row in rows)
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}{body}</table>"


marketing_dashboard()
