"""Records when Airflow makes, starts and gives up runs, for tests/driving/run_limits_agree.rs.

Usage: python record_run_limits.py OUT_FILE [SEED [COUNT]]    (needs Airflow 3.3.2 and an AIRFLOW_HOME with a migrated database of
its own; the test itself does not)

One case a line: a Dag with its limits (`max_active_runs`, `max_consecutive_failed_dag_runs`, `dagrun_timeout`) and a story of steps,
each followed by the scheduler's own code until nothing changes any more. `after` has for each step what is different then: the states
of runs ("-": gone), and whether the Dag is paused. `causes` says which task instance the failure callback of a run that
took too long was told of. Names carry the case's number.

Before each pass Airflow's note that a Dag has all the runs it may have (`exceeds_max_non_backfill`) is made true: by itself it
is so after the next reading of the Dag's file, at the latest 30 s later.
"""

import datetime as dt
import json
import random
import sys
import warnings

warnings.filterwarnings("ignore")

from airflow.api.common.mark_tasks import set_dag_run_state_to_failed, set_dag_run_state_to_success
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.backfill import Backfill, ReprocessBehavior, _create_backfill
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select

OUT = sys.argv[1]
rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 332)
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 150
STEPS = 14
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
DAY = dt.timedelta(days=1)
TASKS = ("a", "b", "c")
ACTIVE = (DagRunState.QUEUED, DagRunState.RUNNING)


def tell(context):
    """A callback, so that there is one to be called."""


class Case:
    def __init__(self, number):
        self.dag_id = f"c{number}"
        self.scheduled = rng.random() < 0.6
        self.limits = {
            "max_active_runs": rng.choice([1, 1, 2, 2, 3]),
            "max_consecutive_failed_dag_runs": rng.choice([0, 0, 1, 2, 2, 3]),
        }
        if rng.random() < 0.4:
            self.limits["dagrun_timeout"] = dt.timedelta(hours=1)
        self.days = rng.randint(2, 6)
        self.steps, self.after, self.causes = [], [], {}
        self.known, self.paused, self.count = {}, False, 0

    def dag(self):
        with DAG(self.dag_id, schedule="@daily" if self.scheduled else None, start_date=START,
                 end_date=START + (self.days - 1) * DAY, catchup=True, on_failure_callback=tell, **self.limits) as dag:
            for task_id in TASKS:
                BashOperator(task_id=task_id, bash_command="true")
        dag.fileloc, dag.relative_fileloc = __file__, f"{self.dag_id}.py"
        return dag

    def runs(self, session, *states):
        query = select(DagRun).where(DagRun.dag_id == self.dag_id, DagRun.state.in_(states)).order_by(DagRun.run_id)
        return session.scalars(query).all()

    def serialized(self, session):
        return session.scalar(SerializedDagModel.latest_item_select_object(self.dag_id)).dag

    def instances(self, run, session):
        query = select(TaskInstance).where(TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == run.run_id)
        return session.scalars(query.order_by(TaskInstance.task_id)).all()

    def open_backfill(self, session):
        return session.scalar(select(Backfill).where(Backfill.dag_id == self.dag_id, Backfill.completed_at.is_(None)))

    def is_of_paused_backfill(self, run, session):
        """Such a run never starts again in Airflow where the backfill has ended (docs/differences.md)."""
        return run.backfill_id is not None and session.get(Backfill, run.backfill_id).is_paused

    def step(self, session):
        """Does something at random, and says what."""
        running, finished = self.runs(session, DagRunState.RUNNING), self.runs(session, DagRunState.FAILED, DagRunState.SUCCESS)
        roll = rng.random()
        if roll < 0.2:
            return self.trigger(session)
        if roll < 0.55 and running:
            return self.end(rng.choice(running), session)
        if roll < 0.62 and running and "dagrun_timeout" in self.limits:
            return self.be_late(rng.choice(running), session)
        if roll < 0.68 and (running or self.runs(session, DagRunState.QUEUED)):
            return self.mark(rng.choice(self.runs(session, *ACTIVE)), session)
        finished = [run for run in finished if not self.is_of_paused_backfill(run, session)]
        if roll < 0.78 and finished:
            run = rng.choice(finished)
            clear_task_instances(self.instances(run, session), session)
            return {"clear": run.run_id}
        if roll < 0.84:
            model = session.get(DagModel, self.dag_id)
            model.is_paused = not model.is_paused
            return {"pause": model.is_paused}
        if roll < 0.92 and self.scheduled:
            return self.backfill(session)
        if roll < 0.96:
            self.limits["max_active_runs"] = rng.choice([1, 2, 3])
            return {"max_active_runs": self.limits["max_active_runs"]}
        if finished:
            run = rng.choice(finished)
            session.delete(run)
            return {"delete": run.run_id}
        return self.trigger(session)

    def trigger(self, session):
        self.count += 1
        date = None if rng.random() < 0.5 else START + 400 * DAY * -1 + self.count * DAY
        run_after = START + rng.randint(0, 60) * dt.timedelta(hours=7)
        run_id = f"m{self.count}"
        self.serialized(session).create_dagrun(
            run_id=run_id, logical_date=date, data_interval=date and (date, date), run_after=run_after,
            run_type=DagRunType.MANUAL, triggered_by=DagRunTriggeredByType.REST_API, state=DagRunState.QUEUED, session=session,
        )
        return {"trigger": [run_id, date and int(date.timestamp()), int(run_after.timestamp())]}

    def end(self, run, session):
        failed = rng.random() < 0.6
        states = ["success" if rng.random() < 0.7 else "skipped" for _ in TASKS]
        if failed:
            states[rng.randrange(len(TASKS))] = "failed"
        for ti, state in zip(self.instances(run, session), states):
            ti.set_state(state, session=session)
        return {"end": [run.run_id, states]}

    def be_late(self, run, session):
        """It began two hours ago, and some of its tasks then."""
        began = []
        run.start_date = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=2)
        for ti in self.instances(run, session):
            hour = rng.choice([None, 1, 2, 3])
            ti.state = rng.choice(["scheduled", "deferred", "running", "success", None]) if hour else None
            ti.start_date = hour and START + hour * dt.timedelta(hours=1)
            began.append([ti.state, hour])
        return {"late": [run.run_id, began]}

    def mark(self, run, session):
        dag = self.serialized(session)
        state = rng.choice(["failed", "failed", "success"])
        change = set_dag_run_state_to_failed if state == "failed" else set_dag_run_state_to_success
        change(dag=dag, run_id=run.run_id, commit=True, session=session)
        return {"mark": [run.run_id, state]}

    def backfill(self, session):
        there = self.open_backfill(session)
        if there:
            there.is_paused = not there.is_paused
            return {"pause_backfill": there.is_paused}
        first = rng.randint(-3, 4)
        last = first + rng.randint(0, 3)
        given = {
            "from_date": START + first * DAY, "to_date": START + last * DAY, "max_active_runs": rng.choice([1, 1, 2]),
            "reverse": rng.random() < 0.3, "reprocess_behavior": rng.choice(list(ReprocessBehavior)),
        }
        session.commit()
        _create_backfill(dag_id=self.dag_id, dag_run_conf=None, triggering_user_name="me", **given)
        session.expire_all()
        return {"backfill": [first, last, given["max_active_runs"], given["reverse"], str(given["reprocess_behavior"].value)]}

    def look(self, session):
        """What is different after this step."""
        now = {run.run_id: DagRunState(run.state).value for run in self.runs(session, *DagRunState)}
        different = {run_id: state for run_id, state in sorted(now.items()) if self.known.get(run_id) != state}
        different |= {run_id: "-" for run_id in sorted(self.known) if run_id not in now}
        paused = session.get(DagModel, self.dag_id).is_paused
        self.after.append([different, paused])
        self.known = now


