"""One task for each way in which a task can end."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, ShortCircuitOperator
from airflow.sdk import DAG, Asset, BaseOperator, BaseSensorOperator, Connection, Variable, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException


class Killable(BaseOperator):
    def execute(self, context):
        print("killable is up", flush=True)
        while not getattr(self, "stopped", False):
            time.sleep(0.05)
        raise AirflowException("stopped")

    def on_kill(self):
        print("on_kill ran", flush=True)
        self.stopped = True


class Never(BaseSensorOperator):
    def poke(self, context):
        return False


def say(word):
    def callback(context):
        print(f"{word} for {context['ti'].task_id}", flush=True)

    return callback


with DAG(
    "flows",
    schedule=None,
    start_date=datetime(2025, 1, 1),
    default_args={
        "on_success_callback": say("success callback"),
        "on_failure_callback": say("failure callback"),
        "on_retry_callback": say("retry callback"),
        "on_skipped_callback": say("skip callback"),
    },
) as dag:

    @task
    def noop():
        return None

    @task
    def value():
        print("printed")
        print("complained", file=sys.stderr)
        import logging

        logging.getLogger("my.logger").warning("logged %s", "this")
        return {"answer": 42}

    @task
    def boom():
        raise ValueError("boom with s3cr3t-value")

    @task
    def give_up():
        raise AirflowFailException("no use")

    @task
    def skip():
        raise AirflowSkipException("not today")

    @task
    def sys_exit():
        sys.exit(3)

    @task
    def os_exit():
        os._exit(7)

    @task
    def os_exit_well():
        os._exit(0)

    @task
    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    @task
    def crash():
        os.abort()

    @task(execution_timeout=timedelta(seconds=0.3))
    def too_long():
        time.sleep(30)

    @task(outlets=[Asset("s3://bucket/out")])
    def outlet(*, outlet_events):
        outlet_events[Asset("s3://bucket/out")].extra = {"rows": 5}

    @task(multiple_outputs=True)
    def outputs():
        return {"a": 1, "b": 2}

    @task
    def numbers():
        return [10, 20, 30]

    @task(map_index_template="{{ ti.map_index }}-named")
    def mapped(number):
        print(f"number is {number}")
        return number

    mapped.expand(number=numbers())

    @task
    def secrets():
        print(Variable.get("plain"), Variable.get("api_key"))
        connection = Connection.get("db")
        print(connection.password, connection.host, connection.extra_dejson)
        print(Connection.get("from_env").password)
        print(Variable.get("missing", default="fallback"))
        try:
            Variable.get("missing")
        except Exception as error:
            print(type(error).__name__)
        Variable.set("written", "new")
        print(sorted(Variable.keys(prefix="pl")))
        Variable.delete("plain")

    @task
    def not_a_number():
        return float("nan")

    @task
    def big():
        return "x" * 20_000_000

    @task
    def slow():
        print("slow is up", flush=True)
        time.sleep(60)

    @task
    def clings():
        # It asks not to be killed with its parent.
        ctypes.CDLL(None).prctl(1, 0)
        with open(os.path.join(os.environ["HOME"], "clings"), "w") as told:
            told.write(str(os.getpid()))
        print("clings is up", flush=True)
        time.sleep(60)

    @task
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("stubborn is up", flush=True)
        time.sleep(60)

    @task(on_success_callback=lambda context: time.sleep(60))
    def lingering():
        return None

    @task
    def leaves_a_process():
        subprocess.Popen(["sleep", "45"], start_new_session=True)

    @task
    def relogs():
        import logging

        from airflow.sdk.execution_time import task_runner

        logging.getLogger("relogs").warning("over the first channel")
        # What a process does that took this one's place, or was started by it, to log like it.
        task_runner.reinit_supervisor_comms()
        logging.getLogger("relogs").warning("over the second channel")
        return Variable.get("greeting", default="no greeting")

    @task
    def store():
        context = get_current_context()
        store = context["task_state_store"]
        print("before", store.get("k"))
        store.set("k", {"v": 1})
        print("after", store.get("k"))

    @task
    def environment():
        for name in sorted(os.environ):
            print("env", name)

    @task(run_as_user="somebody-else")
    def as_another():
        return None

    @task
    def garbage():
        os.write(0, b"\xff\xff\xff\xff garbage")
        time.sleep(60)

    noop() >> [value(), boom(), give_up(), skip(), sys_exit(), os_exit(), os_exit_well(), killed(), crash()]
    [too_long(), outlet(), outputs(), secrets(), not_a_number(), big(), slow(), clings(), stubborn(), lingering()]
    [leaves_a_process(), store(), environment(), garbage(), as_another(), relogs()]

    Killable(task_id="killable")
    Never(task_id="never", mode="reschedule", poke_interval=60)
    ShortCircuitOperator(task_id="short", python_callable=lambda: False) >> BashOperator(
        task_id="after_short", bash_command="true"
    )
    BashOperator(task_id="bash", bash_command="echo from bash {{ ds }}; echo last-line")
    BashOperator(task_id="bash_skip", bash_command="exit 99")
    BashOperator(task_id="bash_fail", bash_command="exit 4")
    BranchPythonOperator(task_id="branch", python_callable=lambda: "left") >> [
        BashOperator(task_id="left", bash_command="true"),
        BashOperator(task_id="right", bash_command="true"),
    ]

    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
    from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
    from airflow.providers.standard.operators.hitl import HITLEntryOperator

    TriggerDagRunOperator(task_id="trigger", trigger_dag_id="other", trigger_run_id="run-1", conf={"a": 1})
    TimeDeltaSensor(task_id="defer", delta=timedelta(days=36500), deferrable=True)
    HITLEntryOperator(task_id="ask", subject="what now?")
