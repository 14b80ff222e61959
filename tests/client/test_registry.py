"""The verbs, against a real registry in this process."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

import waypost
from waypost.client.registry import Registry
from waypost.errors import (
    Invalid,
    NoInstance,
    TooStale,
    Unavailable,
    UnknownInstance,
    UnknownService,
)
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
    yield thread.standalone.native_address
    thread.stop()


def using(address: str, test: Callable[[Registry], Awaitable[None]], *, timeout: float = 5) -> None:
    async def run() -> None:
        async with waypost.connect(address, cache_dir=None, timeout=timeout) as registry:
            await test(registry)

    asyncio.run(run())


def test_a_registration_is_found_for_as_long_as_its_block_lasts(address: str) -> None:
    async def test(registry: Registry) -> None:
        async with registry.register(
            "r1", port=8080, weight=2, zone="a", tags=["x"], meta={"k": "v"}, ports={"metrics": 9}
        ) as registration:
            answer = await registry.resolve("r1")
            assert answer.instances == (registration.instance,)
            assert registration.instance.host == "127.0.0.1"
            assert registration.instance.id.startswith("r1-127.0.0.1-8080-")
            assert registration.instance.incarnation > 0
            assert registration.state == "registered"
            assert answer.source == "leader"
            assert answer.revision > 0
            assert answer.age >= 0

        assert (await registry.resolve("r1")).instances == ()
        assert registration.state == "left"
        assert await registration.ended() is None

    using(address, test)


def test_an_awaited_registration_lasts_until_it_is_deregistered_or_the_client_closes(
    address: str,
) -> None:
    async def test(registry: Registry) -> None:
        async with waypost.connect(address, cache_dir=None) as other:
            first = await other.register("r2", port=1)
            await other.register("r2", port=2)
            await first.deregister()
            await first.deregister()
            assert [i.port for i in (await registry.resolve("r2")).instances] == [2]

        assert (await registry.resolve("r2")).instances == ()

    using(address, test)


def test_a_permanent_instance_stays_until_somebody_deregisters_it(address: str) -> None:
    async def test(registry: Registry) -> None:
        async with waypost.connect(address, cache_dir=None) as other:
            await other.register("r3", port=1, id="fixed", ttl=0)

        assert len((await registry.resolve("r3")).instances) == 1
        await registry.deregister("r3", "fixed")
        assert len((await registry.resolve("r3")).instances) == 0

    using(address, test)


def test_health_and_details_can_be_changed(address: str) -> None:
    async def test(registry: Registry) -> None:
        async with registry.register("r4", port=1) as registration:
            await registration.set_health("critical", "disk is full")
            assert (await registry.resolve("r4")).records == ()
            (record,) = (await registry.resolve("r4", health="any")).records
            assert (record.health, record.why) == ("critical", "disk is full")

            await registration.set_health("passing")
            await registration.update(weight=7, tags=["new"])
            (record,) = (await registry.resolve("r4", tags=["new"])).records
            assert (record.instance.weight, record.instance.tags) == (7.0, ("new",))
            assert record.instance.incarnation == registration.instance.incarnation

    using(address, test)


def test_a_drain_returns_once_every_watcher_has_seen_it(address: str) -> None:
    async def test(registry: Registry) -> None:
        orders = registry.service("r5")
        async with (
            registry.register("r5", port=1) as registration,
            waypost.connect(address, cache_dir=None) as other,
        ):
            elsewhere = other.service("r5")
            await elsewhere.ready()
            await orders.ready()
            assert len(elsewhere.instances) == 1

            drained = await registration.drain(deadline=20)

            assert (drained.watchers, drained.unseen) == (2, 0)
            assert elsewhere.instances == ()
            assert registration.health == "draining"
            (record,) = (await registry.resolve("r5", health="any")).records
            assert record.health == "draining"

    using(address, test)


def test_draining_what_drains_already_returns_at_once(address: str) -> None:
    async def test(registry: Registry) -> None:
        async with registry.register("r5b", port=1) as registration:
            view = registry.service("r5b")
            await view.ready()
            await registration.drain(deadline=20)

            async with asyncio.timeout(5):
                drained = await registration.drain(deadline=20)

            assert (drained.watchers, drained.unseen) == (1, 0)

    using(address, test)


def test_closing_with_a_drain_drains_first(address: str) -> None:
    async def test(registry: Registry) -> None:
        watch = registry.watch("r6")
        other = await waypost.connect(address, cache_dir=None).__aenter__()
        await other.register("r6", port=1)
        assert (await anext(watch)).kind == "up"

        await asyncio.gather(other.close(drain=10), *([kinds(watch, 2)]))

    async def kinds(watch: waypost.Watch, count: int) -> None:
        changes = [await anext(watch) for _ in range(count)]
        assert [(c.kind, c.record.health) for c in changes] == [
            ("changed", "draining"),
            ("down", "draining"),
        ]

    using(address, test)


def test_a_view_shows_what_this_client_has_just_done(address: str) -> None:
    async def test(registry: Registry) -> None:
        view = registry.service("r7", policy="round_robin")
        await view.ready()
        for port in range(1, 40):
            registration = await registry.register("r7", port=port)
            assert port in {instance.port for instance in view.instances}
            if port % 2:
                await registration.deregister()
                assert port not in {instance.port for instance in view.instances}

    using(address, test)


def test_a_view_filters_picks_and_says_how_fresh_it_is(address: str) -> None:
    async def test(registry: Registry) -> None:
        await registry.register("r8", port=1, zone="a", version="1", tags=["gpu"])
        await registry.register("r8", port=2, zone="b", version="2")
        assert registry.service("r8") is registry.service("r8")

        every = registry.service("r8", policy="random")
        async with every.call():
            pass
        zone_b = registry.service("r8", zone="b")
        await zone_b.ready()

        assert {every.pick().port for _ in range(100)} == {1, 2}
        assert [i.port for i in zone_b.instances] == [2]
        assert [i.port for i in registry.service("r8", version="1").instances] == [1]
        assert [i.port for i in registry.service("r8", tags=["gpu"]).instances] == [1]
        assert registry.service("r8", meta={"k": "v"}).instances == ()
        assert every.source == "follower"
        assert 0 <= every.age < 5
        assert every.revision > 0

    using(address, test)


def test_calls_are_counted_and_released_whatever_becomes_of_them(address: str) -> None:
    async def test(registry: Registry) -> None:
        await registry.register("r9", port=1)
        view = registry.service("r9")

        async with view.call() as instance:
            (endpoint,) = view.pool.endpoints
            assert instance.port == 1
            assert endpoint.in_flight == 1
        assert (endpoint.in_flight, endpoint.sampled_at_ns is not None) == (0, True)
        fast = endpoint.ewma_ns

        with pytest.raises(RuntimeError):
            async with view.call():
                raise RuntimeError("the instance failed")
        assert endpoint.in_flight == 0
        assert endpoint.ewma_ns > fast
        slow = endpoint.ewma_ns

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), view.call():
                await asyncio.sleep(10)
        # asyncio.timeout cancels the body, which says nothing about the instance.
        assert (endpoint.in_flight, endpoint.ewma_ns) == (0, slow)

    using(address, test)


def test_a_pick_from_nothing_says_why(address: str) -> None:
    async def test(registry: Registry) -> None:
        view = registry.service("r10")
        await view.ready()
        with pytest.raises(NoInstance, match="r10"):
            view.pick()
        with pytest.raises(NoInstance):
            async with view.call():
                pass

    using(address, test)


def test_a_watch_is_what_is_there_and_then_every_change_once(address: str) -> None:
    async def test(registry: Registry) -> None:
        first = await registry.register("r11", port=1)
        told = []
        watch = registry.watch("r11")
        await watch.ready()
        second = await registry.register("r11", port=2)
        await first.set_health("warning")
        await second.deregister()

        async for change in watch:
            told.append((change.kind, change.record.instance.port, change.record.health))
            if change.kind == "down":
                break

        assert told == [
            ("up", 1, "passing"),
            ("up", 2, "passing"),
            ("changed", 1, "warning"),
            ("down", 2, "passing"),
        ]

    using(address, test)


def test_many_watches_of_a_service_share_one_at_the_registry(address: str) -> None:
    async def test(registry: Registry) -> None:
        before = (await registry.status()).watchers
        views = [registry.service("r12"), registry.service("r12", policy="random")]
        watches = [registry.watch("r12") for _ in range(5)]
        await registry.register("r12", port=1)

        assert {(await anext(watch)).record.instance.port for watch in watches} == {1}
        assert all(len(view.instances) == 1 for view in views)
        assert (await registry.status()).watchers == before + 1

    using(address, test)


def test_a_watch_that_nobody_follows_any_more_ends_at_the_registry(address: str) -> None:
    async def test(registry: Registry) -> None:
        before = (await registry.status()).watchers
        async with registry.watch("r13") as watch:
            await watch.ready()
            assert (await registry.status()).watchers == before + 1
        await registry.register("r13", port=1)
        await registry.register("r13", port=2)

        assert (await registry.status()).watchers == before
        with pytest.raises(StopAsyncIteration):
            await anext(watch)

    using(address, test)


def test_all_services_can_be_watched_at_once(address: str) -> None:
    async def test(registry: Registry) -> None:
        watch = registry.watch()
        await watch.ready()
        async with registry.register("r14-a", port=1), registry.register("r14-b", port=1):
            wanted = {"r14-a", "r14-b"}
            async for change in watch:
                wanted.discard(change.record.instance.service)
                if not wanted:
                    break

    using(address, test)


def test_services_are_listed_in_numbers(address: str) -> None:
    async def test(registry: Registry) -> None:
        await registry.register("r15", port=1)
        await registry.register("r15", port=2, health="critical")

        listed = await registry.services()

        (mine,) = [s for s in listed.services if s.service == "r15"]
        assert (mine.instances, mine.pickable) == (2, 1)
        assert listed.source == "leader"

    using(address, test)


def test_a_linearizable_resolve_and_a_bound_on_staleness_are_passed_on(address: str) -> None:
    async def test(registry: Registry) -> None:
        async with registry.register("r16", port=1):
            exact = await registry.resolve("r16", consistency="linearizable")
            bounded = await registry.resolve("r16", max_stale=0)
            assert len(exact.instances) == len(bounded.instances) == 1

    using(address, test)


def test_an_answer_is_never_older_than_what_this_client_has_seen(address: str) -> None:
    async def test(registry: Registry) -> None:
        await registry.status()
        registry._seen = 10**9

        with pytest.raises(TooStale, match="tried"):
            await registry.resolve("r17", max_stale=60)

    using(address, test, timeout=0.3)


def test_deregistering_what_is_not_there_is_refused(address: str) -> None:
    async def test(registry: Registry) -> None:
        with pytest.raises(UnknownService):
            await registry.deregister("r18", "x")
        await registry.register("r18", port=1)
        with pytest.raises(UnknownInstance):
            await registry.deregister("r18", "x")
        with pytest.raises(UnknownInstance):
            await registry.drain("r18", "x", 1)

    using(address, test)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": 1, "host": "0.0.0.0"}, "host"),
        ({"port": 1, "host": "a b"}, "host"),
        ({"port": 1, "ttl": 0.1}, "ttl"),
        ({"port": 1, "grace": -1}, "grace"),
        ({"port": 1, "weight": -1}, "weight"),
        ({"port": 1, "id": "-x"}, "id"),
    ],
)
def test_what_is_out_of_bounds_is_refused_before_anything_is_sent(
    address: str, given: dict[str, object], field: str
) -> None:
    async def test(registry: Registry) -> None:
        with pytest.raises(Invalid) as caught:
            registry.register("r19", **given)  # type: ignore[arg-type]

        assert caught.value.field == field

    using(address, test)


def test_a_name_that_is_none_is_refused_by_every_verb(address: str) -> None:
    async def test(registry: Registry) -> None:
        for verb in (registry.service, registry.watch, lambda n: registry.register(n, port=1)):
            with pytest.raises(Invalid):
                verb("Not A Name")
        with pytest.raises(Invalid):
            await registry.resolve("Not A Name")
        with pytest.raises(Invalid, match="policy"):
            registry.service("r20", policy="best")

    using(address, test)


def test_the_same_id_is_taken_over_by_who_registers_it_last_and_the_other_stands_down(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(registry: Registry) -> None:
        older = await registry.register("r21", port=1, id="one")
        async with waypost.connect(address, cache_dir=None) as other:
            newer = await other.register("r21", port=2, id="one")
            assert newer.instance.incarnation > older.instance.incarnation

            with pytest.raises(waypost.Superseded):
                await older.set_health("warning")
            assert older.state == "superseded"
            assert isinstance(await older.ended(), waypost.Superseded)
            with pytest.raises(waypost.Superseded):
                await older.update(weight=1)
            await older.deregister()

            (record,) = (await registry.resolve("r21")).records
            assert (record.instance.port, record.health) == (2, "passing")

    with caplog.at_level(logging.ERROR, "waypost"):
        using(address, test)
    assert "stands down" in caplog.text


def test_leaving_the_block_of_a_superseded_registration_leaves_the_newer_one_alone(
    address: str,
) -> None:
    async def test(registry: Registry) -> None:
        async with waypost.connect(address, cache_dir=None) as other:
            async with registry.register("r22", port=1, id="one"):
                await other.register("r22", port=2, id="one")

            assert [i.port for i in (await other.resolve("r22")).instances] == [2]

    using(address, test)


def test_an_address_that_the_registry_cannot_reach_is_warned_about(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as gone:
            dead = gone.getsockname()[1]

        async def test(registry: Registry) -> None:
            await registry.register("r23", port=port, id="reachable")
            await registry.register("r23", port=dead, id="unreachable", host="127.0.0.1")
            while "unreachable" not in caplog.text:
                await asyncio.sleep(0.02)

        with caplog.at_level(logging.WARNING, "waypost"):
            using(address, test)

    (warning,) = [r.getMessage() for r in caplog.records if "cannot reach" in r.getMessage()]
    assert f"unreachable is registered as 127.0.0.1:{dead}" in warning
    assert "connection refused" in warning
    assert "127.0.0.1" in warning
    assert "host=" in warning


def test_all_registrations_of_a_client_share_one_session_with_its_shortest_lease(
    address: str,
) -> None:
    async def test(registry: Registry) -> None:
        before = (await registry.status()).sessions
        await asyncio.gather(
            *(registry.register("r24", port=p, ttl=t) for p, t in ((1, 10), (2, 0.5), (3, 60)))
        )

        sessions = {r.session for r in (await registry.resolve("r24")).records}
        assert len(sessions) == 1
        assert (await registry.status()).sessions == before + 1

    using(address, test)


def test_a_closed_client_says_so(address: str) -> None:
    async def run() -> None:
        async with waypost.connect(address, cache_dir=None) as registry:
            await registry.status()
        await registry.close()
        with pytest.raises(Unavailable, match="closed"):
            await registry.status()
        with pytest.raises(Unavailable, match="closed"):
            await registry.register("r25", port=1)

    asyncio.run(run())


def test_without_a_registry_the_error_names_the_address_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]

    async def test(registry: Registry) -> None:
        for verb in (
            registry.status(),
            registry.resolve("r26"),
            registry.services(),
            registry.deregister("r26", "x"),
            registry.service("r26").ready(),
            anext(registry.watch("r26")),
        ):
            with pytest.raises(Unavailable, match=f"{dead}: connection refused.*waypost serve"):
                await verb
        with pytest.raises(Unavailable, match="connection refused"):
            await registry.register("r26", port=1)
        with pytest.raises(Unavailable, match="connection refused"):
            async with registry.register("r26", port=1, host="10.0.0.1"):
                pass

    using(f"127.0.0.1:{dead}", test)
