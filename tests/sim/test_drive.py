from random import Random

import pytest

from waypost.consensus.core import KIND_BATCH, Ballot, Entry, Hard, Snap, Write
from waypost.consensus.entry import encode
from waypost.sim.drive import MemoryDrive, WalDrive
from waypost.sim.image import Image
from waypost.sim.violation import Violation

BALLOT = Ballot(1, 1, 1)


def entries(count: int, *, after: Entry | None = None, payload: bytes = b"x") -> list[Entry]:
    made: list[Entry] = []
    index, chain = (0, 0) if after is None else (after.index, after.chain)
    for _ in range(count):
        index += 1
        entry = encode(index, BALLOT, KIND_BATCH, payload * index, chain)
        made.append(entry)
        chain = entry.chain
    return made


def drives(seed: int) -> list[MemoryDrive]:
    rng = Random(seed)
    return [MemoryDrive(rng.randrange), WalDrive(rng.randrange, cluster=1, node=1)]


def submit(drive: MemoryDrive, write: Write) -> None:
    drive.newest.apply(write)
    drive.pending.append(write)


def test_what_was_synced_survives_a_power_loss_on_both_drives() -> None:
    log = entries(6)
    for seed in range(30):
        for drive in drives(seed):
            drive.boot()
            submit(drive, Write(1, Hard(promised=BALLOT), None, tuple(log[:3])))
            assert drive.sync(1) == 1
            submit(drive, Write(2, None, None, tuple(log[3:5])))
            submit(drive, Write(3, None, 4, tuple(log[3:4])))
            drive.crash(2, power=True)
            boot = drive.boot()
            assert boot.hard.promised == BALLOT
            assert len(boot.entries) in (3, 5, 4)
            assert boot.entries == tuple(log[: len(boot.entries)])
            assert drive.durable.last == drive.newest.last == len(boot.entries)


def test_what_was_not_written_yet_is_gone() -> None:
    log = entries(2)
    for drive in drives(1):
        drive.boot()
        submit(drive, Write(1, None, None, tuple(log)))
        drive.crash(0, power=True)
        assert drive.boot().entries == ()


def test_a_lazy_write_waits_for_one_that_asks_for_a_sync() -> None:
    drive = MemoryDrive(Random(1).randrange)
    submit(drive, Write(1, Hard(commit=1), sync=False))
    assert not drive.wants_sync
    submit(drive, Write(2, Hard(commit=2)))
    assert drive.wants_sync


def test_recovery_that_loses_a_synced_write_is_noticed() -> None:
    class Forgetful(WalDrive):
        def _put(self, batch: list[Write]) -> None:
            super()._put(batch[:-1])

    log = entries(4)
    drive = Forgetful(Random(1).randrange, cluster=1, node=1)
    drive.boot()
    submit(drive, Write(1, None, None, tuple(log[:2])))
    submit(drive, Write(2, None, None, tuple(log[2:])))
    drive.sync(2)
    drive.crash(0, power=True)
    with pytest.raises(Violation, match="D3"):
        drive.boot()


def test_a_failed_sync_leaves_what_was_durable_before() -> None:
    log = entries(4)
    for seed in range(10):
        for drive in drives(seed):
            drive.boot()
            submit(drive, Write(1, None, None, tuple(log[:2])))
            drive.sync(1)
            submit(drive, Write(2, None, None, tuple(log[2:])))
            drive.fail_sync(1)
            drive.crash(1, power=False)
            assert len(drive.boot().entries) in (2, 4)


def test_a_newer_snapshot_than_the_log_begins_it_anew() -> None:
    log = entries(3)
    snap = Snap(8, Ballot(1, 2, 1), KIND_BATCH, 77)
    for drive in drives(1):
        drive.boot()
        submit(drive, Write(1, None, None, tuple(log)))
        drive.sync(1)
        drive.keep_snapshot(snap, b"state")
        drive.crash(0, power=True)
        boot = drive.boot()
        assert boot.snap == snap
        assert boot.entries == ()


def test_rot_is_found_at_the_next_start() -> None:
    log = entries(5, payload=b"payload")
    found = 0
    for seed in range(40):
        for drive in drives(seed):
            drive.boot()
            submit(drive, Write(1, Hard(BALLOT, BALLOT, 5), None, tuple(log)))
            drive.sync(1)
            drive.crash(0, power=True)
            assert drive.rot()
            boot = drive.boot()
            found += bool(boot.faulty or boot.suspect or len(boot.entries) < 5)
            for index in boot.faulty:
                assert boot.entries[index - 1].frame != log[index - 1].frame
    assert found > 40


def test_an_image_keeps_what_a_snapshot_does_not_cover() -> None:
    log = entries(5)
    image = Image()
    image.apply(Write(1, None, None, tuple(log)))
    image.apply(Write(2, snap=Snap(3, BALLOT, KIND_BATCH, log[2].chain)))
    assert [entry.index for entry in image.entries] == [4, 5]
    assert image.chain_at(3) == log[2].chain
    assert image.chain_at(5) == log[4].chain
    assert image.chain_at(2) == image.chain_at(6) == -1
