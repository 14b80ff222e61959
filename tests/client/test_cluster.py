"""What a client keeps through the loss of nodes: real nodes, in this process."""

import asyncio
from pathlib import Path

from tests.client.three import NAMES, Three, with_three

import waypost
from waypost.client.registry import Registry


async def connected_to(registry: Registry, three: Three) -> str:
    return three.name_of((await registry._link.connected()).address)


async def until_connected_to(registry: Registry, three: Three, name: str) -> None:
    """Have the client move until it is there."""
    async with asyncio.timeout(30):
        while await connected_to(registry, three) != name:
            registry._link.leave()
            await asyncio.sleep(0.05)


def test_one_address_is_enough_to_outlive_the_node_that_is_there(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        async with waypost.connect(three.addresses["b"], cache_dir=None) as registry:
            registration = await registry.register("orders", port=80, id="o1")

            await three.kill("b")
            await registry.register("orders", port=81, id="o2")

            after = {r.instance.id: r for r in (await registry.resolve("orders")).records}
            assert set(after) == {"o1", "o2"}
            assert after["o1"].instance == registration.instance
            assert not after["o1"].suspect

    with_three(tmp_path, test)


def test_clients_that_are_given_one_address_spread_over_all_nodes(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        clients = [waypost.connect(three.addresses["a"], cache_dir=None) for _ in range(12)]
        opened = [await client.__aenter__() for client in clients]
        try:
            async with asyncio.timeout(20):
                while {await connected_to(each, three) for each in opened} != set(NAMES):
                    await asyncio.sleep(0.05)
        finally:
            for client in clients:
                await client.__aexit__(None, None, None)

    with_three(tmp_path, test)


def test_every_write_has_its_effect_once_whichever_node_dies_under_it(tmp_path: Path) -> None:
    """A deregistration that was carried out twice would hear that there is no such instance."""

    async def test(three: Three) -> None:
        async with (
            waypost.connect(three.address, cache_dir=None, timeout=15) as registry,
            waypost.connect(three.address, cache_dir=None, timeout=15) as other,
        ):
            for n in range(40):
                await registry.register("orders", port=80, id=f"o{n}", ttl=0)

            async def deregister_all() -> None:
                for n in range(40):
                    await other.deregister("orders", f"o{n}")
                    await asyncio.sleep(0.02)

            writing = asyncio.create_task(deregister_all())
            for _ in range(2):
                await asyncio.sleep(0.2)
                leader = await three.led()
                await three.kill(leader)
                await asyncio.sleep(0.2)
                await three.start(leader)
                gone = await connected_to(other, three)
                await three.kill(gone)
                await asyncio.sleep(0.1)
                await three.start(gone)
            await writing

            answer = await other.resolve("orders", consistency="linearizable", health="any")
            assert answer.records == ()

    with_three(tmp_path, test)


def test_a_watch_goes_on_at_another_node_without_a_gap_and_without_going_back(
    tmp_path: Path,
) -> None:
    async def test(three: Three) -> None:
        async with (
            waypost.connect(three.address, cache_dir=None, timeout=15) as provider,
            waypost.connect(three.address, cache_dir=None, timeout=15) as consumer,
        ):
            registration = await provider.register("orders", port=80, id="o1", version="0")
            told: list[waypost.Change] = []

            async def follow() -> None:
                async with consumer.watch("orders") as watch:
                    async for change in watch:
                        told.append(change)
                        if change.record.instance.version == "30":
                            return

            following = asyncio.create_task(follow())
            for n in range(1, 31):
                await registration.update(version=str(n))
                if n % 10 == 5:
                    gone = await connected_to(consumer, three)
                    await three.kill(gone)
                    await asyncio.sleep(0.05)
                    await three.start(gone)
            await following

            assert [change.kind for change in told] == ["up"] + ["changed"] * (len(told) - 1)
            revisions = [change.revision for change in told]
            assert revisions == sorted(set(revisions)), "in order, and none twice"
            versions = [int(change.record.instance.version) for change in told]
            assert versions == sorted(versions), "it never goes back"
            assert versions[-1] == 30

    with_three(tmp_path, test)


def test_an_outage_of_the_whole_registry_costs_no_lease(
    tmp_path: Path,
) -> None:
    async def test(three: Three) -> None:
        async with (
            waypost.connect(three.address, cache_dir=None, timeout=20) as provider,
            waypost.connect(three.address, cache_dir=None, timeout=20) as consumer,
        ):
            registration = await provider.register("orders", port=80, id="o1", ttl=2, grace=0.5)
            found = await consumer.resolve("orders", consistency="linearizable")
            before = found.records[0]

            await three.kill(*NAMES)
            await asyncio.sleep(2.5)  # longer than its lease
            assert (await consumer.resolve("orders")).source == "cache"
            await three.start()
            await provider.resolve("orders", consistency="linearizable")
            await asyncio.sleep(2.5)

            (after,) = (await consumer.resolve("orders", consistency="linearizable")).records
            assert after.instance == before.instance
            assert not after.suspect
            assert registration.state == "registered"

    with_three(tmp_path, test)


def test_an_answer_is_never_older_than_what_the_client_saw_at_another_node(tmp_path: Path) -> None:
    async def test(three: Three) -> None:
        async with waypost.connect(three.address, cache_dir=None, timeout=15) as registry:
            registration = await registry.register("orders", port=80, id="o1", version="0")
            for n in range(1, 31):
                await registration.update(version=str(n))
                registry._link.leave()
                seen = (await registry.resolve("orders")).records[0].instance.version
                assert seen == str(n)
                if n % 10 == 0:
                    await until_connected_to(registry, three, NAMES[n // 10 - 1])

    with_three(tmp_path, test)
