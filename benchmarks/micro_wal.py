"""What the write-ahead log adds to a bare ``pwrite`` and ``fdatasync``, and what a core costs.

    python benchmarks/micro_wal.py [directory] [--count N]

Both loops run in turns on files of the same kind in the same directory, so that the noise of the
disk hits both; the figure that matters is the ratio.  ``cpu`` is what the log itself costs,
measured with a disk that does nothing.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from waypost.consensus import Ballot, Boot, Entry, Write
from waypost.consensus.entry import KIND_BATCH, encode, parse
from waypost.consensus.solo import SoloCore
from waypost.storage.disk import File, RealDisk
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal

BALLOT = Ballot(1, 1, 1)
SIZES = (100, 1_000, 20_000, 200_000)


class NoDisk(SimDisk):
    """Takes every write and keeps nothing of its bytes."""

    def write(self, file: File, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Do nothing."""

    def sync(self, file: File) -> None:
        """Do nothing."""


def entries(size: int, count: int) -> list[Entry]:
    made: list[Entry] = []
    payload = os.urandom(size)
    for index in range(1, count + 1):
        made.append(encode(index, BALLOT, KIND_BATCH, payload, made[-1].chain if made else 0))
    return made


def timed(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def one_size(root: str, size: int, count: int) -> None:
    made = entries(size, count)
    disk = RealDisk(os.path.join(root, f"wal-{size}"))
    segment_bytes = (len(made[0].frame) + 1024) * (count + 2)
    wal, _ = Wal.open(disk, cluster=1, node=1, segment_bytes=segment_bytes)
    bare = disk.create("bare", segment_bytes)
    disk.sync(bare)
    fd = os.open(os.path.join(root, f"wal-{size}", "bare"), os.O_RDWR)
    with_wal: list[float] = []
    without: list[float] = []
    step = (len(made[0].frame) + 1023) // 512 * 512
    for number, entry in enumerate(made):
        write = Write(number + 1, entries=(entry,))
        frame, offset = entry.frame, number * step

        def bare_write(frame: bytes = frame, offset: int = offset) -> None:
            os.pwrite(fd, frame, offset)
            os.fdatasync(fd)

        def wal_write(write: Write = write) -> None:
            wal.write((write,))

        for do, times in (
            ((bare_write, without), (wal_write, with_wal))
            if number % 2
            else ((wal_write, with_wal), (bare_write, without))
        ):
            times.append(timed(do))
    os.close(fd)
    wal.close()
    disk.shut()

    nothing = Wal.open(NoDisk(), cluster=1, node=1, segment_bytes=1 << 40)[0]
    writes = [Write(number + 1, entries=(entry,)) for number, entry in enumerate(made)]
    cpu = min(timed(lambda w=w: nothing.write((w,))) for w in writes)
    encoding = min(
        timed(lambda: encode(1, BALLOT, KIND_BATCH, bytes(made[0].payload), 0)) for _ in range(50)
    )
    verifying = min(timed(lambda: parse(made[0].frame)) for _ in range(50))
    a, b = statistics.median(without), statistics.median(with_wal)
    print(
        f"{size:>9,} {a * 1e6:>12.0f} {b * 1e6:>12.0f} {b / a:>8.3f} {cpu * 1e6:>10.1f} "
        f"{encoding * 1e6:>10.1f} {verifying * 1e6:>10.1f}"
    )


def core_of_one(count: int) -> None:
    core = SoloCore(1, Boot())
    core.ready()
    payload = os.urandom(1000)

    def run() -> None:
        for token in range(count):
            core.propose(token, payload, token)
            ready = core.ready()
            assert ready is not None
            assert ready.write is not None
            core.persisted(token, ready.write.seq)
            ready = core.ready()
            assert ready is not None
            core.applied(token, ready.commit)

    print(f"\ncore of one, 1,000 B, propose to done: {timed(run) / count * 1e6:.1f} us of CPU")


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    count = int(sys.argv[sys.argv.index("--count") + 1]) if "--count" in sys.argv else 400
    with tempfile.TemporaryDirectory(dir=arguments[0] if arguments else ".") as root:
        print(f"median of {count}, microseconds; ratio = wal / bare, in the same run")
        print(
            f"{'payload':>9} {'bare':>12} {'wal':>12} {'ratio':>8} {'wal cpu':>10} "
            f"{'encode':>10} {'verify':>10}"
        )
        for size in SIZES:
            one_size(root, size, count if size < 100_000 else count // 4)
    core_of_one(20_000)


if __name__ == "__main__":
    main()
