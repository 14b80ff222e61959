"""A cluster with disks of its own goes into an etcd and comes back, whatever its nodes do."""

import asyncio
from pathlib import Path

import pytest
from tests.node.etcd.servers import EtcdServer
from tests.node.test_cluster import World, has, register, tell

from waypost.errors import Invalid, Unavailable
from waypost.node.etcd.settings import EtcdSettings
from waypost.node.recovering import force, plan
from waypost.standalone import Standalone
from waypost.wire import ClusterAsk, ClusterState


async def switch(node: Standalone, engine: str, settings: EtcdSettings) -> ClusterState:
    told = {"endpoints": ",".join(settings.endpoints), "prefix": settings.prefix}
    ask = ClusterAsk("switch", engine=engine, settings=told if engine == "etcd" else {})
    async with asyncio.timeout(15):
        while True:
            try:
                state = await node.registry.cluster(ask)
            except Unavailable:  # leadership moves on a slow machine
                await asyncio.sleep(0.05)
            else:
                assert state.engine == engine
                return state


async def is_there(world: World, *instances: str) -> None:
    """Every node has all of them, and all are at one revision."""
    for node in world.nodes.values():
        await node.node.barrier()
        assert all(has(node, each) for each in instances)
    await world.until(lambda: len({node.node.revision for node in world.nodes.values()}) == 1)


async def down(world: World, name: str) -> Standalone:
    """Stop a node; returns it as it is to be started again."""
    node = world.nodes.pop(name)
    await node.stop()
    port = int(node.native_address.rsplit(":", 1)[1])
    return Standalone(node._config, native_port=port, http_port=None)


async def up(world: World, name: str, node: Standalone) -> None:
    world.nodes[name] = node
    await node.start()


def at_epoch(node: Standalone, number: int, engine: str) -> bool:
    status = node.registry.status()
    return (status.epoch, status.engine, status.writable) == (number, engine, True)


@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_revisions_go_on_into_etcd_and_back(
    tmp_path: Path, settings: EtcdSettings, etcd: EtcdServer, engine: str
) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        revisions = [await register(follower, "before")]
        await switch(follower, "etcd", settings)
        revisions += [await register(node, f"in-{n}") for n, node in world.nodes.items()]
        for node in world.nodes.values():
            assert node.registry.status().role == "member"
        await is_there(world, "before", "in-a", "in-b", "in-c")
        await switch(follower, engine, settings)
        revisions += [await register(node, f"after-{n}") for n, node in world.nodes.items()]
        await is_there(world, "before", "in-a", "after-a", "after-b", "after-c")

        assert revisions == sorted(set(revisions))
        # Beside them stand two Seals, what opens each epoch, and no-ops of elections: few.
        assert revisions[-1] - revisions[0] < 30
        prefix = settings.prefix + "/"

        left: list[bytes] = []
        for _ in range(100):
            await asyncio.sleep(0.1)
            told = await asyncio.to_thread(etcd.ctl, "get", "--prefix", prefix, "--keys-only")
            left = [key.rsplit(b"/", 1)[1] for key in told.split()]
            if len(left) == 3:
                break
        assert sorted(left) == [b"current", b"init", b"seal"], told

    tell(story, tmp_path, engine)


@pytest.mark.parametrize("name", ["", "b"])
def test_in_etcd_leadership_cannot_be_handed_over(
    tmp_path: Path, settings: EtcdSettings, name: str
) -> None:
    async def story(world: World) -> None:
        await switch(world.nodes["a"], "etcd", settings)
        with pytest.raises(Invalid, match="transfer: on an etcd nobody leads"):
            await world.nodes["a"].registry.cluster(ClusterAsk("transfer", name))

    tell(story, tmp_path)


def test_a_node_that_is_started_anew_goes_on_in_etcd(
    tmp_path: Path, settings: EtcdSettings
) -> None:
    async def story(world: World) -> None:
        await switch(world.nodes["a"], "etcd", settings)
        await register(world.nodes["b"], "before")
        await is_there(world, "before")
        node = await down(world, "b")
        await register(world.nodes["c"], "meanwhile")
        await up(world, "b", node)
        await world.until(lambda: at_epoch(node, 2, "etcd"))
        await register(node, "after")
        await is_there(world, "before", "meanwhile", "after")

    tell(story, tmp_path)


