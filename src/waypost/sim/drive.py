"""The disk of one machine: what its log was told to keep, and what of that survives.

A drive keeps the image that is durable, beside the writes that are still on their way.  There are
two: ``MemoryDrive`` keeps the promises of the write-ahead log without its files, and is fast;
``WalDrive`` has the shipped ``Wal`` write them to a simulated disk, and checks after each crash
that recovery returned the state after some whole number of writes (D3 in ``consensus.core``).

Snapshots lie beside the log, each whole or not there: writing them is the storage's own matter.
"""

from collections.abc import Callable
from contextlib import suppress

from waypost.consensus.core import NO_BALLOT, Boot, Entry, Hard, Index, Nid, Seq, Snap, Write
from waypost.errors import StorageFailed
from waypost.sim.image import Image
from waypost.sim.violation import Violation
from waypost.storage.simdisk import PowerLost, SimDisk
from waypost.storage.wal import Wal

Choose = Callable[[int], int]
"""``choose(n)`` draws one of 0 .. n-1."""

SEGMENT_BYTES = 1 << 16
SNAPSHOTS_KEPT = 2


class MemoryDrive:
    """A disk that keeps the log's promises without its files."""

    def __init__(self, choose: Choose) -> None:
        self.durable = Image()
        self.newest = Image()
        """With everything in ``pending``, which is on its way; the oracle sees to that."""
        self.pending: list[Write] = []
        self.snapshots: dict[Index, tuple[Snap, bytes]] = {}
        self._choose = choose

    @property
    def wants_sync(self) -> bool:
        """Whether anything that waits asks to be made durable."""
        return any(write.sync for write in self.pending)

    def sync(self, count: int) -> Seq:
        """Make the first writes durable; returns the number of the last of them."""
        batch = self.pending[:count]
        self._put(batch)
        for write in batch:
            self.durable.apply(write)
        del self.pending[:count]
        return batch[-1].seq

    def crash(self, under_way: int, *, power: bool) -> None:
        """Let the process end, and the power go too if ``power``.

        The first ``under_way`` writes were being written, and any number of them may be durable.
        """
        self._tear(self.pending[:under_way], power=power)
        self.pending.clear()

    def fail_sync(self, count: int) -> None:
        """A sync of the first writes failed: nobody can say what of them is durable."""

    def boot(self) -> Boot:
        """What the next process finds; raises ``CorruptData`` when it cannot start from that."""
        newest = self.newest_snapshot()
        if newest is not None:
            self.durable.join(newest[0])
        self.newest = self.durable.copy()
        return self.durable.boot()

    def newest_snapshot(self) -> tuple[Snap, bytes] | None:
        """The newest snapshot."""
        return self.snapshots[max(self.snapshots)] if self.snapshots else None

    def keep_snapshot(self, snap: Snap, data: bytes) -> None:
        """A snapshot is durable and verified: the two newest are kept."""
        self.snapshots[snap.index] = (snap, data)
        for index in sorted(self.snapshots)[:-SNAPSHOTS_KEPT]:
            del self.snapshots[index]

    def rot(self) -> str:
        """Let something of what is durable become unreadable; says what, or nothing."""
        image, choose = self.durable, self._choose
        entries = image.entries
        if not entries:
            return ""
        kind, at = choose(4), choose(len(entries))
        entry = entries[at]
        if kind == 0:  # the medium forgot what it had kept, and recovery noticed
            lost = min(len(entries), 1 + choose(3))
            del entries[-lost:]
            image.faulty = {i: None for i in image.faulty if i <= image.last}
            image.hard = Hard(image.hard.accepted, image.hard.accepted, 0, suspect=True)
            return f"the last {lost} entries and the promises are gone"
        if kind == 1 or not entry.frame:
            entries[at] = Entry(entry.index, NO_BALLOT, 0, b"")
            what = f"entry {entry.index} is unreadable"
        else:
            rotten = entry.frame[:-1] + bytes((entry.frame[-1] ^ 1,))
            entries[at] = Entry(entry.index, entry.ballot, entry.kind, rotten)
            what = f"the payload of entry {entry.index} is unreadable"
        image.faulty[entry.index] = None
        return what

    def _tear(self, under_way: list[Write], *, power: bool) -> None:  # noqa: ARG002
        for write in under_way[: self._choose(len(under_way) + 1)]:
            self.durable.apply(write)

    def _put(self, batch: list[Write]) -> None:
        """Nothing is kept but the image."""


