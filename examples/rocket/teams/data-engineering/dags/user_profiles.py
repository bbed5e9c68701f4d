"""Players' profiles, from raw sign-ups to a published table: TaskFlow, Bash and duckdb."""

from __future__ import annotations

import csv
import os
import random
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, dag, task

PROFILES = Asset(name="user_profiles", uri="rocket://data-engineering/user_profiles")
RAW = Path(os.environ.get("ROCKET_RAW", "/tmp/rocket/raw"))
PUBLISHED = Path(os.environ.get("ROCKET_PUBLISHED", "/tmp/rocket/published"))


@dag(
    schedule="*/2 * * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["etl", "players"],
    doc_md=__doc__,
)
def user_profiles():
    @task
    def extract_sign_ups(players: int = 500) -> str:
        """Sign-ups as the game servers would send them, some of them twice."""
        chance = random.Random(67)
        RAW.mkdir(parents=True, exist_ok=True)
        file = RAW / "sign_ups.csv"
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            for number in range(players):
                row = [
                    f"player-{number:04}",
                    chance.choice(["eu", "us", "asia"]),
                    chance.choice(["Comet Run", "Moon Farm", "Orbit Chess"]),
                    chance.randint(0, 400),
                ]
                writer.writerow(row)
                if chance.random() < 0.1:
                    writer.writerow(row)
        return str(file)

    clean = BashOperator(
        task_id="remove_duplicates",
        bash_command=(
            'set -e; raw="{{ ti.xcom_pull(task_ids="extract_sign_ups") }}"; clean="${raw%.csv}.clean.csv"; '
            'sort -u "$raw" > "$clean"; echo "$(wc -l < "$raw") rows, $(wc -l < "$clean") of them different"; '
            'echo "$clean"'
        ),
    )

    @task(outlets=[PROFILES])
    def build_profiles(clean_file: str) -> dict[str, int]:
        """One row per player, and how long each of them has stayed."""
        import duckdb

        PUBLISHED.mkdir(parents=True, exist_ok=True)
        target = PUBLISHED / "user_profiles.csv"
        with duckdb.connect() as connection:
            connection.execute(
                """
                CREATE TABLE profiles AS
                SELECT column0 AS player, column1 AS region, column2 AS game, column3 AS days_active,
                       CASE WHEN column3 < 30 THEN 'new' WHEN column3 < 180 THEN 'regular' ELSE 'veteran' END AS stage
                FROM read_csv(?, header = false)
                """,
                [clean_file],
            )
            connection.execute(f"COPY (SELECT * FROM profiles ORDER BY player) TO '{target}' (HEADER)")
            counts = connection.execute("SELECT stage, count(*) FROM profiles GROUP BY stage ORDER BY stage").fetchall()
        return dict(counts)

    @task
    def check(stages: dict[str, int]) -> None:
        total = sum(stages.values())
        if total != 500:
            raise ValueError(f"expected 500 players, found {total}: {stages}")
        print(f"{total} players by stage: {stages}")

    extract_sign_ups() >> clean
    check(build_profiles(clean.output))


user_profiles()
