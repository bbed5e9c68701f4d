"""Records how Airflow itself works several runs of one random Dag, for tests/histories_agree_with_airflow.rs.

    AIRFLOW_HOME=... AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////tmp/scratch.db python record_histories.py COUNT SEED FILE

Where record_runs.py records what follows from the states of tasks, this also lets Airflow itself retry, stop the others under
`fail_fast`, and clear; tasks depend on the past, begin and end, are retried, rescheduled, deferred and skipped from outside; mapped
groups hold groups, branches, set-ups and teardowns; the Dag changes while runs of it are under way.

One line is one history. `dag`: the first version. `steps`: what happened, what followed from it in which run, the states of the runs.
What is pinned is pinned as in record_runs.py.
"""

import datetime
import json
import sys

from record_runs import (
    LETTERS, LONG_AGO, RULES, START, Branch, Case, Op, main,
)

from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.models.taskmap import TaskMap
from airflow.models.taskreschedule import TaskReschedule
from airflow.models.xcom import XComModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task_group
from airflow.sdk.definitions.taskgroup import TaskGroup
from airflow.sdk.definitions.xcom_arg import XComArg
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils import timezone
from airflow.utils.state import DagRunState, State, TaskInstanceState
from airflow.utils.types import DagRunType
from sqlalchemy import delete, or_, select, update

DAY = datetime.timedelta(days=1)
FAR = timezone.datetime(2100, 1, 1)
RUN_LETTERS = {"success": "s", "failed": "f", "running": "r", "queued": "q"}
LETTERS = LETTERS | {"restarting": "g", "awaiting_input": "a"}
#: States in which a worker has or will have the task, and from which an attempt can end.
WORKED = ["scheduled", "queued", "running", "restarting"]
#: What an attempt's start deletes (the worker clears XComs as it begins).
KEYS = ("return_value", "skipmixin_key")


def as_it_is(value):
    return value


class Bag:
    """Stands in for the scheduler's bag of Dags when Airflow clears."""

    dag = None

    def __init__(self, *args, **kwargs):
        pass

    def get_latest_version_of_dag(self, dag_id, session=None):
        return Bag.dag

    def get_dag_for_run(self, dag_run, session=None):
        return Bag.dag


import airflow.models.dagbag  # noqa: E402

airflow.models.dagbag.DBDagBag = Bag


