"""XComs of every kind, templates, params, odd output."""

from __future__ import annotations

import logging
import sys
import warnings
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, Param, task

VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -17,
    "large": 2**53,
    "fraction": 0.1,
    "tiny": 1e-300,
    "huge_number": 1.5e300,
    "empty_text": "",
    "text": "plain",
    "unicode": "žluťoučký kůň 🐎 日本語 \u202e \x01 \\ \" '",
    "empty_list": [],
    "nested": [1, [2, [3, {"four": [5, None, True, 0.5]}]]],
    "empty_dict": {},
    "keys": {"a b": 1, "é": 2, "": 3, "a.b/c:d": 4},
    "tuple": (1, "two", (3,)),
    "set": {1},
    "moment": datetime(2024, 3, 6, 1, 2, 3, tzinfo=timezone.utc),
    "span": timedelta(days=1, seconds=5),
    "json_text": '{"not": "parsed"}',
}

with DAG(dag_id="own_xcoms", schedule=None, tags=["own"]):

    def give(name):
        return VALUES[name]

    given = [PythonOperator(task_id=f"of_{name}", python_callable=give, op_args=[name]) for name in VALUES]

    @task
    def large():
        return "0123456789" * 300_000

    @task
    def receives(value):
        return [len(value), value[:5]]

    @task(multiple_outputs=True)
    def several():
        return {"one": 1, "two": {"three": 4}}

    @task
    def pushes(ti=None):
        ti.xcom_push(key="a key with spaces / and: more", value=[1])
        ti.xcom_push(key="twice", value="first")
        ti.xcom_push(key="twice", value="second")
        ti.xcom_push(key="nothing", value=None)

    @task(do_xcom_push=False)
    def keeps_it():
        return "not pushed"

    @task
    def cannot_be_sent():
        return object()

    @task
    def pulls(ti=None):
        return {
            "missing": ti.xcom_pull(task_ids="nobody"),
            "default": ti.xcom_pull(task_ids="nobody", default="the default"),
            "many": list(ti.xcom_pull(task_ids=["of_zero", "of_text"])),
            "key": ti.xcom_pull(task_ids="pushes", key="twice"),
            "set": sorted(ti.xcom_pull(task_ids="of_set")),
            "tuple": list(ti.xcom_pull(task_ids="of_tuple")),
            "moment": ti.xcom_pull(task_ids="of_moment").isoformat(),
        }

    receives(large())
    parts = several()
    pushed = pushes()
    [pushed, keeps_it(), parts, *given] >> pulls.override(trigger_rule="all_done")()
    cannot_be_sent()

with DAG(
    dag_id="own_templates",
    schedule=None,
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    params={
        "name": Param("world", type="string", minLength=1),
        "count": Param(3, type="integer", minimum=0),
        "plain": "text",
        "list": [1, 2],
    },
    user_defined_macros={"greet": lambda who: f"hello {who}", "LIMIT": 7},
    user_defined_filters={"shout": lambda text: text.upper() + "!"},
    default_args={"params": {"plain": "from default_args"}},
    tags=["own"],
):
    texts = {
        "dates": "{{ ds }} {{ ds_nodash }} {{ ts }} {{ ts_nodash }} {{ ts_nodash_with_tz }}",
        "interval": "{{ data_interval_start }} {{ data_interval_end }} {{ logical_date }}",
        "macros": "{{ macros.ds_add(ds, 5) }} {{ macros.ds_format(ds, '%Y-%m-%d', '%d/%m/%y') }} {{ macros.timedelta(days=1) }}",
        "ids": "{{ dag.dag_id }} {{ task.task_id }} {{ run_id }} {{ ti.try_number }} {{ ti.map_index }} {{ task_instance_key_str }}",
        "params": "{{ params.name }} {{ params.count + 1 }} {{ params.plain }} {{ params.list | join('-') }}",
        "own": "{{ greet('you') }} {{ LIMIT }} {{ 'quiet' | shout }}",
        "run": "{{ dag_run.run_type }} {{ dag_run.conf.get('given', 'nothing') }} {{ prev_data_interval_start_success }}",
        "missing": "[{{ params.nothing }}] {{ var.value.get('unknown', 'fallback') }} {{ conn.get('unknown', 'no connection') }}",
    }
    for name, text in texts.items():
        BashOperator(task_id=f"shows_{name}", bash_command="echo \"$TEXT\"", env={"TEXT": text})

    @task
    def kinds(params=None):
        return {key: type(value).__name__ for key, value in params.items()}

    @task(params={"plain": "from the task"})
    def nearer(params=None):
        return params["plain"]

    kinds(), nearer()
    BashOperator(task_id="broken_template", bash_command="{{ unclosed")

with DAG(dag_id="own_native_templates", schedule=None, render_template_as_native_obj=True, tags=["own"]):

    @task
    def gives():
        return {"list": [1, 2, 3], "number": 4}

    def takes(value, number, text):
        return [type(value).__name__, value, type(number).__name__, type(text).__name__]

    gives() >> PythonOperator(
        task_id="takes",
        python_callable=takes,
        op_args=["{{ ti.xcom_pull('gives')['list'] }}", "{{ 1 + 1 }}", "{{ ds_nodash ~ '' }}"],
    )

with DAG(dag_id="own_odd_output", schedule=None, tags=["own"]):

    @task
    def prints():
        print("žluťoučký kůň 🐎")
        print("\x1b[31mred\x1b[0m \x00 \x07 tab\tend")
        print("no end of line", end="")
        print("to stderr", file=sys.stderr)
        print('{"event": "looks like a log line", "level": "error"}')
        print("x" * 200_000)
        sys.stdout.buffer.write(b"\xff\xfe not utf-8 \xc3\x28\n") if hasattr(sys.stdout, "buffer") else None
        print("::group::a group\ninside\n::endgroup::")
        logging.getLogger("some.other.logger").warning("with %s", "arguments")
        logging.getLogger(__name__).error("and a trace", exc_info=ValueError("traced"))
        warnings.warn("a warning", stacklevel=1)

    @task
    def many_lines():
        for number in range(5000):
            print("line", number)

    BashOperator(task_id="bash_bytes", bash_command="printf '\\377\\376 not utf-8\\n'; echo last")
    BashOperator(task_id="bash_no_output", bash_command=":")
    BashOperator(task_id="bash_to_stderr", bash_command="echo visible; echo hidden >&2")
    prints(), many_lines()

with DAG(dag_id="own_ünïcode", dag_display_name="Größe 🐎", description="čeština", schedule=None, tags=["own", "žluť"]):

    @task(task_id="úkol.první", task_display_name="První 🥇")
    def first():
        return {"klíč": "hodnota"}

    @task(map_index_template="{{ 'číslo ' ~ číslo }}")
    def each(číslo):
        from airflow.sdk import get_current_context

        get_current_context()["číslo"] = číslo
        return číslo

    first() >> each.expand(číslo=["á", "b"])
