"""A node over a simulated disk: what it acknowledged it still has, and what fails says so."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from waypost.errors import ReadOnly, TimedOut, WaypostError
from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.member_engine import MemberEngine
from waypost.node.node import Node
from waypost.node.registry import Registry
from waypost.storage.simdisk import SimDisk
from waypost.wire import Resolve

CONFIG = NodeConfig(name="a")


class World:
    """A node on a simulated disk."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.failures: list[BaseException] = []
        self.node: Node
        self.registry: Registry

    async def open(self, *, accept_data_loss: bool = False) -> None:
        config = NodeConfig(name="a", accept_data_loss=accept_data_loss)
        self.node = await open_node(config, disk=self.disk, on_fatal=self.failures.append)
        self.registry = Registry(self.node)

    async def register(self, n: int, version: str = "1") -> None:
        instance = Instance("orders", f"o-{n}", "10.0.0.1", 8000 + n, version=version)
        await self.registry.register(instance, ttl_ms=0)

    async def state(self) -> dict[str, str]:
        answer = await self.registry.resolve(Resolve("orders"))
        return {r.instance.id: r.instance.version for r in answer.records}

    @property
    def engine(self) -> MemberEngine:
        assert isinstance(self.node.engine, MemberEngine)
        return self.node.engine


def run(story: Callable[[World], Awaitable[None]], disk: SimDisk | None = None) -> None:
    async def tell() -> None:
        await story(World(disk or SimDisk()))

    asyncio.run(tell())


def test_what_was_acknowledged_is_there_after_a_stop_and_a_start() -> None:
    async def story(world: World) -> None:
        await world.open()
        for n in range(5):
            await world.register(n)
        revision = world.node.revision
        await world.node.stop()

        await world.open()

        assert await world.state() == {f"o-{n}": "1" for n in range(5)}
        assert world.node.revision == revision
        await world.node.stop()

    run(story)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_acknowledged_is_there_after_the_power_went(seed: int) -> None:
    async def story(world: World) -> None:
        chance = random.Random(seed)
        await world.open()
        acknowledged: dict[str, int] = {}
        for version in range(chance.randrange(1, 40)):
            n = chance.randrange(4)
            await world.register(n, str(version))
            acknowledged[f"o-{n}"] = version
            if chance.random() < 0.1:
                await world.engine.snapshot()
        unfinished = asyncio.ensure_future(world.register(9, "9"))
        await asyncio.sleep(0)
        await world.node.stop()
        world.disk.crash(chance.randrange)
        await asyncio.gather(unfinished, return_exceptions=True)

        await world.open()

        state = await world.state()
        for name, version in acknowledged.items():
            assert int(state[name]) >= version
        await world.node.stop()

    run(story)


def test_a_failed_fsync_ends_the_node_and_acknowledges_nothing() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        world.disk.fail("sync")

        write = asyncio.ensure_future(world.register(2))
        async with asyncio.timeout(5):
            while not world.failures:
                await asyncio.sleep(0.001)
        with pytest.raises(TimedOut, match="may or may not survive"):
            await write
        with pytest.raises(ReadOnly, match="restart it"):
            await world.register(3)
        assert world.registry.is_ready() == (False, "the disk is full or failing: reads only")
        assert await world.state() == {"o-1": "1"}
        await world.node.stop()

    run(story)


def test_an_entry_of_a_newer_version_ends_the_node_before_its_state_is_another() -> None:
    unknown = msgspec.msgpack.encode([1, [[[200, "orders", "o-2"]]]])  # no command has tag 200

    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        revision = world.node.revision
        world.engine.append(unknown, 0)  # as another node would have proposed it
        async with asyncio.timeout(5):
            while not world.failures:
                await asyncio.sleep(0.001)
        assert "upgrade this node" in str(world.failures[0])
        with pytest.raises(ReadOnly, match="restart it"):
            await world.register(3)
        assert (await world.state(), world.engine.applied) == ({"o-1": "1"}, revision)
        await world.node.stop()

        world.failures.clear()
        await world.open()  # by the same version again
        assert [f"entry {revision + 1} of the log" in str(each) for each in world.failures] == [
            True
        ]
        await world.node.stop()

    run(story)


