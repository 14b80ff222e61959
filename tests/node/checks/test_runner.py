"""When checks are looked at, and what comes of it: one node with real targets."""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from tests.node.checks.servers import hangs, ok, target
from tests.servers.http.world import until

from waypost.checks import Check, CheckState
from waypost.model import Instance, Record
from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.checks.allowed import Allowed
from waypost.node.checks.probing import Probes
from waypost.node.checks.runner import CheckRunner
from waypost.node.node import Node
from waypost.node.registry import Registry


class World:
    def __init__(self, node: Node, runner: CheckRunner) -> None:
        self.node = node
        self.registry = Registry(node)
        self.runner = runner

    async def register(self, instance_id: str = "o-1", **fields: Any) -> None:
        instance = Instance("orders", instance_id, "127.0.0.1", 1, **fields)
        await self.registry.register(instance, ttl_ms=0)

    async def put(self, check: Check, instance_id: str = "o-1", **options: Any) -> None:
        await self.registry.put_check("orders", instance_id, check, **options)

    def state(self, instance_id: str = "o-1") -> CheckState:
        return self.registry.checks("orders", instance_id)[0]

    def record(self, instance_id: str = "o-1") -> Record:
        return self.registry.record("orders", instance_id)

    async def until(self, condition: Callable[[], bool], within_s: float = 20) -> float:
        """Wait for what is announced to those who listen; tell how long it took."""
        began = time.monotonic()
        moved = asyncio.Event()
        stop = self.registry.on_checks(lambda revision, services: moved.set())
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    moved.clear()
                    await moved.wait()
        finally:
            stop()
        return time.monotonic() - began


@asynccontextmanager
async def opened() -> AsyncIterator[World]:
    node = await open_node(NodeConfig(), on_fatal=lambda error: None)
    runner = CheckRunner(node, Probes(Allowed()), slots=(20, 4))
    runner.start()
    try:
        yield World(node, runner)
    finally:
        await runner.stop()
        await node.stop()


