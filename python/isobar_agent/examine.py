"""Whether reading a Dag file depends on nothing but files.

The file is read once under watch. What could come out differently the next time, or must happen in each task, makes it
unfit: asking for a variable or connection, looking at the clock, drawing random numbers, writing, connecting, starting
threads or processes, printing. What is found too much costs speed alone. The files that it did depend on are named, with
their state from before they were read.

This process is thrown away afterwards.
"""

import atexit
import ctypes
import json
import logging
import os
import platform
import random
import signal
import site
import socket
import struct
import sys
import sysconfig

import airflow
import structlog
from airflow.sdk.execution_time import task_runner
from airflow.timetables import _cron
from isobar_agent import changing, prepared, preload

# Functions of Airflow's own that answer differently, where others call them.
ASKED_OF_AIRFLOW = frozenset("utcnow days_ago get_parsing_context".split())
# What happens otherwise than by asking.
DONE = {"start_new_thread": "starts a thread", "start_joinable_thread": "starts a thread", "start_new": "starts a thread"}
# Modules whose own functions pass on what they find out of one path.
PASSING_ON = ("genericpath", "posixpath", "pathlib", "pathlib._local")
MOST_FILES = 2000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events, or beginnings of them, of what must not be done ahead of a task or once for many.
ACTS = tuple(
    "socket.connect socket.bind socket.sendto socket.sendmsg socket.getaddrinfo socket.gethostbyname socket.getnameinfo "
    "subprocess. os.system os.exec os.fork os.posix_spawn os.spawn os.startfile os.kill os.mkdir os.rename os.remove "
    "os.rmdir os.link os.symlink os.truncate os.chmod os.chown os.utime os.setxattr shutil. tempfile. sqlite3.connect "
    "sys.setprofile sys.settrace fcntl. pty. mmap. http. urllib. smtplib. ftplib. time.sleep".split()
)
ENVIRONMENT = type(os.environ).__getitem__.__code__
# Numbers of connect, bind and execve, and how the kernel names the machine.
SYSTEM_CALLS = {"x86_64": (0xC000003E, (42, 49, 59, 322)), "aarch64": (0xC00000B7, (203, 200, 221, 281))}


def run() -> None:
    """Reads the file that the environment names and answers with one line of JSON."""
    order = json.loads(os.environ.pop("ISOBAR_EXAMINE"))
    answer = socket.socket(fileno=os.dup(0))
    examination = Examination()
    try:
        reason = examination.read(**order)
    except BaseException as error:
        reason = f"reading it ended in {type(error).__name__}: {error}"
    files = None if reason else examination.files
    answer.sendall(json.dumps({"unfit": reason and reason[:1000], "files": files}).encode())
    os._exit(0)


