"""Records when Airflow's own TaskInstance.next_retry_datetime puts a retry, for tests/retries_agree_with_airflow.rs.

    AIRFLOW_HOME=... python record_retries.py COUNT SEED > retries.jsonl

One line: dag, task, logical date or null, try, end date, delay (s), factor, longest delay (s) or null, override (s) or null, answer.
"""

import json
import random
import sys
from datetime import timedelta
from types import SimpleNamespace

from airflow.models.taskinstance import TaskInstance
from airflow.utils import timezone

BASE = timezone.datetime(2026, 1, 1)


class Instance(SimpleNamespace):
    next_retry_datetime = TaskInstance.next_retry_datetime
    log = SimpleNamespace(warning=lambda *a: None)


def main(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        logical = rng.choice([None, BASE + timedelta(hours=rng.randint(0, 9000)),
                              BASE + timedelta(microseconds=rng.randint(1, 10**12))])
        end = BASE + timedelta(microseconds=rng.randint(0, 10**13))
        delay = rng.choice([0, 0.5, 1, 10, 300, 300, 3600, 7.25, 100000])
        factor = rng.choice([0, 1, 2, 2, 1.5, 0.5, 3, 10, 1.0000001])
        longest = rng.choice([None, None, None, 0, 60, 3600])
        override = rng.choice([None, None, None, None, 0, 12.5])
        number = rng.choice([1, 2, 3, 4, 7, 12, 60, 2000])
        dag, task = f"dag{rng.randint(0, 99)}", f"group.task-{rng.randint(0, 99)}"
        ti = Instance(
            dag_id=dag, task_id=task, logical_date=logical, try_number=number, end_date=end, retry_delay_override=override,
            task=SimpleNamespace(
                retry_delay=timedelta(seconds=delay), retry_exponential_backoff=factor,
                max_retry_delay=None if longest is None else timedelta(seconds=longest),
            ),
        )
        iso = lambda at: at and at.isoformat()
        print(json.dumps([dag, task, iso(logical), number, iso(end), delay, factor, longest, override, iso(ti.next_retry_datetime())],
                         separators=(",", ":")))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
