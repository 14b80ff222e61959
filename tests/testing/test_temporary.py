"""The registry of a test, awaited or not; and that nothing of it outlives the test."""

import asyncio
import threading

import pytest

import waypost
from waypost import testing
from waypost.testing.temporary import TemporaryRegistry


def test_an_asyncio_test_awaits_it_while_its_clients_run_on_the_same_loop() -> None:
    async def test() -> None:
        async with (
            testing.registry() as registry,
            waypost.connect(registry.address, cache_dir=None) as first,
            waypost.connect(registry.address, cache_dir=None) as second,
            waypost.connect(registry.address, cache_dir=None) as client,
        ):
            hanging = await first.register("orders", host="10.0.0.1", port=80, id="o-1")
            await second.register("orders", host="10.0.0.2", port=80, id="o-2", ttl=1)
            orders = client.service("orders", "round_robin")
            await orders.ready()
            assert {orders.pick().id for _ in range(10)} == {"o-1", "o-2"}

            await registry.silence(hanging)
            await registry.clock.advance(60)

            assert {orders.pick().id for _ in range(10)} == {"o-2"}
            assert [each.id for each in await registry.instances("orders", "any")] == ["o-2"]
            await registry.revive(hanging)
            await registry.wait_for("orders", 2)
            assert {orders.pick().id for _ in range(10)} == {"o-1", "o-2"}
            await registry.kill("o-2")
            await registry.settle()
            assert {orders.pick().id for _ in range(10)} == {"o-1"}
            assert (await registry.open_http()).startswith("127.0.0.1:")
            await registry.stop()
            assert orders.pick().id == "o-1"

    asyncio.run(test())


def test_blocking_the_loop_that_the_clients_run_on_is_refused(
    waypost_registry: TemporaryRegistry,
) -> None:
    async def test() -> None:
        with pytest.raises(RuntimeError, match="would block the event loop of the test"):
            waypost_registry.clock.advance(1)
        await asyncio.to_thread(waypost_registry.clock.advance, 1)

    asyncio.run(test())


def test_each_has_an_address_and_a_thread_of_its_own_and_leaves_neither() -> None:
    before = set(threading.enumerate())

    with testing.registry() as one, testing.registry() as other:
        assert one.address != other.address
        assert len(set(threading.enumerate()) - before) == 2

    assert set(threading.enumerate()) == before


def test_a_test_that_fails_stops_it_all_the_same() -> None:
    before = set(threading.enumerate())

    with pytest.raises(ZeroDivisionError), testing.registry():
        raise ZeroDivisionError

    assert set(threading.enumerate()) == before


def test_clients_that_are_left_open_hold_up_nothing() -> None:
    with testing.registry() as registry:
        client = waypost.connect(registry.address, cache_dir=None).blocking()
        client.register("orders", host="10.0.0.1", port=80)
        registry.silence("10.0.0.1:80")

    client.close()
