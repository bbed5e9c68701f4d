"""Analytics' report of the day. Data engineering has a Dag, a variable and a connection of the same names."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.sdk import Connection, Variable, dag, task

OUT = Path(os.environ.get("ROCKET_OUT", "/tmp/rocket/analytics"))


@dag(schedule="*/4 * * * *", start_date=datetime(2026, 1, 1), catchup=False, tags=["report"], doc_md=__doc__)
def daily_report():
    @task(multiple_outputs=True)
    def figures() -> dict:
        import pandas

        sales = pandas.Series([120, 95, 143, 160, 88, 210, 175], name="sales")
        return {"best": int(sales.max()), "mean": round(float(sales.mean()), 1)}

    @task
    def write(best: int, mean: float) -> str:
        warehouse = Connection.get("warehouse")
        title = Variable.get("report_title")
        lines = [
            f"{title} ({Variable.get('company', default='?')})",
            f"read as {warehouse.login} from {warehouse.host}/{warehouse.schema}",
            f"best day {best}, mean {mean}",
        ]
        OUT.mkdir(parents=True, exist_ok=True)
        target = OUT / "daily_report.txt"
        target.write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
        return str(target)

    numbers = figures()
    write(numbers["best"], numbers["mean"])


daily_report()
