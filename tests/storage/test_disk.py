"""The real disk does what the verbs say, and belongs to one process."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.storage.scribe import CLUSTER, NODE, Scribe, frames, payload

from waypost.consensus import KIND_BATCH, Ballot, Snap
from waypost.errors import Invalid
from waypost.storage.disk import Disk, RealDisk
from waypost.storage.simdisk import SimDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal


@pytest.fixture(params=["real", "simulated"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return RealDisk(tmp_path / "data") if request.param == "real" else SimDisk()


def test_both_disks_keep_what_is_written(disk: Disk) -> None:
    file = disk.create("a", 1000)
    disk.write(file, (b"one", memoryview(b"two"), b""), 10)
    disk.sync(file)
    disk.close(file)
    disk.rename("a", "b")
    disk.sync_names()

    file = disk.open("b")

    assert disk.read(file, 8, 10) == b"\0\0onetwo\0\0"
    assert len(disk.read(file, 0, 5000)) == 1000
    assert disk.read(file, 1000, 5) == b""
    assert disk.names() == ["b"]
    disk.close(file)
    disk.unlink("b")
    assert disk.names() == []


def test_both_disks_refuse_to_create_a_file_twice(disk: Disk) -> None:
    disk.create("a", 0)

    with pytest.raises(FileExistsError):
        disk.create("a", 0)


def test_both_disks_grow_a_file_that_is_written_behind_its_end(disk: Disk) -> None:
    file = disk.create("a", 0)

    disk.write(file, (b"x",), 99)

    assert disk.read(file, 0, 1000) == bytes(99) + b"x"


def test_more_buffers_than_one_call_takes_are_all_written(disk: Disk) -> None:
    file = disk.create("a", 0)
    buffers = [bytes((n % 251,)) * (n % 7) for n in range(5000)]

    disk.write(file, buffers, 3)

    assert disk.read(file, 3, 1 << 20) == b"".join(buffers)


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = RealDisk(tmp_path)
    file = disk.create("a", 0)
    real = os.pwritev

    def short(file: int, buffers: list[bytes], offset: int) -> int:
        return real(file, [b"".join(buffers)[:5]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    disk.write(file, (b"hello", b", ", b"world"), 0)

    assert disk.read(file, 0, 100) == b"hello, world"


def test_space_is_reserved_before_it_is_used(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)

    disk.create("a", 1 << 20)

    assert (tmp_path / "a").stat().st_blocks * 512 >= 1 << 20


def test_space_is_reserved_where_the_file_system_cannot_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(file: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    disk = RealDisk(tmp_path)

    disk.create("a", (1 << 20) + 5)

    assert (tmp_path / "a").stat().st_size == (1 << 20) + 5
    assert (tmp_path / "a").stat().st_blocks * 512 >= 1 << 20


def test_a_file_that_finds_no_space_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    disk = RealDisk(tmp_path)

    with pytest.raises(OSError, match="no space"):
        disk.create("a", 1 << 20)

    assert disk.names() == []


def test_a_second_user_of_a_directory_is_told_who_has_it(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)

    with pytest.raises(Invalid, match=f"in use by process {os.getpid()}: stop that process"):
        RealDisk(tmp_path)

    disk.shut()
    RealDisk(tmp_path).shut()


def test_a_second_process_is_told_who_has_the_directory_and_gets_it_when_that_one_dies(
    tmp_path: Path,
) -> None:
    code = (
        "import sys\n"
        "from waypost.storage.disk import RealDisk\n"
        f"disk = RealDisk({str(tmp_path)!r})\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(Invalid, match=f"in use by process {other.pid}:"):
            RealDisk(tmp_path)
        other.kill()
        other.wait()

    RealDisk(tmp_path).shut()


def test_the_lock_is_not_one_of_the_files(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)

    assert disk.names() == []
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_log_on_a_real_disk_survives_restarts(tmp_path: Path) -> None:
    scribe = Scribe()
    for run in range(4):
        disk = RealDisk(tmp_path)
        wal, boot = Wal.open(disk, cluster=CLUSTER, node=NODE, segment_bytes=16384)
        assert frames(boot) == scribe.states[-1].frames
        assert wal.notes == ()
        scribe.restart(boot)
        for number in range(20):
            wal.write([scribe.append(payload(number * 97, run), hard=number == 0)])
            if number == 10:
                wal.mark()
                wal.prepare()
        wal.close()
        disk.shut()


def test_snapshots_are_written_on_one_thread_while_the_log_is_written_on_another(
    tmp_path: Path,
) -> None:
    disk = RealDisk(tmp_path)
    wal, _ = Wal.open(disk, cluster=CLUSTER, node=NODE, segment_bytes=32768)
    store = SnapshotStore(disk, cluster=CLUSTER, node=NODE)
    scribe = Scribe()
    chunks = [payload(50_000, n) for n in range(20)]
    snap = Snap(1, Ballot(1, 1, NODE), KIND_BATCH, 1)

    def take() -> None:
        writer = store.begin(snap)
        for chunk in chunks:
            writer.add(chunk)
        writer.finish()

    thread = threading.Thread(target=take)
    thread.start()
    written = 0
    while thread.is_alive() or written < 20:
        wal.write([scribe.append(payload(3000, written))])
        written += 1
    thread.join()

    found = store.newest()
    assert found is not None
    assert (found.snap, list(found.chunks)) == (snap, chunks)
    wal.close()
    _, boot = Wal.open(disk, cluster=CLUSTER, node=NODE)
    assert frames(boot) == scribe.states[-1].frames


def test_a_killed_process_has_lost_nothing_that_it_reported(tmp_path: Path) -> None:
    code = (
        "from waypost.consensus.solo import SoloCore\n"
        "from waypost.storage.disk import RealDisk\n"
        "from waypost.storage.wal import Wal\n"
        f"disk = RealDisk({str(tmp_path)!r})\n"
        "wal, boot = Wal.open(disk, cluster=1, node=1, segment_bytes=65536)\n"
        "core = SoloCore(1, boot)\n"
        "token = 0\n"
        "while True:\n"
        "    token += 1\n"
        "    core.propose(token, b'x' * (token % 3000), token)\n"
        "    while (ready := core.ready()) is not None:\n"
        "        if ready.write is not None:\n"
        "            core.persisted(token, wal.write([ready.write]))\n"
        "        for done in ready.done:\n"
        "            print(done.index, flush=True)\n"
    )
    reported = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as node:
            assert node.stdout is not None
            for line in node.stdout:
                reported = int(line)
                if reported % 100 == 0:
                    break
            node.kill()
            rest = node.stdout.read().split("\n")
            reported = max([reported, *(int(line) for line in rest[:-1])])

        disk = RealDisk(tmp_path)
        wal, boot = Wal.open(disk, cluster=1, node=1, segment_bytes=65536)
        assert len(boot.entries) >= reported
        wal.close()
        disk.shut()
