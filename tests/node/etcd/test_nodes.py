"""Nodes without a disk over one etcd: one registry, whoever is asked."""

import asyncio

from tests.node.etcd.world import member, run, until

from waypost.node.etcd.settings import EtcdSettings


def test_what_was_acknowledged_is_there_after_a_restart(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings) as a:
            for n in range(5):
                await a.register(n)
            revision = a.node.revision

        async with member(settings) as a:
            assert a.local() == {f"o-{n}": "1" for n in range(5)}
            assert a.node.revision == revision
            assert not a.failures

    run(story)


def test_two_nodes_see_each_others_writes_in_one_order(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "a") as a, member(settings, "b") as b:
            await asyncio.gather(
                *(who.register(n, f"{who.node.name}-{n}") for n in range(40) for who in (a, b))
            )

            assert await a.state() == await b.state()
            assert a.node.revision == b.node.revision
            assert a.engine.log.index == b.engine.log.index
            assert not a.failures + b.failures

    run(story)


def test_a_linearizable_read_sees_what_another_node_acknowledged(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings, "a") as a, member(settings, "b") as b:
            for n in range(30):
                await a.register(0, str(n))
                assert (await b.state())["o-0"] == str(n)

    run(story)


def test_indexes_are_contiguous_whatever_else_happens_in_that_etcd(settings: EtcdSettings) -> None:
    other = EtcdSettings(endpoints=settings.endpoints, prefix=settings.prefix + "-other")

    async def story() -> None:
        async with member(settings, "a") as a, member(other, "a") as foreign:
            revisions = []
            for n in range(10):
                revisions.append(await a.register(n))
                await foreign.register(n)

            assert revisions == list(range(revisions[0], revisions[0] + 10))

    run(story)


def test_nodes_that_begin_at_once_begin_one_registry(settings: EtcdSettings) -> None:
    async def story() -> None:
        nodes = [member(settings, f"n{n}") for n in range(4)]
        started = await asyncio.gather(*(each.__aenter__() for each in nodes))

        assert len({each.node.cluster for each in started}) == 1
        assert len({each.engine.log.keys.prefix for each in started}) == 1
        await until(lambda: all(len(s.engine.status.members) == 4 for s in started))
        await asyncio.gather(*(each.__aexit__(None, None, None) for each in nodes))

    run(story)


def test_a_node_over_etcd_is_ready_without_a_leader(settings: EtcdSettings) -> None:
    async def story() -> None:
        async with member(settings) as a:
            assert a.engine.status.leader == ""
            assert a.node.is_ready() == (True, "ready")

    run(story)
