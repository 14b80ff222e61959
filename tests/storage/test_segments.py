"""Segments are reserved before they are used: a full disk shows early, and never in a batch."""

import contextlib
import errno
import random
import threading

import pytest
from tests.storage.scribe import (
    Scribe,
    State,
    calls_of,
    opened,
    payload,
    read_back,
    segments,
)

from waypost.errors import ReadOnly, StorageFailed
from waypost.storage.simdisk import SimDisk


def test_a_full_segment_is_sealed_and_the_prepared_one_taken() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    wal.prepare()
    calls = calls_of(disk)

    for number in range(3):
        wal.write([scribe.append(payload(1300, number))])

    assert "create" not in calls
    assert len(segments(disk)) == 2
    assert read_back(disk) == scribe.states[-1]


def test_the_next_segment_is_asked_for_when_half_of_this_one_is_used() -> None:
    scribe = Scribe()
    wal, _ = opened(SimDisk(), segment_bytes=8192)
    asked: list[bool] = []
    for number in range(6):
        asked.append(wal.needs_segment)
        wal.write([scribe.append(payload(900, number))])
    wal.prepare()

    assert asked == [False, False, False, True, True, True]
    assert not wal.needs_segment


def test_a_prepared_segment_is_filled_with_zeros_that_are_durable() -> None:
    disk = SimDisk()
    wal, _ = opened(disk, segment_bytes=3 << 20)
    written: list[str] = []
    disk.before = lambda verb, name: written.append(verb)

    wal.prepare()

    assert written == ["create", "sync"] + ["write", "sync"] * 3


def test_a_disk_that_fails_while_a_segment_is_prepared_ends_the_log() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    disk.fail("sync", nth=2)

    with pytest.raises(StorageFailed, match="preparing a segment failed"):
        wal.prepare()
    with pytest.raises(StorageFailed):
        wal.write([scribe.append(b"a")])


def test_a_segment_is_made_on_the_spot_when_none_was_prepared() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)

    for number in range(9):
        wal.write([scribe.append(payload(1300, number))])

    assert len(segments(disk)) > 3
    assert read_back(disk) == scribe.states[-1]


def test_a_batch_larger_than_a_segment_gets_one_of_its_own_size() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    wal.prepare()

    wal.write([scribe.append(payload(50_000, 1))])
    wal.write([scribe.append(b"after")])

    assert read_back(disk) == scribe.states[-1]


def test_lazy_writes_are_durable_before_the_next_segment_says_that_they_are() -> None:
    for seed in range(10):
        disk, scribe = SimDisk(), Scribe()
        wal, _ = opened(disk, segment_bytes=4096)
        wal.write([scribe.append(payload(2000, 1), sync=False)])
        wal.write([scribe.append(payload(2000, 2))])  # goes to the next segment
        assert len(segments(disk)) == 2

        disk.crash(random.Random(seed).randrange)

        assert read_back(disk).frames == scribe.states[-1].frames


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failed_sync_while_a_segment_starts_loses_nothing_that_was_reported(nth: int) -> None:
    for power in (False, True):
        disk, scribe = SimDisk(), Scribe()
        wal, _ = opened(disk, segment_bytes=4096)
        wal.write([scribe.append(payload(2000, 1), hard=True)])
        disk.fail("sync", nth=nth)

        with contextlib.suppress(StorageFailed):
            wal.write([scribe.append(payload(2000, 2))])
        durable = wal.durable_seq
        if power:
            disk.crash(lambda n: 1)
        else:
            disk.kill()

        assert read_back(disk) in scribe.states[durable:]


@pytest.mark.parametrize("verb", ["rename", "sync_names"])
def test_a_failure_while_a_segment_gets_its_name_ends_the_log(verb: str) -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    disk.fail(verb)

    with pytest.raises(StorageFailed, match=r"writing wal-\w+\.log failed"):
        wal.write([scribe.append(payload(9000, 1))])


def filled(disk: SimDisk) -> None:
    disk.capacity = disk.used


def test_a_full_disk_shows_while_the_next_segment_is_prepared() -> None:
    disk = SimDisk()
    wal, _ = opened(disk)
    filled(disk)

    with pytest.raises(ReadOnly, match="no room for a log segment of 8192 bytes: free some space"):
        wal.prepare()

    assert disk.names() == segments(disk)
    disk.capacity = None
    wal.prepare()
    assert len(disk.names()) == 2


def test_on_a_full_disk_everything_that_is_reserved_is_still_written() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    wal.prepare()
    filled(disk)

    with pytest.raises(ReadOnly):
        for number in range(100):
            write = scribe.append(payload(900, number), hard=number == 0)
            wal.write([write])

    assert len(scribe.states) > 4
    assert len(segments(disk)) == 2
    disk.kill()
    assert read_back_of_full(disk) == scribe.states[-2]


def read_back_of_full(disk: SimDisk) -> State:
    disk.capacity = None
    return read_back(disk)


def test_a_write_refused_for_space_has_done_nothing_and_may_be_made_later() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    wal.write([scribe.append(payload(2000, 1), hard=True)])
    filled(disk)
    refused = scribe.append(payload(2000, 2))
    calls = calls_of(disk)

    for _ in range(2):
        with pytest.raises(ReadOnly):
            wal.write([refused])
    assert set(calls) == {"create"}
    disk.before = None
    disk.capacity = None

    assert wal.write([refused]) == 2
    assert read_back(disk) == scribe.states[-1]


def test_a_full_disk_in_the_middle_of_a_batch_is_a_failed_disk() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk)
    disk.fail("write", errno=errno.ENOSPC)

    with pytest.raises(StorageFailed, match="No space left"):
        wal.write([scribe.append(b"a")])


def test_a_node_with_a_nearly_full_disk_still_starts() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=1 << 20)
    wal.write([scribe.append(b"a", hard=True)])
    filled(disk)
    assert disk.capacity is not None
    disk.capacity += 100_000

    wal, boot = opened(disk, segment_bytes=1 << 20)

    assert State(boot.entries, boot.hard) == scribe.states[-1]
    with pytest.raises(ReadOnly):
        for number in range(200):
            disk.capacity = disk.used
            wal.write([scribe.append(payload(900, number))])


def test_a_node_with_no_space_at_all_says_so_at_start() -> None:
    disk = SimDisk()
    opened(disk, segment_bytes=1 << 20)
    filled(disk)

    with pytest.raises(ReadOnly, match="free some space"):
        opened(disk, segment_bytes=1 << 20)


def test_the_next_segment_is_prepared_on_another_thread_while_writes_go_on() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=8192)
    stalled, go_on = threading.Event(), threading.Event()
    main = threading.get_ident()

    def stall(verb: str, name: str) -> None:
        if verb == "create" and threading.get_ident() != main:
            stalled.set()
            assert go_on.wait(10)

    disk.before = stall
    thread = threading.Thread(target=wal.prepare)
    thread.start()
    assert stalled.wait(10)
    for number in range(3):
        wal.write([scribe.append(payload(900, number))])
    go_on.set()
    thread.join()

    assert len(disk.names()) == 2
    assert read_back(disk).frames == scribe.states[-1].frames


def test_a_full_disk_shows_also_where_reserving_did_not_help() -> None:
    disk = SimDisk()
    wal, _ = opened(disk)
    disk.fail("write", errno=errno.ENOSPC)  # as copy-on-write file systems do

    with pytest.raises(ReadOnly):
        wal.prepare()

    assert disk.names() == segments(disk)
    wal.prepare()
    assert len(disk.names()) == 2
