"""The log against a plain list, under any order of writes, crashes, full disks and snapshots."""

import errno
import random
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.storage.scribe import CLUSTER, NODE, Scribe, frames, opened, payload

from waypost.consensus import Write
from waypost.errors import ReadOnly, StorageFailed
from waypost.storage.simdisk import PowerLost, SimDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

SIZES = st.integers(0, 1500)
SEEDS = st.integers(0, 1000)


class LogMachine(RuleBasedStateMachine):
    """``scribe.states`` is the list; a restart must find one of them, not older than reported."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.scribe = Scribe()
        self.wal: Wal
        self.store: SnapshotStore
        self.acknowledged = 0
        self.boundaries = [0]
        self.waiting: list[Write] = []
        self.is_dead = False

    @initialize()
    def begin(self) -> None:
        self.start()

    def start(self) -> None:
        """Recover, and compare with the list."""
        self.store = SnapshotStore(self.disk, cluster=CLUSTER, node=NODE)
        found = self.store.newest()
        snaps = [] if found is None else [found.snap]
        self.wal, boot = opened(self.disk, *snaps, segment_bytes=4096)
        covered = () if found is None else tuple(found.chunks)
        recovered = covered + frames(boot)
        states = self.scribe.states
        matching = [
            count
            for count in self.boundaries
            if count >= self.acknowledged
            and states[count].frames == recovered
            and (states[count].epoch, states[count].left) == (boot.epoch, boot.left)
        ]
        assert matching, (len(recovered), self.acknowledged, self.boundaries)
        assert not boot.suspect
        kept = states[max(matching)]
        self.scribe.log = list(kept.entries)
        self.scribe.hard = boot.hard
        self.scribe.epoch, self.scribe.left = boot.epoch, boot.left
        self.scribe.round += 1
        self.scribe.seq = 0
        self.scribe.states = [kept]
        self.acknowledged, self.boundaries = 0, [0]
        self.waiting = []
        self.is_dead = False

    def submit(self) -> None:
        """Hand over all that waits, as one batch."""
        count = self.scribe.seq
        if self.boundaries[-1] != count:
            self.boundaries.append(count)
        try:
            self.acknowledged = max(self.acknowledged, self.wal.write(self.waiting))
        except ReadOnly:
            self.boundaries.pop()
        except (PowerLost, StorageFailed):
            self.is_dead = True
        else:
            self.waiting = []

    @precondition(lambda self: not self.is_dead)
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=3), sync=st.booleans(), seed=SEEDS)
    def append(self, sizes: list[int], sync: bool, seed: int) -> None:
        parts = [payload(size, seed + n) for n, size in enumerate(sizes)]
        self.waiting.append(self.scribe.append(*parts, sync=sync, hard=seed % 3 == 0))

    @precondition(lambda self: not self.is_dead)
    @rule(back=st.integers(0, 3), size=SIZES, seed=SEEDS)
    def replace(self, back: int, size: int, seed: int) -> None:
        last = len(self.scribe.log)
        start = max(last - back + 1, self.scribe.hard.commit + 1, 1)
        if start <= last + 1:
            self.waiting.append(self.scribe.replace(start, payload(size, seed)))

    @precondition(lambda self: not self.is_dead)
    @rule()
    def leave_an_epoch(self) -> None:
        self.waiting.append(self.scribe.leave(self.next_epoch()))

    @precondition(lambda self: not self.is_dead)
    @precondition(lambda self: len(self.scribe.log) > self.scribe.hard.commit)
    @rule()
    def start_an_epoch(self) -> None:
        self.waiting.append(self.scribe.start(self.next_epoch()))

    def next_epoch(self) -> int:
        known = (self.scribe.epoch, self.scribe.left)
        return max([1, *(epoch.number for epoch in known if epoch is not None)]) + 1

    @precondition(lambda self: not self.is_dead)
    @rule()
    def write(self) -> None:
        if self.waiting:
            self.submit()

    @precondition(lambda self: not self.is_dead)
    @rule()
    def mark(self) -> None:
        self.try_to(self.wal.mark)

    @precondition(lambda self: not self.is_dead)
    @rule()
    def prepare(self) -> None:
        self.try_to(self.wal.prepare)

    @precondition(lambda self: not self.is_dead and self.acknowledged == self.scribe.seq)
    @rule(data=st.data())
    def snapshot(self, data: st.DataObject) -> None:
        last = len(self.scribe.log)
        least = max(1, self.scribe.hard.commit)
        if least > last:
            return
        index = data.draw(st.integers(least, last))
        frames_covered = self.scribe.states[-1].frames[:index]

        def take() -> None:
            writer = self.store.begin(self.scribe.snap(index))
            for frame in frames_covered:
                writer.add(frame)
            writer.finish()

        if not self.try_to(take):
            return
        _, mark = self.scribe.snapshot(index)
        self.waiting += [mark, self.scribe.commit(index)]
        self.submit()
        if not self.waiting:
            self.try_to(lambda: self.wal.drop_below(self.store.floor))

    def try_to(self, do: Callable[[], None]) -> bool:
        try:
            do()
        except ReadOnly:
            return False
        except (PowerLost, StorageFailed):
            self.is_dead = True
            return False
        return True

    @precondition(lambda self: not self.is_dead)
    @rule(room=st.integers(0, 6000))
    def fill_the_disk(self, room: int) -> None:
        self.disk.capacity = self.disk.used + room

    @rule()
    def free_the_disk(self) -> None:
        self.disk.capacity = None

    @precondition(lambda self: not self.is_dead)
    @rule(calls=st.integers(0, 12))
    def power_will_go(self, calls: int) -> None:
        self.disk.cut_after(calls)

    @precondition(lambda self: not self.is_dead)
    @rule(verb=st.sampled_from(["write", "sync", "rename"]), nth=st.integers(1, 4))
    def disk_will_fail(self, verb: str, nth: int) -> None:
        self.disk.fail(verb, nth=nth, errno=errno.EIO)

    @rule(rng=st.randoms(use_true_random=False))
    def lose_power(self, rng: random.Random) -> None:
        self.disk.crash(rng.randrange)
        self.disk.capacity = None
        self.start()

    @rule()
    def kill(self) -> None:
        self.disk.kill()
        self.disk.capacity = None
        self.start()

    @invariant()
    def reports_are_of_what_was_handed_over(self) -> None:
        assert self.acknowledged <= self.scribe.seq


LogMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLog = LogMachine.TestCase
