"""The snapshots of one machine: written beside the log, and sent to others as a whole.

The shipped nodes cut them into chunks (``waypost.node.streaming``); here a snapshot arrives or it
does not, and all that the log is told of it is the same.
"""

from typing import TYPE_CHECKING, Final

from waypost.catalog.snapshots import load
from waypost.catalog.state import Catalog
from waypost.consensus.core import Index, Nid, Ns, Snap
from waypost.sim.around import Around
from waypost.sim.marks import Marks
from waypost.sim.messages import Parcel, Receipt
from waypost.sim.plan import MS
from waypost.sim.process import Process

if TYPE_CHECKING:
    from waypost.sim.machine import Machine

PATIENCE: Final[Ns] = 500 * MS
"""Whoever sends bytes notices by then that nobody takes them."""


class Snapshots:
    """See the module."""

    def __init__(self, machine: "Machine", around: Around, marks: Marks, *, keeps_tail: bool):
        self._machine = machine
        self._around = around
        self._marks = marks
        self._keeps_tail = keeps_tail

    def load(self, index: Index) -> Catalog:
        """Read one back."""
        if index == 0:
            return Catalog()
        return load([self._machine.drive.snapshots[index][1]])

    def take(self, snap: Snap, data: bytes) -> None:
        """Write one, and say from where on the log is still needed."""
        self._marks.hit("snapshot taken")
        machine = self._machine

        def keep(now: Ns, process: Process) -> None:
            drive = machine.drive
            older = [each for each in drive.snapshots if each < snap.index]
            keeps = older and self._keeps_tail
            cut = drive.snapshots[max(older)][0] if keeps else snap
            drive.keep_snapshot(snap, data)
            process.snapshot_kept(machine.clock.read(now), cut)

        machine.later(machine.written_at(syncs=2), keep)

    def send(self, target: Nid, index: Index) -> None:
        """Send the newest one, which stands for at least ``index``."""
        machine = self._machine
        newest = machine.drive.newest_snapshot()
        assert machine.process is not None
        assert newest is not None, f"a snapshot at {index} is asked for, and there is none"
        snap, data = newest
        assert snap.index >= index, (
            f"a snapshot at {index} is asked for, the newest is {snap.index}"
        )
        self._marks.hit("snapshot sent")
        parcel = Parcel(machine.nid, target, snap, data, machine.process.member.status.epoch)
        self._around.post(machine.number, target, parcel)

        def give_up(now: Ns, process: Process) -> None:
            # A receipt that came is the end, and this changes nothing any more.
            local = machine.clock.read(now)
            process.at(local).snapshot_sent(local, target, index, ok=False)

        machine.later(self._around.now + PATIENCE, give_up)

    def stage(self, parcel: Parcel) -> None:
        """Write one that another machine sent."""
        machine = self._machine

        def staged(now: Ns, process: Process) -> None:
            machine.drive.keep_snapshot(parcel.snap, parcel.data)
            receipt = Receipt(machine.nid, parcel.source, parcel.snap.index)
            self._around.post(machine.number, parcel.source, receipt)
            local = machine.clock.read(now)
            process.at(local).snapshot_staged(local, parcel.source, parcel.snap, parcel.epoch)

        machine.later(machine.written_at(syncs=1), staged)
