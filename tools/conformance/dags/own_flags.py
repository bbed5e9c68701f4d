"""Raises the flags that `example_asset_with_watchers` waits for."""

from __future__ import annotations

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(dag_id="own_flags", schedule=None, tags=["own"]):
    BashOperator(
        task_id="raise_flags",
        bash_command="mkdir -p /tmp/region-flags && touch /tmp/test /tmp/region-flags/us.flag /tmp/region-flags/eu.flag",
    )
