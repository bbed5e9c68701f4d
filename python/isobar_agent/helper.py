"""The team's helper: a long-lived fork that answers what only the team's Python can say.

It asks for the next question and gives the answer to the last one, in lock step over the requests socket:

    -> {"type": "HelperReady", "shapes_instances": bool}
    <- {"type": "HelperQuestion", "id": N, "question": {"ask": ..., ...}, "dags": {version: serialized Dag}}
    -> {"type": "HelperAnswer", "id": N, "answer": {...}}     or "problem": "why" instead of "answer"

While it thinks, the team's code may ask for variables and connections over the same socket, as a Dag file may.
"""

import datetime
import json
import os
import time
from typing import Any

import pendulum
import structlog
from airflow import settings
from airflow.exceptions import InvalidPartitionKeyError
from airflow.partition_mappers.base import is_rollup
from airflow.sdk.execution_time import comms, task_runner
from airflow.serialization.decoders import decode_partition_mapper, decode_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.utils.helpers import is_container
from airflow.utils.types import DagRunType
from isobar_agent import parse
from pydantic import BaseModel

log = structlog.get_logger(logger_name="helper")

DAGS_KEPT = 64
OBJECTS_KEPT = 1024
# How long it goes ahead in the runs of one Dag while others may wait.
AHEAD_SECONDS = 1


class HelperReady(BaseModel):
    """Says what the team's settings hold."""

    type: str = "HelperReady"
    shapes_instances: bool


class HelperAnswer(BaseModel):
    """Answers the question before."""

    type: str = "HelperAnswer"
    id: int
    answer: Any = None
    problem: str | None = None


class Answers:
    """Reads what comes back: a question, or the answer to something the team's code asked for."""

    def __init__(self, others) -> None:
        self.others = others

    def validate_python(self, body):
        """Pydantic's name for reading."""
        if isinstance(body, dict) and body.get("type") == "HelperQuestion":
            return body
        return self.others.validate_python(body)


def run() -> None:
    """Answers until the socket closes."""
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    bodies, errors = parse.adapters()
    channel = comms.CommsDecoder(body_decoder=Answers(bodies), err_decoder=errors)
    task_runner.SUPERVISOR_COMMS = channel
    helper = Helper()
    message: BaseModel = HelperReady(shapes_instances=shapes_instances())
    while True:
        try:
            order = channel.send(message)
        except (EOFError, OSError):
            return  # Nobody asks any more.
        message = helper.answer(order)


def shapes_instances() -> bool:
    """Whether a cluster policy has a `task_instance_mutation_hook`."""
    return bool(settings.get_policy_plugin_manager().hook.task_instance_mutation_hook.get_hookimpls())


