"""Runs tasks of flows.py under Airflow's own supervisor, against a control plane that says yes, and prints their logs.

Arguments: the folder of the Dag file, then task ids. Output: one JSON object, task id -> lines of its log file.
"""

import json
import os
import sys
import uuid

import httpx
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance
from airflow.sdk.execution_time.supervisor import supervise_task

AT = "2026-01-01T00:00:00Z"
RUN = {
    "dag_id": "flows", "run_id": "manual__1", "logical_date": AT, "data_interval_start": AT, "data_interval_end": AT,
    "run_after": AT, "start_date": AT, "end_date": None, "clear_number": 0, "run_type": "manual", "state": "running",
    "conf": {}, "triggering_user_name": "tester", "consumed_asset_events": [], "partition_key": None,
}


def answer(request: httpx.Request) -> httpx.Response:
    path = request.url.path
    if path.endswith("/run"):
        return httpx.Response(200, json={"dag_run": RUN, "max_tries": 0, "should_retry": False})
    if "/variables/" in path:
        key = path.rsplit("/", 1)[1]
        values = {"plain": "plain-value", "api_key": "variable-secret"}
        if key not in values:
            return httpx.Response(404, json={"detail": {"reason": "not_found"}})
        return httpx.Response(200, json={"key": key, "value": values[key]})
    return httpx.Response(200, json={})


def run(task_id: str) -> list:
    client = Client(base_url="http://nowhere.invalid/", token="", transport=httpx.MockTransport(answer))
    ti = TaskInstance(
        id=uuid.uuid4(), task_id=task_id, dag_id="flows", run_id="manual__1", try_number=1, dag_version_id=uuid.uuid4(),
        map_index=-1,
    )
    supervise_task(
        ti=ti, bundle_info=BundleInfo(name="tests", version=None), dag_rel_path="flows.py", token="", client=client,
        log_path=f"{task_id}.log",
    )
    with open(os.path.join(os.environ["AIRFLOW__LOGGING__BASE_LOG_FOLDER"], f"{task_id}.log")) as lines:
        return [json.loads(line) for line in lines]


def main() -> None:
    folder, *tasks = sys.argv[1:]
    readers = {}
    for task in tasks:
        # Each in a process of its own, all at once: Airflow's supervisor lingers for five seconds after a task.
        reading, writing = os.pipe()
        if os.fork() == 0:
            out = os.fdopen(writing, "w")
            json.dump(run(task), out)
            out.flush()
            os._exit(0)
        os.close(writing)
        readers[task] = reading
    logs = {task: json.load(os.fdopen(reading)) for task, reading in readers.items()}
    print(json.dumps(logs))


if __name__ == "__main__":
    main()
