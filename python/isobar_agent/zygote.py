"""A single-threaded process of one team that is forked once per task, parse or helper.

Launched warm it imports what its children will use before the first fork; launched cold each child imports for itself.

Standard input is a SOCK_SEQPACKET control socket; each packet is one JSON object.

From the supervisor:
    {"op": "fork", "id": N, "target": "task", "env": {...}}   with four descriptors: requests, stdout, stderr, logs
    {"op": "kill", "pid": P, "signal": S, "group": true}
    {"op": "prepare", "bundle": B, "version": null, "path": F}   with one descriptor: a control socket like this one
To the supervisor:
    {"event": "waiting"}                               another zygote of this team still holds the lock
    {"event": "not_warm", "reason": "..."}             its imports failed or left threads; it ends
    {"event": "ready", "pid": P, "airflow": "3.3.2", "seconds": 1.4, "shapes_instances": false}
    {"event": "forked", "id": N, "pid": P}             always before that child's "exit"
    {"event": "exit", "pid": P, "code": C, "cpu": S}   negative: killed by that signal; processor seconds
    {"event": "refused", "id": N, "message": "..."}    the fork did not happen

What "prepare" forks reads that Dag file, says {"event": "prepared"} or {"event": "unfit", "reason": "..."} over
its own socket, after {"event": "reading", "pid": P}, and then forks tasks itself, until that socket closes or this process ends.

When the control socket closes, every descendant is killed, whatever session or process group it moved to, and only
then does this process end and release the team's lock.
"""

import ctypes
import fcntl
import gc
import importlib.metadata
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback

from isobar_agent import descendants, pages

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PACKET_LIMIT = 1 << 18
SUPPORTED = "3.3.2"
TARGETS = ("task", "examine", "parse", "callback", "helper", "listeners", "triggers")


def main(launch: str, lock_path: str) -> None:
    """Runs until the control socket closes."""
    started = time.monotonic()
    control = take_control_socket()
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    lock = take_lock(lock_path, control)
    wakeup = watch_children()
    version = check_version()
    # What is made until the fork stays, with the little garbage: looking for that takes a sixth of the start, and the
    # holes that it leaves would be filled by children, each in a page of its own to be copied.
    gc.disable()
    shapes = None
    if launch == "warm":
        warm(control)
        from isobar_agent import helper

        shapes = helper.shapes_instances()
    refuse_threads()
    gc.freeze()
    pages.gather()
    seconds = round(time.monotonic() - started, 3)
    tell(control, event="ready", pid=os.getpid(), airflow=version, seconds=seconds, shapes_instances=shapes)
    zygote = Zygote(control, wakeup, lock)
    try:
        zygote.serve()
    finally:
        descendants.kill_all()
        os._exit(0)


def take_control_socket() -> socket.socket:
    """Moves the control socket away from standard input, which children must not find open on it."""
    control = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return control


def take_lock(path: str, control: socket.socket) -> int:
    """One zygote per team: waits until the one before has killed what it had started."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell(control, event="waiting")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def watch_children() -> int:
    """Gives a descriptor that becomes readable when a child ends."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return reading


def check_version() -> str:
    """Gives the installed Airflow's version; refuses those whose inner doors this agent does not know."""
    try:
        version = importlib.metadata.version("apache-airflow-core")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"Airflow is not installed in {sys.prefix}; Isobar runs teams on {SUPPORTED}") from None
    if version != SUPPORTED:
        raise SystemExit(f"Airflow {version} is installed in {sys.prefix}; Isobar runs teams on {SUPPORTED}")
    return version


