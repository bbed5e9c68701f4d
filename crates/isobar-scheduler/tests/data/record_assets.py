"""Record which runs Airflow makes of asset events, for tests/driving/assets_agree.rs.

Usage: python record_assets.py OUT_FILE [SEED [COUNT]]    (needs Airflow 3.3.2 and an AIRFLOW_HOME with a migrated database of
its own; the test itself does not)

One case a line: a producer that keeps assets active, two consumers with random conditions (assets, references, aliases, all and any,
nested; partitioned ones with mappers, too), and a story of steps, each followed by the scheduler's own code. `runs` is what each
consumer got: the events each run consumed (by their number), its partition key and date, and after which step it was made; `waiting`
what is queued in the end, `pending` the partitions that wait, `stands` what each alias stands for. Names carry the case's number.
"""

import datetime as dt
import json
import random
import sys

from airflow.assets.manager import asset_manager
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.asset import (
    AssetAliasModel, AssetDagRunQueue, AssetEvent, AssetModel, AssetPartitionDagRun, PartitionedAssetKeyLog,
)
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import (
    DAG, AllowedKeyMapper, Asset, AssetAlias, AssetAll, AssetAny, ChainMapper, DayWindow, FanOutMapper, FixedKeyMapper,
    IdentityMapper, MinimumCount, PartitionedAssetTimetable, ProductMapper, QuarterWindow, RollupMapper, SegmentWindow,
    StartOfDayMapper, StartOfHourMapper, StartOfMonthMapper, StartOfQuarterMapper, StartOfWeekMapper, WaitForAll, WeekWindow,
)
from airflow.serialization.definitions.assets import SerializedAsset, SerializedAssetUniqueKey
from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.sqlalchemy import prohibit_commit
from sqlalchemy import select

OUT = sys.argv[1]
rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 332)
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 250
STEPS = 9
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


