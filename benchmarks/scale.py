"""A million instances in a thousand services on one durable node.

What it takes to hold, load, snapshot and restart them, how long the event loop stands still while
a snapshot is written, and whether a change costs the same among a thousand instances as among a
million.  The node runs in this process, so that its event loop can be watched from inside.
"""

import asyncio
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from waypost.cli.serve import tune_gc
from waypost.commands import Command, Outcome, Register, encode_part
from waypost.errors import WaypostError
from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.member_engine import MemberEngine
from waypost.node.node import Node
from waypost.standalone import new_event_loop

INSTANCES = int(os.environ.get("WAYPOST_SCALE", "1000000"))
SERVICES = max(1, INSTANCES // 1000)
PER_WRITE = 512
LOOK_S = 0.001


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("WAYPOST_BENCH_DIR")) as directory:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_fill_and_snapshot(directory))
        gc.unfreeze()
        gc.collect()
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_restart(directory))


class Writer:
    """Offers writes straight to the node, and hears when they are committed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._under_way = 0
        self._room = asyncio.Event()
        self.refused = 0

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        self._under_way -= 1
        self.refused += sum(not isinstance(outcome, int) for outcome in outcomes)
        self._room.set()

    def failed(self, ticket: int, error: WaypostError) -> None:
        raise error

    async def write(self, commands: list[Command], *, at_once: int) -> None:
        self._node.offer(encode_part(commands), commands, self, 0)
        self._under_way += 1
        while self._under_way >= at_once:
            self._room.clear()
            await self._room.wait()


class Stalls:
    """How long the event loop stood still, at the longest, since it was last asked."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while True:
            due = time.perf_counter() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self._longest = max(self._longest, time.perf_counter() - due)

    def take_ms(self) -> float:
        longest, self._longest = self._longest, 0.0
        return longest * 1000

    def stop(self) -> None:
        self._task.cancel()


def instance(n: int, version: str = "1.4.2") -> Instance:
    service = f"service-{n % SERVICES}"
    host = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
    return Instance(
        service,
        f"{service}-{host}-{n:07d}",
        host,
        8000 + n % 1000,
        weight=1.0,
        zone=f"zone-{n % 3}",
        version=version,
        tags=("http", "blue" if n % 2 else "green"),
        meta={"scheme": "http", "build": str(n % 100)},
    )


async def _fill_and_snapshot(directory: str) -> None:
    before = _rss()
    node = await open_node(NodeConfig(data_dir=directory), on_fatal=_fatal)
    tune_gc()
    writer = Writer(node)
    small = await _change_cost(node, writer, among=10 * PER_WRITE)

    begun = time.perf_counter()
    for start in range(0, INSTANCES, PER_WRITE):
        await writer.write(
            [Register(instance(n)) for n in range(start, min(start + PER_WRITE, INSTANCES))],
            at_once=16,
        )
    await writer.write([Register(instance(0))], at_once=1)
    took = time.perf_counter() - begun
    assert node.catalog.instance_count == INSTANCES, node.catalog.instance_count
    assert not writer.refused
    print(f"{INSTANCES:,} instances in {SERVICES:,} services")
    print(f"  load, durable          {took:8.1f} s   ({INSTANCES / took:,.0f}/s)")
    print(f"  memory                 {(_rss() - before) / INSTANCES:8.0f} bytes an instance")

    engine = node.engine
    assert isinstance(engine, MemberEngine)
    await engine.snapshot()  # one that the load began may be under way
    stalls = Stalls()
    await asyncio.sleep(2)
    idle_ms = stalls.take_ms()
    log = _bytes(directory, "wal-")
    begun = time.perf_counter()
    snapshot = engine.snapshot()
    changes = 0
    while not snapshot.done():
        await writer.write([Register(instance(changes % INSTANCES, str(changes)))], at_once=1)
        changes += 1
        await asyncio.sleep(0.001)
    await snapshot
    took = time.perf_counter() - begun
    print(f"  snapshot               {took:8.1f} s   (with {changes} changes meanwhile)")
    print(f"  longest stall          {stalls.take_ms():8.1f} ms  (idle before: {idle_ms:.1f} ms)")
    print(
        f"  snapshot on disk       {_bytes(directory, 'snap') / INSTANCES:8.0f} bytes an instance"
    )
    print(f"  log before             {log / INSTANCES:8.0f} bytes an instance")
    stalls.stop()
    large = await _change_cost(node, writer, among=INSTANCES)
    print(
        f"  a change among {10 * PER_WRITE:,}  {small * 1e6:8.1f} us; among {INSTANCES:,} "
        f"{large * 1e6:.1f} us of CPU (ratio {large / small:.2f})"
    )
    await node.stop()


async def _change_cost(node: Node, writer: Writer, *, among: int) -> float:
    """Median CPU time of the event loop for one change; fills up to ``among`` before.

    Not the wall's time: that is the disk's, and other programs'.
    """
    if node.catalog.instance_count < among:
        for start in range(0, among, PER_WRITE):
            await writer.write(
                [Register(instance(n)) for n in range(start, start + PER_WRITE)], at_once=1
            )
    draw = random.Random(1)
    took = []
    for turn in range(200):
        commands: list[Command] = [
            Register(instance(draw.randrange(among), f"turn-{turn}")) for _ in range(64)
        ]
        begun = time.thread_time()
        await writer.write(commands, at_once=1)
        took.append((time.thread_time() - begun) / len(commands))
    return statistics.median(took)


async def _restart(directory: str) -> None:
    begun = time.perf_counter()
    node = await open_node(NodeConfig(data_dir=directory), on_fatal=_fatal)
    took = time.perf_counter() - begun
    assert node.catalog.instance_count == INSTANCES, node.catalog.instance_count
    print(f"  restart                {took:8.1f} s   (snapshot and what the log has after it)")
    await node.stop()


def _rss() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this benchmark reads /proc: run it on Linux")


def _bytes(directory: str, prefix: str) -> int:
    files = [p for p in Path(directory).iterdir() if p.name.startswith(prefix)]
    return (
        max((p.stat().st_size for p in files), default=0)
        if prefix == "snap"
        else sum(p.stat().st_size for p in files)
    )


def _fatal(error: BaseException) -> None:
    print(error, file=sys.stderr)
    os._exit(70)


if __name__ == "__main__":
    main()
