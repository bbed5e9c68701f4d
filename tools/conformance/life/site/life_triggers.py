"""A trigger that waits for a file and says what becomes of it."""

from __future__ import annotations

import asyncio

from airflow.triggers.base import BaseTrigger, TriggerEvent
from life_evidence import WORK, say


class FileTrigger(BaseTrigger):
    def __init__(self, gate: str, dag: str):
        super().__init__()
        self.gate, self.dag = gate, dag

    def serialize(self):
        return ("life_triggers.FileTrigger", {"gate": self.gate, "dag": self.dag})

    async def run(self):
        say(self.dag, f"trigger {self.gate} begins")
        try:
            while not (WORK / self.gate).exists():
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            say(self.dag, f"trigger {self.gate} is cancelled")
            raise
        yield TriggerEvent(self.gate)

    async def on_kill(self):
        say(self.dag, f"trigger {self.gate} is killed")