def checked(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        async def main() -> None:
            async with opened() as world:
                await test(world)

        uvloop.run(main())

    run.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    return run


def http(port: int, **fields: Any) -> Check:
    return Check("http", kind="http", target=f"http://127.0.0.1:{port}/", **fields)


@checked
async def test_the_first_probe_of_a_new_check_decides_and_then_two_are_needed(
    world: World,
) -> None:
    await world.register()
    async with target(ok()) as there:
        await world.put(http(there.port, interval_ms=1_000))
        await world.until(lambda: world.record().health == "passing")
        assert there.asked == 1

        there.conduct = ok(b"no", "500 Oh")
        took_s = await world.until(lambda: world.record().health == "critical")
        assert there.asked == 3 or there.asked == 4
        assert took_s < 1.5, "the second look does not wait for the interval"
        assert "500 Oh Output: no" in world.state().output
        there.conduct = ok()
        await world.until(lambda: world.record().health == "passing")


@checked
async def test_probes_that_find_what_is_known_cost_the_log_nothing(world: World) -> None:
    await world.register()
    words = [b"one", b"two"]

    async def conduct(reader: Any, writer: Any) -> None:
        words.reverse()
        await ok(words[0])(reader, writer)
        if there.asked > 3:
            seen.set()

    seen = asyncio.Event()
    async with target(conduct) as there:
        await world.put(http(there.port, interval_ms=1_000))
        await world.until(lambda: world.record().health == "passing")
        revision = world.node.revision

        await asyncio.wait_for(seen.wait(), 20)

        assert world.node.revision == revision


@checked
async def test_targets_that_hang_delay_no_other_check(world: World) -> None:
    """More of them than there are slots, of either kind: 60 at 20 and 4."""
    async with target(hangs) as bad, target(ok()) as good:
        for number in range(60):
            await world.register(f"bad-{number}")
            await world.put(http(bad.port, interval_ms=1_000), f"bad-{number}")
        await world.until(
            lambda: all("timed out" in world.state(f"bad-{n}").output for n in range(60)), 60
        )
        await world.register("good")
        await world.put(http(good.port, interval_ms=2_000), "good")
        assert await world.until(lambda: world.record("good").health == "passing", 30) < 2
        good.conduct = ok(b"", "500 Oh")
        assert await world.until(lambda: world.record("good").health == "critical", 30) < 4


@checked
async def test_a_target_that_hangs_is_known_within_the_interval_and_one_timeout(
    world: World,
) -> None:
    """Of every kind that is asked something; a port that is open has answered by that."""
    await world.register()
    async with target(ok()) as there:
        await world.put(http(there.port, interval_ms=2_000, timeout_ms=1_500))
        await world.until(lambda: world.record().health == "passing")

        asked, there.conduct = there.asked, hangs
        took_s = await world.until(lambda: world.record().health == "critical")

        assert there.asked == asked + 2, "two in a row, and one of them did not wait"
        assert took_s < 3.5
        assert "timed out after 1.5 s" in world.state().output


@checked
async def test_a_target_that_needs_most_of_its_time_stays_passing(world: World) -> None:
    """And a first probe that gets no answer alone changes nothing."""
    await world.register()
    lost = 0

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal lost
        if there.asked % 4 == 2:
            lost += 1
            await hangs(reader, writer)
        await asyncio.sleep(0.7)
        await ok()(reader, writer)

    async with target(ok()) as there:
        await world.put(http(there.port, interval_ms=1_000, timeout_ms=1_000))
        await world.until(lambda: world.record().health == "passing")
        revision, there.conduct = world.node.revision, slowly

        await until(lambda: there.asked >= 8)

        assert lost
        assert world.node.revision == revision, "it was passing all the time"


@checked
async def test_a_target_that_hung_for_a_whole_interval_is_looked_at_again(world: World) -> None:
    await world.register()
    async with target(hangs) as there:
        await world.put(http(there.port, interval_ms=1_000))
        await world.until(lambda: "timed out" in world.state().output)
        asked = there.asked
        await until(lambda: there.asked >= asked + 3)
        there.conduct = ok()
        await world.until(lambda: world.record().health == "passing")


@checked
async def test_a_ttl_check_is_critical_once_nothing_was_reported_for_so_long(
    world: World,
) -> None:
    await world.register()
    await world.put(Check("ttl", ttl_ms=300), status="passing")
    began = time.monotonic()
    await until(lambda: world.runner.mine == 1)
    revision = world.node.revision
    while time.monotonic() - began < 1.0:
        await world.registry.report_check("orders", "o-1", "ttl", "passing")
        await asyncio.sleep(0.05)
    assert world.record().health == "passing"
    assert world.node.revision == revision, "a report that says nothing new is no entry"

    took_s = await world.until(lambda: world.record().health == "critical")
    assert 0.2 < took_s < 1.0
    assert "TTL expired" in world.state().output
    await world.registry.report_check("orders", "o-1", "ttl", "passing")
    assert world.record().health == "passing"
    await world.until(lambda: world.record().health == "critical")


@checked
async def test_a_report_through_the_log_keeps_a_ttl_check_alive_too(world: World) -> None:
    await world.register()
    await world.put(Check("ttl", ttl_ms=300), status="passing")
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < 1.0:
        number += 1
        await world.registry.report_check("orders", "o-1", "ttl", "passing", str(number))
        await asyncio.sleep(0.05)
    assert world.record().health == "passing"


@checked
async def test_an_alias_is_as_its_target_is(world: World) -> None:
    await world.register("o-1")
    await world.register("o-2")
    await world.put(Check("a", kind="alias", target="orders/o-2", interval_ms=1_000))
    await world.until(lambda: world.record().health == "passing")

    await world.registry.set_health("orders", "o-2", "critical", "said so")
    await world.until(lambda: world.record().health == "critical")
    assert world.state().output == "orders/o-2 is critical"
    await world.registry.deregister("orders", "o-2")
    await world.registry.report_check("orders", "o-1", "a", "passing", "")
    await world.until(lambda: world.state().output == "orders/o-2 is not registered")


@checked
async def test_an_instance_whose_check_stays_critical_is_deregistered(world: World) -> None:
    await world.register("o-1")
    await world.register("o-2")
    check = Check("m", kind="manual", deregister_after_ms=1_000)
    await world.put(check, "o-1", status="critical")
    await world.put(check, "o-2", status="critical")
    await world.registry.report_check("orders", "o-2", "m", "passing")

    took_s = await world.until(lambda: "o-1" not in (world.node.catalog.service("orders") or {}))

    assert 0.5 < took_s < 3
    assert world.record("o-2").health == "passing"


@checked
async def test_a_check_that_is_gone_or_another_is_looked_at_no_more(world: World) -> None:
    await world.register()
    async with target(ok()) as first, target(ok(b"", "500 Oh")) as second:
        await world.put(http(first.port, interval_ms=1_000))
        await world.until(lambda: world.record().health == "passing")
        await world.put(http(second.port, interval_ms=1_000))
        await world.until(lambda: world.record().health == "critical")
        asked = first.asked
        await world.registry.drop_check("orders", "o-1", "http")
        await until(lambda: world.runner.mine == 0)
        assert first.asked == asked
        assert world.record().health == "passing"


@checked
async def test_a_check_of_a_node_is_looked_at_like_any_other(world: World) -> None:
    await world.register(node="m-1")
    async with target(ok(b"full", "503 Oh")) as there:
        await world.registry.put_check("", "", http(there.port), node="m-1")
        await world.until(lambda: world.registry.node_checks("m-1")[0].output != "")
        assert world.record().why == "check 'http' of node 'm-1' is critical"
        assert "full" in world.registry.node_checks("m-1")[0].output
