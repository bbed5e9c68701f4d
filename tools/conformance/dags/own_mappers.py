"""Partitions that classes of the team's own map: alone, in others, with windows of its own."""

from __future__ import annotations

from airflow.example_dags.plugins.business_day_window import BusinessDayWindow
from airflow.example_dags.plugins.custom_partition_mapper import PrefixStripMapper
from airflow.sdk import (
    DAG,
    Asset,
    MinimumCount,
    PartitionedAssetTimetable,
    PartitionedAtRuntime,
    ProductMapper,
    RollupMapper,
    StartOfMonthMapper,
    task,
)
from airflow.sdk.definitions.partition_mappers.chain import ChainMapper
from own_mapping import Dated, Numbers, Span, Split

mapped = Asset("own_mapped")

with DAG("own_map_source", schedule=PartitionedAtRuntime(), tags=["own"]):

    @task(outlets=[mapped])
    def arrives():
        pass

    arrives()

MAPPERS = {
    "prefix": PrefixStripMapper("eu"),
    "split": Split(),
    "split_two": Split(max_downstream_keys=2),
    "dated": Dated(),
    "carried": Dated(carried=True),
    "chain": ChainMapper(PrefixStripMapper("eu"), Split()),
    "product": ProductMapper(PrefixStripMapper("eu"), Numbers(3)),
    "rollup": RollupMapper(upstream_mapper=Numbers(3), window=Span(3), wait_policy=MinimumCount(2)),
    "rollup_all": RollupMapper(upstream_mapper=Numbers(2), window=Span(2)),
    "workdays": RollupMapper(
        upstream_mapper=StartOfMonthMapper(input_format="%Y-%m-%d"), window=BusinessDayWindow(), wait_policy=MinimumCount(2)
    ),
}

for name, mapper in MAPPERS.items():
    with DAG(f"own_map_{name}", schedule=PartitionedAssetTimetable(assets=mapped, default_partition_mapper=mapper), tags=["own"]):

        @task
        def told(dag_run=None):
            return [dag_run.partition_key, str(dag_run.partition_date)]

        told()
