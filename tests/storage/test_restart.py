"""A start takes the directory as it is, or says what is wrong with it and what to do."""

import zlib

import pytest
from tests.storage.scribe import CLUSTER, NODE, Scribe, frames, opened, payload, segments

from waypost.consensus import KIND_BATCH, Ballot, Boot, Hard, Snap, Write
from waypost.errors import CorruptData, Invalid
from waypost.storage.records import SECTOR
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal

BALLOT = Ballot(1, 1, NODE)


def written(batches: int = 12, size: int = 900) -> tuple[SimDisk, Scribe, Wal]:
    """A log over several segments of 4 KB."""
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(batches):
        wal.write([scribe.append(payload(size, number), hard=number == 0)])
    return disk, scribe, wal


def test_an_empty_directory_is_an_empty_log() -> None:
    disk = SimDisk()

    wal, boot = opened(disk)

    assert boot == Boot()
    assert wal.notes == ()
    assert segments(disk) == ["wal-0000000000000001.log"]


def test_another_nodes_directory_is_refused() -> None:
    disk, _, _ = written()

    with pytest.raises(Invalid, match="belongs to node 1 of cluster 0xc1, and this is node 2"):
        Wal.open(disk, cluster=CLUSTER, node=2)
    with pytest.raises(Invalid, match="and this is node 1 of cluster 0x7"):
        Wal.open(disk, cluster=7, node=NODE)


def test_a_newer_format_is_refused_by_name() -> None:
    disk, _, _ = written(1)
    (file,) = segments(disk)
    for start in (0, SECTOR):
        copy = bytearray(disk.peek(file)[start : start + SECTOR])
        copy[8] = 9
        copy[-4:] = zlib.crc32(bytes(copy[:-4])).to_bytes(4, "little")
        disk.damage(file, start, bytes(copy))

    with pytest.raises(
        CorruptData, match=r"written in format 9, and this version .* formats up to 2"
    ):
        opened(disk)


@pytest.mark.parametrize("copy", [0, 1])
def test_one_rotten_copy_of_a_head_does_no_harm(copy: int) -> None:
    disk, scribe, _ = written()
    for file in segments(disk):
        disk.flip(file, copy * SECTOR + 20)

    assert frames(opened(disk)[1]) == scribe.states[-1].frames


def test_the_newest_segment_without_a_head_stops_the_node() -> None:
    disk, _, _ = written()
    file = segments(disk)[-1]
    disk.damage(file, 0, bytes(2 * SECTOR))

    for has_peers in (False, True):
        with pytest.raises(CorruptData, match=f"{file}: offset 0: both copies"):
            opened(disk, has_peers=has_peers)


def test_an_older_segment_without_a_head_is_a_missing_one() -> None:
    disk, _, _ = written()
    disk.damage(segments(disk)[1], 0, bytes(2 * SECTOR))

    with pytest.raises(CorruptData, match="are in no snapshot and no segment"):
        opened(disk)


def test_accepted_loss_goes_on_with_what_stands_before_a_missing_segment() -> None:
    disk, scribe, _ = written()
    disk.unlink(segments(disk)[2])

    wal, boot = opened(disk, accept_data_loss=True)

    assert 0 < len(boot.entries) < 12
    assert frames(boot) == scribe.states[-1].frames[: len(boot.entries)]
    scribe.restart(boot)
    wal.write([scribe.append(b"on we go")])
    assert frames(opened(disk)[1]) == scribe.states[-1].frames


def test_accepted_loss_goes_on_without_the_newest_segment() -> None:
    disk, scribe, _ = written()
    disk.damage(segments(disk)[-1], 0, bytes(2 * SECTOR))

    _, boot = opened(disk, accept_data_loss=True)

    assert 0 < len(boot.entries) < 12
    assert frames(boot) == scribe.states[-1].frames[: len(boot.entries)]


def test_accepted_loss_of_everything_leaves_the_snapshot() -> None:
    disk, _, _ = written(3)
    for file in segments(disk):
        disk.damage(file, 0, bytes(2 * SECTOR))
    snap = Snap(2, BALLOT, KIND_BATCH, 5)

    wal, boot = opened(disk, snap, accept_data_loss=True)

    assert (boot.snap, boot.entries, boot.hard.commit) == (snap, (), 2)
    wal.close()
    assert opened(disk, snap)[1] == boot


def test_promises_of_a_lost_segment_still_count() -> None:
    disk, scribe, wal = written()
    wal.write([scribe.replace(12, b"x")])  # a higher round
    for number in range(5):
        wal.write([scribe.append(payload(900, number))])
    disk.unlink(segments(disk)[1])

    _, boot = opened(disk, accept_data_loss=True)

    assert boot.hard.promised == scribe.hard.promised


def test_a_snapshot_without_any_log_is_a_lost_log() -> None:
    snap = Snap(7, BALLOT, KIND_BATCH, 5)

    with pytest.raises(CorruptData, match="no log beside the snapshot at 7"):
        opened(SimDisk(), snap)


