"""The log as the node uses it: one batch and one sync for many writes, and no lie about any."""

import random
from collections.abc import Sequence

import pytest
from tests.storage.scribe import Scribe, calls_of, frames, opened, payload, read_back, segments

from waypost.consensus import KIND_BATCH, Ballot, Boot, Hard, Snap, Write
from waypost.consensus.solo import SoloCore
from waypost.errors import StorageFailed
from waypost.storage.records import BODY_START
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal


def test_many_writes_are_one_append_and_one_sync() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    calls = calls_of(disk)

    durable = wal.write([scribe.append(payload(50, n), hard=n == 0) for n in range(20)])

    assert calls == ["write", "sync"]
    assert durable == wal.durable_seq == 20
    disk.crash(lambda n: 1)
    assert read_back(disk) == scribe.states[-1]


def test_the_frames_go_to_the_disk_as_the_core_made_them() -> None:
    class Spy(SimDisk):
        def write(self, file: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
            taken.extend(buffers)
            super().write(file, buffers, offset)

    taken: list[object] = []
    disk, scribe = Spy(), Scribe()
    wal, _ = opened(disk, segment_bytes=1 << 20)
    taken.clear()
    write = scribe.append(b"a" * 20_000, b"b")
    wal.write([write])

    assert taken[1] is write.entries[0].frame
    assert taken[2] is write.entries[1].frame


def test_a_lazy_write_is_not_reported_before_a_sync_covers_it() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"a", hard=True)])
    calls = calls_of(disk)

    assert wal.write([scribe.commit(1)]) == 1
    assert calls == ["write"]
    assert wal.write([scribe.append(b"b")]) == 3
    disk.crash(lambda n: 1)
    assert read_back(disk) == scribe.states[-1]


def test_one_write_that_must_be_durable_takes_the_lazy_ones_along() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    calls = calls_of(disk)

    wal.write([scribe.append(b"a"), scribe.commit(1)])

    assert calls == ["write", "sync"]
    assert wal.durable_seq == 2


def test_cut_entries_stay_cut_also_when_they_lie_in_an_older_segment() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(8):
        wal.write([scribe.append(payload(1300, number), hard=number == 0)])
    wal.write([scribe.replace(3, b"x", b"y")])

    assert read_back(disk) == scribe.states[-1]
    assert read_back(disk) == scribe.states[-1]  # the copy made by the first start says the same
    wal, boot = opened(disk, segment_bytes=4096)
    scribe.restart(boot)
    wal.write([scribe.append(b"z")])
    assert read_back(disk) == scribe.states[-1]


def test_a_write_that_does_not_continue_the_log_is_our_own_mistake() -> None:
    wal, _ = opened(SimDisk())
    scribe = Scribe()
    scribe.append(b"never written")

    with pytest.raises(AssertionError, match="entry 2 cannot stand at 1"):
        wal.write([scribe.append(b"a")])
    with pytest.raises(AssertionError, match="nothing to cut at 9"):
        wal.write([Write(1, truncate=9)])


def test_a_cut_without_new_entries_stays_cut_over_restarts() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(8):
        wal.write([scribe.append(payload(1300, number), hard=number == 0)])
    wal.write([scribe.replace(3)])

    for _ in range(3):
        assert read_back(disk) == scribe.states[-1]


# Marks.


def test_an_idle_log_is_marked_once_and_without_a_sync() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"a")])
    calls = calls_of(disk)

    wal.mark()
    wal.mark()

    assert calls == ["write"]
    wal.write([scribe.append(b"b")])
    wal.mark()
    assert calls == ["write", "write", "sync", "write"]
    assert read_back(disk).frames == scribe.states[-1].frames


def test_a_fresh_log_and_a_lazy_tail_are_not_marked() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    calls = calls_of(disk)

    wal.mark()
    wal.write([scribe.append(b"a", sync=False)])
    wal.mark()

    assert calls == ["write"]


def test_a_mark_never_starts_a_segment() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=BODY_START + 512)
    wal.write([scribe.append(b"a")])

    wal.mark()

    assert len(segments(disk)) == 1


# Dropping.


def snapshotted(upto: int, count: int = 12) -> tuple[SimDisk, Scribe, Wal, Snap]:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(count):
        wal.write([scribe.append(payload(900, number), hard=number == 0)])
    snap, write = scribe.snapshot(upto)
    wal.write([write])
    return disk, scribe, wal, snap