def test_a_core_that_breaks_a_rule_of_its_own_ends_the_node() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        with pytest.raises(AssertionError, match="never handed out"):
            world.engine._on_durable(10**9, 0)

        assert [type(each) for each in world.failures] == [AssertionError]
        with pytest.raises(ReadOnly, match="restart it"):
            await world.register(2)
        await world.node.stop()

        await world.open()
        assert await world.state() == {"o-1": "1"}
        await world.node.stop()

    run(story)


def test_on_a_full_disk_reads_go_on_writes_are_refused_and_space_brings_them_back() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        world.disk.capacity = world.disk.used
        refused: ReadOnly | None = None
        async with asyncio.timeout(20):
            while refused is None:
                try:
                    # Wide enough to fill what was reserved before long.
                    await world.registry.write(wide(world))
                except ReadOnly as error:
                    refused = error
        assert "disk is full" in refused.message
        assert (await world.state())["o-1"] == "1"
        assert not world.registry.is_ready()[0]

        world.disk.capacity = None
        async with asyncio.timeout(20):
            while not world.registry.is_ready()[0]:
                await asyncio.sleep(0.01)
        await world.register(2)
        assert (await world.state())["o-2"] == "1"
        await world.node.stop()

    def wide(world: World) -> list:  # type: ignore[type-arg]
        from waypost.commands import Register

        meta = {f"key-{n}": "x" * 500 for n in range(60)}
        version = str(world.node.revision)
        return [
            Register(Instance("wide", f"w-{n}", "10.0.0.1", 80, version=version, meta=meta))
            for n in range(100)
        ]

    run(story)


def test_a_snapshot_cuts_the_log_and_a_restart_goes_on_from_it() -> None:
    async def story(world: World) -> None:
        await world.open()
        for n in range(10):
            await world.register(n)
        await world.engine.snapshot()
        await world.register(11)
        await world.node.stop()
        assert [name for name in world.disk.names() if "snap" in name]

        await world.open()

        assert len(await world.state()) == 11
        await world.node.stop()

    run(story)


def test_a_snapshot_that_fails_costs_space_and_not_data() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        world.disk.fail("rename")
        with pytest.raises(WaypostError):
            await world.engine.snapshot()
        await world.register(2)
        await world.node.stop()

        await world.open()

        assert len(await world.state()) == 2
        await world.node.stop()

    run(story)


def test_a_node_with_another_name_is_refused_the_directory() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.node.stop()

        with pytest.raises(WaypostError, match="belongs to node 'a'"):
            await open_node(NodeConfig(name="b"), disk=world.disk, on_fatal=print)

    run(story)


def test_a_linearizable_read_sees_every_write_acknowledged_before_it() -> None:
    async def story(world: World) -> None:
        await world.open()
        for n in range(20):
            await world.register(n)
            answer = await world.registry.resolve(Resolve("orders", consistency="linearizable"))
            assert len(answer.records) == n + 1
        await world.node.stop()

    run(story)


def test_in_memory_nothing_is_kept_and_the_status_says_so() -> None:
    async def tell() -> None:
        node = await open_node(CONFIG, on_fatal=print)
        registry = Registry(node)
        await registry.register(Instance("orders", "o-1", "10.0.0.1", 80), ttl_ms=0)
        assert registry.status().durable is False
        await node.stop()

    asyncio.run(tell())


def test_cluster_time_goes_on_after_a_restart() -> None:
    async def story(world: World) -> None:
        await world.open()
        await world.register(1)
        before = world.node.catalog.now_ms
        await world.node.stop()
        await world.open()
        await world.register(2)
        assert world.node.catalog.now_ms >= before
        await world.node.stop()

    run(story)
