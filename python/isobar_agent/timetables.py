"""What custom timetables say of themselves, told with their Dags: the control plane loads none of the team's classes.

Airflow's server looks at the class when it stores the Dag; here the parse does, and writes what it saw as `__says` beside the
timetable's `__type` and `__var`.
"""

import traceback
from typing import Any

from airflow.dag_processing.processor import DagFileParsingResult
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.definitions.assets import SerializedAssetNameRef
from airflow.serialization.encoders import encode_asset_like, encode_partition_mapper
from airflow.serialization.helpers import is_core_timetable_import_path
from airflow.timetables.base import Timetable
from airflow.timetables.simple import DEFAULT_PARTITION_MAPPER, AssetTriggeredTimetable

SAYS = "__says"


def describe(result: DagFileParsingResult) -> None:
    """Adds to each Dag what its custom timetable says; a timetable that raises is the file's import error."""
    described = []
    for dag in result.serialized_dags:
        try:
            visit(dag.data["dag"].get("timetable"))
            described.append(dag)
        except Exception:
            errors = dict(result.import_errors or {})
            errors[result.fileloc] = errors.get(result.fileloc, "") + traceback.format_exc()
            result.import_errors = errors
    result.serialized_dags = described


def visit(encoded: Any) -> None:
    """One timetable, or the one inside `AssetOrTimeSchedule`."""
    if not isinstance(encoded, dict) or "__type" not in encoded:
        return
    if not is_core_timetable_import_path(encoded["__type"]):
        encoded[SAYS] = says(decode_timetable(encoded))
    elif isinstance(encoded.get("__var"), dict):
        visit(encoded["__var"].get("timetable"))


def says(timetable: Timetable) -> dict:
    """The attributes that Airflow's server reads."""
    facts = {
        "summary": str(timetable.summary),
        "description": str(timetable.description or ""),
        "periodic": bool(timetable.periodic),
        "can_be_scheduled": bool(timetable.can_be_scheduled),
        "partitioned": bool(timetable.partitioned),
        "partitioned_at_runtime": bool(timetable.partitioned_at_runtime),
        "asset_triggered": isinstance(timetable, AssetTriggeredTimetable),
    }
    if timetable.asset_condition:
        facts["asset_condition"] = encode_asset_like(timetable.asset_condition)
        if timetable.partitioned:
            facts.update(mappers(timetable))
    return facts


def mappers(timetable: Timetable) -> dict:
    """The partition mapper of each asset, in the form in which `PartitionedAssetTimetable` is serialized."""
    config = []
    for key, asset in timetable.asset_condition.iter_assets():
        mapper = timetable.get_partition_mapper(name=key.name, uri=key.uri)
        config.append([encode_asset_like(asset), encode_partition_mapper(mapper)])
    for ref in timetable.asset_condition.iter_asset_refs():
        named = {"name": ref.name} if isinstance(ref, SerializedAssetNameRef) else {"uri": ref.uri}
        config.append([encode_asset_like(ref), encode_partition_mapper(timetable.get_partition_mapper(**named))])
    try:
        default = timetable.get_partition_mapper()
    except Exception:
        # Asked for no asset at all; each of them has its own.
        default = DEFAULT_PARTITION_MAPPER
    return {"partition_mapper_config": config, "default_partition_mapper": encode_partition_mapper(default)}
