"""A snapshot counts when it is durable and was read back; two are kept, and rot is stepped over."""

import errno
import hashlib
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.scribe import CLUSTER, NODE, payload

from waypost.consensus import KIND_BATCH, KIND_SEAL, Ballot, Snap
from waypost.errors import CorruptData, Invalid, ReadOnly, StorageFailed
from waypost.storage.simdisk import PowerLost, SimDisk
from waypost.storage.snapshots import SnapshotStore

BALLOT = Ballot(3, 2, 1)


def snap_at(index: int) -> Snap:
    return Snap(index, BALLOT, KIND_BATCH, index * 7)


def stored(disk: SimDisk) -> SnapshotStore:
    return SnapshotStore(disk, cluster=CLUSTER, node=NODE)


def taken(store: SnapshotStore, index: int, *chunks: bytes) -> Snap:
    writer = store.begin(snap_at(index))
    for chunk in chunks:
        writer.add(chunk)
    return writer.finish()


def newest(disk: SimDisk) -> tuple[Snap, list[bytes]] | None:
    found = stored(disk).newest()
    return None if found is None else (found.snap, list(found.chunks))


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.booleans())
def test_what_was_written_is_read_back_after_a_power_loss(
    chunks: list[bytes], is_seal: bool
) -> None:
    disk = SimDisk()
    snap = Snap(9, BALLOT, KIND_SEAL if is_seal else KIND_BATCH, 0xFFFFFFFF)
    writer = stored(disk).begin(snap)
    for chunk in chunks:
        writer.add(chunk)

    assert writer.finish() == snap
    disk.crash(lambda n: 1)
    assert newest(disk) == (snap, chunks)


def test_an_empty_directory_has_no_snapshot() -> None:
    store = stored(SimDisk())

    assert store.newest() is None
    assert store.floor == 0


def test_the_layout_is_the_documented_one() -> None:
    disk = SimDisk()
    taken(stored(disk), 5, b"abc", b"defg")

    data = disk.peek("snap-0000000000000005.snap")

    assert data[:12] == b"WPSNAP\r\n" + struct.pack("<I", 2)
    assert struct.unpack_from("<QIIQQQIIQ", data, 16) == (
        *(CLUSTER, NODE, KIND_BATCH, 5, 3, 2, 1, 35, 0),
    )
    assert data[72 + 8 : 72 + 11] == b"abc"
    assert data[-48:-32] == struct.pack("<QQ", 2, 7)
    assert data[-32:] == hashlib.sha256(b"abcdefg").digest()


def test_the_two_newest_are_kept_and_the_floor_is_the_older_one() -> None:
    disk = SimDisk()
    store = stored(disk)
    floors: list[int] = []
    for index in (10, 20, 30):
        taken(store, index, b"x")
        floors.append(store.floor)

    assert floors == [0, 10, 20]
    assert disk.names() == ["snap-000000000000001e.snap", "snap-0000000000000014.snap"][::-1]
    assert stored(disk).floor == 20


def test_a_snapshot_at_the_same_index_replaces_the_one_before() -> None:
    disk = SimDisk()
    store = stored(disk)
    taken(store, 10, b"old")
    taken(store, 10, b"new")

    assert store.floor == 0
    assert newest(disk) == (snap_at(10), [b"new"])


@pytest.mark.parametrize("offset", [0, 9, 14, 30, 72, 74, 80, 900, 1100, -1, -30, -60])
def test_a_rotten_snapshot_gives_way_to_the_one_before(offset: int) -> None:
    disk = SimDisk()
    store = stored(disk)
    taken(store, 10, b"older")
    taken(store, 20, payload(1000, 1), payload(500, 2))
    name = "snap-0000000000000014.snap"
    disk.flip(name, offset % len(disk.peek(name)), 4)

    store = stored(disk)
    found = store.newest()

    assert found is not None
    assert (found.snap, list(found.chunks)) == (snap_at(10), [b"older"])
    assert len(store.notes) == 1
    assert store.notes[0].startswith(f"{name}: offset ")
    assert store.floor == 0  # one good snapshot is left: the log must keep what it needs


def test_no_flipped_bit_anywhere_is_believed() -> None:
    disk = SimDisk()
    taken(stored(disk), 20, payload(50, 1), payload(30, 2))
    name = "snap-0000000000000014.snap"
    for offset in range(len(disk.peek(name))):
        disk.flip(name, offset, 0x20)
        assert newest(disk) is None
        disk.flip(name, offset, 0x20)
    assert newest(disk) is not None


def test_a_snapshot_cut_short_or_with_something_behind_it_is_not_believed() -> None:
    disk = SimDisk()
    taken(stored(disk), 20, payload(50, 1), payload(30, 2))
    data = disk.peek("snap-0000000000000014.snap")
    for size in (0, 10, 71, 72, 80, 140, len(data) - 1, len(data) + 1):
        other = SimDisk()
        file = other.create("snap-0000000000000014.snap", 0)
        other.write(file, ((data + b"!")[:size],), 0)
        assert newest(other) is None


def test_swapped_chunks_are_not_believed() -> None:
    disk = SimDisk()
    taken(stored(disk), 20, b"a" * 40, b"b" * 40)
    name = "snap-0000000000000014.snap"
    data = disk.peek(name)
    disk.damage(name, 72, data[72 + 48 : 72 + 96] + data[72 : 72 + 48])

    assert newest(disk) is None


