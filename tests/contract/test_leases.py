"""Who lives is known by what is heard of it, and by nothing else."""

import asyncio
import time

from tests.contract.clusters import Cluster
from tests.contract.engines import KEEPING, OUTLIVING, on
from tests.contract.telling import following, told
from tests.servers.native.peer import Peer

from waypost import wire

TTL_MS = 600
GRACE_MS = 200


class Talking:
    """A connection that answers and pings, until it is told to be silent."""

    def __init__(self, peer: Peer) -> None:
        peer.is_polite = True
        self._task = asyncio.create_task(self._talk(peer))

    async def _talk(self, peer: Peer) -> None:
        while True:
            await peer.fence()
            await asyncio.sleep(TTL_MS / 6_000)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@told
async def test_a_provider_that_falls_silent_goes_when_its_lease_is_over_and_not_before(
    cluster: Cluster, service: str
) -> None:
    async with (
        cluster.peer(cluster.names[-1]) as silent,
        cluster.client() as consumer,
        following(consumer, service) as follower,
    ):
        await silent.attach(f"s-{service}", ttl_ms=TTL_MS, grace_ms=GRACE_MS)
        began = time.monotonic()
        await silent.register(service, "o1", f"s-{service}")

        gone = await follower.until("down", "o1")

        assert time.monotonic() - began >= TTL_MS / 1000 - 0.05
        assert "lease expired" in gone.record.why
        assert follower.kinds == ["up", "down"]


@told
async def test_a_provider_that_goes_on_talking_outlives_any_number_of_leases(
    cluster: Cluster, service: str
) -> None:
    async with cluster.peer(cluster.names[0]) as talker, cluster.client() as consumer:
        await talker.attach(f"s-{service}", ttl_ms=TTL_MS, grace_ms=GRACE_MS)
        await talker.register(service, "talks", f"s-{service}")
        talking = Talking(talker)
        async with following(consumer, service) as follower:
            async with cluster.peer(cluster.names[0]) as silent:  # its lease begins later
                await silent.attach(f"s-{service}-silent", ttl_ms=TTL_MS, grace_ms=GRACE_MS)
                await silent.register(service, "silent", f"s-{service}-silent")
                await follower.until("down", "silent")
            told_of = [c.kind for c in follower.changes if c.record.instance.id == "talks"]
        await talking.stop()
        assert told_of == ["up"]