class Examination:
    """One reading under watch."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.files: dict[str, list[int]] = {}
        self.watching = False
        paths = sysconfig.get_paths()
        self.packages = folders({paths["purelib"], paths["platlib"], *site.getsitepackages()})
        self.library = folders({paths["stdlib"], paths["platstdlib"]})
        # What Airflow logs with is Airflow's; that it was used shows in the log. Providers are anybody's.
        airflows = {os.path.dirname(os.path.abspath(__file__)), os.path.dirname(structlog.__file__), *airflow.__path__}
        self.airflow = ("<frozen importlib", *folders(airflows))
        # These ask for moments that nobody keeps: of a line of a log, and where a cron expression is looked at.
        loggers = {os.path.dirname(logging.__file__), os.path.dirname(structlog.__file__)}
        self.forgetting = ("<frozen importlib", *folders(loggers), _cron.__file__)
        self.providers = folders({os.path.join(path, "providers") for path in airflow.__path__})
        self.loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self.parts: dict[str, str] = {}

    def read(self, bundle: str, version: str | None, path: str) -> str | None:
        """Gives what makes the file unfit."""
        task_runner.SUPERVISOR_COMMS = prepared.NotAskable(self.found)
        given = prepared.arguments(bundle, version, path)
        output = [catch(number) for number in (1, 2, preload.log_fd())]
        before, loaded = state(), set(sys.modules)
        forbid_connections()
        changing.watch(self.asked)
        sys.addaudithook(self.audit)
        sys.setprofile(self.profile)
        self.watching = True
        try:
            bag = prepared.dagbag.BundleDagBag(**given)
        finally:
            self.watching = False
            sys.setprofile(None)
            sys.stdout.flush()
            sys.stderr.flush()
        if self.reason:
            return self.reason
        if bag.import_errors:
            return "it cannot be imported"
        after = state()
        for what, was in before.items():
            if after[what] != was:
                return f"it changes {what}"
        modules = {name: sys.modules.get(name) for name in sys.modules.keys() - loaded}
        sources = [getattr(module, "__file__", None) for module in modules.values()]
        for source in sources:
            if source and source.endswith(".so") and self.part(source) == "foreign":
                return f"it loads {os.path.basename(source)}, compiled code, which cannot be watched"
        self.look_into([given["dag_folder"], *sources])
        if len(self.files) > MOST_FILES:
            return f"it depends on {len(self.files)} files"
        for what, file in zip(("its output", "its errors", "its log"), output, strict=True):
            if said(file):
                return f"{what} would be missing in the tasks' logs"
        return self.reason

    def found(self, reason: str) -> None:
        """Keeps the first thing that makes the file unfit."""
        self.reason = self.reason or reason

    def look_into(self, sources: list[str | None]) -> None:
        """Notes loaded sources, which Python may have read from its cache."""
        for source in sources:
            if source and not os.path.realpath(source).startswith((*self.packages, *self.library)):
                self.depends_on(source)
                if source.endswith(".py") and os.path.exists(source):
                    with open(source, "rb") as file:
                        if b"PARSING_CONTEXT" in file.read():
                            self.found("it reads the parsing context")

    def depends_on(self, path: object) -> None:
        """Notes a file or folder as it is now."""
        if isinstance(path, int):
            return
        path = os.path.abspath(os.fsdecode(path))
        if path in self.files or os.path.realpath(path).startswith((*self.packages, *self.library)):
            return
        if path.startswith(("/proc/", "/sys/", "/dev/")) and path != os.devnull:
            self.found(f"it reads {path}")
            return
        try:
            about = os.stat(path)
        except OSError:
            self.found(f"it looks for {path}, which is missing")
            return
        self.files[path] = [about.st_ino, about.st_size, about.st_mtime_ns]

    def audit(self, event: str, given: tuple) -> None:
        """What Python does that its audit hooks tell."""
        if not self.watching:
            return
        if event == "open":
            path, _, flags = given
            if not isinstance(path, (str, bytes, os.PathLike)) or path == os.devnull:
                return
            path = os.fsdecode(path)
            if imports(sys._getframe(1)) and (flags & WRITING or path.endswith(".pyc")):
                return
            if flags & WRITING:
                self.found(f"it writes {path}")
            else:
                self.depends_on(path)
        elif event in ("ctypes.dlopen", "ctypes.dlsym"):
            if self.initiator(sys._getframe(1)):
                self.found("it calls functions of C, which cannot be watched")
        elif event in ("os.listdir", "os.scandir"):
            self.depends_on("." if given[0] is None else given[0])
        elif event.startswith(ACTS) and not imports(sys._getframe(1)):
            self.found(f"it does {event}")

    def profile(self, frame, event: str, given: object) -> None:
        """Each call that Python code makes: those of Airflow's functions, and of C's that were kept before they were watched."""
        if event == "c_call":
            if given.__name__ in changing.NAMES and frame.f_code is not changing.Told.__call__.__code__:
                self.asked(given.__name__, frame)
        elif event == "call":
            name = frame.f_code.co_name
            if name in ASKED_OF_AIRFLOW and self.initiator(frame.f_back):
                self.found(f"it calls {name}")
            elif frame.f_code is ENVIRONMENT and "PARSING_CONTEXT" in str(frame.f_locals.get("key")):
                if self.initiator(frame.f_back):
                    self.found("it reads the parsing context")

    def asked(self, name: str, frame) -> None:
        """A function that answers differently each time is called, here."""
        if not self.watching:
            return
        if name in changing.LOOKING:
            if caller := self.initiator(frame):
                self.looks(frame, name, caller)
        elif caller := self.beneficiary(frame):
            does = DONE.get(name, f"calls {name}")
            self.found(f"it {does} in line {caller.f_lineno} of {caller.f_code.co_filename}")

    def looks(self, frame, name: str, caller) -> None:
        """Notes what a function of Python's library looks at."""
        if frame.f_globals.get("__name__") not in PASSING_ON or not frame.f_locals:
            self.found(f"it calls {name} in line {caller.f_lineno} of {caller.f_code.co_filename}")
        elif "newpath" in frame.f_locals:
            # Each part of a path that is resolved: what is no link now is taken to stay none.
            if os.path.islink(frame.f_locals["newpath"]):
                self.depends_on(frame.f_locals["newpath"])
        else:
            self.depends_on(next(iter(frame.f_locals.values())))

    def initiator(self, frame):
        """Whose doing a call is, through libraries: none where it is Airflow's or an import's own."""
        while frame is not None:
            part = self.part(frame.f_code.co_filename)
            if part != "library":
                return frame if part == "foreign" else None
            frame = frame.f_back
        return None

    def beneficiary(self, frame):
        """Who gets a moment or a number, also by way of Airflow's own functions: none where nobody keeps it."""
        while frame is not None:
            path = frame.f_code.co_filename
            if path.startswith(self.forgetting):
                return None
            if self.part(path) == "foreign":
                return frame
            frame = frame.f_back
        return None

    def part(self, path: str) -> str:
        """What a source belongs to. Libraries act for those who call them, where the zygote had loaded them already."""
        known = self.parts.get(path)
        if known is None:
            if path.startswith(self.providers):
                known = "foreign"
            elif path.startswith(self.airflow):
                known = "ours"
            elif path.startswith("<") or path in self.loaded:
                known = "library"
            elif path.startswith(self.library) and not path.startswith(self.packages):
                known = "library"
            else:
                known = "foreign"
            self.parts[path] = known
        return known


