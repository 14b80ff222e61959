"""The registry is killed and comes back; providers and consumers notice as little as possible."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.processes.programs import ProviderProcess, RegistryProcess

import waypost
from waypost.client import watching
from waypost.client.registry import Registry
from waypost.model import Change


@pytest.fixture(params=["in memory", "durable"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryProcess]:
    data_dir = tmp_path / "data" if request.param == "durable" else None
    server = RegistryProcess(data_dir).start()
    yield server
    if server.process.poll() is None:
        server.kill()


class Story:
    """What a watcher was told, and that it was told each thing once."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Change] = asyncio.Queue()
        self.up: set[str] = set()

    async def read(self, watch: waypost.Watch) -> None:
        async for change in watch:
            instance_id = change.record.instance.id
            assert (change.kind == "up") == (instance_id not in self.up), change
            if change.kind == "down":
                self.up.discard(instance_id)
            else:
                self.up.add(instance_id)
            self.told.put_nowait(change)

    async def next(self) -> tuple[str, str]:
        """The next change that is not about a connection that comes and goes."""
        while True:
            change = await self.told.get()
            if change.kind != "changed":
                return change.kind, change.record.instance.id


async def back(registry: Registry) -> None:
    """Wait until this client has its registry again, and all that it had there."""
    while True:
        try:
            await registry.status()
        except waypost.Unavailable:
            await asyncio.sleep(0.02)
            continue
        if all(wish.acknowledged for wish in registry._registrar.registrations):
            return
        await asyncio.sleep(0.01)


def test_checks_come_again_with_their_instance(server: RegistryProcess) -> None:
    async def run() -> None:
        async with waypost.connect(server.native, cache_dir=None) as provider:
            dead = waypost.Check(tcp="127.0.0.1:1")
            await provider.register("orders", port=1, checks=[dead])

            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await back(provider)

            (record,) = (await provider.resolve("orders", health="any")).records
            assert (record.health, record.why) == ("critical", "check 'tcp' is critical")

    asyncio.run(run())


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_restart_takes_nobody_down_and_registers_nobody_twice(
    server: RegistryProcess, ending: str
) -> None:
    async def run() -> None:
        async with (
            waypost.connect(server.native, cache_dir=None) as provider,
            waypost.connect(server.native, cache_dir=None) as consumer,
        ):
            held = [await provider.register("orders", port=p, id=f"o{p}") for p in (1, 2, 3)]
            orders = consumer.service("orders")
            story = Story()
            reading = asyncio.create_task(story.read(consumer.watch("orders")))
            assert {await story.next() for _ in held} == {("up", f"o{p}") for p in (1, 2, 3)}

            await asyncio.to_thread(getattr(server, ending))
            assert {orders.pick().port for _ in range(50)} <= {1, 2, 3}
            assert len((await consumer.resolve("orders")).instances) == 3
            await asyncio.to_thread(server.start)
            await back(provider)
            await back(consumer)

            answer = await consumer.resolve("orders")
            assert [i.id for i in answer.instances] == ["o1", "o2", "o3"]
            assert [i.incarnation for i in answer.instances] == [
                r.instance.incarnation for r in held
            ]
            assert [r.state for r in held] == ["registered"] * 3

            await provider.register("orders", port=4, id="o4")
            assert await story.next() == ("up", "o4")
            await held[0].deregister()
            assert await story.next() == ("down", "o1")
            assert {i.port for i in orders.instances} == {2, 3, 4}
            assert story.up == {"o2", "o3", "o4"}
            reading.cancel()

    asyncio.run(run())


def test_who_dies_while_the_registry_is_away_is_told_as_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "HOLD_S", 0.5)
    server = RegistryProcess().start()
    provider = ProviderProcess(server.native, "orders", "o1")

    async def run() -> None:
        async with waypost.connect(server.native, cache_dir=None) as consumer:
            watch = consumer.watch("orders")
            assert (await anext(watch)).kind == "up"
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(provider.end)
            orders = consumer.service("orders")
            assert orders.pick().id == "o1", "nobody has said yet that it is gone"

            await asyncio.to_thread(server.start)

            while (change := await anext(watch)).kind != "down":
                assert change.record.suspect
            assert orders.instances == ()
            assert (await consumer.resolve("orders")).instances == ()

    try:
        provider.wait_registered()
        asyncio.run(run())
    finally:
        provider.end()
        if server.process.poll() is None:
            server.kill()


def test_a_provider_that_is_killed_leaves_every_view_at_once() -> None:
    server = RegistryProcess().start()
    provider = ProviderProcess(server.native, "orders", "o1", grace=30)

    async def run() -> None:
        async with waypost.connect(server.native, cache_dir=None) as consumer:
            stays = await consumer.register("orders", port=1, id="stays")
            orders = consumer.service("orders")
            await orders.ready()
            assert {i.id for i in orders.instances} == {"o1", "stays"}
            watch = consumer.watch("orders")
            assert {(await anext(watch)).kind for _ in range(2)} == {"up"}

            await asyncio.to_thread(provider.end)
            change = await anext(watch)

            assert (change.kind, change.record.suspect) == ("changed", True)
            assert orders.instances == (stays.instance,)

    try:
        provider.wait_registered()
        asyncio.run(run())
    finally:
        provider.end()
        server.kill()
