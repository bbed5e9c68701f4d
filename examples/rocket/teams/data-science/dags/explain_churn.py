"""What moves players to leave? Started by hand, after `churn_model` has left a model."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, get_current_context, task

OUT = Path(os.environ.get("ROCKET_OUT", "/tmp/rocket/data-science"))


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"top": Param(2, type="integer", minimum=1, maximum=4, description="How many reasons to give")},
    tags=["churn"],
    doc_md=__doc__,
)
def explain_churn():
    @task
    def reasons() -> list[str]:
        model = OUT / "model.json"
        if not model.exists():
            return ["no model yet: let churn_model run first"]
        weights = json.loads(model.read_text())["weights"]
        top = get_current_context()["params"]["top"]
        return sorted(weights, key=weights.get, reverse=True)[:top]

    write = BashOperator(
        task_id="write",
        bash_command="printf '%s\\n' {{ ti.xcom_pull(task_ids='reasons') | join(' ') | replace(':', '') }} "
        '| tee "${ROCKET_OUT:-/tmp}/reasons.txt"',
    )
    reasons() >> write


explain_churn()
