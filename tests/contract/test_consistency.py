"""What an answer is worth, for each level that can be asked for."""

import asyncio

import pytest
from tests.contract.clusters import Cluster
from tests.contract.engines import ASKING, ELECTING, OF_SEVERAL, on
from tests.contract.telling import told

from waypost import wire
from waypost.commands import Register
from waypost.errors import TooStale, Unavailable
from waypost.model import Instance
from waypost.wire import Resolve


@told
async def test_no_default_answer_is_older_than_what_its_client_has_seen_elsewhere(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as writer:
        registered = await writer.register(service, port=80, version="0")
        for turn in range(1, 16):
            await registered.update(version=str(turn))
            seen = (await writer.resolve(service)).revision
            for name in cluster.names:
                answer = await cluster.up[name].registry.resolve(
                    Resolve(service, min_revision=seen)
                )
                assert answer.revision >= seen
                assert answer.records[0].instance.version == str(turn)


@told
async def test_a_node_that_is_behind_what_a_client_has_seen_says_so(
    cluster: Cluster, service: str
) -> None:
    async with cluster.peer(cluster.names[-1]) as peer:
        ahead = wire.Resolve(service, min_revision=2**40)
        fault = await peer.fault(peer.ask(wire.RESOLVE, ahead))
        assert fault.code == "too-stale"


@told
async def test_a_linearizable_answer_has_every_write_that_was_acknowledged_anywhere(
    cluster: Cluster, service: str
) -> None:
    async with cluster.peer(cluster.names[0]) as here:
        for turn in range(10):
            await here.register(service, "o1", version=str(turn))
            for name in cluster.names:
                assert (await cluster.reads(name, service))["o1"] == str(turn)


@told
async def test_linearizable_answers_never_go_back_while_writes_go_on(
    cluster: Cluster, service: str
) -> None:
    acknowledged = -1
    is_over = False

    async def write() -> None:
        nonlocal acknowledged, is_over
        async with cluster.peer(cluster.names[-1]) as peer:
            for turn in range(60):
                await peer.register(service, "o1", version=str(turn))
                acknowledged = turn
        is_over = True

    async def read(name: str) -> None:
        while not is_over:
            at_least = acknowledged
            found = int((await cluster.reads(name, service)).get("o1", "-1"))
            assert at_least <= found
            latest.append(found)

    latest: list[int] = []
    await asyncio.gather(write(), *(read(name) for name in cluster.names))
    assert len(latest) > len(cluster.names)


@told
async def test_an_answer_says_how_old_it_may_be_and_meets_the_bound_that_was_asked_for(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as client:
        await client.register(service, port=80)
        for name in cluster.names:
            registry = cluster.up[name].registry
            answer = await registry.resolve(Resolve(service, max_stale_ms=5_000))
            assert 0 <= answer.age_ms <= 5_000
            assert answer.source in ("leader", "follower")
        answer_here = await client.resolve(service, max_stale=5)
        assert 0 <= answer_here.age <= 5


@on(ELECTING)
@told
async def test_only_the_node_that_leads_answers_as_the_leader(
    cluster: Cluster, service: str
) -> None:
    leader = cluster.caretaker()
    for name in cluster.names:
        answer = await cluster.up[name].registry.resolve(Resolve(service))
        assert answer.source == ("leader" if name == leader else "follower")


@on(OF_SEVERAL)
@told
async def test_a_node_that_was_away_answers_linearizably_with_what_it_missed(
    rough: Cluster, service: str
) -> None:
    away = rough.names[-1]
    await rough.kill(away)
    async with rough.peer(rough.names[0]) as peer:
        await peer.register(service, "o1", version="missed")
    await rough.begin(away)
    assert await rough.reads(away, service) == {"o1": "missed"}


@on(ASKING)
@told
async def test_without_a_majority_a_node_answers_what_it_knows_and_promises_nothing_more(
    rough: Cluster, service: str
) -> None:
    name = rough.caretaker()
    async with rough.client() as client:
        await client.register(service, port=80, id="o1", ttl=0)
        (known,) = (await client.resolve(service, consistency="linearizable")).records
        await rough.state(name)
        await rough.cut_off(name)
        registry = rough.up[name].registry

        async def bounded() -> None:
            with pytest.raises(TooStale):
                while True:  # until what it knows is that old
                    await registry.resolve(Resolve(service, max_stale_ms=100))
                    await asyncio.sleep(0.01)

        async def linearizable() -> None:
            with pytest.raises(Unavailable):
                await registry.resolve(Resolve(service, consistency="linearizable"))

        async def write() -> str:
            async with rough.peer(name) as peer:
                peer.is_polite = True
                asked = peer.ask(wire.WRITE, [Register(Instance(service, "o2", "10.0.0.1", 80))])
                return (await peer.fault(asked)).code

        default = await registry.resolve(Resolve(service))
        assert default.records == [known]
        fate, *_ = await asyncio.gather(write(), linearizable(), bounded())
        assert fate in ("unavailable", "timed-out")
        assert (await registry.resolve(Resolve(service))).records[0] == known

        await rough.heal()
        ids = set(await rough.reads(rough.names[-1], service))
        assert ids == {"o1"} or (fate == "timed-out" and ids == {"o1", "o2"})