def test_segments_below_a_snapshot_go_and_the_rest_stays() -> None:
    disk, scribe, wal, snap = snapshotted(8)
    before = segments(disk)

    wal.drop_below(8)

    left = segments(disk)
    assert 0 < len(left) < len(before)
    assert left == before[-len(left) :]
    assert frames(opened(disk, snap)[1]) == scribe.states[-1].frames[8:]


def test_nothing_is_dropped_above_what_is_asked() -> None:
    disk, scribe, wal, _ = snapshotted(8)

    wal.drop_below(1)

    assert read_back(disk) == scribe.states[-1]


def test_the_segment_that_is_written_to_stays() -> None:
    disk, scribe, wal, snap = snapshotted(12)

    wal.drop_below(12)
    wal.write([scribe.append(b"next")])

    assert len(segments(disk)) == 1
    assert frames(opened(disk, snap)[1]) == scribe.states[-1].frames[12:]


def test_nothing_is_dropped_before_its_snapshot_is_marked_durably() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"a")])

    with pytest.raises(AssertionError, match="no snapshot at 1 is marked durably"):
        wal.drop_below(1)
    snap = Snap(1, Ballot(1, 1, 1), KIND_BATCH, scribe.log[0].chain)
    wal.write([Write(2, snap=snap, sync=False)])
    with pytest.raises(AssertionError, match="no snapshot at 1 is marked durably"):
        wal.drop_below(1)


def test_a_mark_outlives_the_segment_that_it_was_written_in() -> None:
    disk, scribe, wal, snap = snapshotted(8)
    wal.drop_below(8)
    wal.close()

    opened(disk, snap, segment_bytes=4096)
    wal, boot = opened(disk, snap, segment_bytes=4096)
    assert boot.snap == snap
    wal.drop_below(8)
    assert frames(opened(disk, snap)[1]) == scribe.states[-1].frames[8:]


# Failing disks.


@pytest.mark.parametrize("verb", ["write", "sync"])
def test_a_failed_write_or_sync_ends_the_log_and_is_never_tried_again(verb: str) -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"a", hard=True)])
    disk.fail(verb)

    with pytest.raises(StorageFailed, match="this process must end"):
        wal.write([scribe.append(b"b")])
    calls = calls_of(disk)
    for again in (
        lambda: wal.write([scribe.append(b"c")]),
        wal.mark,
        wal.prepare,
        lambda: wal.drop_below(0),
    ):
        with pytest.raises(StorageFailed):
            again()
    assert calls == []
    disk.kill()
    assert read_back(disk) in scribe.states[1:3]


@pytest.mark.parametrize("verb", ["unlink", "sync_names"])
def test_a_failure_while_segments_are_deleted_ends_the_log(verb: str) -> None:
    disk, _, wal, _ = snapshotted(8)
    disk.fail(verb)

    with pytest.raises(StorageFailed, match="deleting old segments failed"):
        wal.drop_below(8)


def test_a_disk_that_fails_at_start_says_so() -> None:
    disk, _, _, _ = snapshotted(8)
    disk.fail("read")

    with pytest.raises(StorageFailed, match="opening the log failed"):
        opened(disk)


def test_a_core_of_one_keeps_its_answers_over_power_losses() -> None:
    disk = SimDisk()
    answered: dict[int, bytes] = {}
    for run in range(5):
        wal, boot = opened(disk, segment_bytes=4096)
        core = SoloCore(1, boot)
        for index, expected in answered.items():
            assert bytes(core.entries(index, index)[0].payload) == expected
        for token in range(20):
            body = payload(300, run * 100 + token)
            core.propose(token, body, token)
            found = core.ready()
            assert found is not None
            assert found.write is not None
            if token % 7 == 6:
                break
            core.persisted(token, wal.write([found.write]))
            found = core.ready()
            assert found is not None
            answered[found.done[0].index] = body
        disk.crash(random.Random(run).randrange)


def test_an_empty_boot_after_an_empty_run() -> None:
    disk = SimDisk()
    opened(disk)

    assert opened(disk)[1] == Boot()
    assert opened(disk)[1].hard == Hard()
