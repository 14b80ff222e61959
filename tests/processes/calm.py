"""Whether leaders stay while the machine is busy: a cluster beside CPU hogs, and nobody fails.

    python -m tests.processes.calm --engine raft --seconds 600 --hogs 4 --instances 100000

Every change of leader is one too many: prints how often it happened, and what the nodes said.
Exit code 1: it happened.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.processes.cluster import ClusterProcesses, Session
from tests.processes.steady_load import SteadyLoad, told
from waypost import wire
from waypost.commands import Register
from waypost.model import Instance

HOG: Final = "while True: pass"
PER_WRITE: Final = 1_000
PER_SERVICE: Final = 1_000
LEADS: Final = "waypost.engine: epoch"


class Calm(msgspec.Struct, frozen=True):
    """What was seen."""

    engine: str
    seconds: float
    hogs: int
    instances: int
    changes: int
    """Of the leader; there should be none."""
    said: list[str]
    """By the nodes, about leaders and stalls."""
    sent: int
    failed: int
    longest_gap_ms: float
    verdict: str


async def stay_calm(
    engine: str, seconds: float, hogs: int, instances: int, directory: Path
) -> Calm:
    """Run a cluster under load beside so many hogs."""
    cluster = ClusterProcesses(directory, "--engine", engine)
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.until_members("abc")
        await _fill((await cluster.leader()).address, instances)
        before = {node.name: len(_said(node.log)) for node in cluster.nodes.values()}
        leaders = _leaders(cluster)
        with _hogs(hogs):
            load = SteadyLoad(cluster.addresses)
            await load.until_answered(200)
            start = load.last_led()
            await asyncio.sleep(seconds)
            end = load.last_led()
            await load.stop()
        said = [
            f"{line[:24]} {node.name}:{line[24:]}"
            for node in cluster.nodes.values()
            for line in _said(node.log)[before[node.name] :]
        ]
        return Calm(
            engine,
            seconds,
            hogs,
            instances,
            len(_leaders(cluster) - leaders),
            sorted(said),
            load.sent,
            len(load.failed),
            round(load.gaps(start, end)[0] / 1e6, 1),
            told(load.judge()),
        )
    finally:
        await asyncio.to_thread(cluster.stop)


async def _fill(address: str, instances: int) -> None:
    session = await Session.open(address)
    for first in range(0, instances, PER_WRITE):
        commands = [
            Register(Instance(f"many-{number // PER_SERVICE}", f"i-{number}", "10.0.0.1", 8000))
            for number in range(first, min(instances, first + PER_WRITE))
        ]
        await session.ask(wire.WRITE, 2 + first, wire.encode(commands))
    session.close()


def _said(log: Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if LEADS in line or "stalled" in line]


def _leaders(cluster: ClusterProcesses) -> set[str]:
    """Every leader so far: its epoch, round and name."""
    lines = [line for node in cluster.nodes.values() for line in _said(node.log)]
    told = {line.partition(LEADS)[2] for line in lines if line.endswith(" leads")}
    return {leader for leader in told if not leader.endswith("nobody leads")}


@contextlib.contextmanager
def _hogs(count: int) -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.processes.calm")
    parser.add_argument("--engine", choices=["raft", "paxos"], default="raft")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--hogs", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--instances", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waypost-calm-") as directory:
        calm = asyncio.run(
            stay_calm(
                options.engine, options.seconds, options.hogs, options.instances, Path(directory)
            )
        )
    print(json.dumps(msgspec.to_builtins(calm), indent=2))
    return 1 if calm.changes or calm.failed or calm.verdict != "ok" else 0


if __name__ == "__main__":
    sys.exit(main())
