from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.feed import Feed, check_invariants, instance
from tests.catalog.workload import batches

from waypost.catalog.eviction import Bucket
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import Keyspace
from waypost.catalog.snapshots import CHUNK_BYTES, digest, dump, load
from waypost.catalog.state import Catalog
from waypost.checks import Check, CheckState, NodeEntry
from waypost.commands import (
    Attach,
    Expire,
    LogBatch,
    Origin,
    PutCheck,
    PutNode,
    Refused,
    Register,
    SetHealth,
    Suspect,
)
from waypost.errors import CorruptData
from waypost.model import Record


def busy(count: int, seed: int = 7) -> Catalog:
    catalog = Catalog()
    for index, batch in enumerate(batches(seed, count), 1):
        catalog.apply(index, batch)
    return catalog


def state(catalog: Catalog) -> object:
    """Tell all that a snapshot keeps, read through the catalog and not through its bytes."""
    return (
        catalog.revision,
        catalog.now_ms,
        catalog.serial,
        catalog.instance_count,
        catalog.orphans,
        [
            (name, each.revision, each.bucket, list(each.orphans), list(each.records.items()))
            for name, each in catalog._services.items()
        ],
        [(s.id, s.node, s.attachment, s.ttl_ms, s.grace_ms) for s in catalog.sessions],
        [catalog.held(session) for session in catalog.sessions],
        list(catalog._origins.windows()),
        list(catalog._origins.bulk()),
        keyspace_state(catalog.keyspace, catalog.now_ms),
        list(catalog.checks.instances.items()),
        list(catalog.checks.nodes.items()),
        list(catalog.checks.revisions.items()),
        list(catalog.nodes.entries.items()),
        (catalog.checks.count, catalog.checks.revision, catalog.nodes.revision),
    )


def keyspace_state(keyspace: Keyspace, now_ms: int) -> object:
    keys, holders = keyspace.keys, keyspace.holders
    return (
        keys.revision,
        keys.forgotten,
        keys.size,
        list(keys.under("")),
        keys.graves(),
        [(holder, keys.held_by(holder.id)) for holder in holders.all()],
        holders.revision,
        holders.delays(now_ms),
        list(keyspace.events),
        keyspace.events_fired,
    )


@pytest.mark.parametrize("count", [0, 1, 30, 300])
def test_what_is_read_back_is_what_was_written(count: int) -> None:
    catalog = busy(count)

    loaded = load(dump(catalog))

    assert state(loaded) == state(catalog)
    assert digest(loaded) == digest(catalog)
    check_invariants(loaded)


def test_the_sample_reaches_what_a_snapshot_must_keep() -> None:
    catalog = busy(300)

    assert catalog.orphans > 0
    assert len(catalog.sessions) > 0
    assert len(catalog._origins) > 3
    assert len(catalog._origins._bulk) > 3
    assert any(len(window) == 16 * 3 for _, window in catalog._origins.windows())
    keyspace = catalog.keyspace
    assert len(keyspace.keys) > 3
    assert keyspace.keys.graves()
    assert any(pair.holder for pair in keyspace.keys.under(""))
    assert any(pair.lock_index for pair in keyspace.keys.under(""))
    assert keyspace.holders.delays(catalog.now_ms)
    assert any(each.ttl_ms for each in keyspace.holders.all())
    assert keyspace.events
    assert len(catalog.checks.instances) > 5
    assert len(catalog.checks.nodes) > 0
    assert len(catalog.nodes.entries) > 0
    assert any(each.bucket for each in catalog._services.values())
    assert any(record.suspect and record.session for record in everyone(catalog))
    assert any(not record.session and not record.suspect for record in everyone(catalog))


def everyone(catalog: Catalog) -> Iterator[Record]:
    for name in catalog.service_names():
        yield from (catalog.service(name) or {}).values()


def test_a_catalog_that_was_read_back_goes_on_exactly_as_one_that_was_not() -> None:
    live = Catalog()
    loaded = Catalog()
    for index, batch in enumerate(batches(seed=8, count=300), 1):
        assert live.apply(index, batch) == loaded.apply(index, batch)
        if index % 7 == 0:
            loaded = load(dump(loaded))

    assert digest(loaded) == digest(live)
    assert state(loaded) == state(live)