@given(st.binary(max_size=400))
def test_no_bytes_make_reading_raise(data: bytes) -> None:
    disk = SimDisk()
    taken(stored(disk), 20, b"chunk")
    whole = disk.peek("snap-0000000000000014.snap")
    for body in (data, whole[:72] + data, whole[:60] + data):
        other = SimDisk()
        file = other.create("snap-0000000000000014.snap", 0)
        other.write(file, (body,), 0)
        newest(other)


def test_no_rotten_snapshot_outlives_the_next_ones() -> None:
    disk = SimDisk()
    taken(stored(disk), 10, b"x")
    taken(stored(disk), 20, b"x")
    disk.flip("snap-0000000000000014.snap", 80)
    store = stored(disk)
    store.newest()

    taken(store, 30, b"x")

    assert disk.names() == ["snap-000000000000000a.snap", "snap-000000000000001e.snap"]
    assert store.floor == 10


def test_an_unfinished_snapshot_counts_for_nothing_and_is_swept_at_start() -> None:
    disk = SimDisk()
    store = stored(disk)
    taken(store, 10, b"x")
    store.begin(snap_at(20)).add(b"half")
    assert len(disk.names()) == 2

    assert newest(disk) == (snap_at(10), [b"x"])
    assert len(disk.names()) == 1


def test_an_aborted_snapshot_leaves_nothing_behind() -> None:
    disk = SimDisk()
    store = stored(disk)
    writer = store.begin(snap_at(10))
    writer.add(b"x")

    writer.abort()
    writer.abort()

    assert disk.names() == []
    taken(store, 10, b"y")
    assert newest(disk) == (snap_at(10), [b"y"])


def test_abort_after_finish_takes_nothing_away() -> None:
    disk = SimDisk()
    writer = stored(disk).begin(snap_at(10))
    writer.add(b"x")
    writer.finish()

    writer.abort()

    assert newest(disk) == (snap_at(10), [b"x"])


def test_a_snapshot_that_reads_back_wrong_never_counts() -> None:
    disk = SimDisk()
    store = stored(disk)
    taken(store, 10, b"good")
    writer = store.begin(snap_at(20))
    writer.add(b"chunk")

    def rot(verb: str, name: str) -> None:
        if verb == "open" and name.endswith(".tmp"):
            disk.flip(name, 81)

    disk.before = rot
    with pytest.raises(CorruptData, match="chunk 0 does not match"):
        writer.finish()
    disk.before = None

    assert newest(disk) == (snap_at(10), [b"good"])
    assert store.floor == 0


def test_the_older_snapshot_goes_only_when_the_new_one_has_its_name_durably() -> None:
    for seed in range(20):
        for calls in range(20):
            disk = SimDisk()
            store = stored(disk)
            taken(store, 10, b"a")
            taken(store, 20, b"b")
            writer = store.begin(snap_at(30))
            disk.cut_after(calls)
            finished = False
            try:
                writer.add(b"c")
                writer.finish()
                finished = True
            except PowerLost:
                pass
            disk.crash(random.Random(seed).randrange)

            found = newest(disk)

            assert found is not None
            assert found in ((snap_at(20), [b"b"]), (snap_at(30), [b"c"]))
            assert stored(disk).floor >= 10  # and one before it, as long as the log counts on that
            assert not finished or found[0].index == 30


def test_a_full_disk_gives_up_the_snapshot_and_nothing_else() -> None:
    disk = SimDisk(capacity=3000)
    store = stored(disk)
    taken(store, 10, b"x" * 1000)
    writer = store.begin(snap_at(20))
    writer.add(b"y" * 1000)

    with pytest.raises(ReadOnly, match="no room for the snapshot at 20"):
        writer.add(b"z" * 1000)

    assert disk.names() == ["snap-000000000000000a.snap"]
    taken(store, 20, b"small")


@pytest.mark.parametrize(
    "verb", ["create", "write", "sync", "rename", "sync_names", "open", "read"]
)
def test_a_failing_disk_is_not_hidden(verb: str) -> None:
    disk = SimDisk()
    store = stored(disk)
    disk.fail(verb)

    with pytest.raises(StorageFailed):
        taken(store, 10, b"x")


def test_a_failing_disk_is_not_hidden_from_a_reader() -> None:
    disk = SimDisk()
    taken(stored(disk), 10, b"x")
    disk.fail("names")
    with pytest.raises(StorageFailed):
        stored(disk)
    store = stored(disk)
    disk.fail("read", errno=errno.EIO)
    with pytest.raises(StorageFailed):
        store.newest()
    found = store.newest()
    assert found is not None
    disk.fail("read")
    with pytest.raises(StorageFailed):
        list(found.chunks)


def test_another_nodes_snapshot_is_refused() -> None:
    disk = SimDisk()
    taken(stored(disk), 10, b"x")

    with pytest.raises(Invalid, match="belongs to node 1 of cluster 0xc1, and this is node 2"):
        SnapshotStore(disk, cluster=CLUSTER, node=2).newest()


def test_a_long_snapshot_is_synced_on_the_way_so_that_the_log_never_waits_for_all_of_it() -> None:
    disk = SimDisk()
    calls: list[str] = []
    writer = stored(disk).begin(snap_at(10))
    disk.before = lambda verb, name: calls.append(verb)
    for _ in range(20):
        writer.add(bytes(1 << 20))

    assert calls.count("sync") == 2


def test_an_iterator_that_is_left_early_gives_its_file_back() -> None:
    disk = SimDisk()
    taken(stored(disk), 10, b"a", b"b")
    found = stored(disk).newest()
    assert found is not None
    chunks = found.chunks

    assert next(chunks) == b"a"
    chunks.close()  # type: ignore[attr-defined]

    assert disk.open_files == 0
