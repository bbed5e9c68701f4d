"""What campaigns cost and bring. Other teams may read what is published here and may react to it."""

from __future__ import annotations

import csv
import os
import random
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, AssetAccessControl, Label, Metadata, TriggerRule, dag, get_current_context, task, task_group

MARKETING = Asset(
    name="marketing",
    uri="rocket://data-engineering/marketing",
    group="marketing",
    access_control=AssetAccessControl(consumer_teams=["analytics"]),
)
RAW = Path(os.environ.get("ROCKET_RAW", "/tmp/rocket/raw"))
PUBLISHED = Path(os.environ.get("ROCKET_PUBLISHED", "/tmp/rocket/published"))
CHANNELS = ["search", "video", "social", "podcast"]


@dag(
    schedule="*/2 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["etl", "marketing"],
    doc_md=__doc__,
)
def marketing():
    @task.branch
    def how_much_to_load() -> str:
        """Everything at even minutes of the hour's quarters, else what is new."""
        run_after = get_current_context()["dag_run"].run_after
        return "load_everything" if run_after.minute % 4 == 0 else "load_what_is_new"

    everything = EmptyOperator(task_id="load_everything")
    news = BashOperator(task_id="load_what_is_new", bash_command="echo 'only what changed since the last run'")

    @task_group
    def channels():
        @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        def spend() -> str:
            return write("spend", lambda chance: chance.randint(200, 2000))

        @task(trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
        def installs() -> str:
            return write("installs", lambda chance: chance.randint(50, 900))

        return [spend(), installs()]

    @task(outlets=[MARKETING])
    def publish(files: list[str]):
        """One row per day and channel."""
        tables = []
        for file in files:
            with open(file, newline="") as source:
                tables.append({(row["day"], row["channel"]): row["value"] for row in csv.DictReader(source)})
        spend, installs = tables
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        target = PUBLISHED / "marketing.csv"
        with target.with_suffix(".new").open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["day", "channel", "spend", "installs"])
            writer.writerows([*key, spend[key], installs[key]] for key in sorted(spend))
        target.with_suffix(".new").replace(target)
        yield Metadata(MARKETING, {"rows": len(spend), "file": str(target)})

    branch, loaded = how_much_to_load(), channels()
    branch >> Label("now and then") >> everything >> loaded
    branch >> Label("mostly") >> news >> loaded
    publish(loaded)


def write(what: str, value) -> str:
    """Thirty days of one figure for each channel, the same in every run."""
    chance = random.Random(what)
    RAW.mkdir(parents=True, exist_ok=True)
    file = RAW / f"{what}.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["day", "channel", "value"])
        for day in range(1, 31):
            writer.writerows([f"2026-01-{day:02}", channel, value(chance)] for channel in CHANNELS)
    return str(file)


marketing()
