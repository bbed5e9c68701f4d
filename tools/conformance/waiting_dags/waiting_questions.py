"""Tasks that ask people."""

import datetime as dt

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import (
    ApprovalOperator,
    HITLBranchOperator,
    HITLEntryOperator,
    HITLOperator,
)
from airflow.sdk import DAG, BaseNotifier, Param
from waiting_operators import CALLBACKS
from waiting_triggers import note

SECOND = dt.timedelta(seconds=1)


class Notes(BaseNotifier):
    template_fields = ("message",)

    def __init__(self, message):
        super().__init__()
        self.message = message

    def notify(self, context):
        operator = context["task"]
        link = operator.generate_link_to_ui(task_instance=context["ti"], base_url="http://here", options=operator.options[:1])
        note(operator.task_id, "notified", f"{self.message} {link.replace(context['run_id'], 'RUN')}")


def someone(name):
    return {"id": name, "name": name}


with DAG("ask_people", schedule=None, params={"of_the_dag": 1}):
    ApprovalOperator(task_id="approve", subject="Ship {{ task.task_id }}?", body="It is **{{ dag.dag_id }}**.", **CALLBACKS) >> (
        EmptyOperator(task_id="approved")
    )
    rejected = ApprovalOperator(task_id="reject", subject="Ship?")
    rejected >> EmptyOperator(task_id="reject_below") >> EmptyOperator(task_id="reject_far")
    rejected >> EmptyOperator(task_id="reject_anyway", trigger_rule="all_done")
    hard = ApprovalOperator(task_id="reject_all", subject="Ship?", ignore_downstream_trigger_rules=True)
    hard >> EmptyOperator(task_id="reject_all_below") >> EmptyOperator(task_id="reject_all_far", trigger_rule="all_done")
    ApprovalOperator(task_id="reject_fails", subject="Ship?", fail_on_reject=True, **CALLBACKS)
    branch = HITLBranchOperator(
        task_id="branch", subject="Where?", options=["left", "right", "up"], multiple=True, options_mapping={"up": "above"}
    )
    branch >> [EmptyOperator(task_id=name) for name in ("left", "right", "above")]
    HITLEntryOperator(
        task_id="entry",
        subject="How many?",
        params={
            "n": Param(3, type="integer", minimum=1, description="A number"),
            "text": "plain",
            "wanted": Param(None, type=["string", "null"]),
        },
    )
    HITLEntryOperator(task_id="entry_wrong", subject="How many?", params={"n": Param(3, type="integer")})
    HITLEntryOperator(task_id="entry_other", subject="How many?", params={"n": Param(3, type="integer")})
    HITLOperator(task_id="several", subject="Which?", options=["a", "b", "c"], multiple=True, defaults=["a", "b"])
    HITLOperator(task_id="one", subject="Which?", options=["a", "b"], defaults="b", notifiers=[Notes("{{ task.subject }}")])
    HITLOperator(task_id="assigned", subject="Who?", options=["a"], assigned_users=[someone("una"), someone("otto")])
    HITLOperator.partial(task_id="mapped", options=["yes", "no"]).expand(subject=["first?", "second?"])

with DAG("ask_in_time", schedule=None):
    HITLOperator(task_id="default", subject="?", options=["a", "b"], defaults="b", response_timeout=5 * SECOND, **CALLBACKS)
    HITLOperator(
        task_id="defaults",
        subject="?",
        options=["a", "b"],
        defaults=["a", "b"],
        multiple=True,
        params={"n": Param(3, type="integer"), "m": 4},
        response_timeout=5 * SECOND,
    )
    HITLOperator(
        task_id="nobody",
        subject="?",
        options=["a"],
        response_timeout=5 * SECOND,
        retries=1,
        retry_delay=SECOND,
        **CALLBACKS,
    )
    HITLEntryOperator(task_id="entry_default", subject="?", params={"n": 1}, response_timeout=5 * SECOND)
    ApprovalOperator(task_id="approve_default", subject="?", defaults="Reject", response_timeout=5 * SECOND) >> (
        EmptyOperator(task_id="approve_below")
    )

with DAG("ask_again", schedule=None):
    HITLOperator(task_id="again", subject="?", options=["a", "b"])

with DAG("ask_killed", schedule=None, max_active_runs=10):
    HITLOperator(task_id="killed", subject="?", options=["a", "b"]) >> EmptyOperator(task_id="below", trigger_rule="all_done")