class Helper:
    """Keeps the timetables, mappers and Dags it was asked about."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.dags: dict[str, Any] = {}

    def answer(self, order: dict) -> HelperAnswer:
        """Answers one question; what the team's code raises is a problem, not the end."""
        number, question = order["id"], order["question"]
        try:
            for version, data in order.get("dags", {}).items():
                keep(self.dags, version, DagSerialization.from_dict(data), DAGS_KEPT)
            answer = getattr(self, f"answer_{question['ask']}")(question)
            json.dumps(answer)
            return HelperAnswer(id=number, answer=answer)
        except Exception as error:
            log.exception("A question could not be answered", ask=question.get("ask"), dag_id=question.get("dag_id"))
            return HelperAnswer(id=number, problem=f"{type(error).__name__}: {error}")

    def answer_next_run(self, question: dict) -> dict:
        """The run after the latest automated one and its id; of a Dag that makes up for the past, as many more as are due."""
        timetable = self.timetable(question["timetable"])
        within = TimeRestriction(moment(question["earliest"]), moment(question["latest"]), question["catchup"])
        last, steps = run_info(question["last"]), []
        begun, now = time.monotonic(), pendulum.now("UTC")
        while True:
            try:
                last = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=within)
                steps.append({"next": shown(last), "run_id": named(timetable, DagRunType.SCHEDULED, last)})
            except Exception:
                if not steps:
                    raise
                break  # What came before it is sound; it is asked again when its turn comes.
            enough = len(steps) >= question["ahead"] or time.monotonic() - begun > AHEAD_SECONDS
            if last is None or enough or not within.catchup or last.run_after > now:
                break
        return {"steps": steps}

    def answer_manual_interval(self, question: dict) -> dict:
        """The data interval, the id and the partition's date of a run made by hand."""
        timetable = self.timetable(question["timetable"])
        at = moment(question["at"])
        interval = given_pair(question["data_interval"])
        if at is not None:
            interval = timetable.infer_manual_data_interval(run_after=at)
        run_id = timetable.generate_run_id(
            run_type=DagRunType(question["run_type"]),
            run_after=moment(question["run_after"]),
            data_interval=interval,
        )
        try:
            date = timetable.resolve_partition_date(question["partition_key"])
        except InvalidPartitionKeyError as error:
            return {"refused": str(error)}
        return {"data_interval": pair(interval), "run_id": run_id, "partition_date": written(date)}

    def answer_runs_between(self, question: dict) -> dict:
        """The runs between two dates, as a backfill makes them."""
        timetable = self.timetable(question["timetable"])
        earliest, latest = as_written(question["earliest"]), as_written(question["latest"])
        before, most = moment(question["before"]), question["most"]
        if timetable.partitioned:
            infos = timetable.iter_partition_dagrun_infos(earliest=earliest, latest=latest)
        else:
            infos = following(timetable, TimeRestriction(earliest, latest, catchup=True))
        runs: list[dict] = []
        for count, info in enumerate(infos):
            if count >= most:
                return {"runs": None}
            if timetable.partitioned or before is None or (info.data_interval and info.data_interval.end < before):
                runs.append({"next": shown(info), "run_id": named(timetable, DagRunType.BACKFILL_JOB, info)})
        return {"runs": runs}

    def answer_partition_moments(self, question: dict) -> dict:
        """The instants that dates mean on the timetable's own clock."""
        timetable = self.timetable(question["timetable"])
        dates = (None if text is None else as_written(text) for text in question["dates"])
        return {"moments": [None if at is None else written(timetable.localize_partition_datetime(at)) for at in dates]}

    def answer_partitions(self, question: dict) -> dict:
        """To which partitions keys belong, and of which partitions enough arrived."""
        return {
            "keys": [downstream(self.mapper(one["mapper"]), one) for one in question["keys"]],
            "partitions": [partition(self.mapper(one["mapper"]), one) for one in question["partitions"]],
        }

    def answer_instances(self, question: dict) -> dict:
        """What weight rules and the cluster policy make of new or cleared task instances."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance

        dag = self.dags[question["version"]]
        of_run = question["run"]
        dag_run = DagRun(
            dag_id=dag.dag_id,
            run_id=of_run["run_id"],
            run_type=of_run["run_type"],
            logical_date=moment(of_run["logical_date"]),
            run_after=moment(of_run["run_after"]),
            data_interval=given_pair(of_run["data_interval"]),
            conf=of_run["conf"],
            state=of_run["state"],
        )
        shapes = []
        for instance in question["instances"]:
            task = dag.get_task(instance["task_id"])
            ti = TaskInstance(task, run_id=of_run["run_id"], map_index=instance["map_index"], dag_version_id=None)
            if instance["try_number"]:
                # Cleared: rules see the tries it has had.
                ti.try_number, ti.max_tries = instance["try_number"], instance["max_tries"]
                ti.refresh_from_task(task, dag_run=dag_run)
            elif question["hook"]:
                settings.task_instance_mutation_hook(ti, dag_run=dag_run)
            shape = {
                "task_id": instance["task_id"],
                "map_index": instance["map_index"],
                "pool": ti.pool,
                "pool_slots": ti.pool_slots,
                "queue": ti.queue,
                "priority_weight": ti.priority_weight,
                "executor": ti.executor,
                "max_tries": ti.max_tries,
            }
            if ti.executor_config != task.executor_config:
                shape["executor_config"] = ti.executor_config
            shapes.append(shape)
        return {"instances": shapes}

    def timetable(self, encoded: dict):
        """The timetable of its serialized form, made once."""
        return self.decoded(encoded, decode_timetable)

    def mapper(self, encoded: dict):
        """The partition mapper of its serialized form, made once."""
        return self.decoded(encoded, decode_partition_mapper)

    def decoded(self, encoded: dict, decode):
        """What was serialized, made once."""
        key = json.dumps(encoded, sort_keys=True)
        if key not in self.made:
            keep(self.made, key, decode(encoded), OBJECTS_KEPT)
        return self.made[key]


def named(timetable, run_type: DagRunType, info: DagRunInfo | None) -> str | None:
    """The id that the timetable gives a run."""
    if info is None:
        return None
    return timetable.generate_run_id(
        run_type=run_type,
        run_after=pendulum.instance(info.run_after),
        data_interval=info.data_interval,
        partition_key=info.partition_key,
    )


def following(timetable, within: TimeRestriction):
    """One run after the other; as in Airflow a timetable that raises has no more."""
    info = None
    while True:
        try:
            info = timetable.next_dagrun_info_v2(last_dagrun_info=info, restriction=within)
        except Exception:
            log.exception("The timetable raised, and has no more runs", last_dagrun_info=info)
            return
        if info is None:
            return
        yield info


def downstream(mapper, ask: dict) -> dict:
    """Where a key belongs; what the mapper raises is said of this key alone."""
    try:
        keys = mapper.to_downstream(ask["key"])
        keys = list(keys) if is_container(keys) else [keys]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError(f"{type(mapper).__name__}.to_downstream gave keys that are not texts")
    except Exception as error:
        log.exception("A partition key could not be mapped", key=ask["key"])
        return {"problem": f"{type(error).__name__}: {error}"}
    try:
        carried = written(mapper.carry_partition_date(moment(ask["date"])))
    except Exception:
        log.exception("The partition's date could not be carried on", key=ask["key"])
        carried = None
    return {"keys": keys, "most": mapper.max_downstream_keys, "carried": carried}


def partition(mapper, ask: dict) -> dict:
    """Whether enough arrived for a partition, and its date."""
    said = {"ready": True, "date": None, "undated": False}
    try:
        if is_rollup(mapper):
            expected = mapper.to_upstream(ask["key"])
            result = mapper.wait_policy.is_satisfied_by_keys(matched=set(ask["arrived"]), expected=expected)
            said["ready"] = result.satisfied and not result.unreachable
    except Exception:
        log.exception("It cannot be told whether enough arrived for a partition", key=ask["key"])
        said["ready"] = False
    try:
        said["date"] = written(mapper.to_partition_date(ask["key"]))
    except Exception:
        log.exception("A partition has no date", key=ask["key"])
        said["undated"] = True
    return said


def keep(kept: dict, key: str, value: Any, most: int) -> None:
    """Keeps a value; the oldest goes where there are too many."""
    kept.pop(key, None)
    kept[key] = value
    while len(kept) > most:
        kept.pop(next(iter(kept)))


def moment(text: str | None) -> pendulum.DateTime | None:
    """An instant, in UTC as Airflow's are."""
    if text is None:
        return None
    return pendulum.instance(datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))).in_timezone("UTC")


