"""The power goes before every single call to the disk: nothing acknowledged is ever lost.

One run appends, cuts, rotates, marks, takes snapshots and drops segments.  It is repeated with the
power going one call later each time, under several ways in which unsynced sectors and names are
kept, lost or torn; then the log is recovered, checked, used, and recovered again.
"""

import random
from collections.abc import Callable

import pytest
from tests.storage.scribe import CLUSTER, NODE, Scribe, frames, opened, payload

from waypost.consensus import Write
from waypost.errors import StorageFailed
from waypost.storage.simdisk import PowerLost, SimDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

SEGMENT_BYTES = 4096


class Node:
    """A log and its snapshots, and what it has acknowledged so far."""

    def __init__(self, disk: SimDisk, scribe: Scribe) -> None:
        self.disk = disk
        self.scribe = scribe
        self.acknowledged = 0  # writes that are durable, as far as anyone was told
        self.boundaries = [0]  # counts of writes at which a batch ends
        self.snapshots = 0  # index of the newest snapshot that was finished
        self.wal: Wal
        self.store: SnapshotStore

    def start(self) -> None:
        self.store = SnapshotStore(self.disk, cluster=CLUSTER, node=NODE)
        found = self.store.newest()
        snap = None if found is None else found.snap
        self.wal, boot = opened(self.disk, *([snap] if snap else []), segment_bytes=SEGMENT_BYTES)
        covered = () if found is None else tuple(found.chunks)
        assert snap is None or snap.index >= self.snapshots
        assert snap is None or len(covered) == snap.index

        state = covered + frames(boot)
        candidates = [k for k in self.boundaries if k >= self.acknowledged]
        states = self.scribe.states
        matching = [
            k
            for k in candidates
            if states[k].frames == state
            and (states[k].epoch, states[k].left) == (boot.epoch, boot.left)
        ]
        assert matching, f"{len(state)} entries are no state after {candidates} writes"
        assert any(
            states[k].hard.promised == boot.hard.promised
            and boot.hard.commit == max(states[k].hard.commit, boot.snap.index)
            for k in matching
        )
        assert not boot.suspect
        kept = max(matching)
        self.scribe.log = list(states[kept].entries)
        self.scribe.hard = boot.hard
        self.scribe.epoch, self.scribe.left = boot.epoch, boot.left
        self.scribe.seq = 0
        self.scribe.round += 1
        self.scribe.states = [states[kept]]
        self.acknowledged, self.boundaries = 0, [0]

    def write(self, *writes: Write) -> None:
        self.boundaries.append(self.boundaries[-1] + len(writes))
        self.acknowledged = max(self.acknowledged, self.wal.write(writes))

    def snapshot(self, index: int) -> None:
        snap, mark = self.scribe.snapshot(index)
        writer = self.store.begin(snap)
        for frame in self.scribe.states[-1].frames[:index]:
            writer.add(frame)
        writer.finish()
        self.snapshots = index
        self.write(mark)
        self.wal.drop_below(self.store.floor)

    def run(self) -> None:
        scribe = self.scribe
        number = iter(range(1000))

        def some(size: int = 500) -> bytes:
            return payload(size, next(number))

        self.write(scribe.append(some(), hard=True))
        self.write(scribe.append(some(900)), scribe.append(some(), some()), scribe.append(some(80)))
        self.wal.mark()
        self.write(scribe.append(some(), sync=False))
        self.write(scribe.commit(len(scribe.log) - 2))
        self.write(scribe.replace(len(scribe.log), some(), some(700)))
        self.snapshot(len(scribe.log) - 2)
        self.wal.prepare()
        self.write(scribe.append(some(1200)))
        self.write(scribe.append(some(1200), sync=False), scribe.append(some(20), sync=False))
        self.write(scribe.append(some(1300)))
        self.wal.mark()
        self.write(scribe.leave(2))
        self.snapshot(len(scribe.log) - 1)
        self.write(scribe.replace(len(scribe.log), some()))
        self.write(scribe.append(some(3000)))
        self.write(scribe.start(3))
        self.write(scribe.append(some(2500)), scribe.leave(4))
        self.snapshot(len(scribe.log))
        self.write(scribe.append(some(5000)))
        self.write(scribe.append(some(10)))
        self.wal.mark()


def calls_of_a_run() -> int:
    node = Node(SimDisk(), Scribe())
    node.start()
    node.run()
    return node.disk.calls


CALLS = calls_of_a_run()
Choose = Callable[[int], int]


def lose_all(n: int) -> int:
    return 1


def keep_all(n: int) -> int:
    """Names: the new ones; sectors: kept."""
    return 1 if n == 2 else 0


def crash_everywhere(choose_for: Callable[[int], Choose], *, calls: range) -> None:
    for count in calls:
        disk = SimDisk()
        node = Node(disk, Scribe())
        disk.cut_after(count)
        with pytest.raises(PowerLost):
            node.start()
            node.run()
        disk.crash(choose_for(count))

        node.start()
        node.write(node.scribe.append(b"still here"))
        disk.crash(lose_all)
        node.start()


def test_a_run_touches_everything() -> None:
    assert CALLS > 100


def test_the_power_goes_at_every_call_and_everything_unsynced_is_lost() -> None:
    crash_everywhere(lambda count: lose_all, calls=range(CALLS))


def test_the_power_goes_at_every_call_and_everything_unsynced_is_kept() -> None:
    crash_everywhere(lambda count: keep_all, calls=range(CALLS))


@pytest.mark.parametrize("seed", range(6))
def test_the_power_goes_at_every_call_and_chance_decides(seed: int) -> None:
    crash_everywhere(
        lambda count: random.Random(seed * 10_000 + count).randrange, calls=range(CALLS)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_the_power_goes_at_every_call_and_chance_decides_at_length(seed: int) -> None:
    crash_everywhere(
        lambda count: random.Random(seed * 10_000 + count).randrange, calls=range(CALLS)
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_power_goes_again_at_every_call_of_a_recovery(seed: int) -> None:
    rng = random.Random(seed)
    for first in range(30, CALLS, 17):
        second = 0
        while True:
            disk = SimDisk()
            node = Node(disk, Scribe())
            disk.cut_after(first)
            with pytest.raises(PowerLost):
                node.start()
                node.run()
            disk.crash(random.Random(first).randrange)
            disk.cut_after(second)
            try:
                node.start()
            except PowerLost:
                disk.crash(rng.randrange)
                node.start()
                second += 1
            else:
                break
        assert second > 5


@pytest.mark.parametrize("verb", ["write", "sync", "rename", "sync_names", "unlink", "create"])
def test_the_process_dies_at_every_failing_call_and_then_the_power_goes(verb: str) -> None:
    for nth in range(1, 500):
        disk = SimDisk()
        node = Node(disk, Scribe())
        node.start()
        disk.fail(verb, nth=nth)
        try:
            node.run()
        except StorageFailed:
            pass
        else:
            return
        disk.crash(random.Random(nth).randrange)

        node.start()
    raise AssertionError(f"{verb} never ran out of calls to fail")