def test_all_nodes_are_started_anew_and_go_on_in_etcd(
    tmp_path: Path, settings: EtcdSettings
) -> None:
    async def story(world: World) -> None:
        await switch(world.nodes["a"], "etcd", settings)
        await register(world.nodes["b"], "before")
        nodes = {name: await down(world, name) for name in list(world.nodes)}
        await asyncio.gather(*(up(world, name, node) for name, node in nodes.items()))
        await register(world.nodes["c"], "after")
        await is_there(world, "before", "after")
        await switch(world.nodes["b"], "raft", settings)
        await is_there(world, "before", "after")

    tell(story, tmp_path)


@pytest.mark.parametrize("comes_back_in", ["etcd", "raft"])
def test_a_node_that_was_down_comes_back_into_whatever_is(
    tmp_path: Path, settings: EtcdSettings, comes_back_in: str
) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        name = follower.node.name
        node = await down(world, name)
        other = await world.leader()
        await switch(other, "etcd", settings)
        await register(other, "in etcd")
        number = 2
        if comes_back_in == "raft":
            await switch(other, "raft", settings)
            await register(other, "in raft")
            number = 3
        await up(world, name, node)
        await world.until(lambda: at_epoch(node, number, comes_back_in))
        await register(node, "by itself")
        await is_there(world, "in etcd", "by itself")

    tell(story, tmp_path)


def test_a_node_that_missed_more_than_etcd_still_has_takes_its_snapshot(
    tmp_path: Path, settings: EtcdSettings
) -> None:
    async def story(world: World) -> None:
        await switch(world.nodes["a"], "etcd", settings)
        await register(world.nodes["a"], "before")
        await is_there(world, "before")
        node = await down(world, "b")
        for n in range(5):
            await register(world.nodes["a"], f"missed-{n}")
        engine = world.nodes["a"].node.engine
        part = engine._outside._part
        while part._duties is None:
            await asyncio.sleep(0.01)
        await part._duties.snapshot()
        assert part._log.snapshot is not None
        await register(world.nodes["c"], "after it")
        await up(world, "b", node)
        await world.until(lambda: at_epoch(node, 2, "etcd"))
        await is_there(world, "before", "missed-4", "after it")
        # Its copy of the log is that of the others: raft goes on from it.
        await switch(node, "raft", settings)
        await register(world.nodes["c"], "in raft")
        await is_there(world, "in raft")

    tell(story, tmp_path)


def test_when_the_first_leader_is_lost_another_begins_the_log_in_etcd(
    tmp_path: Path, settings: EtcdSettings
) -> None:
    async def story(world: World) -> None:
        leader = await world.leader()
        await register(leader, "before")
        outside = leader.node.engine._outside
        # It seals, and comes no further.
        outside.pump = lambda: False
        outside.attach = lambda engine: None
        outside._engine = None
        change = asyncio.create_task(switch(leader, "etcd", settings))
        others = [node for node in world.nodes.values() if node is not leader]
        await world.until(lambda: all(n.registry.status().engine == "etcd" for n in others))
        change.cancel()
        await world.until(lambda: all(at_epoch(node, 2, "etcd") for node in others))
        await register(others[0], "without it")
        assert has(others[0], "before")

    tell(story, tmp_path)


def test_if_etcd_is_lost_for_good_the_nodes_go_on_from_their_copies(
    tmp_path: Path, settings: EtcdSettings
) -> None:
    async def story(world: World) -> None:
        await switch(world.nodes["a"], "etcd", settings)
        await register(world.nodes["b"], "precious")
        await is_there(world, "precious")
        nodes = {name: await down(world, name) for name in list(world.nodes)}

        recovery = plan([tmp_path / name for name in nodes])
        assert (recovery.epoch.engine, recovery.epoch.settings) == ("raft", {})
        assert recovery.is_needed
        force(recovery)
        taken = [each.name for each in recovery.survivors if each.is_taken]
        assert taken == ["a", "b", "c"]
        await asyncio.gather(*(up(world, name, nodes[name]) for name in taken))
        await world.leader()
        await register(world.nodes["c"], "after")
        await is_there(world, "precious", "after")

    tell(story, tmp_path)


def test_an_etcd_that_does_not_answer_is_refused_before_anything_is_sealed(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        follower = await world.follower()
        nowhere = EtcdSettings(endpoints=("http://127.0.0.1:1",))
        with pytest.raises(Invalid, match=r"etcd, seen from [abc]: status"):
            await switch(follower, "etcd", nowhere)
        with pytest.raises(Invalid, match="no endpoint"):
            await follower.registry.cluster(ClusterAsk("switch", engine="etcd"))
        assert at_epoch(follower, 1, "raft")
        await register(follower, "all is well")

    tell(story, tmp_path)