def as_written(text: str) -> pendulum.DateTime:
    """An instant, in the offset in which somebody wrote it."""
    return pendulum.instance(datetime.datetime.fromisoformat(text))


def written(at: datetime.datetime | None) -> str | None:
    """An instant as text; one without a zone is refused, as Airflow's database refuses it."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise ValueError(f"the timetable gave {at.isoformat()}, which has no time zone")
    return at.astimezone(datetime.timezone.utc).isoformat()


def pair(interval: DataInterval | None) -> list | None:
    """A data interval as two texts."""
    return None if interval is None else [written(interval.start), written(interval.end)]


def given_pair(texts: list | None) -> DataInterval | None:
    """A data interval from two texts."""
    return None if texts is None else DataInterval(moment(texts[0]), moment(texts[1]))


def run_info(last: dict | None) -> DagRunInfo | None:
    """The latest automated run."""
    if last is None:
        return None
    return DagRunInfo(
        run_after=moment(last["run_after"]),
        data_interval=given_pair(last["data_interval"]),
        partition_date=moment(last["partition_date"]),
        partition_key=last["partition_key"],
    )


def shown(info: DagRunInfo | None) -> dict | None:
    """A run as the scheduler reads it."""
    if info is None:
        return None
    return {
        "run_after": written(info.run_after),
        "data_interval": pair(info.data_interval),
        "partition_date": written(info.partition_date),
        "partition_key": info.partition_key,
    }