def prctl(option: int, value: int) -> None:
    """Calls prctl(2); raises OSError where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def warm(control: socket.socket) -> None:
    """Imports what children will use; where that does not work out, says so and ends: a cold start is left."""
    try:
        from isobar_agent import preload

        preload.preload()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        reason = f"an import failed: {type(error).__name__}: {error}"
    else:
        count = threads()
        if count == 1:
            return
        named = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        reason = f"its imports left {count - 1} threads running ({named or 'of native code'})"
    tell(control, event="not_warm", reason=reason[:1000])
    os._exit(1)


def threads() -> int:
    """All threads of this process, also those that Python does not know."""
    return len(os.listdir("/proc/self/task"))


def refuse_threads() -> None:
    """A lock that another thread holds at the fork would stay locked in the child forever."""
    count = threads()
    if count != 1:
        raise SystemExit(
            f"the zygote has {count} threads before its first fork, and forking it would not be safe; find what "
            "starts threads when Python starts (sitecustomize, a .pth file)"
        )


def tell(control: socket.socket, **message: object) -> None:
    """Sends one packet; nothing to be done where nobody listens any more."""
    try:
        control.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        pass


class Zygote:
    """The loop: forks on request, reaps, reports."""

    def __init__(self, control: socket.socket, wakeup: int, lock: int) -> None:
        self.control = control
        self.wakeup = wakeup
        self.lock = lock
        self.children: set[int] = set()

    def serve(self) -> None:
        """Returns when the control socket closes."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wakeup, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.wakeup:
                    os.read(self.wakeup, 4096)
                    self.reap()
                elif not self.obey():
                    return

    def reap(self) -> None:
        """Reports ended children; orphans of theirs, which fall to this subreaper, are reaped silently."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self.children:
                self.children.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                tell(self.control, event="exit", pid=pid, code=code, cpu=usage.ru_utime + usage.ru_stime)

    def obey(self) -> bool:
        """Carries out one packet; false where the socket has closed."""
        try:
            packet, fds, _, _ = socket.recv_fds(self.control, PACKET_LIMIT, 4, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return False
        if not packet:
            return False
        order = json.loads(packet)
        if order["op"] == "kill":
            self.kill(order)
        elif order["op"] == "fork":
            self.fork(order, fds)
        elif order["op"] == "prepare" and len(fds) == 1:
            self.prepare(order, fds[0])
        for fd in fds:
            os.close(fd)
        return True

    def kill(self, order: dict) -> None:
        """Signals a child that is not yet reaped, so that the number cannot mean another process."""
        pid = order["pid"]
        if pid not in self.children:
            return
        try:
            if order["group"]:
                os.killpg(pid, order["signal"])
            else:
                os.kill(pid, order["signal"])
        except ProcessLookupError:
            pass
        except PermissionError:
            os.kill(pid, order["signal"])

    def fork(self, order: dict, fds: list[int]) -> None:
        """Forks one child for `order`."""
        if len(fds) != 4 or order["target"] not in TARGETS:
            message = f"cannot fork {order['target']!r} with {len(fds)} descriptors"
            tell(self.control, event="refused", id=order["id"], message=message)
            return
        try:
            pid = os.fork()
        except OSError as error:
            tell(self.control, event="refused", id=order["id"], message=str(error))
            return
        if pid == 0:
            try:
                self.become_child(order, fds)
            finally:
                os._exit(124)
        try:
            os.setpgid(pid, pid)
        except OSError:
            pass
        self.children.add(pid)
        tell(self.control, event="forked", id=order["id"], pid=pid)

    def prepare(self, order: dict, control: int) -> None:
        """Forks a process that reads one Dag file and then forks its tasks. Where that fails its socket just closes."""
        try:
            pid = os.fork()
        except OSError as error:
            print(f"cannot fork to read a Dag file ahead: {error}", file=sys.stderr, flush=True)
            return
        if pid == 0:
            try:
                # No second descriptor of it: its children would keep the socket open after its end.
                moved = socket.socket(fileno=fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, 3))
                os.close(control)
                self.become_prepared(order, moved)
            finally:
                os._exit(0)
        self.children.add(pid)

    def become_prepared(self, order: dict, control: socket.socket) -> None:
        """Reads the file and obeys the new socket until that closes."""
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, 0)
        self.control.close()
        for number in (self.wakeup, self.lock):
            os.close(number)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in (1, 2):
            os.dup2(null, number)
        self.control, self.lock = control, null
        self.children.clear()
        tell(control, event="reading", pid=os.getpid())
        try:
            from isobar_agent import prepared

            prepared.read(order["bundle"], order["version"], order["path"])
            refuse_threads()
        except (Exception, SystemExit) as error:
            tell(control, event="unfit", reason=str(error)[:1000])
            return
        self.wakeup = watch_children()
        gc.freeze()
        tell(control, event="prepared")
        self.serve()

    def become_child(self, order: dict, fds: list[int]) -> None:
        """Turns this fork into the supervised process; does not return."""
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        self.control.close()
        os.close(self.wakeup)
        os.close(self.lock)
        os.environ.update(order["env"])
        gc.enable()
        from isobar_agent import preload

        preload.enter(order["target"], fds)
