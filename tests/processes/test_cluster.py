"""Real processes on real disks: what a cluster promises while its members die, come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.cluster import ClusterProcesses, Load, ask, linearizable
from waypost.wire import ClusterAsk

Story = Callable[[ClusterProcesses], Awaitable[None]]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterProcesses]:
    processes = ClusterProcesses(tmp_path)
    try:
        yield processes.start()
    finally:
        processes.stop()


def tell(story: Story, cluster: ClusterProcesses) -> None:
    asyncio.run(asyncio.wait_for(story(cluster), 60))


def test_what_is_acknowledged_outlives_the_leader_and_is_read_at_every_node(
    cluster: ClusterProcesses,
) -> None:
    async def story(cluster: ClusterProcesses) -> None:
        leader = await cluster.leader()
        load = Load(cluster)
        await load.until(50)

        leader.kill()
        await load.until(50)
        leader.begin()
        leader.wait_ready()
        await load.until(20)
        await load.stop()

        for node in cluster.nodes.values():
            assert await linearizable(node.address, "load") >= set(load.acknowledged)
        assert load.longest_gap_s < 3

    tell(story, cluster)


def test_a_member_with_a_lost_disk_comes_back_and_a_newcomer_joins(
    cluster: ClusterProcesses,
) -> None:
    async def story(cluster: ClusterProcesses) -> None:
        leader = await cluster.leader()
        load = Load(cluster)
        await load.until(20)
        lost = next(node for node in cluster.nodes.values() if node is not leader)
        before = await cluster.until_members("abc")

        lost.kill()
        lost.wipe()
        lost.begin()
        lost.wait_ready()
        after = await cluster.until_members("abc")
        while after.epoch == before.epoch:
            after = await cluster.until_members("abc")
        assert {each.nid for each in after.members} != {each.nid for each in before.members}

        joined = cluster.join("d", leader)
        await cluster.until_members("abcd")
        await load.until(20)
        await load.stop()
        assert await linearizable(joined.address, "load") >= set(load.acknowledged)
        assert await linearizable(lost.address, "load") >= set(load.acknowledged)

    tell(story, cluster)


def test_the_engine_is_switched_under_load_and_nothing_is_lost(cluster: ClusterProcesses) -> None:
    async def story(cluster: ClusterProcesses) -> None:
        leader = await cluster.leader()
        load = Load(cluster)
        await load.until(20)

        for engine in ("paxos", "raft"):
            state = await ask(leader.address, ClusterAsk("switch", engine=engine))
            assert state.engine == engine
            await load.until(20)
        await load.stop()

        for node in cluster.nodes.values():
            assert await linearizable(node.address, "load") >= set(load.acknowledged)

    tell(story, cluster)


def test_a_leader_that_is_stopped_hands_over_first(cluster: ClusterProcesses) -> None:
    async def story(cluster: ClusterProcesses) -> None:
        leader = await cluster.leader()
        load = Load(cluster)
        await load.until(20)

        code = await asyncio.to_thread(leader.stop)
        assert code == 0
        await load.until(20)
        await load.stop()

        assert (await cluster.leader()).name != leader.name
        follower = await cluster.leader()
        assert await linearizable(follower.address, "load") >= set(load.acknowledged)

    tell(story, cluster)