@told
async def test_a_connection_that_breaks_makes_suspect_at_once_and_gone_after_the_grace(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as consumer, following(consumer, service) as follower:
        async with cluster.peer(cluster.names[-1]) as peer:
            await peer.attach(f"s-{service}", ttl_ms=20_000, grace_ms=400)
            await peer.register(service, "o1", f"s-{service}")
            await follower.until("up")
        broke = time.monotonic()
        suspect = await follower.next()
        gone = await follower.next()

        assert (suspect.kind, suspect.record.suspect) == ("changed", True)
        assert (gone.kind, gone.record.why) == ("down", "connection lost")
        assert 0.35 <= time.monotonic() - broke < 10


@told
async def test_a_connection_that_breaks_without_a_grace_is_the_end(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as consumer, following(consumer, service) as follower:
        async with cluster.peer(cluster.names[-1]) as peer:
            await peer.attach(f"s-{service}", ttl_ms=20_000, grace_ms=0)
            await peer.register(service, "o1", f"s-{service}")
            await follower.until("up")
        await follower.until("down")

        assert follower.kinds == ["up", "down"]


@told
async def test_a_goodbye_is_the_end_of_all_that_a_session_holds(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as consumer, following(consumer, service) as follower:
        async with cluster.peer(cluster.names[-1]) as peer:
            await peer.attach(f"s-{service}", ttl_ms=20_000)
            await peer.register(service, "o1", f"s-{service}")
            await peer.register(service, "o2", f"s-{service}")
            await peer.hear(wire.OUTCOMES, peer.ask(wire.DETACH, f"s-{service}"))
            await follower.until("down", "o2")

        assert sorted(follower.kinds) == ["down", "down", "up", "up"]


@told
async def test_who_comes_back_within_the_grace_at_another_node_was_never_gone(
    cluster: Cluster, service: str
) -> None:
    here = cluster.names[0]
    async with cluster.client() as consumer, following(consumer, service) as follower:
        async with cluster.peer(here) as peer:
            await peer.attach(f"s-{service}", ttl_ms=20_000, grace_ms=10_000)
            incarnation = await peer.register(service, "o1", f"s-{service}")
            await follower.until("up")
        await follower.until("changed")
        async with cluster.peer(cluster.after(here)) as peer:
            await peer.attach(f"s-{service}", ttl_ms=20_000, grace_ms=0)
            back = await follower.next()

            assert [c.record.suspect for c in follower.changes] == [False, True, False]
            assert back.record.instance.incarnation == incarnation


@told
async def test_a_session_that_moved_is_no_longer_of_the_node_that_it_left(
    cluster: Cluster, service: str
) -> None:
    """The old connection hears of it, and its end is nobody's end."""
    here = cluster.names[0]
    session = f"s-{service}"
    async with (
        cluster.client() as consumer,
        following(consumer, service) as follower,
        cluster.peer(cluster.after(here)) as new,
    ):
        async with cluster.peer(here) as old:
            await old.attach(session, ttl_ms=20_000, grace_ms=0)
            await old.register(service, "o1", session)
            await follower.until("up")

            await new.attach(session, ttl_ms=TTL_MS, grace_ms=0)
            talking = Talking(new)
            kind, _, _ = await old.frame()
            while kind == wire.PING:
                kind, _, _ = await old.frame()
            assert kind == wire.MOVED

        async with cluster.peer(here) as silent:  # for as long as a lease takes
            await silent.attach(f"{session}-silent", ttl_ms=TTL_MS, grace_ms=GRACE_MS)
            await silent.register(service, "silent", f"{session}-silent")
            await follower.until("down", "silent")
        mine = [c for c in follower.changes if c.record.instance.id == "o1"]
        assert [c.kind for c in mine] == ["up"]

        await talking.stop()
        gone = await follower.until("down", "o1")
        assert "lease expired" in gone.record.why


@told
async def test_a_lease_over_http_may_be_renewed_at_any_node(cluster: Cluster, service: str) -> None:
    body = {"host": "127.0.0.1", "port": 9, "ttl": TTL_MS / 1000}
    here, there = cluster.names[0], cluster.after(cluster.names[0])
    async with (
        cluster.client() as consumer,
        cluster.http(here) as http_here,
        cluster.http(there) as http_there,
        following(consumer, service) as follower,
    ):
        path = f"/services/{service}/instances"
        assert (await http_here.put(f"{path}/kept", json=body)).status_code == 201

        async def renew() -> None:
            while True:
                answer = await http_there.post(f"{path}/kept/renew")
                assert answer.status_code == 200, answer.text
                await asyncio.sleep(TTL_MS / 6_000)

        renewing = asyncio.create_task(renew())
        await http_here.put(f"{path}/forgotten", json=body)  # its lease begins later
        await follower.until("down", "forgotten")
        assert not renewing.done(), renewing.result()
        renewing.cancel()
        kept = [c.kind for c in follower.changes if c.record.instance.id == "kept"]
        assert kept == ["up"]

        gone = await follower.until("down", "kept")
        assert "lease expired" in gone.record.why
        assert (await http_there.post(f"{path}/kept/renew")).status_code == 404


@told
async def test_a_lease_that_another_node_took_over_is_renewed_where_it_was_before(
    cluster: Cluster, service: str
) -> None:
    body = {"host": "127.0.0.1", "port": 9, "ttl": TTL_MS / 1000}
    here, there = cluster.names[0], cluster.after(cluster.names[0])
    path = f"/services/{service}/instances/o1"
    async with cluster.http(here) as http_here, cluster.http(there) as http_there:
        assert (await http_here.put(path, json=body)).status_code == 201
        assert (await http_there.put(path, json=body)).status_code == 200

        end = time.monotonic() + 3 * TTL_MS / 1_000
        while time.monotonic() < end:
            answer = await http_here.post(f"{path}/renew")
            assert answer.status_code == 200, answer.text
            await asyncio.sleep(TTL_MS / 6_000)

        assert (await http_there.delete(path)).status_code == 200
        assert (await http_here.put(path, json=body)).status_code in (200, 201)
        assert (await http_here.post(f"{path}/renew")).status_code == 200


@on(OUTLIVING)
@told
async def test_the_loss_of_its_node_costs_a_provider_that_lives_nothing(
    rough: Cluster, service: str
) -> None:
    async with rough.client() as provider, rough.client() as consumer:
        registered = await provider.register(service, port=80, id="o1", ttl=1.5, grace=1)
        async with following(consumer, service) as follower:
            await follower.until("up")
            lost = (await provider.status()).node
            await rough.kill(lost)
            async with asyncio.timeout(20):
                while (await provider.status()).node == lost:
                    pass
            await registered.update(version="2")
            await follower.until("changed")
            async with rough.peer(next(iter(rough.up))) as silent:  # for as long as a lease takes
                await silent.attach(f"s-{service}", ttl_ms=1_500, grace_ms=0)
                await silent.register(service, "silent", f"s-{service}")
                await follower.until("down", "silent")

            mine = [c for c in follower.changes if c.record.instance.id == "o1"]
            assert "down" not in [c.kind for c in mine]
            assert len({c.record.instance.incarnation for c in mine}) == 1


@on(OUTLIVING)
@told
async def test_who_is_lost_together_with_its_node_goes_a_lease_later(
    rough: Cluster, service: str
) -> None:
    lost = rough.caretaker()
    async with rough.client() as consumer, following(consumer, service) as follower:
        async with rough.peer(lost) as peer:
            await peer.attach(f"s-{service}", ttl_ms=TTL_MS, grace_ms=GRACE_MS)
            await peer.register(service, "o1", f"s-{service}")
            await follower.until("up")
            began = time.monotonic()
            await rough.kill(lost)
        gone = await follower.until("down")

        assert "lease expired" in gone.record.why
        assert time.monotonic() - began >= TTL_MS / 1000 - 0.05


@on(KEEPING)
@told
async def test_an_outage_longer_than_a_lease_costs_no_provider_that_comes_back_its_lease(
    rough: Cluster, service: str
) -> None:
    async with rough.client() as provider, rough.client() as consumer:
        registered = await provider.register(service, port=80, id="o1", ttl=1, grace=0.5)
        async with following(consumer, service) as follower:
            await follower.until("up")
            await rough.kill(*rough.names)
            await asyncio.sleep(1.2)  # the lease, and a little
            await rough.start()
            await registered.update(version="2")
            while follower.changes[-1].record.instance.version != "2":
                await follower.next()

            assert "down" not in follower.kinds
            assert {c.record.instance.incarnation for c in follower.changes} == {
                registered.instance.incarnation
            }
