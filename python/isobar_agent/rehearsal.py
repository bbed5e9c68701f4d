"""Running tasks of our own once, before the first fork, so that every fork finds imports done and caches filled.

The tasks come from `sample_dag.py` and go through Airflow's own task runner. Nothing of the team takes part: policies
and listeners are set aside meanwhile, no frame leaves this process, and what the run changes is put back.
"""

import contextlib
import contextvars
import datetime
import functools
import importlib.metadata
import io
import json
import os
import signal
import sys

import setproctitle
import structlog
from airflow import settings
from airflow.sdk._shared.listeners.listener import ListenerManager
from airflow.sdk._shared.listeners.spec import lifecycle, taskinstance
from airflow.sdk.api import client
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.listener import get_listener_manager
from airflow.sdk.observability.metrics import stats_utils
from pydantic import TypeAdapter

HERE = os.path.dirname(os.path.abspath(__file__))
BUNDLES = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
ID = "00000000-0000-7000-8000-000000000000"
TASKS = (
    ("isobar_sample_classic", "middle.function"),
    ("isobar_sample_classic", "middle.shell"),
    ("isobar_sample_taskflow", "numbers"),
)


_known: dict[int, tuple[object, TypeAdapter]] = {}


def _adapter(kind: object) -> TypeAdapter:
    """The adapter of a kind, found by its identity: the hash of a union of 60 messages is that of all of them."""
    known = _known.get(id(kind))
    return known[1] if known else _adapter_of_its_like(kind)


@functools.cache
def _adapter_of_its_like(kind: object) -> TypeAdapter:
    return TypeAdapter(kind)


def share_adapters() -> None:
    """A channel builds the adapters that read its answers, rendering builds one per field; let all have the same ones.

    An adapter has no state, and building these takes a third of a small task.
    """
    for kind in (comms.ToTask, task_runner.JsonValue):
        # Held as well, so that its number is never another's.
        _known[id(kind)] = kind, _adapter_of_its_like(kind)
    comms.TypeAdapter = task_runner.TypeAdapter = _adapter


class Rehearsed(comms.CommsDecoder):
    """A channel whose frames go nowhere and whose answers are the dullest possible."""

    def send(self, msg: object) -> object:
        """Answers at once."""
        self._make_frame(msg).as_bytes()
        if isinstance(msg, comms.ValidateInletsAndOutlets):
            return self.read({"type": "InactiveAssetsResult", "inactive_assets": []})
        if isinstance(msg, comms.GetXCom):
            return self.read({"type": "XComResult", "key": msg.key, "value": None})
        return None

    def read(self, body: dict) -> object:
        """Takes a body the way a received one is taken."""
        frame = comms._ResponseFrame(id=0, body=body)
        return self._from_frame(self.resp_decoder.decode(frame.as_bytes()[4:]))


def warm() -> None:
    """Rehearses; an unusual environment makes tasks slower, not impossible."""
    share_adapters()
    try:
        with _set_aside(), contextlib.redirect_stdout(io.StringIO()):
            for dag_id, task_id in TASKS:
                contextvars.copy_context().run(_rehearse, dag_id, task_id)
        client.get_hostname()
        client.getuser()
        setproctitle.getproctitle()
        if not _has_plugins():
            get_listener_manager()
    except Exception as error:
        print(f"rehearsing did not work ({type(error).__name__}: {error}); tasks will be slower", file=sys.stderr)


def _rehearse(dag_id: str, task_id: str) -> None:
    log = structlog.get_logger(logger_name="task")
    channel = Rehearsed(log=log, socket=None)
    task_runner.SUPERVISOR_COMMS = channel
    task_runner.stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on"))
    details = channel.read(_startup_details(dag_id, task_id))
    task_runner.bind_contextvars(ti_id=ID, dag_id=dag_id, task_id=task_id, run_id=details.ti.run_id, try_number=1, map_index=-1)
    task_runner.get_listener_manager().hook.on_starting(component=task_runner.TaskRunnerMarker())
    with task_runner._airflow_parsing_context_manager(dag_id=dag_id, task_id=task_id):
        ti = task_runner.parse(details, log)
    context = ti.get_template_context()
    with task_runner.BundleVersionLock(bundle_name=ti.bundle_instance.name, bundle_version=ti.bundle_instance.version):
        state, _, error = task_runner.run(ti, context, log)
        task_runner.finalize(ti, state, context, log, error)
    if error is not None:
        raise error


def _startup_details(dag_id: str, task_id: str) -> dict:
    at = datetime.datetime.now(datetime.timezone.utc).isoformat()
    run = {
        "dag_id": dag_id,
        "run_id": "rehearsal",
        "logical_date": at,
        "data_interval_start": at,
        "data_interval_end": at,
        "run_after": at,
        "start_date": at,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "conf": {},
        "consumed_asset_events": [],
        "partition_key": None,
    }
    ti = {"id": ID, "task_id": task_id, "dag_id": dag_id, "run_id": "rehearsal", "try_number": 1, "dag_version_id": ID}
    return {
        "type": "StartupDetails",
        "ti": ti,
        "dag_rel_path": "sample_dag.py",
        "bundle_info": {"name": "isobar-sample", "version": None},
        "start_date": at,
        "sentry_integration": "",
        "ti_context": {"dag_run": run, "max_tries": 0, "should_retry": False},
    }


@contextlib.contextmanager
def _set_aside():
    """Takes the team's policies and listeners away for a while, and puts back all that a task changes."""
    bundle = {
        "name": "isobar-sample",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": HERE},
    }
    environment = dict(os.environ)
    policies = settings.dag_policy, settings.task_policy
    context_policy = settings.get_airflow_context_vars
    modules = set(sys.modules)
    on_term = signal.getsignal(signal.SIGTERM)
    on_segfault = signal.getsignal(signal.SIGSEGV)
    listeners = ListenerManager()
    listeners.add_hookspecs(lifecycle)
    listeners.add_hookspecs(taskinstance)
    os.environ[BUNDLES] = json.dumps([bundle])
    settings.dag_policy = settings.task_policy = lambda _: None
    settings.get_airflow_context_vars = lambda _: {}
    task_runner.get_listener_manager = lambda: listeners
    try:
        yield
    finally:
        task_runner.get_listener_manager = get_listener_manager
        settings.dag_policy, settings.task_policy = policies
        settings.get_airflow_context_vars = context_policy
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, on_term)
        signal.signal(signal.SIGSEGV, on_segfault)
        for name in set(sys.modules) - modules:
            if name.startswith("unusual_prefix_"):
                del sys.modules[name]
        if hasattr(task_runner, "SUPERVISOR_COMMS"):
            del task_runner.SUPERVISOR_COMMS


def _has_plugins() -> bool:
    """Whether plugins would be loaded: they are the team's code, and no business of ours before the fork."""
    if importlib.metadata.entry_points(group="airflow.plugins"):
        return True
    folder = conf.get("core", "plugins_folder", fallback=None)
    return bool(folder) and os.path.isdir(folder) and any(os.scandir(folder))
