"""A live switch of engines under load, over real processes and a real etcd: nobody notices."""

import asyncio
import json
import time
from pathlib import Path

import msgspec
import pytest

import waypost
from tests.node.etcd.servers import EtcdServer
from tests.processes.cluster import ClusterProcesses, ask
from tests.processes.steady_load import SteadyLoad, _Client, told
from waypost.wire import ClusterAsk

WATCHED = "watched"
PAUSE_MS_MAX = 1_500
"""Of a machine that does much else; what it is on one that does not, the report of a run tells."""


class Watched:
    """One client writes one instance after the other, and another one watches at another node."""

    def __init__(self, addresses: list[str]) -> None:
        self.written: list[tuple[str, int]] = []
        self.seen: list[tuple[str, int]] = []
        self._addresses = addresses
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Watched":
        self._tasks = [asyncio.create_task(each) for each in (self._watch(), self._write())]
        await self._until(lambda: len(self.seen) > 5)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await self._tasks[1]
        await self._until(lambda: len(self.seen) >= len(self.written))
        self._tasks[0].cancel()
        await asyncio.gather(self._tasks[0], return_exceptions=True)

    async def _until(self, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(20):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.01)

    async def _write(self) -> None:
        client = _Client("writer", self._addresses)
        while not self._is_over:
            name = f"w-{len(self.written)}"
            _, revision = await client.register(WATCHED, name, "4000")
            self.written.append((name, revision))
            await asyncio.sleep(0.005)
        await client.close()

    async def _watch(self) -> None:
        addresses = ",".join(reversed(self._addresses))
        async with waypost.connect(addresses, cache_dir=None) as registry:
            async for change in registry.watch(WATCHED):
                self.seen.append((change.record.instance.id, change.record.revision))


class Pause(msgspec.Struct):
    """One switch, as clients felt it."""

    engine: str
    took_ms: float
    """Until ``waypost cluster switch`` came back, its preflight included."""
    longest_ms: float
    """Without an answer that all have to agree on, of any one client."""


async def switched(load: SteadyLoad, address: str, engine: str, etcd: EtcdServer) -> Pause:
    """Switch in the middle of the load, and say how long clients waited."""
    await load.until_answered(100)
    settings = {"endpoints": etcd.endpoint, "prefix": "/switch"} if engine == "etcd" else {}
    begun = time.monotonic_ns()
    state = await ask(address, ClusterAsk("switch", engine=engine, settings=settings))
    ended = time.monotonic_ns()
    assert state.engine == engine
    await load.until_answered(200)
    later = time.monotonic_ns()
    _, longest = load.gaps(begun, later)
    return Pause(engine, (ended - begun) / 1e6, longest / 1e6)


@pytest.mark.parametrize("ways", [["etcd", "raft"], ["paxos", "etcd", "raft"]])
def test_a_switch_under_load_fails_no_request_and_loses_and_repeats_no_change(
    tmp_path: Path, ways: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(cluster: ClusterProcesses, etcd: EtcdServer) -> list[Pause]:
        await cluster.until_members("abc")
        load = SteadyLoad(cluster.addresses)
        async with Watched(cluster.addresses) as watched:
            pauses = [await switched(load, cluster.addresses[1], way, etcd) for way in ways]
        await load.stop()
        assert not load.failed, load.failed[:5]
        assert watched.seen == watched.written
        await load.look_at_all(cluster.addresses)
        verdict = load.judge()
        assert verdict.is_ok, told(verdict)
        return pauses

    etcd = EtcdServer(tmp_path).start()
    cluster = ClusterProcesses(tmp_path)
    try:
        pauses = asyncio.run(asyncio.wait_for(story(cluster.start(), etcd), 100))
    finally:
        cluster.stop()
        etcd.stop()
    with capsys.disabled():
        print("\n", json.dumps([msgspec.to_builtins(pause) for pause in pauses]))
    assert all(pause.longest_ms < PAUSE_MS_MAX for pause in pauses), pauses


def test_nodes_are_killed_in_an_etcd_epoch_and_one_is_away_for_the_whole_of_it(
    tmp_path: Path,
) -> None:
    async def story(cluster: ClusterProcesses, etcd: EtcdServer) -> None:
        await cluster.until_members("abc")
        leader = await cluster.leader()
        away, other = (node for node in cluster.nodes.values() if node is not leader)
        load = SteadyLoad(cluster.addresses)
        await load.until_answered(50)
        away.kill()
        await load.until_answered(50)
        settings = {"endpoints": etcd.endpoint, "prefix": "/switch"}
        await ask(leader.address, ClusterAsk("switch", engine="etcd", settings=settings))
        await load.until_answered(100)
        other.kill()
        await load.until_answered(100)
        other.begin()
        other.wait_ready()
        await load.until_answered(100)
        async with asyncio.timeout(10):
            while True:
                try:
                    await ask(leader.address, ClusterAsk("switch", engine="raft"))
                    break
                except waypost.Unavailable:
                    await asyncio.sleep(0.1)  # until the other one is there again
        await load.until_answered(100)
        away.begin()
        away.wait_ready()
        await load.until_answered(100)
        await load.stop()
        assert not load.failed, load.failed[:5]
        await load.look_at_all(cluster.addresses)
        verdict = load.judge()
        assert verdict.is_ok, told(verdict)

    etcd = EtcdServer(tmp_path).start()
    cluster = ClusterProcesses(tmp_path)
    try:
        asyncio.run(asyncio.wait_for(story(cluster.start(), etcd), 100))
    finally:
        cluster.stop()
        etcd.stop()
