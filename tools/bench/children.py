#!/usr/bin/env python3
"""Processor time and page faults of a zygote's children, without a server: VENV/bin/python children.py [options]

Plays the supervisor: starts a zygote, forks task or parse children one after the other and answers what they ask.
Processor time hardly depends on what else runs here, if the lower quartile is looked at; page faults not at all.
`--agent` measures another agent, such as that of another commit: `git archive COMMIT python | tar x -C FOLDER`.
"""

import argparse
import array
import datetime
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
TICK = 1000 / os.sysconf("SC_CLK_TCK")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default=ROOT / "python", type=Path, help="the folder of isobar_agent")
    parser.add_argument("--dags", default=ROOT / "crates/isobar-runtime/tests/dags", type=Path)
    parser.add_argument("--file", default="bench.py")
    parser.add_argument("--dag", default="bench")
    parser.add_argument("--task", default="noop")
    parser.add_argument("--parse", action="store_true", help="parse the file instead of running a task")
    parser.add_argument("-n", type=int, default=40, help="how many children")
    return parser.parse_args()


class Zygote:
    """A zygote in a home of its own."""

    def __init__(self, given, home):
        bundle = {
            "name": "bench",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(given.dags.resolve())},
        }
        env = {
            "AIRFLOW_HOME": home,
            "HOME": home,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        }
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        start = str(given.agent.resolve() / "isobar_agent/start.py")
        command = [sys.executable, start, "warm", f"{home}/lock"]
        self.process = subprocess.Popen(command, stdin=theirs, env=env, cwd=home, stdout=subprocess.DEVNULL)
        theirs.close()
        while self.event()["event"] != "ready":
            pass

    def event(self):
        packet = self.control.recv(1 << 16)
        return json.loads(packet) if packet else sys.exit("the zygote ended")

    def numbers(self):
        """Of the zygote: faults and milliseconds; of its ended children: the same."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        own = int(stat[7]), (int(stat[11]) + int(stat[12])) * TICK
        children = int(stat[8]), int(stat[13]) * TICK, int(stat[14]) * TICK
        return own, children

    def run(self, number, target, first):
        """One child to its end; gives its processor time in ms and the kinds of its messages."""
        pairs = [socket.socketpair() for _ in range(4)]
        fds = array.array("i", [theirs.fileno() for _, theirs in pairs])
        order = {"op": "fork", "id": number, "target": target, "env": {}}
        self.control.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        for _, theirs in pairs:
            theirs.close()
        assert self.event()["event"] == "forked"
        requests, kinds = pairs[0][0], []
        requests.sendall(frame(0, first))
        while header := requests.recv(4, socket.MSG_WAITALL):
            (length,) = struct.unpack(">I", header)
            request, body, *_ = msgspec.msgpack.decode(requests.recv(length, socket.MSG_WAITALL))
            kinds.append(body["type"])
            requests.sendall(frame(request, answer(body)))
        ended = self.event()
        assert (ended["event"], ended["code"]) == ("exit", 0), ended
        for ours, _ in pairs:
            ours.close()
        return ended["cpu"] * 1e3, kinds


def frame(number, body):
    data = msgspec.msgpack.encode([number, body, None])
    return struct.pack(">I", len(data)) + data


def answer(body):
    if body["type"] == "ValidateInletsAndOutlets":
        return {"type": "InactiveAssetsResult", "inactive_assets": []}
    if body["type"] == "GetXCom":
        return {"type": "XComResult", "key": body["key"], "value": 1}
    return None


def first_frame(given):
    if given.parse:
        folder = given.dags.resolve()
        request = {"file": str(folder / given.file), "bundle_path": str(folder), "bundle_name": "bench"}
        return {"type": "DagFileParseRequest", "callback_requests": [], **request}
    at, number = datetime.datetime.now(datetime.timezone.utc).isoformat(), str(uuid.uuid4())
    dates = dict.fromkeys(("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date"), at)
    names = {"dag_id": given.dag, "run_id": "manual__1"}
    run = {**names, **dates, "run_type": "manual", "state": "running", "consumed_asset_events": [], "conf": {}}
    ti = {"id": number, "task_id": given.task, "try_number": 1, "dag_version_id": number, **names}
    return {
        "type": "StartupDetails",
        "ti": ti,
        "dag_rel_path": given.file,
        "bundle_info": {"name": "bench", "version": None},
        "start_date": at,
        "sentry_integration": "",
        "ti_context": {"dag_run": {**run, "end_date": None, "partition_key": None}, "max_tries": 0, "should_retry": False},
    }


def main():
    given = arguments()
    with tempfile.TemporaryDirectory() as home:
        zygote = Zygote(given, home)
        before, children_before = zygote.numbers()
        print(f"zygote ready after {before[1] / 1e3:.2f} s of processor time")
        target = "parse" if given.parse else "task"
        times = []
        for number in range(given.n):
            milliseconds, kinds = zygote.run(number, target, first_frame(given))
            times.append(milliseconds)
        after, children = zygote.numbers()
        zygote.control.close()
        zygote.process.wait()
    print("messages:", " ".join(kinds))
    quartile = sorted(times)[len(times) // 4]
    print(f"child: lower quartile {quartile:.1f} ms, min {min(times):.1f}, median {statistics.median(times):.1f}", end="; ")
    faults, user, system = ((new - old) / given.n for new, old in zip(children, children_before, strict=True))
    print(f"user {user:.1f}, system {system:.1f} ms; {faults:.0f} page faults")
    own = [(new - old) / given.n for new, old in zip(after, before, strict=True)]
    print(f"zygote, per fork: {own[1]:.1f} ms, {own[0]:.0f} page faults")


if __name__ == "__main__":
    main()
