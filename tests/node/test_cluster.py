"""Whole nodes in one process, on real disks and loopback: what a cluster does beside its log."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from waypost.cli.demo.ports import free_ports
from waypost.errors import Invalid, TooStale, Unavailable
from waypost.model import Instance
from waypost.node.bootstrap import NodeConfig
from waypost.node.cluster import Cluster
from waypost.standalone import Standalone
from waypost.wire import ClusterAsk, Resolve


class World:
    """Three nodes."""

    def __init__(self, directory: Path, engine: str = "raft") -> None:
        ports = free_ports(3)
        line = {name: f"127.0.0.1:{port}" for name, port in zip("abc", ports, strict=True)}
        self.nodes = {
            name: Standalone(
                NodeConfig(
                    name=name,
                    data_dir=str(directory / name),
                    address=line[name],
                    line=line,
                    engine=engine,
                ),
                native_port=port,
                http_port=None,
            )
            for name, port in zip("abc", ports, strict=True)
        }

    async def start(self) -> None:
        await asyncio.gather(*(node.start() for node in self.nodes.values()))
        await self.leader()

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))

    async def crash(self, node: Standalone) -> None:
        """Be gone without a word."""
        del self.nodes[node.node.name]
        others, node.node.others = node.node.others, None
        assert others is not None
        await others.close()
        await node.stop()

    async def leader(self) -> Standalone:
        async with asyncio.timeout(10):
            while True:
                for node in self.nodes.values():
                    if node.registry.status().role == "leader":
                        return node
                await asyncio.sleep(0.01)

    async def follower(self) -> Standalone:
        leader = await self.leader()
        return next(node for node in self.nodes.values() if node is not leader)

    async def until(self, what: Callable[[], bool], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not what():
                await asyncio.sleep(0.01)


def tell(story: Callable[[World], Awaitable[None]], directory: Path, engine: str = "raft") -> None:
    async def run() -> None:
        world = World(directory, engine)
        await world.start()
        try:
            await story(world)
        finally:
            await world.stop()

    asyncio.run(run())


def has(node: Standalone, instance: str) -> bool:
    found = node.node.catalog.service("orders")
    return found is not None and instance in found


async def register(node: Standalone, name: str, ttl_ms: int = 0) -> int:
    instance = Instance("orders", name, "10.0.0.1", 8000)
    return (await node.registry.register(instance, ttl_ms=ttl_ms)).revision


@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_a_write_at_a_follower_is_read_there_at_once_and_everywhere_by_a_barrier(
    tmp_path: Path, engine: str
) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        for n in range(20):
            await register(follower, f"o-{n}")
            assert has(follower, f"o-{n}")
        for node in world.nodes.values():
            answer = await node.registry.resolve(Resolve("orders", consistency="linearizable"))
            assert len(answer.records) == 20
            assert answer.source == node.node.source

    tell(story, tmp_path, engine)


def test_a_follower_says_how_old_its_answers_are_and_refuses_what_is_too_old(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        leader, follower = await world.leader(), await world.follower()
        await register(leader, "o-1")
        await world.until(lambda: has(follower, "o-1"))
        await world.until(lambda: follower.node.age_ms < 1_000)
        follower.node.check_fresh(1_000, 0)
        others = [node for node in world.nodes.values() if node is not follower]
        for node in others:
            await world.crash(node)

        await world.until(lambda: follower.node.age_ms > 500)
        with pytest.raises(TooStale, match="at most 100 ms"):
            follower.node.check_fresh(100, 0)

    tell(story, tmp_path)


def test_the_leases_of_a_lost_node_end_after_a_lease_and_those_of_others_go_on(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        leader, follower = await world.leader(), await world.follower()
        await register(follower, "lost", ttl_ms=1_000)
        await register(leader, "kept", ttl_ms=1_000)
        await world.until(lambda: has(leader, "lost"))
        revision = leader.node.revision

        await world.crash(follower)
        async with asyncio.timeout(10):
            while has(leader, "lost"):
                await leader.registry.renew("orders", "kept")
                await asyncio.sleep(0.1)

        assert has(leader, "kept")
        changes = leader.node.catalog.since("orders", revision)
        assert changes is not None
        assert "was not heard" in changes[-1].record.why

    tell(story, tmp_path)


def test_a_renewal_at_another_node_is_heard_by_the_owner_of_the_lease(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        leader, follower = await world.leader(), await world.follower()
        await register(follower, "o-1", ttl_ms=1_000)
        await world.until(lambda: has(leader, "o-1"))
        revision = leader.node.revision
        for _ in range(15):
            await leader.registry.renew("orders", "o-1")
            await asyncio.sleep(0.1)

        assert has(leader, "o-1")
        assert leader.node.revision == revision  # no renewal enters the log
        await world.until(lambda: not has(leader, "o-1"))

    tell(story, tmp_path)


def test_a_renewal_moves_a_lease_here_when_its_owner_is_lost(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        leader, follower = await world.leader(), await world.follower()
        await register(follower, "o-1", ttl_ms=2_000)
        await world.until(lambda: has(leader, "o-1"))

        await world.crash(follower)
        for _ in range(30):
            await leader.registry.renew("orders", "o-1")
            await asyncio.sleep(0.1)

        assert has(leader, "o-1")
        (session,) = leader.node.catalog.sessions
        assert session.node == leader.node.name

    tell(story, tmp_path)


def test_a_name_that_is_no_member_cannot_be_removed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        with pytest.raises(Invalid, match="'z' is not a member: those are a, b, c"):
            await follower.registry.cluster(ClusterAsk("remove", "z"))

    tell(story, tmp_path)


def test_the_members_are_shown_while_a_change_of_them_is_under_way(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        leader = await world.leader()
        others = leader.node.others
        assert isinstance(others, Cluster)

        async with others.membership._one_at_a_time, asyncio.timeout(1):
            state = await leader.registry.cluster(ClusterAsk("status"))

        assert [member.name for member in state.members] == ["a", "b", "c"]

    tell(story, tmp_path)


def test_leadership_goes_to_the_member_that_is_named(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        name = follower.node.name
        state = await follower.registry.cluster(ClusterAsk("transfer", name))
        await world.until(lambda: follower.registry.status().role == "leader")
        assert state.leader == name
        assert follower.registry.status().leader == name

    tell(story, tmp_path)


def test_a_transfer_to_a_member_that_is_gone_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        leader, gone = await world.leader(), await world.follower()
        name = gone.node.name
        await world.crash(gone)
        with pytest.raises(Unavailable, match=f"transfer: {name} did not take over"):
            await leader.registry.cluster(ClusterAsk("transfer", name))
        await register(leader, "after")

    tell(story, tmp_path)