class Case:
    def __init__(self, number):
        self.n = number
        self.assets = [Asset(name=f"c{number}_a{i}", uri=f"x://c{number}/{i}") for i in range(4)]
        self.aliases = [f"c{number}_al{i}" for i in range(2)]
        self.partitioned = rng.random() < 0.5
        self.steps, self.events, self.runs_before = [], [], {}
        self.made = {}

    def leaf(self):
        roll, asset = rng.random(), rng.choice(self.assets)
        if roll < 0.65:
            return asset
        if roll < 0.75:
            return Asset.ref(name=asset.name)
        if roll < 0.85 and not self.partitioned:
            return AssetAlias(rng.choice(self.aliases))
        return Asset.ref(uri=asset.uri)

    def condition(self, depth=0):
        if depth > 2 or rng.random() < 0.35 + 0.2 * depth:
            return self.leaf()
        kind = rng.choice([AssetAll, AssetAny])
        return kind(*[self.condition(depth + 1) for _ in range(rng.randint(1, 3))])

    def mapper(self):
        return rng.choice([
            IdentityMapper, StartOfHourMapper, StartOfDayMapper, StartOfDayMapper, StartOfWeekMapper,
            lambda: StartOfDayMapper(timezone="America/New_York"),
            lambda: AllowedKeyMapper(["us", "eu"]),
            lambda: FixedKeyMapper("all"),
            lambda: RollupMapper(upstream_mapper=FixedKeyMapper("all"), window=SegmentWindow(["us", "eu"]),
                                 wait_policy=rng.choice([WaitForAll(), MinimumCount(1), MinimumCount(3)])),
            lambda: RollupMapper(upstream_mapper=StartOfWeekMapper(input_format="%Y-%m-%d"), window=WeekWindow(),
                                 wait_policy=rng.choice([MinimumCount(2), MinimumCount(-5), WaitForAll()])),
            lambda: FanOutMapper(upstream_mapper=StartOfQuarterMapper(), window=QuarterWindow()),
            lambda: FanOutMapper(upstream_mapper=StartOfDayMapper(), window=DayWindow(), max_downstream_keys=12),
            lambda: ProductMapper(IdentityMapper(), StartOfDayMapper()),
            lambda: ChainMapper(StartOfHourMapper(), StartOfDayMapper(input_format="%Y-%m-%dT%H")),
            lambda: StartOfMonthMapper(input_format="%Y-%m-%d"),
        ])()

    def dags(self):
        with DAG(f"c{self.n}_p", schedule=None, start_date=START) as producer:
            BashOperator(task_id="t", bash_command="true", outlets=[*self.assets, *[AssetAlias(name) for name in self.aliases]])
        consumers = []
        for i in range(2):
            condition = self.condition()
            if self.partitioned and rng.random() < 0.8:
                config = {asset: self.mapper() for asset in rng.sample(self.assets, rng.randint(0, 2))}
                schedule = PartitionedAssetTimetable(
                    assets=condition, partition_mapper_config=config,
                    default_partition_mapper=rng.choice([IdentityMapper(), self.mapper()]))
            else:
                schedule = condition if rng.random() < 0.9 else list(self.assets[:2])
            with DAG(f"c{self.n}_d{i}", schedule=schedule, start_date=START, catchup=rng.random() < 0.3,
                     max_active_runs=rng.choice([16, 1, 2])) as dag:
                BashOperator(task_id="t", bash_command="true")
            consumers.append(dag)
        return producer, consumers

    def key(self):
        if not self.partitioned or rng.random() < 0.15:
            return None
        day, hour = rng.randint(1, 3), rng.choice([0, 3, 23])
        return rng.choice(["us", "eu", f"2024-03-{day:02}T{hour:02}:30:00", f"2024-03-{day:02}T{hour:02}:30:00",
                           f"2024-03-{day:02}", f"us|2024-03-{day:02}T{hour:02}:30:00", "2024-03"])

    def step(self, session, first):
        roll = rng.random()
        if first or roll < 0.75:
            at = rng.randrange(len(self.assets))
            aliases = rng.sample(self.aliases, rng.randint(1, 2)) if rng.random() < 0.25 else []
            fresh = bool(aliases) and rng.random() < 0.4
            name, uri = (f"c{self.n}_new", f"x://c{self.n}/new") if fresh else (self.assets[at].name, self.assets[at].uri)
            key = self.key()
            date = rng.choice([None, 1709251200, 1709337600]) if key else None
            self.steps.append({"event": [name, uri, sorted(aliases), key, date]})
            when = date and dt.datetime.fromtimestamp(date, dt.timezone.utc)
            kwargs = {"extra": {"n": len(self.events)}, "source_alias_names": aliases, "partition_key": key,
                      "partition_date": when, "session": session}
            asset = SerializedAssetUniqueKey(name=name, uri=uri)
            if asset_manager.register_asset_change(asset=asset, **kwargs) is None:
                new = SerializedAsset(name=name, uri=uri, group="asset", extra={}, watchers=[])
                session.add(AssetModel.from_serialized(new))
                session.flush()
                asset_manager.register_asset_change(asset=new, **kwargs)
            self.events.append(len(self.events))
        elif roll < 0.9:
            dag_id = f"c{self.n}_d{rng.randrange(2)}"
            model = session.get(DagModel, dag_id)
            model.is_paused = not model.is_paused
            self.steps.append({"pause": [dag_id, model.is_paused]})
        else:
            dag_id = f"c{self.n}_d{rng.randrange(2)}"
            for run in session.scalars(select(DagRun).where(DagRun.dag_id == dag_id)):
                run.state = DagRunState.SUCCESS
            self.steps.append({"finish": dag_id})

    def look(self, session):
        """Which runs are new after this step."""
        for i in range(2):
            runs = session.scalars(select(DagRun).where(DagRun.dag_id == f"c{self.n}_d{i}").order_by(DagRun.id)).all()
            known = self.made.setdefault(i, [])
            fresh = []
            for run in runs[len(known):]:
                date = run.partition_date and int(run.partition_date.timestamp())
                events = sorted(event.extra["n"] for event in run.consumed_asset_events)
                fresh.append([len(self.steps), events, run.partition_key, date])
            # Those of one pass have no order of their own.
            known.extend(sorted(fresh, key=json.dumps))

    def end(self, session):
        waiting = sorted(
            [row.target_dag_id, session.get(AssetModel, row.asset_id).name]
            for row in session.scalars(select(AssetDagRunQueue).where(AssetDagRunQueue.target_dag_id.like(f"c{self.n}\\_%", escape="\\")))
        )
        pending = []
        for apdr in session.scalars(select(AssetPartitionDagRun).where(
                AssetPartitionDagRun.target_dag_id.like(f"c{self.n}\\_%", escape="\\"),
                AssetPartitionDagRun.created_dag_run_id.is_(None))):
            arrived = sorted({(session.get(AssetModel, row.asset_id).name, row.source_partition_key)
                              for row in session.scalars(select(PartitionedAssetKeyLog).where(
                                  PartitionedAssetKeyLog.asset_partition_dag_run_id == apdr.id))})
            date = apdr.partition_date and int(apdr.partition_date.timestamp())
            pending.append([apdr.target_dag_id, apdr.partition_key, date, arrived])
        stands = {name: sorted(asset.name for asset in session.scalar(
            select(AssetAliasModel).where(AssetAliasModel.name == name)).assets) for name in self.aliases}
        return {"runs": [self.made.get(0, []), self.made.get(1, [])], "waiting": waiting, "pending": sorted(pending, key=json.dumps),
                "stands": stands}


