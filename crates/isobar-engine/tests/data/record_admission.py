"""Records whom Airflow itself queues, for tests/admission_agrees_with_airflow.rs.

    AIRFLOW_HOME=... AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////tmp/scratch.db python record_admission.py COUNT SEED admission.jsonl

The database must be a migrated scratch database. One line is one case: Dags with runs and task instances, pools, executors and
limits as they stand; and then the instances that the scheduler's own critical section queued, in its order, call after call until
it queued nothing more.

    parallelism, executors: slots; the first executor is the default one
    pools: [slots, include_deferred]
    dags: max_active_tasks, paused, tasks: [pool, pool_slots, weight, executor, per Dag, per run], runs: [state, date, instances],
        instances: [task, map index, state]; a pool beyond the list does not exist
    queued: [dag, run, task, map index]

What Airflow leaves open or does what Isobar deliberately does not (docs/differences.md) is kept out of `queued`:
- No two instances that could take each other's place have the same weight, date and index: Airflow has no order for them.
- Airflow looks at the first `max_active_tasks` instances of a run only, by weight; where none of these has room, the run's others are
  not looked at, as long as the query gave fewer rows than it might have. `queued` is recorded without that cut; what Airflow
  queues with it is in `cut`, where it is not the same.
"""

import datetime
import json
import random
import sys
import warnings

warnings.filterwarnings("ignore")

from airflow.executors.executor_utils import ExecutorName
from airflow.jobs import scheduler_job_runner
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils import timezone
from airflow.utils.session import create_session
from airflow.utils.types import DagRunType
from sqlalchemy import delete, literal, update
from sqlalchemy import func as sql_func

START = timezone.datetime(2026, 1, 1)
HOUR = datetime.timedelta(hours=1)
STATES = {
    "n": None, "c": "scheduled", "q": "queued", "r": "running", "d": "deferred", "a": "awaiting_input", "s": "success",
    "t": "up_for_retry",
}
HOLDING = ("queued", "running")


class NoCut:
    """SQL functions, but that every row is the first of its run."""

    def __getattr__(self, name):
        return (lambda: self) if name == "row_number" else getattr(sql_func, name)

    def over(self, **_):
        return literal(0)


class Executor:
    """An executor that takes what it gets and never ends it."""

    team_name = None
    pre_assigns_external_executor_id = False

    def __init__(self, number, slots, held):
        self.name = ExecutorName(module_path=f"x.E{number}", alias=f"e{number}")
        self.slots = slots
        self.slots_occupied = held

    @property
    def slots_available(self):
        return self.slots - self.slots_occupied


class Bag:
    def __init__(self, dags):
        self.dags = dags

    def get_dag_for_run(self, dag_run, session):
        return self.dags[dag_run.dag_id]


class Runner(SchedulerJobRunner):
    def _executable_task_instances_to_queued(self, max_tis, session):
        queued = super()._executable_task_instances_to_queued(max_tis, session=session)
        self.queued.extend(queued)
        return queued

    def _enqueue_task_instances_with_queued_state(self, task_instances, executor, session):
        executor.slots_occupied += len(task_instances)


