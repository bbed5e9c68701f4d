"""Records how Airflow itself plans random runs, for tests/planner_agrees_with_airflow.rs.

    AIRFLOW_HOME=... AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=sqlite:////tmp/scratch.db python record_runs.py COUNT SEED runs.jsonl

The database must be a migrated scratch database. One line is one run: the Dag (numbers instead of ids, the defaults left out),
and steps. A step is what happened (instance states set from outside, lengths, choices of branches, or the Dag's next version) and then every instance state
that `DagRun.update_state` and `schedule_tis` changed, pass after pass, until nothing changed any more.

Four things are pinned where Airflow leaves them open or does what Isobar deliberately does not:
- In one pass, instances are looked at in the order of the Dag's tasks; Airflow takes them as the database gives them.
- The dependency rules of a task are evaluated in a fixed order; Airflow iterates over a set of objects hashed by address.
- A run does not end in the pass in which a task was expanded; Airflow forgets the new instances in that pass and may end it too soon.
- The deadlock check does not touch instances that are scheduled, and never fails a run while one is (docs/differences.md).
"""

import json
import random
import sys
import warnings

warnings.filterwarnings("ignore")

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskmap import TaskMap
from airflow.models.xcom import XComModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, task_group
from airflow.sdk.bases.skipmixin import SkipMixin
from airflow.serialization.serialized_objects import DagSerialization
from airflow.utils import timezone
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, State, TaskInstanceState
from airflow.utils.types import DagRunType
from airflow.sdk.definitions.xcom_arg import XComArg
from sqlalchemy import delete, select

START = timezone.datetime(2026, 1, 1)
LONG_AGO = timezone.datetime(2026, 1, 2)
LETTERS = {
    None: "n", "removed": "m", "scheduled": "c", "queued": "q", "running": "r", "success": "s", "failed": "f",
    "up_for_retry": "t", "up_for_reschedule": "e", "upstream_failed": "u", "skipped": "k", "deferred": "d",
}
RULES = [
    "all_success", "all_failed", "all_done", "all_done_min_one_success", "one_success", "one_failed", "one_done",
    "none_failed", "none_skipped", "always", "none_failed_min_one_success", "all_skipped",
]
ORDER = ["TriggerRuleDep", "MappedTaskUpstreamDep", "NotPreviouslySkippedDep"]


def failed_statuses_in_order(self, dep_context=None, *, session):
    deps = dep_context.deps | self.task.deps
    name = lambda dep: type(dep).__name__
    for dep in sorted(deps, key=lambda d: (ORDER.index(name(d)) if name(d) in ORDER else -1, name(d))):
        for status in dep.get_dep_statuses(self, dep_context, session=session):
            if not status.passed:
                yield status


premature = DagRun._are_premature_tis


def premature_of_open_ones(self, unfinished_tis, finished_tis, session):
    at_work = (TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED, TaskInstanceState.RUNNING)
    if any(ti.state in at_work for ti in unfinished_tis):
        return True, False
    return premature(self, unfinished_tis, finished_tis, session)


unordered = DagRun.get_task_instances


def in_order_of_the_dag(self, state=None, *, session):
    order = {task_id: n for n, task_id in enumerate(self.dag.task_dict)}
    found = unordered(self, state=state, session=session)
    return sorted(found, key=lambda ti: (order.get(ti.task_id, -1), ti.map_index))


DagRun.get_task_instances = in_order_of_the_dag
TaskInstance.get_failed_dep_statuses = failed_statuses_in_order
DagRun._are_premature_tis = premature_of_open_ones


class Op(BaseOperator):
    template_fields = ("arg", "more")

    def __init__(self, arg=None, more=None, **kwargs):
        super().__init__(**kwargs)
        self.arg = arg
        self.more = more


class Branch(Op, SkipMixin):
    @property
    def inherits_from_skipmixin(self):
        return True


