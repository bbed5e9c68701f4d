import asyncio, os, pathlib
from airflow.triggers.base import (
    BaseEventTrigger, BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent,
)

class FileTrigger(BaseTrigger):
    def __init__(self, folder, name, mode="event"):
        super().__init__()
        self.folder, self.name, self.mode = folder, name, mode

    def serialize(self):
        return ("watching.FileTrigger", {"folder": self.folder, "name": self.name, "mode": self.mode})

    def note(self, what):
        with open(pathlib.Path(self.folder) / f"{self.name}.{what}", "a") as notes:
            notes.write(f"{os.getpid()}\n")

    async def run(self):
        self.note("begun")
        self.log.info("waiting for %s", self.name)
        while not (pathlib.Path(self.folder) / self.name).exists():
            await asyncio.sleep(0.05)
        self.note("fired")
        if self.mode == "boom":
            raise RuntimeError("the trigger is broken")
        if self.mode == "success":
            yield TaskSuccessEvent(xcoms={"return_value": "from the trigger"})
        elif self.mode == "failed":
            yield TaskFailedEvent()
        elif self.mode == "skipped":
            yield TaskSkippedEvent()
        else:
            yield TriggerEvent({"seen": self.name})

    async def on_kill(self):
        self.note("killed")

    async def cleanup(self):
        self.note("cleaned")

class FolderWatcher(BaseEventTrigger):
    def __init__(self, folder, prefix):
        super().__init__()
        self.folder, self.prefix = folder, prefix

    def serialize(self):
        return ("watching.FolderWatcher", {"folder": self.folder, "prefix": self.prefix})

    async def run(self):
        with open(pathlib.Path(self.folder) / f"watcher.{self.prefix}", "a") as notes:
            notes.write(f"{os.getpid()}\n")
        seen = set()
        while True:
            for path in sorted(pathlib.Path(self.folder).glob(self.prefix + "-*")):
                if path.name not in seen:
                    seen.add(path.name)
                    yield TriggerEvent({"file": path.name})
            await asyncio.sleep(0.05)

    async def cleanup(self):
        with open(pathlib.Path(self.folder) / f"gone.{self.prefix}", "a") as notes:
            notes.write("gone\n")

class Ends(BaseEventTrigger):
    """Ends as soon as it began: by itself, or not."""

    def __init__(self, folder, how):
        super().__init__()
        self.folder, self.how = folder, how

    def serialize(self):
        return ("watching.Ends", {"folder": self.folder, "how": self.how})

    async def run(self):
        with open(pathlib.Path(self.folder) / f"watcher.{self.how}", "a") as notes:
            notes.write("begun\n")
        if self.how == "fails":
            raise RuntimeError("the watcher is broken")
        yield TriggerEvent(self.how)
