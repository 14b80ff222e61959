"""The simulated disk loses exactly what a real one may lose, and always the same for one seed."""

import errno
import random

import pytest

from waypost.storage.simdisk import SECTOR, PowerLost, SimDisk


def disk_with(name: str = "a", size: int = 4 * SECTOR) -> tuple[SimDisk, int]:
    disk = SimDisk()
    file = disk.create(name, size)
    disk.sync(file)
    disk.sync_names()
    return disk, file


def test_bytes_that_nobody_wrote_are_zeros_and_reads_end_with_the_file() -> None:
    disk, file = disk_with(size=10)

    assert disk.read(file, 4, 100) == bytes(6)
    assert disk.read(file, 10, 1) == b""


def test_synced_bytes_survive_every_crash() -> None:
    for seed in range(20):
        disk, file = disk_with()
        disk.write(file, (b"x" * 700, b"y" * 700), 100)
        disk.sync(file)

        disk.crash(random.Random(seed).randrange)

        assert disk.peek("a") == bytes(100) + b"x" * 700 + b"y" * 700 + bytes(548)


def test_unsynced_sectors_are_kept_lost_or_torn_each_on_its_own() -> None:
    new = b"n" * SECTOR
    old = bytes(SECTOR)
    seen: set[str] = set()
    for seed in range(60):
        disk, file = disk_with()
        disk.write(file, (new * 4,), 0)

        disk.crash(random.Random(seed).randrange)

        data = disk.peek("a")
        for start in range(0, len(data), SECTOR):
            sector = data[start : start + SECTOR]
            cut = sector.count(b"n")
            assert cut % 8 == 0
            assert sector in (new[:cut] + old[cut:], old[cut:] + new[:cut])
            seen.add("kept" if sector == new else "lost" if sector == old else "torn")
    assert seen == {"kept", "lost", "torn"}


def test_torn_sectors_mix_with_what_was_durable_before_and_not_with_zeros() -> None:
    for seed in range(30):
        disk, file = disk_with(size=SECTOR)
        disk.write(file, (b"o" * SECTOR,), 0)
        disk.sync(file)
        disk.write(file, (b"n" * SECTOR,), 0)

        disk.crash(random.Random(seed).randrange)

        assert set(disk.peek("a")) <= set(b"on")


def test_names_that_are_not_synced_may_be_lost_and_removals_may_be_undone() -> None:
    created: set[bool] = set()
    removed: set[bool] = set()
    for seed in range(30):
        disk, _ = disk_with("old")
        disk.sync(disk.create("new", 0))
        disk.unlink("old")

        disk.crash(random.Random(seed).randrange)

        created.add("new" in disk.names())
        removed.add("old" not in disk.names())
    assert created == removed == {True, False}


def test_synced_names_survive() -> None:
    for seed in range(10):
        disk, _ = disk_with("a")
        disk.rename("a", "b")
        disk.sync_names()

        disk.crash(random.Random(seed).randrange)

        assert disk.names() == ["b"]


def test_a_failed_sync_loses_the_sectors_although_they_can_still_be_read() -> None:
    disk, file = disk_with()
    disk.write(file, (b"n" * SECTOR,), 0)
    disk.fail("sync")

    with pytest.raises(OSError, match=r"\[Errno 5\]"):
        disk.sync(file)
    disk.sync(file)  # a retry that lies, as every kernel's does
    assert disk.peek("a")[:SECTOR] == b"n" * SECTOR
    disk.crash(lambda n: 0)

    assert disk.peek("a")[:SECTOR] == bytes(SECTOR)


def test_the_death_of_the_process_loses_nothing_that_was_written() -> None:
    disk, file = disk_with()
    disk.write(file, (b"n" * SECTOR,), 0)

    disk.kill()

    assert disk.peek("a")[:SECTOR] == b"n" * SECTOR
    with pytest.raises(KeyError):
        disk.read(file, 0, 1)


def test_the_nth_call_fails_with_the_error_asked_for() -> None:
    disk, file = disk_with()
    disk.fail("write", nth=3, errno=errno.ENOSPC)

    disk.write(file, (b"1",), 0)
    disk.write(file, (b"2",), 0)
    with pytest.raises(OSError, match="No space left"):
        disk.write(file, (b"3",), 0)
    disk.write(file, (b"4",), 0)
    assert disk.read(file, 0, 1) == b"4"


def test_a_full_disk_refuses_files_and_growth_and_nothing_that_was_reserved() -> None:
    disk = SimDisk(capacity=1000)
    file = disk.create("a", 900)

    with pytest.raises(OSError, match="No space left"):
        disk.create("b", 200)
    disk.write(file, (b"x" * 900,), 0)
    with pytest.raises(OSError, match="No space left"):
        disk.write(file, (b"x" * 200,), 850)
    disk.unlink("a")
    disk.create("b", 200)


def test_when_the_power_is_gone_every_call_says_so() -> None:
    disk, file = disk_with()
    disk.cut_after(1)

    disk.write(file, (b"x",), 0)
    for _ in range(2):
        with pytest.raises(PowerLost):
            disk.sync(file)
    disk.crash(lambda n: 0)
    assert disk.names() == ["a"]


def test_a_hook_sees_every_call_before_it_happens() -> None:
    disk, file = disk_with()
    calls: list[tuple[str, str]] = []
    disk.before = lambda verb, name: calls.append((verb, name))

    disk.write(file, (b"x",), 0)
    disk.sync(file)

    assert calls == [("write", "a"), ("sync", "a")]


def test_rot_is_on_the_medium_and_stays() -> None:
    disk, _ = disk_with()

    disk.flip("a", 600, 0x80)
    disk.crash(lambda n: 0)

    assert disk.peek("a")[600] == 0x80


def test_the_same_seed_crashes_the_same_way() -> None:
    def run() -> list[tuple[str, bytes]]:
        disk, file = disk_with()
        disk.write(file, (random.Random(1).randbytes(2000),), 13)
        disk.create("b", 77)
        disk.crash(random.Random(5).randrange)
        return [(name, disk.peek(name)) for name in disk.names()]

    assert run() == run()


def test_a_length_that_was_never_synced_may_be_lost() -> None:
    sizes: set[int] = set()
    for seed in range(20):
        disk = SimDisk()
        file = disk.create("a", 0)
        disk.sync_names()
        disk.write(file, (b"x" * 100,), 0)
        disk.crash(random.Random(seed).randrange)
        sizes.add(len(disk.peek("a")))
    assert sizes == {0, 100}


def test_names_are_files_as_on_a_real_disk() -> None:
    disk, _ = disk_with()

    with pytest.raises(FileExistsError):
        disk.create("a", 0)
    with pytest.raises(FileNotFoundError):
        disk.open("b")
