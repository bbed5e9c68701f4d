"""Record serialized Dags: parse the Dag files or folders named on the command line with Airflow and write one JSON line per Dag.

Usage (needs Airflow 3.3.2; the tests themselves do not):
    python serialize_dags.py recorded.jsonl BENCH_DAGS AIRFLOW/example_dags AIRFLOW/providers/standard/example_dags files/corners.py
    AIRFLOW__CORE__DEFAULT_TASK_RETRIES=3 AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY=7 AIRFLOW__OPERATORS__DEFAULT_QUEUE=dq \
    AIRFLOW__CORE__DEFAULT_TASK_WEIGHT_RULE=absolute python serialize_dags.py recorded_client_defaults.jsonl files/corners.py

The outputs are facts produced by running Airflow's own encoder. Paths of this machine are made neutral.
Beside each Dag (`data`) stands, under `facts`, what Airflow's scheduler side computes from it, so that the Rust model
can be compared with it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

from airflow.dag_processing.dagbag import DagBag  # noqa: E402
from airflow.serialization.serialized_objects import DagSerialization  # noqa: E402


def weight_rule_name(task):
    rule = task.weight_rule
    return type(rule).__name__


def facts(data):
    """What Airflow's scheduler computes from the serialized form."""
    dag = DagSerialization.from_dict(data)
    tasks = {}
    for task in dag.task_dict.values():
        try:
            weight = task.weight_rule.get_weight(type("Ti", (), {"task": task})())
        except Exception as error:  # custom rules need a real task instance
            weight = f"error: {type(error).__name__}"
        tasks[task.task_id] = {
            "upstream": sorted(task.upstream_task_ids),
            "downstream": sorted(task.downstream_task_ids),
            "weight": weight,
            "trigger_rule": str(getattr(task.trigger_rule, "value", task.trigger_rule)),
            "retries": task.retries,
            "retry_delay": task.retry_delay.total_seconds(),
            "retry_exponential_backoff": task.retry_exponential_backoff,
            "pool": task.pool,
            "pool_slots": task.pool_slots,
            "queue": task.queue,
            "executor": task.executor,
            "owner": task.owner,
            "is_setup": task.is_setup,
            "is_teardown": task.is_teardown,
            "depends_on_past": task.depends_on_past,
            "wait_for_downstream": task.wait_for_downstream,
            "max_active_tis_per_dag": task.max_active_tis_per_dag,
            "start_date": task.start_date.timestamp() if task.start_date else None,
            "needs_expansion": task.get_needs_expansion(),
            "mapped_groups": [g.group_id for g in task.iter_mapped_task_groups()],
            "display_name": task.task_display_name,
            "execution_timeout": task.execution_timeout.total_seconds() if task.execution_timeout else None,
            "operator_name": task.operator_name,
            "is_mapped": task.is_mapped,
        }
    return {
        "roots": sorted(t.task_id for t in dag.roots),
        "topological": [t.task_id for t in dag.topological_sort()] if hasattr(dag, "topological_sort") else None,
        "group_topological": [n.node_id for n in dag.task_group.topological_sort()],
        "owner": dag.owner,
        "timetable_summary": dag.timetable.summary,
        "timetable_description": dag.timetable.description,
        "timetable_type": dag.timetable.type_name,
        "timetable_periodic": dag.timetable.periodic,
        "can_be_scheduled": dag.timetable.can_be_scheduled,
        "max_active_runs": dag.max_active_runs,
        "max_active_tasks": dag.max_active_tasks,
        "catchup": dag.catchup,
        "display_name": dag.dag_display_name,
        "fail_fast": dag.fail_fast,
        "timezone": str(dag.timezone.name),
        "tags": sorted(dag.tags),
        "params": {k: v for k, v in dag.params.dump().items()},
        "asset_condition": dag.timetable.asset_condition.as_expression(),
        "tasks": tasks,
    }


def main():
    lines = []
    for path in sys.argv[2:]:
        bag = DagBag(path)
        for file, error in bag.import_errors.items():
            print("not parsed:", file, error.strip().splitlines()[-1][:150], file=sys.stderr)
        for dag_id, dag in sorted(bag.dags.items()):
            if dag_id.startswith("bench_many_") and dag_id != "bench_many_000":
                continue  # a hundred alike
            try:
                data = DagSerialization.to_dict(dag)
                record = {"data": data, "facts": facts(data)}
            except Exception as error:
                print("not serialized:", dag_id, repr(error)[:200], file=sys.stderr)
                continue
            data["dag"]["fileloc"] = "/dags/" + os.path.basename(data["dag"]["fileloc"])
            data["dag"]["_processor_dags_folder"] = "/dags"
            text = json.dumps(record, sort_keys=True, separators=(",", ":"), default=str)
            lines.append(text.replace(str(Path(path).resolve()), "/dags").replace(os.environ["AIRFLOW_HOME"], "/home"))
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n")


main()
