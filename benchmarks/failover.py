"""How long nobody is answered when the leader is killed: ours by raft and by paxos, and etcd.

An open-loop client sends 200 writes a second, whatever becomes of the earlier ones, and tries each
again until it is acknowledged.  Every few seconds the leader gets SIGKILL; counted is the longest
time without an acknowledgement from just before the kill on.  Then the member is started again,
on the data that it had.

Ours goes through the client library with the addresses of all three.  etcd's client is grpcio,
asking the members in turn and going on to the next after a failure or a second without an answer.
``WAYPOST_BENCH_KILLS`` says how often.
"""

import asyncio
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import waypost
from benchmarks import etcd as one
from benchmarks.clusters import (
    NAMES,
    Cluster,
    EtcdCluster,
    OurCluster,
    etcd_cluster,
    our_cluster,
    takes_writes,
    wait_for,
)
from benchmarks.servers import etcd_version
from waypost.errors import Unavailable

KILLS = int(os.environ.get("WAYPOST_BENCH_KILLS", "20"))
ETCD_KILLS = max(1, KILLS // 4)
RATE = 200
BEFORE_S = 1.0
AFTER_S = 3.0
GIVE_UP_S = 15.0
INSTANCES = 64
Send = Callable[[int], Awaitable[None]]
Opening = Callable[[], AbstractAsyncContextManager[Send]]


def main() -> None:
    logging.getLogger("waypost").setLevel(logging.ERROR)  # losing the leader is what it is about
    print(f"open loop, {RATE} writes/s; from the last answer before to the first after a SIGKILL")
    for engine in ("raft", "paxos"):
        with our_cluster(engine) as cluster:
            _show(engine, asyncio.run(_kills(cluster, _through_the_library(cluster), KILLS)))
    if not etcd_version():
        print("etcd is not installed: apt-get install etcd-server; skipped")
        return
    with etcd_cluster() as other:
        _show("etcd", asyncio.run(_kills(other, _through_grpc(other), ETCD_KILLS)))


def _show(name: str, found: tuple[list[float], int, int]) -> None:
    gaps, sent, failed = found
    gaps = sorted(gaps)
    p99 = gaps[min(len(gaps) - 1, int(0.99 * len(gaps)))]
    print(
        f"  {name:6} {len(gaps)} kills: p50 {statistics.median(gaps) * 1000:.0f} ms, p99 "
        f"{p99 * 1000:.0f} ms, worst {gaps[-1] * 1000:.0f} ms; {sent} writes sent, {failed} not "
        f"acknowledged within {GIVE_UP_S:g} s",
        flush=True,
    )


async def _kills(cluster: Cluster, opening: Opening, kills: int) -> tuple[list[float], int, int]:
    gaps: list[float] = []
    load = _OpenLoop()
    async with opening() as send:
        sending = asyncio.ensure_future(load.run(send))
        for _ in range(kills):
            await asyncio.sleep(BEFORE_S)
            leader = await asyncio.to_thread(cluster.leader)
            killed = time.perf_counter()
            cluster.processes[leader].kill()
            await asyncio.to_thread(cluster.processes[leader].wait)
            await asyncio.sleep(AFTER_S)
            while not any(at > killed + AFTER_S / 2 for at in load.answered[-1:]):
                if time.perf_counter() > killed + GIVE_UP_S:
                    raise RuntimeError(f"nobody was answered within {GIVE_UP_S:g} s")
                await asyncio.sleep(0.05)
            gaps.append(load.longest_gap(killed - BEFORE_S / 2, time.perf_counter()))
            cluster.start(leader)
            await asyncio.to_thread(wait_for, lambda: takes_writes(cluster), "leader")
            await asyncio.sleep(BEFORE_S)
        load.is_running = False
        await sending
    return gaps, load.sent, load.failed


class _OpenLoop:
    """Sends at its rate, and notes when it was answered."""

    def __init__(self) -> None:
        self.answered: list[float] = []
        self.sent = 0
        self.failed = 0
        self.is_running = True

    async def run(self, send: Send) -> None:
        under_way: set[asyncio.Task[None]] = set()
        begun = time.perf_counter()
        while self.is_running:
            while self.sent < (time.perf_counter() - begun) * RATE:
                task = asyncio.ensure_future(self._one(send, self.sent))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                self.sent += 1
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*under_way)

    async def _one(self, send: Send, number: int) -> None:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await send(number)
        except (TimeoutError, Unavailable):
            self.failed += 1
        else:
            self.answered.append(time.perf_counter())

    def longest_gap(self, start: float, end: float) -> float:
        times = sorted(at for at in self.answered if start <= at <= end)
        return max(later - at for at, later in zip(times, [*times[1:], end], strict=True))


def _through_the_library(cluster: OurCluster) -> Opening:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Send]:
        address = ",".join(map(cluster.native, NAMES))
        async with waypost.connect(address, timeout=GIVE_UP_S, cache_dir=None) as registry:
            registrations = [
                await registry.register("probe", host="127.0.0.1", port=9000 + n, ttl=0)
                for n in range(INSTANCES)
            ]

            async def send(number: int) -> None:
                await registrations[number % INSTANCES].set_health("passing", str(number))

            yield send

    return opening


def _through_grpc(cluster: EtcdCluster) -> Opening:
    @asynccontextmanager
    async def opening() -> AsyncIterator[Send]:
        import grpc.aio

        channels = [grpc.aio.insecure_channel(cluster.native(name)) for name in NAMES]
        calls = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]

        async def send(number: int) -> None:
            attempt = number
            while True:
                try:
                    await calls[attempt % len(calls)](one.put_request(number), timeout=1.0)
                    return
                except grpc.aio.AioRpcError:
                    attempt += 1
                    await asyncio.sleep(0.01)

        yield send
        for channel in channels:
            await channel.close()

    return opening


if __name__ == "__main__":
    sys.exit(main())