def test_the_history_of_a_catalog_that_was_read_back_begins_at_its_revision() -> None:
    catalog = busy(50)

    loaded = load(dump(catalog))

    assert loaded.history.floor == 50
    assert loaded.since_all(49) is None
    assert loaded.since_all(50) == []
    assert all(loaded.since(name, 50) == [] for name in loaded.service_names())


def test_the_bounds_of_the_history_are_those_asked_for() -> None:
    loaded = load(dump(Catalog()), changes_max=2)
    feed = Feed(loaded)

    for number in range(5):
        feed.one(Register(instance(f"i-{number}")))

    assert len(loaded.history) == 2


@given(
    seed=st.integers(0, 3),
    before=st.integers(0, 60),
    between=st.lists(st.integers(0, 6), max_size=12),
    second=st.booleans(),
)
def test_a_snapshot_is_the_state_at_its_revision_whatever_happens_meanwhile(
    seed: int, before: int, between: list[int], second: bool
) -> None:
    coming = iter(batches(seed, before + sum(between)))
    catalog = Catalog()
    for _ in range(before):
        catalog.apply(catalog.revision + 1, next(coming))
    expected = b"".join(dump(catalog))

    walk = dump(catalog, chunk_bytes=1)
    later: Iterator[bytes] = iter(())
    later_expected = b""
    written: list[bytes] = []
    for number, count in enumerate(between):
        for _ in range(count):
            catalog.apply(catalog.revision + 1, next(coming))
        written.append(next(walk, b""))
        if second and number == 2:
            later_expected = b"".join(dump(catalog))
            later = dump(catalog, chunk_bytes=1)

    assert b"".join([*written, *walk]) == expected
    assert b"".join(later) == later_expected
    check_invariants(catalog)


def test_a_snapshot_begins_when_it_is_asked_for_and_not_when_it_is_first_read() -> None:
    feed = Feed()
    feed.one(Register(instance("i-1")))

    walk = dump(feed.catalog)
    feed.one(Register(instance("i-2")))

    loaded = load(walk)
    assert loaded.revision == 1
    assert list(loaded.service("orders") or ()) == ["i-1"]


def test_a_service_that_goes_and_comes_back_meanwhile_is_written_as_it_was() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.one(Register(instance("i-1"), "s-1"))

    walk = dump(feed.catalog)
    feed.one(Expire("s-1", attachment))
    feed.attach("s-2")
    feed.one(Register(instance("i-9"), "s-2"))

    loaded = load(walk)
    assert list(loaded.service("orders") or ()) == ["i-1"]
    assert [session.id for session in loaded.sessions] == ["s-1"]


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("drop", [True, False])
def test_a_snapshot_that_is_not_read_to_its_end_costs_nothing_more(steps: int, drop: bool) -> None:
    catalog = busy(20)

    walk = dump(catalog, chunk_bytes=1)
    for _ in range(steps):
        next(walk)
    assert len(catalog._captures) == 1
    if drop:
        del walk
    else:
        walk.close()  # type: ignore[attr-defined]

    assert not catalog._captures


def big(services: int, each: int) -> Feed:
    feed = Feed()
    for service in range(services):
        commands = [
            Register(
                instance(
                    f"i-{number:06d}",
                    f"service-{service}",
                    zone="zone-a",
                    tags=("x", "y"),
                    meta={"team": "payments", "rack": "r-17"},
                )
            )
            for number in range(each)
        ]
        feed.apply(*commands)
    return feed


@pytest.mark.parametrize(("services", "each"), [(1, 10_000), (2_000, 5)])
def test_chunks_are_bounded_for_one_service_as_for_many(services: int, each: int) -> None:
    feed = big(services, each)

    chunks = list(dump(feed.catalog))

    assert len(chunks) > 5
    assert all(CHUNK_BYTES <= len(chunk) < 2 * CHUNK_BYTES for chunk in chunks[:-1])
    assert load(chunks).instance_count == services * each


