"""Running a team's triggers in one long-lived fork: Airflow's own runner, told what to do when there is something to do.

Airflow's runner and its supervisor look at each other once a second. Here a question without news is kept until there
are orders, and news are sent when they happen; what is run, and how, is Airflow's.
"""

import asyncio
import json
from collections import deque

import anyio
import msgspec
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.sdk.execution_time.comms import _new_encoder
from airflow.sdk.serde import serialize
from airflow.triggers.base import BaseTaskEndEvent
from airflow.utils.json import XComEncoder

GRACE = 1.0
"""Seconds that a trigger has to end by itself after its event, before it is cancelled."""


def run() -> None:
    """Runs triggers until the supervisor goes away or asks to stop."""
    Runner().run()


class Telling(deque):
    """A queue that says when something was put in."""

    def __init__(self, told: asyncio.Event) -> None:
        super().__init__()
        self.told = told

    def append(self, item: object) -> None:
        super().append(item)
        self.told.set()


class Report:
    """News on the wire: each event with its payload as it is and as a task's argument."""

    def __init__(self, changes: messages.TriggerStateChanges) -> None:
        self.changes = changes

    def model_dump(self) -> dict:
        body = self.changes.model_dump()
        encoder = _new_encoder()
        for entry, sent in zip(self.changes.events or (), body["events"] or (), strict=True):
            if isinstance(entry.event, BaseTaskEndEvent):
                # As Airflow stores what a trigger pushes: the JSON text, which is what tasks pull.
                xcoms = entry.event.xcoms or {}
                sent[1]["xcoms"] = {key: json.dumps(value, cls=XComEncoder) for key, value in xcoms.items()}
                continue
            # The payload as it would come out of Airflow's own wire: lists for tuples, instants in UTC.
            plain = msgspec.msgpack.decode(encoder.encode(sent[1]["payload"]))
            sent[1]["serialized"] = serialize(plain)
        return body


class Runner(TriggerRunner):
    """Airflow's runner without its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()
        self.events = Telling(self.news)
        self.failed_triggers = Telling(self.news)

    async def arun(self) -> None:
        """Reports news as they come, and obeys orders."""
        await self.init_comms()
        self._stop_event = anyio.Event()
        watchdog = asyncio.create_task(self.block_watchdog())
        orders = asyncio.create_task(self.take_orders())
        stopping = asyncio.create_task(self._stop_event.wait())
        ends = {watchdog, orders, stopping, self.comms_decoder._reader_task}
        try:
            while not self.stop:
                waiting = asyncio.create_task(self.news.wait())
                await asyncio.wait({waiting, *ends}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if self.stop:
                    break
                for task in ends - {stopping}:
                    if task.done():
                        task.result()
                        raise RuntimeError("Supervisor connection lost")
                self.news.clear()
                await self.sync_state_to_supervisor(await self.cleanup_finished_triggers())
        finally:
            self.stop = True
            for task in ends:
                task.cancel()
            await self._shared_streams.stop_all()

    async def take_orders(self) -> None:
        """Asks what to start and what to stop; the answer comes when there is something."""
        while not self.stop:
            orders = await self.comms_decoder.asend(messages.TriggerStateChanges())
            self.to_create.extend(orders.to_create)
            self.to_cancel.extend(orders.to_cancel)
            await self.create_triggers()
            await self.cancel_triggers()
            # One that is cancelled before its first step tells nobody that it is over.
            asyncio.get_running_loop().call_later(0.1, self.news.set)

    async def cancel_triggers(self) -> None:
        """A trigger that has fired for its task is not killed by anybody: it may still clean up."""
        fired = [
            trigger_id
            for trigger_id in self.to_cancel
            if (details := self.triggers.get(trigger_id)) and details["events"] and not details["is_watcher"]
        ]
        for trigger_id in fired:
            self.to_cancel.remove(trigger_id)
            asyncio.get_running_loop().call_later(GRACE, self.triggers[trigger_id]["task"].cancel)
        await super().cancel_triggers()

    async def run_trigger(self, *args: object, **kwargs: object) -> object:
        """Says when it is over."""
        try:
            return await super().run_trigger(*args, **kwargs)
        finally:
            asyncio.get_running_loop().call_soon(self.news.set)

    def process_trigger_events(self, finished_ids: list[int]) -> messages.TriggerStateChanges:
        """An event that no task could be given fails its trigger."""
        encoder = _new_encoder()
        for entry in list(self.events):
            if isinstance(entry.event, BaseTaskEndEvent):
                continue
            try:
                serialize(msgspec.msgpack.decode(encoder.encode(entry.event.model_dump()["payload"])))
            except Exception as error:
                self.log.error("Trigger returned a payload that cannot be serialized", trigger_id=entry.trigger_id)
                self.events.remove(entry)
                self.failed_triggers.append((entry.trigger_id, error))
        return super().process_trigger_events(finished_ids)

    async def asend(self, msg: messages.TriggerStateChanges) -> messages.TriggerStateSync | None:
        """Sends news, if there are any: a message without news would be taken for a question."""
        if msg.events or msg.failures or msg.finished:
            return await super().asend(Report(msg))
        return None
