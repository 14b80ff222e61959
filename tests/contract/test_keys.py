"""Keys are kept, and held by one at a time, on every engine and at every node."""

import asyncio
import contextlib
import time

from tests.contract.clusters import Cluster, eventually, until
from tests.contract.engines import ASKING, KEEPING, OF_SEVERAL, OUTLIVING, on
from tests.contract.telling import told

from waypost.catalog.keys import Pair
from waypost.checks import NodeEntry
from waypost.commands import CheckKey, DropKey, OnNode, OnService, OpenHolder, PutKey, ReadKey
from waypost.errors import Unavailable, UnknownHolder, WaypostError
from waypost.model import Instance
from waypost.node.key_verbs import KeyVerbs

TTL_MS = 1_000


def keys(cluster: Cluster, name: str) -> KeyVerbs:
    return cluster.up[name].registry.keys


async def find(cluster: Cluster, name: str, key: str) -> Pair | None:
    await cluster.up[name].node.barrier()
    return keys(cluster, name).space.keys.find(key)


async def opened(cluster: Cluster, name: str, ttl_ms: int = 0) -> str:
    _, holder = await keys(cluster, name).open(OpenHolder("", "", "n", ttl_ms, "release", 0))
    return holder


async def acquired(cluster: Cluster, name: str, key: str, holder: str) -> bool:
    return (await keys(cluster, name).put(PutKey(key, b"", acquire=holder)))[1]


@told
async def test_a_key_that_was_set_at_a_node_is_there_at_every_node(
    cluster: Cluster, service: str
) -> None:
    first, last = cluster.names[0], cluster.names[-1]

    revision, done = await keys(cluster, first).put(PutKey(f"{service}/a", b"1", cas=0))
    assert done

    for name in cluster.names:
        assert await find(cluster, name, f"{service}/a") == Pair(
            f"{service}/a", b"1", 0, 0, "", revision, revision
        )
    assert not (await keys(cluster, last).put(PutKey(f"{service}/a", b"2", cas=0)))[1]
    assert (await keys(cluster, last).put(PutKey(f"{service}/a", b"2", cas=revision)))[1]
    assert (await keys(cluster, first).drop(DropKey(f"{service}/", is_prefix=True)))[1]
    assert await find(cluster, last, f"{service}/a") is None


@told
async def test_of_all_who_want_a_key_at_once_one_gets_it(cluster: Cluster, service: str) -> None:
    for _ in range(10):
        holders = [(name, await opened(cluster, name)) for name in cluster.names for _ in range(3)]

        got = await asyncio.gather(
            *(acquired(cluster, name, service, holder) for name, holder in holders)
        )

        assert sum(got) == 1
        _, winner = holders[got.index(True)]
        found = await find(cluster, cluster.names[-1], service)
        assert found is not None
        assert found.holder == winner
        for name, holder in holders:
            await keys(cluster, name).close(holder)


@told
async def test_a_transaction_is_seen_whole_or_not_at_all(cluster: Cluster, service: str) -> None:
    verbs = keys(cluster, cluster.names[-1])
    a, b = f"{service}/a", f"{service}/b"

    revision, done = await verbs.transact([PutKey(a, b"1"), PutKey(b, b"1"), ReadKey(a)])
    _, failed = await verbs.transact([PutKey(a, b"2"), CheckKey(b, revision=revision + 1)])

    assert [pair.value for pair in done.pairs] == [b"", b"", b"1"]
    assert [number for number, _ in failed.missed] == [1]
    for name in cluster.names:
        found = await find(cluster, name, a)
        assert found is not None
        assert (found.value, found.revision) == (b"1", revision)


