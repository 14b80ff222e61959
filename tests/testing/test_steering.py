"""What a test can do to its registry, and what its providers and consumers make of it."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.standing import go_on, stand_still

import waypost
from waypost import ServiceConsumer, ServiceProvider, ServiceRegistry
from waypost.client.blocking import BlockingRegistration, BlockingRegistry
from waypost.client.blocking_views import BlockingService
from waypost.testing.temporary import TemporaryRegistry


@contextmanager
def connected(*, shared: int = 1) -> Iterator[list[BlockingRegistry]]:
    """So many clients, each with a connection of its own, as in processes of their own."""
    clients = [waypost.connect().blocking() for _ in range(shared)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def provide(client: BlockingRegistry, n: int, **more: float) -> BlockingRegistration:
    return client.register("orders", host=f"10.0.0.{n}", port=8080, id=f"o-{n}", **more)  # type: ignore[arg-type]


def picked(service: BlockingService) -> set[str]:
    return {service.pick().id for _ in range(40)}


def ids(registry: TemporaryRegistry, health: str = "resolvable") -> list[str]:
    return [each.id for each in registry.instances("orders", health)]  # type: ignore[arg-type]


# Time


def test_time_stands_still_until_it_is_moved(waypost_registry: TemporaryRegistry) -> None:
    with connected() as [provider]:
        provide(provider, 1, ttl=0.5)
        waypost_registry.silence("o-1")

        time.sleep(0.8)
        assert ids(waypost_registry) == ["o-1"]
        waypost_registry.clock.advance(0.49)
        assert ids(waypost_registry) == ["o-1"]
        waypost_registry.clock.advance(0.01)
        assert ids(waypost_registry) == []


def test_a_provider_that_hangs_loses_its_lease_and_its_consumers_go_elsewhere(
    waypost_registry: TemporaryRegistry,
) -> None:
    begun = time.perf_counter()
    with connected(shared=3) as [first, second, consumer]:
        hanging = provide(first, 1)
        provide(second, 2)
        orders = consumer.service("orders", "round_robin")
        assert picked(orders) == {"o-1", "o-2"}

        waypost_registry.silence(hanging)
        waypost_registry.clock.advance(10)

        assert picked(orders) == {"o-2"}  # at once: nothing is waited for here
        assert ids(waypost_registry, "any") == ["o-2"]
    assert time.perf_counter() - begun < 9, "ten seconds passed in less"


@pytest.mark.parametrize("ttl", [0.5, 10.0])
def test_a_provider_that_lives_keeps_its_lease_however_far_the_clock_is_moved(
    waypost_registry: TemporaryRegistry, ttl: float
) -> None:
    with connected(shared=2) as [provider, consumer]:
        provide(provider, 1, ttl=ttl)
        orders = consumer.service("orders")
        changes = consumer.watch("orders")
        assert next(changes).kind == "up"

        waypost_registry.clock.advance(120)

        assert ids(waypost_registry) == ["o-1"]
        (record,) = consumer.resolve("orders").instances
        assert record.incarnation == orders.pick().incarnation, "it never went"


PROVIDER = """
import sys, time, waypost
with waypost.connect() as registry, registry.register("orders", port=8080, id="elsewhere", ttl=1):
    print("registered", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def elsewhere(waypost_registry: TemporaryRegistry) -> Iterator[subprocess.Popen[str]]:
    """A provider in another process, at the registry that the environment names."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROVIDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "registered\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_provider_in_another_process_keeps_its_lease(
    waypost_registry: TemporaryRegistry, elsewhere: subprocess.Popen[str]
) -> None:
    waypost_registry.clock.advance(20)

    assert ids(waypost_registry) == ["elsewhere"]


def test_a_process_that_hangs_loses_its_lease_and_one_that_is_stopped_briefly_does_not(
    waypost_registry: TemporaryRegistry, elsewhere: subprocess.Popen[str]
) -> None:
    stand_still(elsewhere.pid)
    waypost_registry.clock.advance(0.9)
    assert ids(waypost_registry) == ["elsewhere"]
    go_on(elsewhere.pid)
    waypost_registry.settle()
    waypost_registry.clock.advance(5)
    assert ids(waypost_registry) == ["elsewhere"]

    stand_still(elsewhere.pid)
    waypost_registry.clock.advance(1)
    assert ids(waypost_registry) == []

    go_on(elsewhere.pid)  # it hears that its session is over, and begins anew
    waypost_registry.wait_for("orders", 1)


def test_time_does_not_go_back(waypost_registry: TemporaryRegistry) -> None:
    with pytest.raises(waypost.Invalid, match="time does not go back"):
        waypost_registry.clock.advance(-1)


# Misfortune


def test_a_provider_that_is_killed_is_avoided_at_once_and_gone_after_its_grace(
    waypost_registry: TemporaryRegistry,
) -> None:
    with connected(shared=3) as [first, second, consumer]:
        provide(first, 1)
        provide(second, 2, grace=2)
        orders = consumer.service("orders", "round_robin")
        assert picked(orders) == {"o-1", "o-2"}

        waypost_registry.kill("o-2")

        assert picked(orders) == {"o-1"}
        assert [(i.id, i.suspect) for i in waypost_registry.instances("orders", "any")] == [
            ("o-1", False),
            ("o-2", True),
        ]
        waypost_registry.clock.advance(2)
        assert ids(waypost_registry, "any") == ["o-1"]


def test_one_that_was_silenced_may_be_killed(waypost_registry: TemporaryRegistry) -> None:
    with connected() as [provider]:
        provide(provider, 1, grace=0)
        waypost_registry.silence("o-1")
        assert ids(waypost_registry) == ["o-1"]

        waypost_registry.kill("o-1")

        assert ids(waypost_registry, "any") == []


@pytest.mark.parametrize("misfortune", ["silence", "kill"])
def test_a_provider_that_is_revived_registers_again_by_itself(
    waypost_registry: TemporaryRegistry, misfortune: str
) -> None:
    with connected() as [provider]:
        registration = provide(provider, 1)
        getattr(waypost_registry, misfortune)(registration)
        waypost_registry.clock.advance(20)
        assert ids(waypost_registry) == []

        waypost_registry.revive(registration)

        waypost_registry.wait_for("orders", 1)
        assert registration.state == "registered"


def test_a_provider_that_is_cut_off_ends_without_waiting_for_an_answer(
    waypost_registry: TemporaryRegistry,
) -> None:
    with connected() as [provider]:
        registration = provide(provider, 1)
        waypost_registry.silence(registration)
        begun = time.perf_counter()

        registration.set_health("critical")
        registration.deregister()

    assert time.perf_counter() - begun < 0.9
    assert ids(waypost_registry) == ["o-1"], "nothing of that has reached the registry"


def test_a_provider_is_named_by_whatever_the_test_has_at_hand(
    waypost_registry: TemporaryRegistry,
) -> None:
    with ServiceRegistry() as registry:
        names: list[object] = ["o-1", "orders/o-1", "10.0.0.1:8080", "http://10.0.0.1:8080"]
        for name in names:
            with connected() as [client]:
                provide(client, 1)
                waypost_registry.kill(name)  # type: ignore[arg-type]
                assert waypost_registry.instances("orders")[0].suspect
            waypost_registry.clock.advance(2)
        with ServiceProvider("orders", "http://10.0.0.9:80/v1") as provider:
            waypost_registry.kill(provider)
            assert waypost_registry.instances("orders")[0].suspect
            assert registry.get_service("orders") is not None, "the last resort"


def test_who_is_not_there_cannot_be_silenced(waypost_registry: TemporaryRegistry) -> None:
    with connected() as [client]:
        provide(client, 1)

        with pytest.raises(waypost.UnknownInstance, match=r"'o-9' is not registered.*orders/o-1"):
            waypost_registry.silence("o-9")
        with pytest.raises(waypost.UnknownInstance, match="neither silenced nor killed"):
            waypost_registry.revive("o-1")


def test_one_of_several_must_be_named_exactly(waypost_registry: TemporaryRegistry) -> None:
    with connected(shared=2) as [one, other]:
        one.register("orders", host="10.0.0.1", port=80, id="same")
        other.register("invoices", host="10.0.0.1", port=81, id="same")

        with pytest.raises(waypost.Invalid, match=r"may be any of invoices/same.*orders/same"):
            waypost_registry.kill("same")
        waypost_registry.kill("invoices/same")


def test_a_permanent_instance_hangs_on_no_connection(waypost_registry: TemporaryRegistry) -> None:
    with connected() as [client]:
        provide(client, 1, ttl=0)

        with pytest.raises(waypost.Invalid, match="not kept alive by a connection"):
            waypost_registry.silence("o-1")


def test_a_registry_that_is_gone_leaves_its_consumers_what_they_knew(
    waypost_registry: TemporaryRegistry,
) -> None:
    with connected(shared=2) as [provider, consumer]:
        provide(provider, 1)
        orders = consumer.service("orders")
        assert picked(orders) == {"o-1"}

        waypost_registry.stop()
        waypost_registry.stop()

        assert picked(orders) == {"o-1"}


# Looking


def test_a_change_has_reached_every_consumer_when_the_registry_has_settled(
    waypost_registry: TemporaryRegistry,
) -> None:
    with connected(shared=2) as [provider, consumer]:
        sick = provide(provider, 1)
        provide(provider, 2)
        orders = consumer.service("orders", "round_robin")
        assert picked(orders) == {"o-1", "o-2"}

        for health, expected in [("critical", {"o-2"}), ("passing", {"o-1", "o-2"})] * 10:
            sick.set_health(health)  # type: ignore[arg-type]
            waypost_registry.settle()
            assert picked(orders) == expected


def test_what_does_not_come_is_told_with_what_is_there(
    waypost_registry: TemporaryRegistry,
) -> None:
    with connected() as [provider]:
        provide(provider, 1).set_health("critical", "no database")

        waypost_registry.wait_for("orders", 0)
        with pytest.raises(AssertionError) as told:
            waypost_registry.wait_for("orders", 2, timeout=0.05)

    assert str(told.value) == (
        "orders does not have 2 usable instances after 0.05 s, but 0; registered are: "
        "orders/o-1 (critical: no database)"
    )


def test_the_http_api_opens_when_it_is_asked_for(waypost_registry: TemporaryRegistry) -> None:
    with connected() as [provider]:
        provide(provider, 1)
        url = f"http://{waypost_registry.http_address}/api/v1/services/orders"
        assert waypost_registry.http_address in url

        with urllib.request.urlopen(url, timeout=5) as response:
            answer = json.load(response)

    assert [each["id"] for each in answer["instances"]] == ["o-1"]


def test_the_plain_classes_use_it_without_being_told(waypost_registry: TemporaryRegistry) -> None:
    with (
        ServiceProvider("orders", "http://10.0.0.1:9001") as hanging,
        ServiceProvider("orders", "http://10.0.0.2:9001"),
        ServiceConsumer(policy="round_robin") as consumer,
    ):
        both = {consumer.get_service_url("orders") for _ in range(10)}
        assert both == {"http://10.0.0.1:9001", "http://10.0.0.2:9001"}

        waypost_registry.silence(hanging)
        waypost_registry.clock.advance(10)

        assert {consumer.get_service_url("orders") for _ in range(10)} == {"http://10.0.0.2:9001"}
