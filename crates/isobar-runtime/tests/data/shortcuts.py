"""Does everything twice, with Airflow's own methods and with the agent's shortcuts: shortcuts.py AGENT_HOME DAG_FILE …"""

import copy
import functools
import inspect
import json
import sys

sys.path.append(sys.argv[1])

from airflow.dag_processing.dagbag import BundleDagBag
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, BaseOperator, Param, task
from airflow.sdk.bases import decorator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.execution_time import comms
from airflow.serialization.serialized_objects import DagSerialization
from isobar_agent import shortcuts

PLAIN = [(owner, name, vars(owner)[name]) for owner, name, *_ in shortcuts.SHORTCUTS]
left_out = shortcuts.take()
assert left_out == [], f"the pinned Airflow is not the one the shortcuts know: {left_out}"
SHORT = [(owner, name, vars(owner)[name]) for owner, name, _ in PLAIN]
SHORT_INSPECT = decorator.inspect
assert SHORT_INSPECT is not inspect and SHORT_INSPECT.signature is not inspect.signature


def use(methods, module):
    for owner, name, method in methods:
        setattr(owner, name, method)
    decorator.inspect = module


def both(work):
    use(PLAIN, inspect)
    plain = attempt(work)
    use(SHORT, SHORT_INSPECT)
    short = attempt(work)
    assert plain == short, f"{work.__name__}: Airflow {plain!r}, shortcuts {short!r}"
    return plain


def attempt(work):
    try:
        return work()
    except Exception as error:
        return type(error).__name__, str(error)


def read(path):
    bag = BundleDagBag(path, bundle_path=None, bundle_name="tests")
    assert bag.dags or bag.import_errors, path
    # The hash of a Dag holds when it was loaded, so it can only be compared for one and the same object.
    for dag in bag.dags.values():
        assert len({vars(DAG)["__hash__"](dag), PLAIN[1][2](dag), SHORT[1][2](dag)}) == 1
    serialized = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in bag.dags.items()}
    return json.dumps([serialized, bag.import_errors], sort_keys=True, default=str)


def assignments():
    class Watched:
        """A class of a team's own between an operator and the SDK."""

        seen = []

        def __setattr__(self, key, value):
            self.seen.append(key)
            super().__setattr__(key, value)

    class Mixed(BaseOperator, Watched):
        template_fields = ("text",)

        def __init__(self, text=None, **kwargs):
            super().__init__(**kwargs)
            self.text = text

        def _convert_loud(self, value):
            return value.upper()

    with DAG("assignments", schedule=None, default_args={"retries": 2, "owner": "someone"}) as dag:
        first, second = BashOperator(task_id="first", bash_command="true"), Mixed(task_id="second", text="x")
        second.text = first.output
        second.retry_delay = 90
        second.loud = "quiet"
        assert second.loud == "QUIET" and second.upstream_task_ids == {"first"}, second.__dict__
        Mixed._convert_text = lambda self, value: [value]
        second.text = "later"
        second._lock_for_execution = True
        second.text = first.output
        del Mixed._convert_text
    given = second._BaseOperator__init_kwargs
    return Watched.seen, repr(second.text), second.retry_delay, sorted(given), repr(given["text"]), dag.task_ids


def wrong_retries():
    BashOperator(task_id="wrong", bash_command="true", retries="several")


def wrong_attribute():
    BashOperator(task_id="wrong", bash_command="true", no_such_thing=1)


def parameters():
    holder = {"size": Param(1, type="integer"), "names": Param([1, {"a": 2}])}
    results = []
    for params in (ParamsDict(), ParamsDict(None, True), ParamsDict(holder), ParamsDict({}, True)):
        copied = copy.deepcopy(params)
        assert copied is not params and type(copied) is type(params)
        copied["more"] = 5
        results.append((copied.dump(), params.dump(), copied.suppress_exception))
    return results


def task_functions():
    def plain(one, two=2, *rest, three: int = 3, **more) -> str: ...

    def wrapped_inside(*args): ...

    wrapped = functools.wraps(plain)(wrapped_inside)
    answers = []

    def ask(function):
        answers.append(repr(decorator.inspect.signature(function)))

    ask(plain), ask(plain), ask(wrapped), ask(functools.partial(plain, 1)), ask(DAG.add_task)
    plain.__defaults__ = (20,)
    ask(plain)
    plain.__kwdefaults__["three"] = 30
    ask(plain)
    plain.__annotations__["one"] = float
    ask(plain)
    plain.__annotations__["one"] = bytes
    ask(plain)
    plain.__code__ = (lambda one, other=5, *rest, three, **more: None).__code__
    ask(plain)
    plain.__signature__ = inspect.signature(len)
    ask(plain)
    del plain.__signature__
    ask(plain)
    return answers


def calls():
    @task
    def double(value, ds=None): ...

    with DAG("calls", schedule=None):
        return [attempt(call) for call in (lambda: double(), lambda: double(1, 2, 3), lambda: double(other=1))]


def never_asks_whether_things_are_equal():
    class Silent:
        def __eq__(self, other):
            raise RuntimeError("asked")

        __hash__ = None

    def holds(value=Silent(), *, more=Silent()): ...

    return [len(decorator.inspect.signature(holds).parameters) for _ in range(3)]


for path in sys.argv[2:]:
    both(functools.update_wrapper(functools.partial(read, path), read))
both(assignments)
both(wrong_retries)
both(wrong_attribute)
both(parameters)
both(task_functions)
both(calls)
both(never_asks_whether_things_are_equal)

# The types of its messages leave no trace in a channel, so the agent leaves them out.
named = comms.CommsDecoder[comms.ToTask, comms.ToSupervisor](socket=None)
assert type(named) is comms.CommsDecoder and not hasattr(named, "__orig_class__")

# What somebody else has put there stays.
use(PLAIN, inspect)
theirs = DAG.__hash__ = lambda self: 7
assert shortcuts.take() == ["DAG.__hash__"] and DAG.__hash__ is theirs
assert shortcuts.take() == [f"{owner.__name__}.{name}" for owner, name, _ in PLAIN] + ["decorator.inspect"]
print("the same", len(sys.argv) - 2)
