"""Operators that wait for `waiting_triggers`."""

from airflow.sdk import BaseOperator
from airflow.triggers.base import StartTriggerArgs
from waiting_triggers import FileTrigger, note


def call_back(kind):
    def called(context):
        ti = context["ti"]
        note(ti.task_id, "callbacks", f"{kind} in try {ti.try_number}")

    return called


CALLBACKS = {f"on_{kind}_callback": call_back(kind) for kind in ("execute", "success", "failure", "retry", "skipped")}


class Waits(BaseOperator):
    """Defers, and returns what it hears."""

    template_fields = ("name",)

    def __init__(self, *, name=None, mode="event", payload=None, patience=None, arguments=None, method="resume", **kwargs):
        super().__init__(**kwargs)
        self.name, self.mode, self.payload, self.patience = name or kwargs["task_id"], mode, payload, patience
        self.arguments, self.method = arguments, method

    def execute(self, context):
        context["ti"].xcom_push(key="before", value="pushed before it deferred")
        self.defer(
            trigger=FileTrigger(self.name, self.mode, self.payload),
            method_name=self.method,
            kwargs=self.arguments,
            timeout=self.patience,
        )

    def resume(self, context, event, **kwargs):
        shown = {key: f"{type(value).__name__}: {value!r}" for key, value in sorted(kwargs.items())}
        # PostgreSQL may order keys anew.
        event = dict(sorted(event.items())) if isinstance(event, dict) else event
        return {"event": f"{type(event).__name__}: {event!r}", "kwargs": shown, "try": context["ti"].try_number}

    def fail(self, context, event):
        raise RuntimeError("broken after waiting")

    def on_kill(self):
        note(self.name, "operator_killed")


class Defers(BaseOperator):
    """Defers to any trigger."""

    def __init__(self, *, to, **kwargs):
        super().__init__(**kwargs)
        self.to = to

    def execute(self, context):
        self.defer(trigger=self.to, method_name="resume")

    def resume(self, context, event):
        return repr(event)


class Twice(BaseOperator):
    """Waits for one file, then for another."""

    def execute(self, context):
        self.defer(trigger=FileTrigger(self.task_id, payload=1), method_name="again", kwargs={"own": 1})

    def again(self, context, event, own):
        self.defer(trigger=FileTrigger(self.task_id + "_2", payload=2), method_name="done", kwargs={"heard": [event, own]})

    def done(self, context, event, heard):
        return [event, heard]


class Starts(BaseOperator):
    """Is deferred without a worker."""

    template_fields = ("name",)
    start_from_trigger = True

    def __init__(self, *, name, mode="event", patience=None, **kwargs):
        super().__init__(**kwargs)
        self.name = name
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="waiting_triggers.FileTrigger",
            trigger_kwargs={"name": name, "mode": mode},
            next_method="resume",
            next_kwargs={"own": 3},
            timeout=patience,
        )

    def execute(self, context):
        raise RuntimeError("a worker must not run this")

    def resume(self, context, event, own):
        return [event, own, context["ti"].try_number]
