"""What can be asked of a registry, through the client library."""

import asyncio
import contextlib

import pytest
from tests.contract.clusters import Cluster, until
from tests.contract.telling import Follower, following, told, watched

from waypost import wire
from waypost.client.check import Check
from waypost.commands import Register
from waypost.errors import Invalid, NoInstance, Superseded, UnknownInstance
from waypost.model import Instance


@told
async def test_a_registered_instance_is_found_with_all_that_was_said_of_it(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        registered = await provider.register(
            service,
            port=8080,
            host="10.1.2.3",
            id="o1",
            weight=2.5,
            zone="z1",
            version="1.2",
            tags=("blue", "green"),
            meta={"team": "a"},
            ports={"metrics": 9100},
            health="warning",
        )

        (found,) = (await consumer.resolve(service, consistency="linearizable")).records

        assert found.instance == registered.instance
        instance = found.instance
        assert (instance.host, instance.port, instance.weight) == ("10.1.2.3", 8080, 2.5)
        assert (instance.zone, instance.version) == ("z1", "1.2")
        assert (instance.tags, instance.meta) == (("blue", "green"), {"team": "a"})
        assert instance.ports == {"metrics": 9100}
        assert instance.incarnation > 0
        assert (found.health, found.suspect) == ("warning", False)


@told
async def test_an_update_changes_what_it_names_and_nothing_else(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        registered = await provider.register(service, port=80, zone="z1", weight=1)
        before = registered.instance

        await registered.update(weight=7, version="2")

        (found,) = (await consumer.resolve(service, consistency="linearizable")).records
        assert (found.instance.weight, found.instance.version) == (7, "2")
        assert (found.instance.zone, found.instance.port) == ("z1", 80)
        assert found.instance.incarnation == before.incarnation


@told
async def test_checks_live_and_die_with_the_registration_that_brings_them(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:

        async def health() -> list[tuple[str, str]]:
            answer = await consumer.resolve(service, health="any", consistency="linearizable")
            return [(record.health, record.why) for record in answer.records]

        dead = Check(tcp="127.0.0.1:1")
        mine = await provider.register(service, port=80, id="o1", checks=[dead])
        assert await health() == [("critical", "check 'tcp' is critical")]
        await mine.update(weight=7)
        assert await health() == [("critical", "check 'tcp' is critical")]
        await mine.deregister()
        assert await health() == []

        again = await provider.register(service, port=80, id="o1")
        assert await health() == [("passing", "")]
        await again.update(checks=[dead])
        assert await health() == [("critical", "check 'tcp' is critical")]
        await again.update(checks=[])
        assert await health() == [("passing", "")]


@told
async def test_a_deregistered_instance_is_gone_for_everybody(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as other:
        mine = await provider.register(service, port=80, id="o1")
        await provider.register(service, port=81, id="o2")
        await provider.register(service, port=82, id="o3", version="3")

        await mine.deregister()
        await other.deregister(service, "o2")

        for name in cluster.names:
            assert await cluster.reads(name, service) == {"o3": "3"}
        with pytest.raises(UnknownInstance):
            await other.deregister(service, "o2")


@told
async def test_what_is_critical_is_not_resolved_but_can_be_asked_for(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        ill = await provider.register(service, port=80, id="o1")
        await provider.register(service, port=81, id="o2")

        await ill.set_health("critical", "its disk is full")

        usable = await consumer.resolve(service, consistency="linearizable")
        every = await consumer.resolve(service, health="any")
        critical = await consumer.resolve(service, health="critical")
        assert [each.instance.id for each in usable.records] == ["o2"]
        assert {each.instance.id for each in every.records} == {"o1", "o2"}
        assert [each.why for each in critical.records] == ["its disk is full"]

        await ill.set_health("passing")

        again = await consumer.resolve(service, consistency="linearizable")
        assert len(again.records) == 2


@told
async def test_a_drain_returns_when_all_watchers_have_seen_it_and_not_before(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[-1]
    async with cluster.client(here) as provider, contextlib.AsyncExitStack() as stack:
        draining = await provider.register(service, port=80, id="o1")
        told_by = cluster.told_by((await provider.status()).node)
        peers = [await stack.enter_async_context(cluster.peer(name)) for name in told_by]
        followers = [await watched(peer, service) for peer in peers]

        async def confirm(follower: Follower) -> None:
            change = await follower.until("changed", "o1")
            seen.append(change.record.health)
            follower.confirm(change.revision)

        seen: list[str] = []
        confirming = [asyncio.create_task(confirm(follower)) for follower in followers]
        drained = await draining.drain(deadline=20)
        assert (drained.watchers, drained.unseen) == (len(peers), 0)
        assert seen == ["draining"] * len(peers)
        await asyncio.gather(*confirming)

        assert list(await cluster.reads(cluster.names[-1], service)) == []


@told
async def test_a_drain_tells_of_a_watcher_that_does_not_confirm_at_whichever_node_it_is(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[-1]
    async with cluster.client(here) as provider, contextlib.AsyncExitStack() as stack:
        draining = await provider.register(service, port=80, id="o1")
        told_by = cluster.told_by((await provider.status()).node)
        for name in told_by:
            await watched(await stack.enter_async_context(cluster.peer(name)), service)

        drained = await draining.drain(deadline=0.1)

        assert (drained.watchers, drained.unseen) == (len(told_by), len(told_by))


@told
async def test_a_query_finds_those_that_meet_every_condition(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        for number, zone in enumerate(("east", "east", "west")):
            await provider.register(
                service,
                port=80,
                id=f"o{number}",
                zone=zone,
                version=str(number % 2),
                tags=("even",) if number % 2 == 0 else ("odd", "blue"),
                meta={"n": str(number)},
            )

        async def found(**conditions: object) -> set[str]:
            answer = await consumer.resolve(
                service,
                consistency="linearizable",
                **conditions,  # type: ignore[arg-type]
            )
            return {each.instance.id for each in answer.records}

        assert await found() == {"o0", "o1", "o2"}
        assert await found(zone="east") == {"o0", "o1"}
        assert await found(zone="east", version="0") == {"o0"}
        assert await found(tags=("odd", "blue")) == {"o1"}
        assert await found(tags=("odd", "even")) == set()
        assert await found(meta={"n": "2"}) == {"o2"}


@told
async def test_the_list_of_services_counts_what_is_there_and_what_is_usable(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider:
        await provider.register(service, port=80, id="o1")
        await provider.register(service, port=81, id="o2", health="critical")
        await provider.register(f"team-a/{service}", port=82, id="o3")

        listed = {each.service: each for each in (await provider.services()).services}

        assert (listed[service].instances, listed[service].pickable) == (2, 1)
        assert (listed[f"team-a/{service}"].instances, listed[service].service) == (1, service)


@told
async def test_who_registers_an_id_anew_fences_who_had_it(cluster: Cluster, service: str) -> None:
    async with cluster.client() as first, cluster.client() as second:
        old = await first.register(service, port=80, id="o1")
        new = await second.register(service, port=81, id="o1")

        with pytest.raises(Superseded):
            await old.update(version="2")

        assert old.state == "superseded"
        assert new.instance.incarnation > old.instance.incarnation
        (found,) = (await second.resolve(service, consistency="linearizable")).records
        assert found.instance == new.instance


@told
async def test_a_client_that_leaves_takes_along_what_is_not_permanent(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as consumer, following(consumer, service) as follower:
        async with cluster.client() as provider:
            await provider.register(service, port=80, id="leased")
            await provider.register(service, port=81, id="permanent", ttl=0)
        await follower.until("down", "leased")

        left = await consumer.resolve(service, consistency="linearizable", health="any")
        assert [each.instance.id for each in left.records] == ["permanent"]
        await consumer.deregister(service, "permanent")


@told
async def test_what_is_out_of_bounds_is_refused_by_name_and_changes_nothing(
    cluster: Cluster, service: str
) -> None:
    async with cluster.peer(cluster.names[-1]) as peer:
        before = await cluster.state(cluster.names[0])

        command = Register(Instance(service, "o1", "10.0.0.1", 70_000))
        fault = await peer.fault(peer.ask(wire.WRITE, [command]))

        assert (fault.code, fault.field) == ("invalid", "port")
        assert await cluster.state(cluster.names[0]) == before
    async with cluster.client() as client:
        with pytest.raises(Invalid):
            client.register(service, port=0)


@told
async def test_a_consumer_picks_among_what_is_registered_and_hears_when_there_is_nothing(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as provider, cluster.client() as consumer:
        view = consumer.service(service, policy="round_robin")
        with pytest.raises(NoInstance):
            await view.ready()
            view.pick()
        for number in range(3):
            await provider.register(service, port=80 + number, id=f"o{number}")

        def has_all() -> bool:
            with contextlib.suppress(NoInstance):
                return {view.pick().id for _ in range(3)} == {"o0", "o1", "o2"}
            return False

        await until(has_all)


@told
async def test_all_nodes_make_the_same_of_what_is_written_at_once_at_all_of_them(
    cluster: Cluster, service: str
) -> None:
    async def write(name: str, number: int) -> None:
        async with cluster.peer(name) as peer:
            for turn in range(10):
                version = f"{name}{number}-{turn}"
                await peer.register(service, f"o{turn % 4}", version=version)

    await asyncio.gather(*(write(name, number) for name in cluster.names for number in range(3)))

    states = [await cluster.state(name) for name in cluster.names]
    assert {key for key in states[0] if key[0] == service} == {(service, f"o{n}") for n in range(4)}
    assert all(state == states[0] for state in states)