def store(dags, session):
    lazy = [LazyDeserializedDAG.from_dag(dag) for dag in dags]
    update_dag_parsing_results_in_db("dags-folder", None, lazy, {}, 0.1, set(), session)
    session.flush()
    for dag in dags:
        session.get(DagModel, dag.dag_id).is_paused = False
    session.flush()


def small(dag):
    """What matters of a serialized Dag."""
    task = dag["tasks"][0]["__var"]
    task = {key: task[key] for key in ("task_id", "task_type", "_task_module", "outlets") if key in task}
    kept = ("dag_id", "fileloc", "relative_fileloc", "timezone", "timetable", "catchup", "max_active_runs", "start_date")
    return {"tasks": [{"__type": "operator", "__var": task}], **{key: dag[key] for key in kept if key in dag}}


def main():
    cases = [Case(number) for number in range(COUNT)]
    written = []
    with create_session() as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        pairs = [case.dags() for case in cases]
        for dag in (dag for producer, consumers in pairs for dag in (producer, *consumers)):
            dag.fileloc, dag.relative_fileloc = __file__, f"{dag.dag_id}.py"
        for case, (producer, consumers) in zip(cases, pairs):
            written.append([small(DagSerialization.to_dict(dag)["dag"]) for dag in (producer, *consumers)])
    job = Job()
    runner = SchedulerJobRunner(job=job, executors=[])
    runner._max_partition_dag_runs_per_loop = 100_000
    DagModel.NUM_DAGS_PER_DAGRUN_QUERY = 100_000
    with create_session() as session:
        store([producer for producer, _ in pairs], session)
        session.commit()
        runner._update_asset_orphanage(session=session)
        session.commit()
        for step in range(STEPS + 2):
            for case in cases:
                case.step(session, step < 2)
            session.commit()
            if step == 1:
                store([dag for _, consumers in pairs for dag in consumers], session)
                session.commit()
                runner._update_asset_orphanage(session=session)
                session.commit()
            with prohibit_commit(session) as guard:
                runner._create_dagruns_for_dags(guard, session)
                guard.commit()
            session.expire_all()
            # What aliases made becomes active with the scheduler's next look.
            runner._update_asset_orphanage(session=session)
            session.commit()
            for case in cases:
                case.look(session)
            print("step", step, file=sys.stderr)
        with open(OUT, "w") as file:
            for case, dags in zip(cases, written):
                line = {"dags": dags, "steps": case.steps, **case.end(session)}
                file.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