@told
async def test_a_transaction_registers_a_node_and_a_service_with_a_key_or_none_of_them(
    cluster: Cluster, service: str
) -> None:
    verbs, ids = keys(cluster, cluster.names[-1]), ("i",)
    node, key = f"node-of-{service}", f"{service}/key"
    given = OnService("set", node, ids, Instance(service, "i", "10.0.0.1", 80, node=node))

    _, failed = await verbs.transact([PutKey(key, b""), given])
    revision, done = await verbs.transact([OnNode("set", NodeEntry(node)), given, PutKey(key, b"")])

    assert [(number, miss.kind) for number, miss in failed.missed] == [(1, "no-node")]
    assert done.missed == []
    for name in cluster.names:
        found = await find(cluster, name, key)
        catalog = cluster.up[name].node.catalog
        assert found is not None
        assert found.revision == catalog.nodes.entries[node].revision == revision
        assert catalog.nodes.on(node) == [(service, "i")]


@told
async def test_a_holder_lives_as_long_as_it_is_renewed_at_whichever_node(
    cluster: Cluster, service: str
) -> None:
    holder = await opened(cluster, cluster.names[0], TTL_MS)
    assert await acquired(cluster, cluster.names[-1], service, holder)

    for turn in range(8):
        await asyncio.sleep(TTL_MS / 4_000)
        name = cluster.names[turn % len(cluster.names)]
        renewed = time.monotonic()
        await keys(cluster, name).renew(holder)
    found = await find(cluster, cluster.names[0], service)
    assert found is not None
    assert found.holder == holder

    node = cluster.up[cluster.names[0]].node
    await until(lambda: node.catalog.keyspace.holders.find(holder) is None)
    assert time.monotonic() - renewed >= TTL_MS / 1_000 - 0.05
    found = await find(cluster, cluster.names[-1], service)
    assert found is not None
    assert found.holder == ""
    for name in cluster.names:
        with contextlib.suppress(UnknownHolder):
            await keys(cluster, name).renew(holder)
            raise AssertionError("it is gone")


@told
async def test_a_renewal_at_whichever_node_is_heard_by_the_one_that_may_end_the_holder(
    cluster: Cluster, service: str
) -> None:
    holder = await opened(cluster, cluster.names[0], 60_000)
    session = f"holder:{holder}"

    for name in 2 * cluster.names:
        before = cluster.up[name].node.clock()
        await keys(cluster, name).renew(holder)
        for each in cluster.names:
            await cluster.up[each].node.barrier()
        kept = cluster.up[name].node.catalog.session(session)
        assert kept is not None
        held = cluster.up[kept.node].node.owned(session)
        assert held is not None
        assert held.heard_ns >= before
    await keys(cluster, cluster.names[0]).close(holder)


@told
async def test_a_renewal_writes_nothing(cluster: Cluster, service: str) -> None:
    holder = await opened(cluster, cluster.names[0], 60_000)
    node = cluster.up[cluster.names[0]].node
    attachment = node.catalog.session(f"holder:{holder}")

    for name in cluster.told_by(cluster.names[0]):
        await cluster.up[name].node.barrier()
        await keys(cluster, name).renew(holder)

    await node.barrier()
    assert node.catalog.session(f"holder:{holder}") == attachment
    await keys(cluster, cluster.names[0]).close(holder)


@on(ASKING)
@told
async def test_a_node_that_is_cut_off_confirms_no_lease_and_ends_none(
    rough: Cluster, service: str
) -> None:
    name = rough.names[0]
    holder = await opened(rough, name, 4 * TTL_MS)
    assert await acquired(rough, name, service, holder)
    await rough.cut_off(name)
    verbs, ended = keys(rough, name), time.monotonic() + 5 * TTL_MS / 1_000

    async def is_refused() -> bool:
        try:
            await verbs.renew(holder)
        except Unavailable:
            return True
        return False

    await eventually(is_refused)
    while time.monotonic() < ended:
        assert await is_refused()
        await asyncio.sleep(0.2)
    assert verbs.space.holders.find(holder) is not None

    await rough.heal()

    async def is_renewed() -> bool:
        await keys(rough, name).renew(holder)
        return True

    await eventually(is_renewed)
    await keys(rough, name).close(holder)