def test_writing_touches_no_more_of_the_catalog_than_it_has_reached() -> None:
    feed = big(50, 20)
    walk = dump(feed.catalog, chunk_bytes=1)
    (capture,) = feed.catalog._captures

    next(walk)
    assert not capture._images
    feed.one(SetHealth("service-49", "i-000000", "critical"))
    feed.one(SetHealth("service-49", "i-000001", "critical"))

    assert list(capture._images) == ["service-49"]
    assert list(walk)
    assert not capture._images


def test_orphans_are_listed_once_however_many_frames_a_service_takes() -> None:
    feed = Feed()
    attachment = feed.attach()
    feed.apply(*[Register(instance(f"i-{number:04d}"), "s-1") for number in range(1_500)])
    feed.one(Expire("s-1", attachment))
    assert feed.catalog.orphans == 1_050

    frames = [msgspec.msgpack.decode(chunk[8:]) for chunk in dump(feed.catalog, chunk_bytes=1)]

    assert [len(frame[4]) for frame in frames[1:]] == [1_050, 0, 0, 0, 0]
    assert [len(frame[5]) for frame in frames[1:]] == [256, 256, 256, 256, 26]
    assert state(load(dump(feed.catalog))) == state(feed.catalog)


def test_bytes_may_be_cut_anywhere() -> None:
    catalog = busy(60)
    whole = b"".join(dump(catalog))

    for size in (1, 3, 7, 100, len(whole)):
        pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
        assert digest(load(pieces)) == digest(catalog)
    assert digest(load([whole[:10], b"", whole[10:]])) == digest(catalog)


# Damage


def test_a_single_flipped_bit_anywhere_is_noticed() -> None:
    whole = b"".join(dump(busy(4)))

    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(CorruptData):
            load([bytes(damaged)])


def test_a_missing_end_is_noticed_wherever_it_is_cut() -> None:
    whole = b"".join(dump(busy(4)))

    for length in range(len(whole)):
        with pytest.raises(CorruptData):
            load([whole[:length]])


def test_frames_that_are_missing_repeated_or_moved_are_noticed() -> None:
    frames = list(dump(busy(40), chunk_bytes=1))
    assert len(frames) > 5
    last = len(frames) - 1

    for wrong in (
        frames[1:],
        frames[:3] + frames[4:],
        [*frames, frames[last]],
        [frames[0], *frames],
        [*frames[:2], frames[3], frames[2], *frames[4:]],
    ):
        with pytest.raises(CorruptData):
            load(wrong)


def framed(*payloads: object) -> list[bytes]:
    """Frame payloads with the right checksums, whatever they say."""
    frames: list[bytes] = []
    checksum = 0
    for payload in payloads:
        data = msgspec.msgpack.encode(payload)
        checksum = crc32(data, checksum)
        frames.append(len(data).to_bytes(4, "big") + checksum.to_bytes(4, "big") + data)
    return frames


RECORD = Record(instance(incarnation=1), "passing", 1, "", False, "", 1)
HEAD = [0, "waypost catalog", 4, 9, 1_000, 9, 1, 1, 0, 0, False, 0, 0, 0]
KEYED = [*HEAD[:10], True, 0, 0, 0]
CHECKED = [*HEAD[:11], 1, 9, 0]
ROW = [5, [["orders", "i-1", "passing", "", []]]]
LOST = [5, [["orders", "i-2", "passing", "", []]]]
KEYSPACE = [16, 8, 0, 3, 1, 1, 0, []]
HOLDER = ["h-1", "mine", "n", 0, "release", 15_000, ["serfHealth"], [], 3]
EVENT = ["e-1", "deploy", b"now", "", "", "", 1, 2]
ORPHAN = Record(instance(incarnation=1), "passing", 1, "", True, "", 1)
STATE = CheckState("orders", "i-1", "", Check("http", kind="manual"), "passing", "", 1, 8)
NODE_STATE = CheckState("", "", "m-1", Check("disk", kind="manual"), "warning", "95 %", 1, 8)
SAMPLE_OF_VERSION_2 = Path(__file__).parent / "data" / "snapshot-v2.bin"
HELD = Record(instance(incarnation=1), "passing", 1, "", False, "s-1", 1)


