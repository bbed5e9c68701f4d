"""Functions written in C that answer differently each time, replaced in this process by ones that tell who asks.

Python's profile hook sees what Python code calls. What C code calls for it stays unseen: `map(os.stat, names)`,
`functools.partial(datetime.now)()`, `iter(time.time, None)`, a `default_factory`. Replaced, a function is heard of
whoever calls it, and by whatever way it was come by.

Such a process can only be thrown away afterwards.
"""

import _random
import _thread
import ctypes
import datetime
import functools
import gc
import importlib
import sys

# With how many arguments such a function is given a moment, and does not ask for it.
OF_A_MOMENT = {"gmtime": 1, "localtime": 1, "ctime": 1, "asctime": 1, "strftime": 2}
CLOCKS = (
    "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time "
    "thread_time_ns clock_gettime clock_gettime_ns"
).split()
OF_THE_PROCESS = "getpid getppid getpgid getpgrp getsid times getloadavg sched_getaffinity".split()
CHANCE = "urandom getrandom".split()
LOOKING = "stat lstat access readlink listxattr getxattr statvfs".split()
MODULES = {
    "time": [*CLOCKS, *OF_A_MOMENT],
    "posix": [*OF_THE_PROCESS, *CHANCE, *LOOKING],
    "_thread": ["get_native_id", "start_new_thread", "start_joinable_thread", "start_new"],
    "_uuid": ["generate_time_safe"],
    "_ssl": ["RAND_bytes"],
    "random": ["random", "getrandbits"],
}
TYPES = {
    datetime.datetime: ["now", "utcnow"],
    datetime.date: ["today"],
    _random.Random: ["random", "getrandbits", "seed", "setstate"],
}
# By which a call of one is known that was kept before it was replaced. Others have methods of these names for given moments.
NAMES = frozenset(name for names in (*MODULES.values(), *TYPES.values()) for name in names) - OF_A_MOMENT.keys()


def watch(tell) -> None:
    """Has `tell(name, frame)` called for each call from now on, with the innermost frame of Python's that it is made in."""
    replaced = {}
    for module, names in MODULES.items():
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue  # This Python is built without it.
        for name in names:
            function = getattr(found, name, None)
            if function is not None:
                replaced[id(function)] = function, Told(function, tell)
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        for name, value in list(names.items()):
            if id(value) in replaced:
                names[name] = replaced[id(value)][1]
    for kind, names in TYPES.items():
        # A type of C's shows its attributes through a view that cannot be written; what it shows can.
        members = gc.get_referents(kind.__dict__)[0]
        for name in names:
            members[name] = ToldMember(members[name], tell)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
        if not all(isinstance(kind.__dict__[name], ToldMember) for name in names):
            raise RuntimeError(f"{kind.__name__} cannot be watched in Python {sys.version.split()[0]}")


class Told:
    """Stands for a function. As one of C's, and other than one of Python's, it is no method of a class that holds it."""

    def __init__(self, function, tell) -> None:
        functools.update_wrapper(self, function)
        self.tell = tell

    def __call__(self, *given, **named):
        name = self.__wrapped__.__name__
        asked_with = OF_A_MOMENT.get(name)
        if asked_with is None or len(given) < asked_with or given[asked_with - 1] is None:
            self.tell(name, sys._getframe(1))
        return self.__wrapped__(*given, **named)

    def __getattr__(self, name: str):
        return getattr(object.__getattribute__(self, "__wrapped__"), name)

    def __eq__(self, other: object) -> bool:
        return self.__wrapped__ == getattr(other, "__wrapped__", other)

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __reduce__(self) -> str:
        return self.__wrapped__.__name__  # As functions are: by name.


class ToldMember:
    """Stands for a method of a type of C's."""

    def __init__(self, member, tell) -> None:
        self.member = member
        self.tell = tell

    def __get__(self, instance, kind=None) -> Told:
        return Told(self.member.__get__(instance, kind), self.tell)