class WalDrive(MemoryDrive):
    """A disk on which the shipped log keeps its files."""

    def __init__(self, choose: Choose, *, cluster: int, node: Nid) -> None:
        super().__init__(choose)
        self.notes: list[str] = []
        """What recovery found odd."""
        self._disk = SimDisk()
        self._wal: Wal | None = None
        self._cluster = cluster
        self._node = node
        self._last_id = 0
        self._possible: list[Image] = []
        self._is_rotten = False

    def boot(self) -> Boot:
        """Recover what the files say."""
        newest = self.newest_snapshot()
        self._wal, boot = Wal.open(
            self._disk,
            cluster=self._cluster,
            node=self._node,
            snap=None if newest is None else newest[0],
            segment_bytes=SEGMENT_BYTES,
            has_peers=True,
            draw_id=self._draw_id,
        )
        self.notes += self._wal.notes
        if not self._is_rotten:
            self._check(boot, None if newest is None else newest[0])
        self._is_rotten = False
        self.durable = Image.of(boot)
        self.newest = self.durable.copy()
        return boot

    def fail_sync(self, count: int) -> None:
        """Let the disk fail in the midst of it."""
        assert self._wal is not None, "written before it was opened"
        self._disk.fail("sync")
        with suppress(StorageFailed):
            self._wal.write(self.pending[:count])
        self._wal = None

    def rot(self) -> str:
        """Flip a bit somewhere in the log."""
        names = [name for name in self._disk.names() if name.endswith(".log")]
        if not names:
            return ""
        name = names[-1 - self._choose(min(2, len(names)))]
        used = len(self._disk.peek(name).rstrip(b"\0"))
        offset = self._choose(max(used, 1))
        self._disk.flip(name, offset, 1 << self._choose(8))
        self._is_rotten = True
        return f"a bit of {name} at {offset} flipped"

    def _put(self, batch: list[Write]) -> None:
        wal = self._wal
        assert wal is not None, "written before it was opened"
        wal.write(batch)
        mark = next((w.snap for w in reversed(batch) if w.snap is not None), None)
        if mark is not None and len(self.snapshots) == SNAPSHOTS_KEPT:
            wal.drop_below(min(mark.index, *self.snapshots))

    def _tear(self, under_way: list[Write], *, power: bool) -> None:
        wal, disk, choose = self._wal, self._disk, self._choose
        if wal is not None and under_way:
            disk.cut_after(choose(4))
            with suppress(PowerLost):
                wal.write(under_way)
        self._wal = None
        if power:
            disk.crash(choose)
        else:
            disk.kill()
        self._possible = [self.durable.copy()]
        for write in under_way:
            self._possible.append(self._possible[-1].copy())
            self._possible[-1].apply(write)

    def _check(self, boot: Boot, snap: Snap | None) -> None:
        """Find the whole number of writes after which the log stands."""
        if not self._possible:
            return
        found = _identity(boot)
        for image in self._possible:
            if snap is not None:
                image.join(snap)
            if _identity(image.boot()) == found:
                return
        raise Violation(
            "D3",
            f"recovery of node {self._node} returned {found}, and after no whole number of writes "
            f"was that the log; after all of them it was {_identity(self._possible[-1].boot())}",
        )

    def _draw_id(self) -> int:
        self._last_id += 1
        return self._node << 32 | self._last_id


def _identity(boot: Boot) -> tuple[object, ...]:
    """What two states of a log must have in common to be the same; commit is lazy."""
    last = boot.entries[-1] if boot.entries else None
    return (
        boot.hard.promised,
        boot.hard.accepted,
        boot.hard.suspect,
        boot.snap,
        len(boot.entries),
        0 if last is None else last.chain,
        boot.faulty,
        boot.epoch,
        boot.left,
    )