def test_the_format_is_the_one_described() -> None:
    head = [0, "waypost catalog", 4, 9, 1_000, 9, 1, 1, 1, 1, True, 4, 8, 7]
    keyspace = [16, 8, 0, 3, 1, 1, 3, [EVENT]]
    rows = [[18, [HOLDER], [], []], [18, [], [["k", 9_000]], []], [18, [], [], [["gone/", 5]]]]
    pairs = [17, [["k", b"v", 7, 1, "h-1", 4, 6]]]
    sessions = [1, [["s-1", "n-1", 3, 10_000, 2_000]]]
    windows = [3, [["c-1", [7, 4, ["invalid", "port: 0"], 8, 5, None, 9, 6, 4]]]]
    bulk = [4, [["c-0", 3, []], ["c-1", 8, [3, 4]]]]
    records = [2, "orders", 4, [5, 1_000, 900], [], [HELD]]
    checked = [5, [["orders", "i-1", "passing", "", [STATE]]]]
    node_checks = [6, [["m-1", [NODE_STATE]]]]
    nodes = [7, [["m-1", "10.0.0.7", "", {}, {}, 7]]]
    revisions = [8, [["orders", 8]]]
    written = [head, keyspace, *rows, pairs, sessions, windows, bulk, records]
    written += [checked, node_checks, nodes, revisions]

    loaded = load(framed(*written))

    assert loaded.checks.own(("orders", "i-1")) == (STATE,)
    assert loaded.checks.of_node("m-1") == (NODE_STATE,)
    assert loaded.nodes.entries == {"m-1": NodeEntry("m-1", "10.0.0.7", revision=7)}
    assert (loaded.checks.revision, loaded.nodes.revision) == (8, 7)
    assert loaded.checks.revisions == {"orders": 8}
    assert (loaded.revision, loaded.now_ms, loaded.serial) == (9, 1_000, 9)
    assert loaded.service("orders") == {"i-1": HELD}
    assert loaded._services["orders"].bucket == Bucket(5, 1_000, 900)
    assert loaded.service_revision("orders") == 4
    assert list(loaded.keyspace.keys.under("")) == [Pair("k", b"v", 7, 1, "h-1", 4, 6)]
    assert loaded.keyspace.keys.revision == 8
    assert loaded.keyspace.keys.revision_under("gone/") == 5
    assert loaded.keyspace.holders.is_held_back("k", 8_999)
    again = loaded.apply(10, LogBatch(0, [[]] * 3, [Origin("c-1", seq) for seq in (9, 8, 7)]))
    assert again.repeated == {0: 6, 1: 5, 2: 4}
    assert again.outcomes == [[4], [3, 4], [Refused("invalid", "port: 0")]]
    loaded = load(framed(*written))
    assert list(dump(loaded)) == [b"".join(framed(*written))]


def test_a_snapshot_that_version_2_wrote_still_loads() -> None:
    """The file was written by the last release before version 3, and is never written again."""
    loaded = load([SAMPLE_OF_VERSION_2.read_bytes()])

    assert (loaded.revision, loaded.instance_count, loaded.service_count) == (40, 81, 3)
    assert (len(loaded.sessions), loaded.serial) == (3, 231)
    assert not loaded.checks.instances
    check_invariants(loaded)
    assert digest(load(dump(loaded))) == digest(loaded)


@pytest.mark.parametrize("said", [[1, 9, 1_000, 9, 1, 1, 1], [2, 9, 1_000, 9, 1, 1, 1, 0]])
def test_a_snapshot_of_an_older_version_loads(said: list[object]) -> None:
    head = [0, "waypost catalog", *said]
    sessions = [1, [["s-1", "n-1", 3, 10_000, 2_000]]]
    records = [2, "orders", 4, [5, 1_000, 900], [], [HELD]]

    loaded = load(framed(head, sessions, records))

    assert loaded.service("orders") == {"i-1": HELD}
    assert len(loaded._origins) == 0
    check_invariants(loaded)