def folders(paths: set[str]) -> tuple[str, ...]:
    """Beginnings of the paths below them, as they are written and as they are."""
    return tuple(os.path.join(each, "") for path in paths for each in {path, os.path.realpath(path)})


def imports(frame) -> bool:
    """Whether this is Python's import, which keeps bytecode for itself."""
    return frame.f_code.co_filename.startswith("<frozen importlib")


def catch(number: int) -> int:
    """Sends what is written to a descriptor into memory; gives that."""
    memory = os.memfd_create("examined", os.MFD_CLOEXEC)
    os.dup2(memory, number, inheritable=False)
    return memory


def said(memory: int) -> bool:
    """Whether something was written, beyond the one line that each task is told again."""
    os.lseek(memory, 0, os.SEEK_SET)
    with os.fdopen(memory, "rb", closefd=False) as file:
        return any(line.strip() and b"Filling up the DagBag from" not in line for line in file)


def state() -> dict[str, object]:
    """What a fork inherits and a task in a process of its own would not find changed, or would not share."""
    # Without those that Airflow itself handles during an import.
    signals = signal.valid_signals() - {signal.SIGALRM, signal.SIGSEGV}
    with open("/proc/self/maps") as maps:
        mappings = [line.split(maxsplit=5) for line in maps]
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        started = children.read()
    return {
        "its open files": open_files(),
        "its threads": len(os.listdir("/proc/self/task")),
        "its processes": started,
        "the handling of signals": [signal.getsignal(number) for number in signals],
        "what is done at exit": atexit._ncallbacks(),
        "the random number generator": random.getstate(),
        "memory that processes share": [line[0] for line in mappings if line[1].endswith("s")],
    }


def open_files() -> dict[int, str]:
    """Open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # That of the listing.
    return found


def forbid_connections() -> None:
    """Has the kernel kill this process where code in C, which no hook sees, connects or starts programs."""
    machine, numbers = SYSTEM_CALLS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    program = [(load, 0, 0, 4), (equal, 0, len(numbers) + 2, machine), (load, 0, 0, 0)]
    for position, number in enumerate(numbers):
        program.append((equal, len(numbers) - position, 0, number))
    program += [(answer, 0, 0, allow), (answer, 0, 0, kill)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    rules = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    set_no_new_privileges, set_seccomp, filtering = 38, 22, 2
    if libc.prctl(set_no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, filtering, rules, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not filter system calls")