class Case:
    def __init__(self, rng):
        self.rng = rng
        few = lambda *numbers: rng.choice(numbers)
        self.line = {
            "parallelism": few(4, 8, 16, 32, 32),
            "executors": [few(3, 6, 32, 32) for _ in range(few(1, 1, 2))],
            "pools": [[few(-1, 0, 2, 3, 5, 8, 12, 128, 128), rng.random() < 0.4] for _ in range(rng.randint(1, 3))],
            "dags": [],
        }
        dates = list(range(40))
        rng.shuffle(dates)
        for _ in range(rng.randint(1, 4)):
            self.line["dags"].append(self.dag(dates))

    def dag(self, dates):
        rng = self.rng
        weights = list(range(1, 12))
        rng.shuffle(weights)
        limited = rng.random() < 0.5
        tasks = []
        for _ in range(rng.randint(1, 5)):
            pools = len(self.line["pools"])
            tasks.append([
                pools if rng.random() < 0.03 else rng.randrange(pools),
                rng.choice([1, 1, 1, 2, 3]),
                weights.pop(),
                rng.choice([None, None, rng.randrange(len(self.line["executors"]))]),
                rng.choice([1, 2, 3]) if limited and rng.random() < 0.3 else None,
                rng.choice([1, 2]) if limited and rng.random() < 0.3 else None,
            ])
        runs = []
        for _ in range(rng.randint(1, 3)):
            state = "running" if rng.random() < 0.9 else rng.choice(["queued", "failed"])
            date = dates.pop()
            instances = []
            for number in range(len(tasks)):
                indices = range(rng.randint(1, 4)) if rng.random() < 0.35 else [-1]
                for index in indices:
                    letter = "c" if rng.random() < 0.75 else rng.choice("nqrrdasts" if state == "running" else "ns")
                    instances.append([number, index, letter])
            runs.append([state, date, instances])
        return {
            "max_active_tasks": rng.choice([1, 2, 3, 4, 6, 16]),
            "paused": rng.random() < 0.08,
            "tasks": tasks,
            "runs": runs,
        }

    def write(self, session):
        """Writes the case into the database; answers the Dags."""
        session.execute(delete(Pool))
        for number, (slots, include_deferred) in enumerate(self.line["pools"]):
            session.add(Pool(pool=f"p{number}", slots=slots, include_deferred=include_deferred))
        dags = {}
        for number, given in enumerate(self.line["dags"]):
            dag_id = f"d{number}"
            with DAG(dag_id, start_date=START, schedule=None) as dag:
                for at, (pool, slots, weight, executor, per_dag, per_run) in enumerate(given["tasks"]):
                    BaseOperator(
                        task_id=f"t{at}", pool=f"p{pool}", pool_slots=slots, priority_weight=weight, weight_rule="absolute",
                        executor=None if executor is None else f"e{executor}", max_active_tis_per_dag=per_dag, max_active_tis_per_dagrun=per_run,
                    )
            dags[dag_id] = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
            limits = any(task[4] is not None or task[5] is not None for task in given["tasks"])
            session.add(DagModel(
                dag_id=dag_id, bundle_name="b", is_paused=given["paused"], max_active_tasks=given["max_active_tasks"],
                has_task_concurrency_limits=limits,
            ))
            session.flush()
            for run_number, (state, date, instances) in enumerate(given["runs"]):
                when = START + date * HOUR
                run = DagRun(
                    dag_id=dag_id, run_id=f"r{run_number}", run_type=DagRunType.MANUAL, logical_date=when, run_after=when,
                    start_date=when, state=state, data_interval=(when, when),
                )
                session.add(run)
                session.flush()
                for task, index, letter in instances:
                    session.add(TaskInstance(
                        dags[dag_id].get_task(f"t{task}"), dag_version_id=None, run_id=run.run_id, state=STATES[letter],
                        map_index=index,
                    ))
        session.flush()
        return dags

    def held(self, executor):
        """How many instances an executor has from before."""
        return sum(
            STATES[letter] in HOLDING and (dag["tasks"][task][3] or 0) == executor
            for dag in self.line["dags"] for _, _, instances in dag["runs"] for task, _, letter in instances
        )

    def queue(self, job, dags, session):
        executors = [Executor(n, slots, self.held(n)) for n, slots in enumerate(self.line["executors"])]
        runner = Runner(job=job, executors=executors)
        runner.scheduler_dag_bag = Bag(dags)
        runner._parallelism = self.line["parallelism"]
        runner.queued = []
        while runner._critical_section_enqueue_task_instances(session=session):
            session.flush()
            session.expire_all()
        number = lambda name: int(name[1:])
        keys = [(ti.dag_id, ti.run_id, ti.task_id, ti.map_index) for ti in runner.queued]
        for dag_id, run_id, task_id, map_index in keys:
            session.execute(update(TaskInstance).where(
                TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id,
                TaskInstance.map_index == map_index).values(state="scheduled"))
        session.expire_all()
        return [[number(dag), number(run), number(task), index] for dag, run, task, index in keys]

    def record(self, session):
        job = Job()
        job.max_tis_per_query = self.rng.choice([0, 1, 2, 3, 16, 16])
        session.add(job)
        dags = self.write(session)
        cut = self.queue(job, dags, session)
        scheduler_job_runner.func = NoCut()
        try:
            self.line["queued"] = self.queue(job, dags, session)
        finally:
            scheduler_job_runner.func = sql_func
        if cut != self.line["queued"]:
            self.line["cut"] = cut
        return self.line


def main(count, seed, file):
    rng = random.Random(seed)
    queued = cut = 0
    for _ in range(count):
        case = Case(rng)
        with create_session() as session:
            session.merge(DagBundleModel(name="b"))
            session.flush()
            line = case.record(session)
            session.rollback()
        queued += len(line["queued"])
        cut += "cut" in line
        print(json.dumps(line, separators=(",", ":")), file=file)
    print(f"{count} cases, {queued} queued; {cut} where Airflow's cut matters", file=sys.stderr)


if __name__ == "__main__":
    with open(sys.argv[3], "w") as file:
        main(int(sys.argv[1]), int(sys.argv[2]), file)