@pytest.mark.parametrize(
    ("payloads", "says"),
    [
        ([], "empty"),
        ([[1, []]], "head is missing"),
        ([[2, "orders", 1, None, [], [RECORD]], HEAD], "head is missing"),
        ([HEAD, HEAD], "second"),
        ([HEAD, [2, "orders", 1, None, [], []]], "its head says"),
        ([HEAD, [2, "orders", 1, None, [], [HELD]]], "session 's-1'"),
        ([HEAD, [2, "orders", 1, None, ["i-1"], [RECORD]]], "orphans"),
        ([HEAD, [2, "orders", 1, None, [], [ORPHAN]]], "not listed"),
        ([HEAD, [2, "orders", 1, None, [], [[1, 2]]]], "cannot be read"),
        ([HEAD, [7]], "cannot be read"),
        ([CHECKED, [2, "orders", 1, None, [], [RECORD]]], "0 rows, and its head says 1"),
        ([HEAD, [2, "orders", 1, None, [], [RECORD]], ROW], "1 rows, and its head says 0"),
        ([CHECKED, [2, "orders", 1, None, [], [RECORD]], LOST], "missing"),
        ([HEAD, [3, [["c-1", []]]]], "0 fields"),
        ([HEAD, [3, [["c-1", [1, 1]]]]], "2 fields"),
        ([HEAD, [3, [["c-1", [1, 1, 1]]]]], "its head says"),
        ([HEAD, "nonsense"], "cannot be read"),
        ([KEYED, [2, "orders", 1, None, [], [RECORD]]], "contradict"),
        ([HEAD, KEYSPACE, [2, "orders", 1, None, [], [RECORD]]], "contradict"),
        ([KEYED, KEYSPACE, [2, "orders", 1, None, [], [RECORD]]], "its keys and their rows are"),
        ([KEYED, KEYSPACE, KEYSPACE], "second keyspace"),
        ([KEYED, [17, []]], "before their keyspace"),
        ([KEYED, [18, [], [], []]], "before their keyspace"),
        ([KEYED, KEYSPACE, [17, [["k", b"v", 7, 1, "h-1", 4, 6]]]], "holder 'h-1'"),
    ],
)
def test_what_cannot_be_is_refused_though_its_checksum_is_right(
    payloads: list[object], says: str
) -> None:
    with pytest.raises(CorruptData, match=says):
        load(framed(*payloads))


@pytest.mark.parametrize("head", [[0, "waypost catalog", 5, *HEAD[3:]], [0, "x", 1, *HEAD[3:]]])
def test_a_format_of_another_release_is_refused_by_name(head: list[object]) -> None:
    with pytest.raises(CorruptData, match="use the release that wrote it"):
        load(framed(head))


def test_an_absurd_length_is_refused_before_it_is_waited_for() -> None:
    def endless() -> Iterator[bytes]:
        yield b"\xff\xff\xff\xff\x00\x00\x00\x00"
        raise AssertionError("it reads on")

    with pytest.raises(CorruptData, match="claims"):
        load(endless())


# Digests


@pytest.mark.parametrize(
    "change",
    [
        lambda feed: feed.one(SetHealth("orders", "i-1", "passing", "x")),
        lambda feed: feed.one(Attach("s-2", "n-1", 1, 1)),
        lambda feed: feed.one(Suspect("s-1", 1)),
        lambda feed: feed.one(PutCheck("orders", "i-1", "", Check("c", kind="manual"))),
        lambda feed: feed.one(PutCheck("", "", "m-1", Check("c", kind="manual"))),
        lambda feed: feed.one(PutNode(NodeEntry("m-1"))),
        lambda feed: feed.apply(),
        lambda feed: feed.catalog.apply(feed.catalog.revision + 1, LogBatch(10**6, [])),
        lambda feed: feed.catalog.apply(
            feed.catalog.revision + 1, LogBatch(0, [[]], [Origin("c-1", 1)])
        ),
    ],
)
def test_a_digest_tells_every_difference(change: Callable[[Feed], object]) -> None:
    feed = Feed()
    feed.attach()
    feed.one(Register(instance(), "s-1"))
    before = digest(feed.catalog)

    change(feed)

    assert digest(feed.catalog) != before
    assert len(before) == 16