class Case:
    def __init__(self, rng, number):
        self.rng = rng
        self.dag_id = f"d{number}"
        self.run_id = "r"
        self.serialized = self.new_version()
        self.next_version = None
        if rng.random() < 0.3:
            self.next_version = self.new_version()

    def new_version(self):
        self.plain = []
        self.mappable = []
        with DAG(self.dag_id, start_date=START, schedule=None) as dag:
            self.build()
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))

    # The Dag

    def rule(self):
        return "all_success" if self.rng.random() < 0.4 else self.rng.choice(RULES)

    def build(self):
        rng = self.rng
        size = rng.randint(2, 8)
        density = rng.choice([0.2, 0.4, 0.7])
        flavour = rng.random()
        with_maps = flavour < 0.6
        with_setups = 0.5 < flavour < 0.85
        for n in range(size):
            made = None
            if with_maps and rng.random() < 0.35:
                made = self.mapped(n)
            elif with_maps and rng.random() < 0.3:
                made = self.group(n)
            else:
                kind = Branch if rng.random() < 0.12 else EmptyOperator if rng.random() < 0.1 else Op
                made = [kind(task_id=f"t{n}", trigger_rule=self.rule())]
                self.mappable.append(made[0])
            roots, leaves = (made, made) if len(made) == 1 else (made[:1], made[-1:])
            for earlier in list(self.plain):
                if rng.random() < density:
                    earlier >> rng.choice(roots)
            self.plain.extend(leaves if rng.random() < 0.8 else made)
        if with_setups:
            self.setups()

    def source(self):
        rng = self.rng
        if not self.mappable or rng.random() < 0.3:
            return [0] * rng.randint(0, 3)
        one = XComArg(rng.choice(self.mappable))
        if rng.random() < 0.2:
            other = XComArg(rng.choice(self.mappable))
            return one.zip(other) if rng.random() < 0.5 else one.concat(other)
        if rng.random() < 0.15:
            other = XComArg(rng.choice(self.mappable))
            return one.zip(other, fillvalue=0)
        return one

    def mapped(self, n):
        rng = self.rng
        partial = Op.partial(task_id=f"t{n}", trigger_rule=self.rule())
        if rng.random() < 0.15:
            source = self.source()
            op = partial.expand_kwargs([{"arg": 0}] * len(source) if isinstance(source, list) else source)
        else:
            op = partial.expand(arg=self.source())
        self.mappable.append(op)
        return [op]

    def group(self, n):
        rng = self.rng
        made = []
        rules = [r for r in RULES if r != "always"]

        @task_group(group_id=f"g{n}")
        def tg(x):
            for m in range(rng.randint(1, 3)):
                rule = "all_success" if rng.random() < 0.4 else rng.choice(rules)
                op = Op(task_id=f"t{m}", arg=x if m == 0 else None, trigger_rule=rule)
                linked = False
                for earlier in made:
                    if rng.random() < 0.6:
                        earlier >> op
                        linked = True
                if made and not linked:
                    made[-1] >> op
                made.append(op)

        tg.expand(x=self.source())
        return made

    def setups(self):
        rng = self.rng
        candidates = [t for t in self.plain if type(t) is Op and not t.downstream_task_ids and t.task_group.is_root]
        for k in range(rng.randint(1, 2)):
            setup = Op(task_id=f"setup{k}").as_setup()
            teardown = Op(task_id=f"teardown{k}")
            inside = [t for t in self.plain if rng.random() < 0.5 and not getattr(t, "is_teardown", False)]
            for work in inside:
                setup >> work
                if not work.downstream_task_ids or rng.random() < 0.5:
                    work >> teardown
            if rng.random() < 0.85:
                teardown.as_teardown(setups=setup, on_failure_fail_dagrun=rng.random() < 0.3)
            else:
                teardown.as_teardown()

    # What is recorded of it

    def spec(self):
        order = {task_id: n for n, task_id in enumerate(self.serialized.task_dict)}
        self.numbers = order
        groups = []
        group_numbers = {}

        def walk(group, parent):
            for child in group.children.values():
                if not hasattr(child, "children"):
                    continue
                number = len(groups)
                group_numbers[child.group_id] = number
                entry = {"group_id": child.group_id}
                if parent is not None:
                    entry["parent"] = parent
                if child.is_mapped:
                    entry["expand"] = self.expand(child._expand_input)
                groups.append(entry)
                walk(child, number)

        walk(self.serialized.task_group, None)
        tasks = []
        for task in self.serialized.task_dict.values():
            entry = {"task_id": task.task_id, "downstream": sorted(order[t] for t in task.downstream_task_ids)}
            entry["trigger_rule"] = getattr(task.trigger_rule, "value", task.trigger_rule)
            if entry["trigger_rule"] == "all_success":
                del entry["trigger_rule"]
            for flag in ("is_setup", "is_teardown", "on_failure_fail_dagrun"):
                if getattr(task, flag):
                    entry[flag] = True
            if not TaskInstance.is_task_schedulable(task):
                entry["is_trivial"] = True
            if task.inherits_from_skipmixin:
                entry["skips"] = True
            if task.is_mapped:
                entry["expand"] = self.expand(task._get_specified_expand_input())
            if task.task_group is not None and task.task_group.group_id in group_numbers:
                entry["group"] = group_numbers[task.task_group.group_id]
            tasks.append(entry)
        spec = {"dag_id": self.dag_id, "tasks": tasks}
        if groups:
            spec["groups"] = groups
        return spec

    def expand(self, given):
        values = given.value.values() if isinstance(given.value, dict) else [given.value]
        return {
            "factors": [self.length(v) for v in values],
            "dependencies": [self.numbers[op.task_id] for op, _ in given.iter_references()],
        }

    def length(self, value):
        name = type(value).__name__
        if name == "SchedulerPlainXComArg":
            return {"task": self.numbers[value.operator.task_id]}
        if name == "SchedulerMapXComArg":
            return self.length(value.arg)
        if name == "SchedulerConcatXComArg":
            return {"sum": [self.length(v) for v in value.args]}
        if name == "SchedulerZipXComArg":
            kind = "longest" if value.fillvalue == 0 else "shortest"
            return {kind: [self.length(v) for v in value.args]}
        return {"literal": len(value)}

    # The run

    def look_over(self):
        spec = self.spec()
        self.is_mapped = {t.task_id: t.is_mapped for t in self.serialized.task_dict.values()}
        self.needed = {
            op.task_id
            for t in self.serialized.task_dict.values()
            if t.is_mapped
            for op, _ in t._get_specified_expand_input().iter_references()
        }
        for group in self.serialized.task_group_dict.values():
            if group.is_mapped:
                self.needed |= {op.task_id for op, _ in group._expand_input.iter_references()}
        return spec

    def record(self, session):
        spec = self.look_over()
        run = DagRun(
            dag_id=self.dag_id, run_id=self.run_id, run_type=DagRunType.MANUAL, logical_date=START, run_after=START,
            start_date=START, state=DagRunState.RUNNING, data_interval=(START, START),
        )
        run.dag = self.serialized
        session.add(run)
        session.flush()
        run.verify_integrity(dag_version_id=None, session=session)
        session.flush()
        self.known = {}
        steps = []
        happened = []
        clears = 0
        for _ in range(40):
            self.settle(run, session)
            steps.append([happened, self.changed(session), {"success": "s", "failed": "f", "running": "r"}[run.state]])
            if run.state != DagRunState.RUNNING:
                break
            happened = []
            if self.next_version is not None and self.rng.random() < 0.25:
                self.serialized, self.next_version = self.next_version, None
                run.dag = self.serialized
                new_spec = self.look_over()
                new_spec["dag_id"] = "d"
                run.verify_integrity(dag_version_id=None, session=session)
                session.flush()
                happened = [new_spec]
            if not happened and clears < 2 and self.rng.random() < 0.06:
                clears += 1
                happened = self.clear(session)
            if not happened:
                happened = self.work(session)
            if not happened:
                break
        return {"dag": spec, "steps": steps}

    def settle(self, run, session):
        before = None
        for _ in range(30):
            rows_before = set(self.states(session))
            ready, _ = run.update_state(session=session, execute_callbacks=False)
            session.flush()
            rows = self.states(session)
            if run.state != DagRunState.RUNNING and rows_before != set(rows) and set(rows.values()) & set("nctrqed"):
                run._state = DagRunState.RUNNING
                run.end_date = None
                session.flush()
            if run.state != DagRunState.RUNNING:
                return
            run.schedule_tis(ready, session=session)
            session.flush()
            session.expire_all()
            run.dag = self.serialized
            after = self.states(session)
            if after == before:
                return
            before = after
        raise RuntimeError("does not settle")

    def states(self, session):
        rows = session.execute(
            select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(
                TaskInstance.dag_id == self.dag_id
            )
        )
        return {(t, i): LETTERS[s] for t, i, s in rows}

    def changed(self, session):
        now = self.states(session)
        found = [[t, i, s] for (t, i), s in sorted(now.items()) if self.known.get((t, i)) != s]
        found += [[t, i, "-"] for (t, i) in sorted(self.known) if (t, i) not in now]
        self.known = now
        return found

    def work(self, session):
        rng = self.rng
        tis = session.scalars(
            select(TaskInstance)
            .where(TaskInstance.dag_id == self.dag_id, TaskInstance.state == "scheduled")
            .order_by(TaskInstance.task_id, TaskInstance.map_index)
        ).all()
        if not tis:
            return []
        happened = []
        for ti in rng.sample(tis, rng.randint(1, min(len(tis), 4))):
            state = rng.choices(["success", "failed", "skipped", "up_for_retry", "up_for_reschedule"], [70, 12, 8, 4, 3])[0]
            event = [ti.task_id, ti.map_index, LETTERS[state]]
            ti.state = state
            ti.start_date = LONG_AGO
            ti.end_date = LONG_AGO
            task = self.serialized.get_task(ti.task_id)
            if state == "success":
                if ti.task_id in self.needed and rng.random() < 0.93:
                    length = rng.choice([0, 1, 1, 2, 2, 3])
                    if self.is_mapped[ti.task_id]:
                        XComModel.set(key="return_value", value=1, dag_id=self.dag_id, task_id=ti.task_id,
                                      run_id=self.run_id, map_index=ti.map_index, session=session)
                        event.append({"result": True})
                    elif ti.map_index < 0:
                        session.add(TaskMap(dag_id=self.dag_id, task_id=ti.task_id, run_id=self.run_id,
                                            map_index=-1, length=length, keys=None))
                        event.append({"length": length})
                if task.inherits_from_skipmixin and task.downstream_task_ids:
                    below = sorted(task.downstream_task_ids)
                    kind = rng.choice(["followed", "skipped"])
                    some = [t for t in below if rng.random() < 0.5]
                    XComModel.set(key="skipmixin_key", value={kind: some}, dag_id=self.dag_id, task_id=ti.task_id,
                                  run_id=self.run_id, map_index=ti.map_index, session=session)
                    event.append({kind: some})
            happened.append(event)
        session.flush()
        return happened

    def clear(self, session):
        tis = session.scalars(
            select(TaskInstance)
            .where(TaskInstance.dag_id == self.dag_id, TaskInstance.state.in_(["success", "failed", "skipped", "upstream_failed"]))
            .order_by(TaskInstance.task_id, TaskInstance.map_index)
        ).all()
        happened = []
        for ti in self.rng.sample(tis, min(len(tis), self.rng.randint(1, 3))):
            ti.state = None
            session.execute(delete(TaskMap).where(TaskMap.dag_id == self.dag_id, TaskMap.task_id == ti.task_id,
                                                  TaskMap.map_index == ti.map_index))
            session.execute(delete(XComModel).where(XComModel.dag_id == self.dag_id, XComModel.task_id == ti.task_id,
                                                    XComModel.map_index == ti.map_index))
            happened.append([ti.task_id, ti.map_index, "n"])
        session.flush()
        return happened


def main(count, seed, kind, file):
    rng = random.Random(seed)
    number = refused = 0
    while number < count:
        try:
            case = kind(rng, f"{seed}_{number}")
        except Exception as refusal:  # Not every random Dag is one that Airflow takes.
            refused += 1
            if refused < 5 or refused % 100 == 0:
                print("refused", refused, type(refusal).__name__, str(refusal)[:100], file=sys.stderr)
            continue
        with create_session() as session:
            try:
                line = case.record(session)
            except Exception as failure:
                print("failed", case.dag_id, type(failure).__name__, str(failure)[:300], file=sys.stderr)
                if "-v" in sys.argv:
                    raise
                line = None
            session.rollback()
        number += 1
        if line:
            line["dag"]["dag_id"] = "d"
            print(json.dumps(line, separators=(",", ":")), file=file, flush=True)


if __name__ == "__main__":
    with open(sys.argv[3], "w") as file:
        main(int(sys.argv[1]), int(sys.argv[2]), Case, file)