class History(Case):
    def __init__(self, rng, number):
        self.fail_fast = rng.random() < 0.15
        self.catchup = rng.random() < 0.4
        self.past = rng.random() < 0.5
        self.nested = rng.random() < 0.5
        super().__init__(rng, number)
        if self.fail_fast:
            # Airflow cannot stop the others where the Dag has lost a task.
            self.next_version = None

    # The Dag

    def new_version(self):
        self.plain = []
        self.mappable = []
        with DAG(
            self.dag_id, start_date=START, schedule="@daily", catchup=self.catchup, fail_fast=self.fail_fast
        ) as dag:
            self.build()
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))

    def rule(self, mapped_group=False):
        rng = self.rng
        if self.fail_fast or rng.random() < 0.45:
            return "all_success"
        rules = RULES + ["all_done_setup_success"]
        return rng.choice([r for r in rules if r != "always"] if mapped_group else rules)

    def also(self):
        """What tasks have beside a rule."""
        rng = self.rng
        also = {}
        if rng.random() < 0.3:
            also["retries"] = rng.choice([1, 1, 2])
        if self.past and rng.random() < 0.5:
            also["depends_on_past"] = True
            if rng.random() < 0.3:
                also["wait_for_downstream"] = True
            if rng.random() < 0.3:
                also["ignore_first_depends_on_past"] = True
        if self.past and rng.random() < 0.15:
            also["start_date"] = START + rng.choice([1, 2]) * DAY
        if self.past and rng.random() < 0.08:
            also["end_date"] = START + rng.choice([0, 1]) * DAY
        if rng.random() < 0.04:
            also["max_active_tis_per_dag"] = 3
        return also

    def build(self):
        rng = self.rng
        with_maps = rng.random() < 0.65
        density = rng.choice([0.25, 0.45, 0.7])
        for n in range(rng.randint(2, 6)):
            kind = rng.random()
            if with_maps and kind < 0.3:
                made = self.mapped(n)
            elif with_maps and kind < 0.55:
                made = self.group(n)
            elif kind < 0.65:
                with TaskGroup(f"p{n}"):
                    made = [self.one(f"t{m}") for m in range(rng.randint(1, 3))]
                for a, b in zip(made, made[1:]):
                    if rng.random() < 0.7:
                        a >> b
            else:
                made = [self.one(f"t{n}")]
            for earlier in list(self.plain):
                if rng.random() < density:
                    earlier >> rng.choice(made)
            self.plain.extend(made)
        if rng.random() < 0.4:
            self.setups()

    def one(self, task_id, mapped_group=False, **kwargs):
        rng = self.rng
        kind = Branch if rng.random() < 0.12 and not self.fail_fast else EmptyOperator if rng.random() < 0.08 else Op
        if kind is EmptyOperator:
            kwargs = {}
        made = kind(task_id=task_id, trigger_rule=self.rule(mapped_group), **kwargs, **self.also())
        if not mapped_group:
            self.mappable.append(made)
        return made

    def source(self):
        given = super().source()
        if not isinstance(given, list) and self.rng.random() < 0.15:
            return given.map(as_it_is)
        return given

    def mapped(self, n):
        rng = self.rng
        partial = Op.partial(task_id=f"t{n}", trigger_rule=self.rule(), **self.also())
        source = self.source()
        if rng.random() < 0.15:
            made = partial.expand_kwargs([{"arg": 0}] * len(source) if isinstance(source, list) else source)
        elif rng.random() < 0.1:
            made = partial.expand(arg=source, more=[0] * rng.randint(1, 2))
        else:
            made = partial.expand(arg=source)
        self.mappable.append(made)
        return [made]

    def group(self, n):
        rng = self.rng
        made = []

        def inner(x, size, name):
            begun = len(made)
            for m in range(size):
                kind = rng.random() if self.nested else 1
                if kind < 0.15:
                    with TaskGroup(f"in{m}{name}"):
                        inner(x, 2, name + "i")
                    continue
                op = self.one(f"t{m}{name}", mapped_group=True, arg=x if m == 0 else None)
                linked = False
                for earlier in made[begun:]:
                    if rng.random() < 0.6:
                        earlier >> op
                        linked = True
                if made and not linked and rng.random() < 0.8:
                    made[-1] >> op
                made.append(op)

        @task_group(group_id=f"g{n}")
        def tg(x):
            inner(x, rng.randint(1, 3), "")
            if self.nested and rng.random() < 0.25:
                setup = Op(task_id="up").as_setup()
                teardown = Op(task_id="down").as_teardown(setups=setup, on_failure_fail_dagrun=rng.random() < 0.3)
                for work in made:
                    if rng.random() < 0.6:
                        setup >> work
                        work >> teardown
                made.extend([setup, teardown])

        tg.expand(x=self.source())
        return [t for t in made if not t.is_teardown and not t.is_setup] or made

    # What is recorded of it

    def spec(self):
        spec = super().spec()
        for entry, task in zip(spec["tasks"], self.serialized.task_dict.values()):
            for flag in ("depends_on_past", "wait_for_downstream", "ignore_first_depends_on_past"):
                if getattr(task, flag):
                    entry[flag] = True
            for number in ("retries", "max_active_tis_per_dag"):
                if getattr(task, number, None):
                    entry[number] = getattr(task, number)
            for date in ("start_date", "end_date"):
                at = getattr(task, date)
                if at is not None and not (date == "start_date" and at == START):
                    entry[date] = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        spec["fail_fast"] = self.fail_fast
        spec["catchup"] = self.catchup
        return spec

    # The runs

    def record(self, session):
        rng = self.rng
        spec = self.look_over()
        Bag.dag = self.serialized
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        session.add(DagModel(dag_id=self.dag_id, bundle_name="dags-folder", fileloc="f", fail_fast=self.fail_fast))
        session.flush()
        self.runs = []
        self.versions = {}
        self.known = {}
        self.backfill = None
        planned = self.kinds_of_runs()
        steps = []
        happened = [self.begin(planned.pop(0), session)]
        clears = 0
        for _ in range(80):
            self.settle_all(session)
            states = "".join(RUN_LETTERS[run.state] for run in self.runs)
            steps.append([happened, self.changed(session), states])
            happened = []
            open_runs = [run for run in self.runs if run.state == DagRunState.RUNNING]
            if planned and (not open_runs or rng.random() < 0.12):
                happened = [self.begin(planned.pop(0), session)]
            elif self.next_version is not None and open_runs and rng.random() < 0.1:
                happened = [self.change_version(session)]
            elif clears < 3 and rng.random() < 0.05:
                clears += 1
                happened = self.clear(rng.choice(self.runs), session)
            rng.shuffle(open_runs)
            while not happened and open_runs:
                happened = self.work(open_runs.pop(), session)
            if not happened:
                break
        return {"dag": spec, "steps": steps}

    def kinds_of_runs(self):
        rng = self.rng
        if not self.past:
            return [("scheduled", START)]
        kind = "backfill" if rng.random() < 0.15 else "scheduled"
        planned = [(kind, START + n * DAY) for n in range(rng.randint(2, 3))]
        for n, (_, date) in enumerate(planned):
            if rng.random() < 0.12:
                planned[n] = ("manual", date)
        if rng.random() < 0.05:
            planned.append(("asset_triggered", None))
        if rng.random() < 0.1:
            planned.insert(0, ("manual", START - DAY))
        return planned

    def begin(self, planned, session):
        kind, date = planned
        number = len(self.runs)
        run = DagRun(
            dag_id=self.dag_id, run_id=f"r{number}", run_type=DagRunType(kind), logical_date=date, run_after=START,
            start_date=START, state=DagRunState.RUNNING, data_interval=(date, date) if date else None,
        )
        run.dag = self.serialized
        first = False
        session.add(run)
        session.flush()
        if kind == "backfill":
            first = self.backfill is None
            if first:
                self.backfill = Backfill(dag_id=self.dag_id, from_date=START, to_date=START, max_active_runs=3)
                session.add(self.backfill)
                session.flush()
            run.backfill_id = self.backfill.id
            session.add(BackfillDagRun(
                backfill_id=self.backfill.id, dag_run_id=run.id, logical_date=date, sort_ordinal=1 if first else number + 1,
            ))
        self.runs.append(run)
        self.versions[number] = id(self.serialized)
        run.verify_integrity(dag_version_id=None, session=session)
        session.flush()
        begun = {"run": kind, "date": date.strftime("%Y-%m-%dT%H:%M:%SZ") if date else None}
        if first:
            begun["first"] = True
        return begun

    def change_version(self, session):
        self.serialized, self.next_version = self.next_version, None
        Bag.dag = self.serialized
        spec = self.look_over()
        spec["dag_id"] = "d"
        for number, run in enumerate(self.runs):
            if run.state == DagRunState.RUNNING:
                self.follow(number, session)
        return {"dag": spec}

    def follow(self, number, session):
        if self.versions[number] != id(self.serialized):
            self.versions[number] = id(self.serialized)
            self.runs[number].dag = self.serialized
            self.runs[number].verify_integrity(dag_version_id=None, session=session)
            session.flush()

    def settle_all(self, session):
        before = self.states(session)
        for _ in range(30):
            for run in self.runs:
                run.dag = self.serialized
                if run.state == DagRunState.RUNNING:
                    self.settle(run, session)
            after = self.states(session)
            if after == before or len(self.runs) == 1:
                return
            before = after
        raise RuntimeError("does not settle")

    def states(self, session):
        rows = session.execute(
            select(
                TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state,
                TaskInstance.try_number,
            ).where(TaskInstance.dag_id == self.dag_id)
        )
        return {(int(r[1:]), t, i): LETTERS[s] + (str(n) if n else "") for r, t, i, s, n in rows}

    def settle(self, run, session):
        """As in record_runs.py, but a run alone."""
        mine = lambda: {k: v for k, v in self.states(session).items() if k[0] == int(run.run_id[1:])}
        before = mine()
        for _ in range(30):
            rows_before = set(before)
            ready, _ = run.update_state(session=session, execute_callbacks=False)
            session.flush()
            rows = mine()
            open_ones = {v[0] for v in rows.values()} & set("nctrqedga")
            if run.state != DagRunState.RUNNING and rows_before != set(rows) and open_ones:
                run._state = DagRunState.RUNNING
                run.end_date = None
                session.flush()
            if run.state != DagRunState.RUNNING:
                return
            run.schedule_tis(ready, session=session)
            session.flush()
            session.expire_all()
            for each in self.runs:
                each.dag = self.serialized
            after = mine()
            if after == before:
                return
            before = after
        raise RuntimeError("does not settle")

    def changed(self, session):
        now = self.states(session)
        found = [[*k, s] for k, s in sorted(now.items()) if self.known.get(k) != s]
        found += [[*k, "-"] for k in sorted(self.known) if k not in now]
        self.known = now
        return found

    # What happens

    def work(self, run, session):
        rng = self.rng
        number = int(run.run_id[1:])
        tis = session.scalars(
            select(TaskInstance)
            .where(TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == run.run_id)
            .where(or_(
                TaskInstance.state.in_([*WORKED, "deferred", "awaiting_input"]),
                TaskInstance.end_date == FAR,
            ))
            .order_by(TaskInstance.task_id, TaskInstance.map_index)
        ).all()
        tis = [ti for ti in tis if ti.state in (*WORKED, "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule")]
        if not tis:
            return []
        happened = []
        for ti in rng.sample(tis, 1 if self.fail_fast else rng.randint(1, min(len(tis), 5))):
            if not self.serialized.has_task(ti.task_id):
                continue
            ti.task = self.serialized.get_task(ti.task_id)
            what, more = self.one_thing(ti, session)
            event = [number, ti.task_id, ti.map_index, what]
            if more:
                event.append(more)
            happened.append(event)
            session.flush()
        return happened

    def one_thing(self, ti, session):
        rng = self.rng
        if ti.state in ("up_for_retry", "up_for_reschedule"):
            ti.end_date = LONG_AGO
            session.execute(update(TaskReschedule).where(TaskReschedule.ti_id == ti.id).values(reschedule_date=LONG_AGO))
            return "due", {}
        if ti.state in ("deferred", "awaiting_input"):
            ti.state = "scheduled"
            return "c", {}
        if ti.state != "restarting" and rng.random() < 0.12:
            further = {"scheduled": "queued", "queued": "running", "running": "deferred"}[ti.state]
            if ti.state == "running" and rng.random() < 0.3:
                further = "awaiting_input"
            if further == "running":
                self.forget_results(ti, session)
                ti.start_date = LONG_AGO
                ti.end_date = None
            ti.state = further
            return LETTERS[further], {}
        if ti.state in ("scheduled", "queued"):
            self.forget_results(ti, session)
        ti.start_date = LONG_AGO
        what = rng.choices(["success", "attempt failed", "skipped", "up_for_reschedule"], [68, 20, 8, 4])[0]
        if ti.state == "restarting":
            what = "attempt failed"
        if what == "attempt failed":
            return self.attempt_failed(ti, session)
        if what == "up_for_reschedule":
            later = rng.random() < 0.5
            ti.state = what
            ti.end_date = FAR if later else LONG_AGO
            session.add(TaskReschedule(
                ti_id=ti.id, start_date=LONG_AGO, end_date=LONG_AGO, reschedule_date=FAR if later else LONG_AGO,
            ))
            return "e", {"later": True} if later else {}
        ti.state = what
        ti.end_date = LONG_AGO
        more = self.results(ti, session) if what == "success" else {}
        return LETTERS[what], more

    def forget_results(self, ti, session):
        session.execute(delete(XComModel).where(
            XComModel.dag_id == self.dag_id, XComModel.run_id == ti.run_id, XComModel.task_id == ti.task_id,
            XComModel.map_index == ti.map_index, XComModel.key.in_(KEYS),
        ))

    def attempt_failed(self, ti, session):
        """A worker says that the try failed, or its end is found by the scheduler: Airflow decides what becomes of it."""
        if ti.state != "restarting":
            ti.state = "running"
        session.flush()
        TaskInstance.fetch_handle_failure_context(ti, None, session=session, fail_fast=self.fail_fast)
        later = ti.state == "up_for_retry" and self.rng.random() < 0.4
        ti.end_date = FAR if later else LONG_AGO
        return "x", {"later": True} if later else {}

    def results(self, ti, session):
        rng = self.rng
        more = {}
        push = lambda key, value: XComModel.set(
            key=key, value=value, dag_id=self.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index,
            session=session,
        )
        if ti.task_id in self.needed and rng.random() < 0.95:
            if self.is_mapped[ti.task_id]:
                push("return_value", 1)
                more["result"] = True
            elif ti.map_index < 0:
                length = rng.choice([0, 1, 1, 2, 2, 3])
                session.merge(TaskMap(dag_id=self.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=-1,
                                      length=length, keys=None))
                more["length"] = length
        if ti.task.inherits_from_skipmixin and ti.task.downstream_task_ids:
            below = sorted(ti.task.downstream_task_ids)
            kind = rng.choice(["followed", "skipped"])
            some = [t for t in below if rng.random() < 0.5]
            push("skipmixin_key", {kind: some})
            more[kind] = some
            if rng.random() < 0.6:
                left_out = [t for t in below if (t not in some) == (kind == "followed")]
                more["skips"] = self.skip(ti, left_out, session)
        return more

    def skip(self, ti, left_out, session):
        """As the server does when a branch asks for it: not what runs or has ended."""
        found = session.scalars(
            select(TaskInstance).where(
                TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == ti.run_id,
                TaskInstance.task_id.in_(left_out), TaskInstance.map_index == ti.map_index,
                or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(["running", "success", "failed"])),
            )
        ).all()
        for other in found:
            other.state = "skipped"
        return sorted(other.task_id for other in found)

    def clear(self, run, session):
        rng = self.rng
        tis = session.scalars(
            select(TaskInstance)
            .where(TaskInstance.dag_id == self.dag_id, TaskInstance.run_id == run.run_id)
            .where(TaskInstance.state.in_(["success", "failed", "skipped", "upstream_failed", "running"]))
            .order_by(TaskInstance.task_id, TaskInstance.map_index)
        ).all()
        tis = [ti for ti in tis if self.serialized.has_task(ti.task_id)]
        chosen = rng.sample(tis, min(len(tis), rng.randint(1, 3)))
        if chosen and rng.random() < 0.5:
            below = self.serialized.get_task(chosen[0].task_id).get_flat_relative_ids(upstream=False)
            chosen = [chosen[0]] + [ti for ti in tis if ti.task_id in below and ti is not chosen[0]]
        if not chosen:
            return []
        run.dag = self.serialized
        clear_task_instances(chosen, session, dag_run_state=DagRunState.RUNNING)
        for ti in chosen:
            if ti.state is None:
                ti.end_date = None
        session.flush()
        number = int(run.run_id[1:])
        self.follow(number, session)
        return [[number, ti.task_id, ti.map_index, "clear"] for ti in sorted(chosen, key=lambda t: (t.task_id, t.map_index))]


if __name__ == "__main__":
    with open(sys.argv[3], "w") as file:
        main(int(sys.argv[1]), int(sys.argv[2]), History, file)
