"""bench_clocks: tasks that record their own clock on entry and exit, to be held against start_date and end_date."""

import time

from airflow.sdk import DAG, task

N = 30

with DAG(dag_id="bench_clocks", schedule=None, catchup=False, tags=["bench"]):

    @task
    def clock():
        entry = time.time()
        time.sleep(0.05)
        return {"entry": entry, "exit": time.time()}

    previous = None
    for i in range(N):
        now = clock.override(task_id=f"t{i:02d}")()
        if previous is not None:
            previous >> now
        previous = now