def test_a_single_nodes_log_never_ends_before_its_snapshot() -> None:
    disk, _, _ = written(3)

    with pytest.raises(CorruptData, match="the log ends at 3, before the snapshot at 7"):
        opened(disk, Snap(7, BALLOT, KIND_BATCH, 5))


def test_a_snapshot_that_peers_sent_counts_before_the_log_says_so() -> None:
    disk, _, _ = written(3)
    snap = Snap(7, BALLOT, KIND_BATCH, 5)

    _, boot = opened(disk, snap, has_peers=True)

    assert (boot.snap, boot.entries, boot.hard.commit, boot.suspect) == (snap, (), 7, False)
    assert opened(disk, snap, has_peers=True)[1] == boot


def test_a_snapshot_that_peers_sent_replaces_a_log_that_contradicts_it() -> None:
    disk, _, _ = written(3)
    snap = Snap(2, Ballot(1, 9, 2), KIND_BATCH, 5)

    _, boot = opened(disk, snap, has_peers=True)

    assert (boot.snap, boot.entries) == (snap, ())
    with pytest.raises(CorruptData, match="entry 2 is not the one that the snapshot was taken at"):
        opened(written(3)[0], snap)


def test_an_older_snapshot_and_a_longer_log_give_the_same_state() -> None:
    disk, scribe, wal = written()
    older, write = scribe.snapshot(4)
    wal.write([write])
    newer, write = scribe.snapshot(9)
    wal.write([write])
    wal.drop_below(older.index)

    assert frames(opened(disk, newer)[1]) == scribe.states[-1].frames[9:]
    assert frames(opened(disk, older)[1]) == scribe.states[-1].frames[4:]


def test_no_snapshot_left_and_a_shortened_log_is_a_lost_state() -> None:
    disk, scribe, wal = written()
    _, write = scribe.snapshot(9)
    wal.write([write])
    wal.drop_below(9)

    with pytest.raises(CorruptData, match=r"entries 1 to \d+ are in no snapshot and no segment"):
        opened(disk)


def test_a_log_shorter_than_what_it_knew_committed_has_lost_data() -> None:
    disk = SimDisk()
    scribe = Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"1", b"2")])
    wal.write([Write(2, Hard(BALLOT, BALLOT, 5))])

    with pytest.raises(CorruptData, match="the log ends at 2, yet 5 was committed"):
        opened(disk)
    assert opened(disk, has_peers=True)[1].suspect
    _, boot = opened(disk, accept_data_loss=True)
    assert (boot.hard.commit, boot.suspect) == (2, False)


def test_a_node_that_is_left_alone_in_doubt_stays_in_doubt() -> None:
    disk = SimDisk()
    wal, _ = opened(disk, has_peers=True)
    wal.write([Write(1, Hard(BALLOT, suspect=True))])

    with pytest.raises(CorruptData, match="in doubt since an earlier start"):
        opened(disk)


def test_doubt_ends_when_the_core_says_so() -> None:
    disk = SimDisk()
    wal, _ = opened(disk, has_peers=True)
    wal.write([Write(1, Hard(BALLOT, suspect=True))])
    wal.write([Write(2, Hard(BALLOT))])

    assert not opened(disk)[1].suspect


def test_half_made_segments_are_removed() -> None:
    disk, _, wal = written(1)
    wal.prepare()
    assert any(name.endswith(".tmp") for name in disk.names())

    opened(disk)

    assert [name[-4:] for name in disk.names()] == [".log"]


def test_files_of_others_are_left_alone() -> None:
    disk, _, _ = written(1)
    disk.create("node.json", 5)
    disk.create("snap-0000000000000001.tmp", 5)

    opened(disk)

    assert {"node.json", "snap-0000000000000001.tmp"} <= set(disk.names())


def test_every_start_copies_the_newest_segment_into_a_new_file() -> None:
    disk, scribe, _ = written()
    before = segments(disk)

    opened(disk)

    assert segments(disk)[:-1] == before[:-1]
    assert segments(disk)[-1] > before[-1]
    assert frames(opened(disk)[1]) == scribe.states[-1].frames


def test_what_a_failed_fsync_left_in_the_cache_is_durable_after_the_start_or_gone() -> None:
    disk, scribe, wal = written(2)
    disk.fail("sync")
    with pytest.raises(Exception, match="failed"):
        wal.write([scribe.append(payload(900, 50))])
    disk.kill()  # the process dies, the cache lives on and claims to be clean

    _, boot = opened(disk)
    disk.crash(lambda n: 1)  # lose all that is not durable

    assert frames(opened(disk)[1]) == frames(boot)


def test_the_log_of_a_large_segment_is_copied_in_several_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=16 << 20)
    for number in range(6):
        wal.write([scribe.append(payload(1 << 20, number))])

    for _ in range(2):
        assert frames(opened(disk, segment_bytes=16 << 20)[1]) == scribe.states[-1].frames
