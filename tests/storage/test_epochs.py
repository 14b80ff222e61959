"""The epoch of a node outlives segments, snapshots and damage, or its loss is known."""

import shutil
from pathlib import Path

import pytest
from tests.storage.scribe import (
    CLUSTER,
    NODE,
    Scribe,
    epoch,
    frames,
    opened,
    payload,
    read_back,
    segments,
)

from waypost.consensus import Ballot, Hard, Snap, Write
from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData
from waypost.storage.disk import RealDisk
from waypost.storage.heads import VERSION, head_version
from waypost.storage.records import BODY_START
from waypost.storage.simdisk import SimDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

SAMPLE = Path(__file__).parent / "samples" / "version-1"
SAMPLE_CLUSTER = 0x1A9BDEED45580237


def filled(disk: SimDisk, *, epochs: int = 2) -> Scribe:
    """A log of several segments, in an epoch."""
    scribe = Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    wal.write([scribe.append(b"first", b"seal", b"too much")])
    if epochs:
        wal.write([scribe.start(2)])
    for number in range(12):
        wal.write([scribe.append(payload(900, number))])
    return scribe


def test_the_epoch_and_the_next_are_there_after_a_restart() -> None:
    disk = SimDisk()
    scribe = filled(disk)
    wal, boot = opened(disk)
    assert boot.epoch == scribe.epoch
    scribe.restart(boot)
    wal.write([scribe.leave(5)])
    state = read_back(disk)
    assert (state.epoch, state.left) == (scribe.epoch, scribe.left)


def test_the_epoch_outlives_the_segments_that_it_was_written_in() -> None:
    disk = SimDisk()
    scribe = filled(disk)
    wal, _ = opened(disk)
    before = len(segments(disk))
    for index in (10, 13):
        snap = scribe.snap(index)
        store = SnapshotStore(disk, cluster=CLUSTER, node=NODE)
        writer = store.begin(snap, scribe.epoch)
        writer.add(b"state")
        writer.finish()
        wal.write([Write(index, snap=snap)])
        wal.drop_below(store.floor)
    assert len(segments(disk)) < before
    _, boot = opened(disk, scribe.snap(13))
    assert boot.epoch == scribe.epoch


def test_an_epoch_started_ends_the_way_to_it() -> None:
    disk = SimDisk()
    scribe = filled(disk, epochs=0)
    wal, _ = opened(disk)
    wal.write([scribe.leave(2), scribe.start(2)])
    state = read_back(disk)
    assert state.epoch == scribe.epoch
    assert state.left is None


def test_a_snapshot_carries_the_newest_epoch() -> None:
    disk = SimDisk()
    writer = SnapshotStore(disk, cluster=CLUSTER, node=NODE).begin(
        Snap(7, Ballot(2, 1, 1), 0, 9), epoch(3, 8)
    )
    writer.add(b"state")
    writer.finish()
    found = SnapshotStore(disk, cluster=CLUSTER, node=NODE).newest()
    assert found is not None
    assert found.epoch == epoch(3, 8)
    assert b"".join(found.chunks) == b"state"


def test_a_snapshot_with_a_rotten_epoch_does_not_count() -> None:
    disk = SimDisk()
    writer = SnapshotStore(disk, cluster=CLUSTER, node=NODE).begin(
        Snap(7, Ballot(2, 1, 1), 0, 9), epoch(3, 8)
    )
    writer.finish()
    disk.flip("snap-0000000000000007.snap", 80)
    store = SnapshotStore(disk, cluster=CLUSTER, node=NODE)
    assert store.newest() is None
    assert "epoch" in store.notes[0]


@pytest.mark.parametrize(("told", "left"), [(2, None), (3, 3)])
def test_a_snapshot_from_a_peer_tells_of_an_epoch_that_was_not_started(
    told: int, left: int | None
) -> None:
    disk = SimDisk()
    scribe = filled(disk)
    snap_epoch = epoch(told, 14)
    _, boot = opened(disk, scribe.snap(13), snap_epoch=snap_epoch, has_peers=True)
    assert boot.epoch == scribe.epoch
    assert (boot.left.number if boot.left else None) == left


def test_a_lost_epoch_of_a_member_makes_its_disk_suspect() -> None:
    disk = SimDisk()
    scribe = Scribe()
    wal, _ = opened(disk)
    wal.write([scribe.append(b"first", b"seal", b"too much")])
    wal.write([scribe.start(2)])
    wal.write([scribe.append(b"in epoch 2")])
    name = segments(disk)[0]
    position = disk.peek(name).index(b"host-3.example.org")
    assert position > BODY_START
    disk.flip(name, position)
    _, boot = opened(disk, has_peers=True)
    assert boot.epoch is None
    assert boot.suspect
    assert [bytes(entry.payload) for entry in boot.entries] == [b"first", b"seal", b"in epoch 2"]


def test_promises_of_an_epoch_that_is_not_there_make_a_disk_suspect() -> None:
    disk = SimDisk()
    scribe = filled(disk)
    wal, _ = opened(disk)
    wal.write([Write(1, Hard(Ballot(3, 1, 1), Ballot(2, 1, 1), len(scribe.log)))])
    _, boot = opened(disk, has_peers=True)
    assert boot.suspect


def sample(tmp_path: Path) -> RealDisk:
    """A copy of what version 1 left behind."""
    shutil.copytree(SAMPLE, tmp_path / "data")
    return RealDisk(tmp_path / "data")


def test_a_directory_of_version_1_is_opened_and_becomes_one_of_version_2(tmp_path: Path) -> None:
    disk = sample(tmp_path)
    found = SnapshotStore(disk, cluster=SAMPLE_CLUSTER, node=1).newest()
    assert found is not None
    assert found.snap.index == 6
    assert found.epoch is None
    wal, boot = Wal.open(disk, cluster=SAMPLE_CLUSTER, node=1, snap=found.snap)
    assert [entry.index for entry in boot.entries] == [7]
    assert boot.hard.promised == Ballot(1, 2, 1)
    assert boot.epoch is None
    assert not boot.suspect

    began = Epoch(SAMPLE_CLUSTER, 1, "local", epoch(1, 1).members, 1, 1)
    wal.write([Write(1, epoch=began)])
    wal.close()
    names = [name for name in disk.names() if name.endswith(".log")]
    assert [head_version((tmp_path / "data" / name).read_bytes()[:1024]) for name in names] == [
        VERSION
    ]
    _, again = Wal.open(disk, cluster=SAMPLE_CLUSTER, node=1, snap=found.snap)
    assert again.epoch == began
    assert frames(again) == frames(boot)
    disk.shut()


def test_a_directory_of_a_newer_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import zlib

    disk = sample(tmp_path)
    (name,) = [name for name in disk.names() if name.endswith(".log")]
    path = tmp_path / "data" / name
    data = bytearray(path.read_bytes())
    for start in (0, 512):
        data[start + 8] = VERSION + 1
        crc = zlib.crc32(data[start : start + 508])
        data[start + 508 : start + 512] = crc.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CorruptData, match="upgrade Waypost"):
        Wal.open(disk, cluster=SAMPLE_CLUSTER, node=1, snap=None)
    disk.shut()
