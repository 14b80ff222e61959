"""Nodes stop, crash and come back, one and all."""

import asyncio
from itertools import count

from tests.contract.clusters import Cluster
from tests.contract.engines import ELECTING, ENGINES, KEEPING, OF_SEVERAL, OUTLIVING, on
from tests.contract.telling import following, told

from waypost.client.registry import Registry


@on(KEEPING)
@told
async def test_what_was_acknowledged_is_there_after_a_crash_of_all_nodes(
    rough: Cluster, service: str
) -> None:
    await asyncio.gather(*(write_some(rough, name, service) for name in rough.names))
    before = await rough.state(rough.names[0])
    revision = rough.status(rough.names[0]).revision
    cluster_id = rough.status(rough.names[0]).cluster

    await rough.kill(*rough.names)
    await rough.start()

    for name in rough.names:
        after = await rough.state(name)
        mine = {key: record for key, record in after.items() if key[0] == service}
        assert mine == {key: record for key, record in before.items() if key[0] == service}
        assert len(mine) == 20 * len(rough.names)
        assert rough.status(name).revision >= revision
        assert rough.status(name).cluster == cluster_id


@on(KEEPING)
@told
async def test_revisions_go_on_after_a_restart_and_are_never_used_twice(
    rough: Cluster, service: str
) -> None:
    revisions = []
    async with rough.client() as client:
        for turn in range(2):
            registered = await client.register(service, port=80, id=f"o{turn}", ttl=0)
            answer = await client.resolve(service, consistency="linearizable")
            revisions += [r.revision for r in answer.records if r.instance == registered.instance]
            await rough.stop()
            await rough.start()
    assert revisions == sorted(set(revisions))
    assert len(revisions) == 2


@on([engine for engine in ENGINES if not engine.keeps])
@told
async def test_what_keeps_nothing_is_told_again_by_who_is_there(
    rough: Cluster, service: str
) -> None:
    async with rough.client() as provider, rough.client() as consumer:
        registered = await provider.register(service, port=80, id="o1")
        before = rough.status(rough.names[0]).cluster
        async with following(consumer, service) as follower:
            await follower.until("up")
            await rough.stop()
            await rough.start()
            await registered.update(version="2")
            while follower.changes[-1].record.instance.version != "2":
                await follower.next()
            assert "down" not in follower.kinds
        assert rough.status(rough.names[0]).cluster != before


@on(OF_SEVERAL)
@told
async def test_a_node_that_was_away_has_all_that_it_missed_when_it_is_back(
    rough: Cluster, service: str
) -> None:
    away = rough.names[-1]
    await rough.kill(away)
    await write_some(rough, rough.names[0], service)
    await rough.start(away)

    here, there = await rough.state(away), await rough.state(rough.names[0])
    assert here == there
    assert len([key for key in here if key[0] == service]) == 20


@on(OUTLIVING)
@told
async def test_no_write_fails_when_the_node_that_leads_is_lost_while_writes_go_on(
    rough: Cluster, service: str
) -> None:
    async with (
        rough.client() as writer,
        rough.client() as consumer,
        following(consumer, service) as follower,
    ):
        acknowledged: list[str] = []
        writing = asyncio.create_task(keep_writing(writer, service, acknowledged))
        await more(acknowledged, writing)
        lost = rough.caretaker()
        await rough.kill(lost)
        await more(acknowledged, writing)
        await rough.start(lost)
        await more(acknowledged, writing)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

        await follower.until("up", acknowledged[-1])
        assert set(acknowledged) <= set(await rough.reads(lost, service))
        told_of = [change.record.instance.id for change in follower.changes]
        assert len(told_of) == len(set(told_of)), "each came up once"
        assert [each for each in told_of if each in acknowledged] == acknowledged


@on(OF_SEVERAL)
@told
async def test_a_planned_restart_of_each_node_in_turn_is_noticed_by_nobody(
    rough: Cluster, service: str
) -> None:
    async with rough.client() as provider, rough.client() as writer, rough.client() as consumer:
        registered = await provider.register(service, port=80, id="o1")
        async with following(consumer, service) as follower:
            await follower.until("up")
            acknowledged: list[str] = []
            other = f"{service}-others"
            writing = asyncio.create_task(keep_writing(writer, other, acknowledged))
            for name in rough.names:
                await more(acknowledged, writing)
                await rough.stop(name)
                await more(acknowledged, writing)
                await rough.start(name)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            await registered.update(version="2")
            await follower.until("changed")

            assert follower.kinds == ["up", "changed"], "it was suspect or gone in between"
            assert set(acknowledged) <= set(await rough.reads(rough.names[0], other))


@on(ELECTING)
@told
async def test_a_planned_stop_of_the_leader_waits_for_no_election(
    rough: Cluster, service: str
) -> None:
    """Another one leads before the one that stops is gone."""
    lost = rough.caretaker()
    others = [rough.up[name].node for name in rough.names if name != lost]
    stopping = asyncio.create_task(rough.up[lost].node.hand_over())
    await stopping
    assert rough.up[lost].node.leader != lost
    assert any(node.leader not in ("", lost) for node in others)


async def write_some(rough: Cluster, name: str, service: str) -> None:
    async with rough.peer(name) as peer:
        for turn in range(20):
            await peer.register(service, f"{name}{turn}", version=str(turn))


async def keep_writing(client: Registry, service: str, acknowledged: list[str]) -> None:
    for turn in count():
        await client.register(service, port=80, id=f"o{turn}", ttl=0)
        acknowledged.append(f"o{turn}")


async def more(acknowledged: list[str], writing: "asyncio.Task[None]") -> None:
    """Wait until ten more are acknowledged."""
    aim = len(acknowledged) + 10
    async with asyncio.timeout(20):
        while len(acknowledged) < aim:
            if writing.done():
                writing.result()
            await asyncio.sleep(0.002)