@on(OUTLIVING)
@told
async def test_a_holder_whose_node_is_lost_lives_on_elsewhere_or_ends_after_its_ttl(
    rough: Cluster, service: str
) -> None:
    lost = rough.caretaker()
    other = rough.after(lost)
    kept, left = [await opened(rough, lost, 2 * TTL_MS) for _ in range(2)]
    for key, holder in ((f"{service}/kept", kept), (f"{service}/left", left)):
        assert await acquired(rough, lost, key, holder)
    heard = time.monotonic()
    await rough.kill(lost)

    async def renew() -> bool:
        await keys(rough, other).renew(kept)
        return True

    holders = rough.up[other].node.catalog.keyspace.holders
    while holders.find(left) is not None:
        await eventually(renew)
        await asyncio.sleep(0.1)
        holders = rough.up[other].node.catalog.keyspace.holders
        assert time.monotonic() - heard < 20

    assert time.monotonic() - heard >= 2 * TTL_MS / 1_000 - 0.05
    found = await find(rough, other, f"{service}/left")
    assert found is not None
    assert found.holder == ""
    found = await find(rough, other, f"{service}/kept")
    assert found is not None
    assert found.holder == kept
    await keys(rough, other).close(kept)


@on(KEEPING)
@told
async def test_what_was_kept_is_there_after_a_crash_and_a_holder_has_its_whole_ttl(
    rough: Cluster, service: str
) -> None:
    name = rough.names[0]
    holder = await opened(rough, name, 2 * TTL_MS)
    assert await acquired(rough, name, f"{service}/lock", holder)
    await keys(rough, name).put(PutKey(f"{service}/gone", b""))
    await keys(rough, name).drop(DropKey(f"{service}/gone"))
    await asyncio.sleep(TTL_MS / 1_000)
    space = keys(rough, name).space
    before = list(space.keys.under(service))
    indexes = [space.keys.revision_under(prefix) for prefix in (service, f"{service}/g", "none")]

    await rough.kill(*rough.names)
    began = time.monotonic()
    await rough.start()

    for each in rough.names:
        await rough.up[each].node.barrier()
        after = keys(rough, each).space.keys
        if time.monotonic() - began < 2 * TTL_MS / 1_000:
            assert list(after.under(service)) == before
        for prefix, index in zip((service, f"{service}/g", "none"), indexes, strict=True):
            assert after.revision_under(prefix) >= index
    node = rough.up[name].node
    await until(lambda: node.catalog.keyspace.holders.find(holder) is None)
    assert time.monotonic() - began >= 2 * TTL_MS / 1_000 - 0.05


@on(OF_SEVERAL)
@told
async def test_the_index_of_a_list_never_goes_back_while_nodes_are_lost_and_come_back(
    rough: Cluster, service: str
) -> None:
    seen: dict[str, int] = {}
    prefixes = (service, f"{service}/a", f"{service}/b/", "nothing/there")

    def look() -> None:
        """What a client sees that goes from node to node with the index that it has."""
        for each in rough.up.values():
            space = each.node.catalog.keyspace
            for prefix in prefixes:
                index = space.keys.revision_under(prefix)
                if each.node.revision >= seen.get(prefix, 0):
                    assert index >= seen.get(prefix, 0), (each.node.name, prefix)
                    seen[prefix] = index

    async def change(number: int) -> bool:
        name = next(iter(rough.up))
        key = f"{service}/{'ab'[number % 2]}/{number % 3}"
        if number % 5 == 4:
            await keys(rough, name).drop(DropKey(key))
        elif number % 11 == 10:
            await keys(rough, name).drop(DropKey(f"{service}/b", is_prefix=True))
        else:
            await keys(rough, name).put(PutKey(key, b"%d" % number))
        look()
        return True

    for turn in range(2):
        for number in range(30):
            await change(turn * 60 + number)
        lost = rough.caretaker()
        await rough.kill(lost)
        for number in range(30, 60):
            with contextlib.suppress(WaypostError):
                await change(turn * 60 + number)
        await rough.start(lost)
        await rough.heal()
        look()
    assert all(seen.values())