def store(cases, session):
    lazy = [LazyDeserializedDAG.from_dag(case.dag()) for case in cases]
    update_dag_parsing_results_in_db("dags-folder", None, lazy, {}, 0.1, set(), session)
    session.flush()


def small(dag):
    """What matters of a serialized Dag."""
    kept = ("dag_id", "fileloc", "relative_fileloc", "timezone", "timetable", "catchup", "max_active_runs", "start_date", "end_date",
            "max_consecutive_failed_dag_runs", "dagrun_timeout", "has_on_failure_callback")
    tasks = []
    for task in dag["tasks"]:
        task = task["__var"]
        tasks.append({"__type": "operator", "__var": {key: task[key] for key in ("task_id", "task_type", "_task_module") if key in task}})
    return {"tasks": tasks, **{key: dag[key] for key in kept if key in dag}} | {"fileloc": "/d.py"}


def settle(runner, cases, session):
    """The scheduler's loop, until it changes nothing."""
    by_dag = {case.dag_id: case for case in cases}
    before = None
    for _ in range(60):
        for model in session.scalars(select(DagModel)):
            runner._set_exceeds_max_active_runs(dag_model=model, session=session)
        session.commit()
        with prohibit_commit(session) as guard:
            runner._create_dagruns_for_dags(guard, session)
            runner._start_queued_dagruns(session)
            guard.commit()
            runs = DagRun.get_running_dag_runs_to_examine(session=session).all()
            for run, callback in runner._schedule_all_dag_runs(guard, runs, session):
                if callback and callback.msg == "timed_out":
                    last = callback.context_from_server.last_ti
                    by_dag[run.dag_id].causes[run.run_id] = last and last.task_id
            guard.commit()
        runner._update_dag_run_state_for_paused_dags(session=session)
        runner._mark_backfills_complete(session=session)
        session.commit()
        session.expire_all()
        runs = {(run.id, run.state) for run in session.scalars(select(DagRun))}
        paused = {(model.dag_id, model.is_paused) for model in session.scalars(select(DagModel))}
        if (runs, paused) == before:
            return
        before = runs, paused
    raise RuntimeError("does not settle")


def main():
    cases = [Case(number) for number in range(COUNT)]
    dags = [small(DagSerialization.to_dict(case.dag())["dag"]) for case in cases]
    runner = SchedulerJobRunner(job=Job(), executors=[object()])
    DagModel.NUM_DAGS_PER_DAGRUN_QUERY = 100_000
    DagRun.DEFAULT_DAGRUNS_TO_EXAMINE = 100_000
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        store(cases, session)
        for case in cases:
            session.get(DagModel, case.dag_id).is_paused = False
        session.commit()
        settle(runner, cases, session)
        for case in cases:
            case.look(session)
        for step in range(STEPS):
            for case in cases:
                case.steps.append(case.step(session))
            session.commit()
            store(cases, session)
            session.commit()
            settle(runner, cases, session)
            for case in cases:
                case.look(session)
            print("step", step, file=sys.stderr)
    with open(OUT, "w") as file:
        for case, dag in zip(cases, dags):
            line = {"dag": dag, "steps": case.steps, "after": case.after, "causes": case.causes}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
