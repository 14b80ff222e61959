"""The way from one epoch to the next at one node: one core at a time, or the log without one.

When a Seal is handed out, or somebody tells of a newer epoch, the node *leaves* its epoch: the core
is drained and let go, and what it held is a plain log.  When that log holds everything up to the
very Seal of the newest known epoch, the node *starts* that one: by one atomic write, which cuts
what is left of the old epoch, then with a fresh core if the epoch names this node.

Always true:

* there is a core or a held log, never both;
* an epoch starts only on the log that ends in its Seal, by index and ballot, not by length;
* no core's message of an epoch leaves before its start is durable;
* nothing after the first committed Seal of an epoch is handed out as part of that epoch.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from waypost.consensus.core import (
    FOREVER,
    KIND_SEAL,
    Ballot,
    Boot,
    Core,
    Entry,
    Hard,
    Index,
    Nid,
    Ns,
    Ready,
    Seq,
    Snap,
    Write,
)
from waypost.consensus.entry import NO_BALLOT
from waypost.consensus.epoch import Epoch, after, decode_proposed
from waypost.consensus.messages import CoreMessage
from waypost.consensus.outside import OutsideCore
from waypost.errors import ProtocolViolation
from waypost.replica.held_log import HeldLog, count_before, unreadable
from waypost.replica.known import Known
from waypost.replica.outbox import Outbox
from waypost.replica.peer_messages import InEpoch
from waypost.replica.step import Step
from waypost.replica.tokens import OPEN, Tokens

SEAL_PATIENCE: Ns = 300_000_000
"""For so long a Seal from outside is waited for by those who heard that it is there."""

MakeCore = Callable[[Epoch, Boot, bool], Core]
"""Makes the core of an epoch; the last argument: it may lead the epoch's first ballot at once."""


class Handover:
    """See the module."""

    def __init__(
        self,
        me: Nid,
        boot: Boot,
        *,
        lineage: int,
        applied: Index,
        make_core: MakeCore,
        outbox: Outbox,
        tokens: Tokens,
    ) -> None:
        self._me = me
        self.known = Known(me, lineage, boot.epoch, boot.left)
        self._make_core = make_core
        self._outbox = outbox
        self._tokens = tokens
        self._now: Ns = 0
        self.snap = boot.snap
        self.hard = boot.hard
        self.commit: Index = boot.snap.index  # of what can be handed out
        self.handed: Index = applied
        self.applied: Index = applied
        self.has_space = True
        self.core: Core | None = None
        self.held: HeldLog | None = None
        self._base: Seq = 0  # writes before the present core's first
        self._durable: Index = boot.snap.index + len(boot.entries)  # without a core
        self._writing: deque[tuple[Seq, Index]] = deque()  # writes that are not, the log's end
        self._heard: set[Nid] = set()  # in this epoch
        self._sealed_by: Epoch | None = None  # a Seal was handed out, and is to be obeyed
        self._awaited: Epoch | None = None  # known from others, and the Seal before it is to come
        self.deadline: Ns = FOREVER
        """When the Seal that is awaited is overdue."""

    def boot(self, now: Ns, boot: Boot) -> None:
        """Go on where the last run ended; an epoch that had started is led by election only."""
        self._now = now
        known, epoch = self.known, self.known.started
        is_lost = known.newest is None and bool(boot.entries)
        if is_lost:
            # Whoever opens a directory from before there were epochs knows which one it was in;
            # in any other it rotted, and with it what says which promises still hold.
            self.hard = msgspec.structs.replace(boot.hard, commit=boot.snap.index, suspect=True)
        if epoch is not None:
            self._maybe_release(epoch)
        if known.coming is None and epoch is not None and known.is_member(epoch):
            self._run_core(epoch, boot, may_lead_first=False)
        else:
            commit = boot.snap.index if is_lost else boot.hard.commit
            self.held = HeldLog(boot.snap, boot.entries, commit, boot.faulty)
            self.commit = self.held.commit
            if known.coming is not None:
                self._try_start()

    # What is known

    @property
    def has_voted(self) -> bool:
        """Whether this node was ever a member: only members have promises."""
        return self.hard.promised != NO_BALLOT

    @property
    def may_have_voted(self) -> bool:
        """A disk that lost something cannot say that it never promised anything."""
        return self.has_voted or self.hard.suspect

    @property
    def is_removed(self) -> bool:
        """Whether it was a member, is none any more, and is needed by nobody."""
        known = self.known
        return (
            known.coming is None
            and known.is_released
            and not known.is_member(known.started)
            and self.has_voted
        )

    @property
    def durable(self) -> Index:
        """How far the log is on disk."""
        return self.core.status.durable if self.core is not None else self._durable

    def slice(self, first: Index, last: Index) -> Sequence[Entry]:
        """The log from ``first`` to ``last``, both included."""
        if self.core is not None:
            return self.core.entries(first, last)
        assert self.held is not None
        return self.held.slice(first, last)

    def see(self, now: Ns) -> None:
        """Time has passed."""
        assert now >= self._now, f"time went back from {self._now} to {now}"
        self._now = now

    # What a core asks for

    def advance(self) -> None:
        """Take what the core asks for now, and hand out what is committed."""
        core = self.core
        ready = core.ready() if core is not None else None
        if core is not None and ready is not None:
            self._outbox.step(self._step_of(core, ready))
        elif self.handed < self.commit:
            self._outbox.step(self._handing_out())
        self._obey()

    def _step_of(self, core: Core, ready: Ready) -> Step:
        """Pass on what the core asks for, within what all epochs have in common."""
        write = ready.write
        if write is not None:
            self._outbox.seq = seq = self._base + write.seq
            if self._base:
                write = msgspec.structs.replace(write, seq=seq)
            if write.hard is not None:
                self.hard = write.hard
        if ready.restore is not None:
            self.snap = ready.restore
            self.handed = max(self.handed, ready.restore.index)
        self.commit = max(self.commit, ready.commit)
        if ready.status is not None:
            self._outbox.status_is_due = True
            self._open(core)
        tokens = self._tokens
        if ready.reads:
            tokens.confirmed(ready.reads)
        done = tokens.answered(core, self._now, ready.done) if ready.done else ()
        entries = self._hand_out() if self.handed < self.commit else ()
        return Step(
            send=self._outbox.pass_gate(self._wrap(ready.send)) if ready.send else (),
            write=write,
            entries=entries,
            done=done,
            reads=tokens.take_reads(self.handed) if tokens.has_confirmed else (),
            reads_failed=tokens.failed(ready.reads_failed) if ready.reads_failed else (),
            send_snapshot=ready.send_snapshot,
            restore=ready.restore,
        )

    def _wrap(self, messages: Sequence[tuple[Nid, CoreMessage]]) -> tuple[tuple[Nid, InEpoch], ...]:
        """Address a core's messages; the epoch goes along to who may not know of it."""
        epoch, lineage, heard = self.known.started, self.known.lineage, self._heard
        return tuple(
            [
                (nid, InEpoch(lineage, message, None if nid in heard else epoch))
                for nid, message in messages
            ]
        )

    def receive(self, src: Nid, number: int, message: CoreMessage) -> None:
        """A member of epoch ``number`` says this to our core, if it is one of that epoch."""
        epoch, core = self.known.started, self.core
        if core is None or epoch is None or epoch.number != number or src not in epoch.members:
            return
        self._heard.add(src)
        core.receive(self._now, src, message)

    def snapshot_sent(self, to: Nid, index: Index, *, ok: bool) -> None:
        """What came of a snapshot that our core had asked for, if it still is that core."""
        epoch, core = self.known.started, self.core
        if core is not None and epoch is not None and to in epoch.members:
            core.snapshot_sent(self._now, to, index, ok)

    def persisted(self, seq: Seq) -> None:
        """Every write up to ``seq`` is durable."""
        writing = self._writing
        while writing and writing[0][0] <= seq:
            self._durable = writing.popleft()[1]
        if self.core is not None and seq > self._base:
            self.core.persisted(self._now, seq - self._base)

    # Handing out

    def _handing_out(self) -> Step:
        return Step(entries=self._hand_out(), reads=self._tokens.take_reads(self.handed))

    def _hand_out(self) -> tuple[Entry, ...]:
        """The entries that are newly committed; the Seal of the present epoch is the last one."""
        entries = tuple(self.slice(self.handed + 1, self.commit))
        epoch = self.known.started
        # Who is on its way to a later epoch holds nothing but what is committed, and no Seal on the
        # way there tells it anything.
        if epoch is not None and self.known.coming is None:
            for entry in entries:
                if entry.kind == KIND_SEAL and entry.ballot.epoch == epoch.number:
                    assert entry.index == self.commit, f"{self.commit} is behind {entry.index}, G9"
                    proposed = decode_proposed(entry.payload)
                    self._sealed_by = after(epoch, entry.index, entry.ballot, proposed)
        self.handed = self.commit
        if epoch is not None and self.known.released < epoch.number:
            self._maybe_release(epoch)
        return entries

    def _maybe_release(self, epoch: Epoch) -> None:
        """An entry of it is committed, or nothing came before it that anyone must hold."""
        if self.handed >= epoch.first or epoch.first == 1:
            self.release(epoch.number)

    def release(self, number: int) -> None:
        """Nobody needs the epochs before this one any more."""
        if number > self.known.released:
            self.known.released = number
            self._outbox.status_is_due = True

    def _obey(self) -> None:
        """Leave the epoch whose Seal was handed out."""
        if self._sealed_by is not None:
            epoch, self._sealed_by = self._sealed_by, None
            if epoch.number > self.known.number:
                self._leave_for(epoch)

    # Leaving

    def learn(self, epoch: Epoch, *, is_released: bool = False) -> None:
        """There is such an epoch.  If it is news, leave the present one for it."""
        self.known.check_lineage(epoch)
        if is_released:
            self.release(epoch.number)
        if epoch.number > self.known.number and not self._waits_for_seal(epoch):
            self._leave_for(epoch)

    def _waits_for_seal(self, epoch: Epoch) -> bool:
        """Whether to go on for a moment: the Seal itself is about to come from outside.

        Until an epoch is started, to act on in the one before is harmless; and where the log is
        kept outside, only the Seal tells what became of that which is on its way there.
        """
        started = self.known.started
        if started is None or epoch.number != started.number + 1:
            return False
        if not isinstance(self.core, OutsideCore) or self._now >= self.deadline:
            return False
        self._awaited = epoch
        if self.deadline == FOREVER:
            self.deadline = self._now + SEAL_PATIENCE
        return True

    def has_heard_of(self, number: int) -> bool:
        """Whether that epoch is known, if not yet gone to."""
        return number <= self.known.number or (
            self._awaited is not None and number <= self._awaited.number
        )

    def tick(self) -> None:
        """The Seal has not come: leave without it."""
        if self._awaited is not None:
            self.learn(self._awaited)

    def _leave_for(self, epoch: Epoch) -> None:
        self._awaited, self.deadline = None, FOREVER
        self.known.coming = epoch
        self._outbox.status_is_due = True
        self._stop_core()
        if not self._try_start():
            self._write(Write(self._seq, left=epoch))
        self._tokens.cross(self.core, self._now, epoch.first_leader)

    def _stop_core(self) -> None:
        """Let go of the core, when all that it decided is on its way."""
        core = self.core
        if core is None:
            return
        while (ready := core.ready()) is not None:
            self._outbox.step(self._step_of(core, ready))
        if self.handed < self.commit:
            self._outbox.step(self._handing_out())
        self._sealed_by = None  # no newer than the epoch that is being left for
        status = core.status
        entries = core.entries(self.snap.index + 1, status.last)
        self.held = HeldLog(self.snap, entries, self.handed, unreadable(entries, self.handed))
        self.core = None
        self.commit = self.handed
        self._durable = status.durable
        self._writing.append((self._outbox.seq, self.held.last))

    # Starting

    def _try_start(self) -> bool:
        """Start the coming epoch if all that came before it is here."""
        epoch, held = self.known.coming, self.held
        assert epoch is not None
        assert held is not None
        if not held.holds_up_to(epoch):
            return False
        cut = held.end_before(epoch.first)
        self.commit = held.commit
        hard = held.with_commit(self.hard)
        if self.known.is_member(epoch):
            accepted = Ballot(epoch.number, 0, 0)
            hard = Hard(epoch.first_ballot, accepted, held.commit, self.hard.suspect)
        self.known.started, self.known.coming = epoch, None
        self._outbox.status_is_due = True
        self._write(Write(self._seq, hard, cut, epoch=epoch))
        self._outbox.close_gate()
        self._maybe_release(epoch)
        if self.known.is_member(epoch):
            boot = Boot(hard, held.snap, tuple(held.entries), held.faulty, epoch)
            may_lead = epoch.first_leader == self._me and not hard.suspect
            self._run_core(epoch, boot, may_lead_first=may_lead)
        return True

    def _run_core(self, epoch: Epoch, boot: Boot, *, may_lead_first: bool) -> None:
        self.core = core = self._make_core(epoch, boot, may_lead_first)
        self.held = None
        self._base = self._outbox.seq
        self._heard.clear()
        if not self.has_space:
            core.space(False)
        self.commit = max(self.commit, core.status.commit)
        if self.applied > boot.snap.index:
            core.applied(self._now, self.applied)
        self._open(core)

    def _open(self, core: Core) -> None:
        """Whoever leads an epoch that is still empty begins it, so that it is released."""
        epoch, status = self.known.started, core.status
        assert epoch is not None
        is_empty = status.last < epoch.first and epoch.number > self.known.released
        if is_empty and status.role == "leader":
            core.propose(self._now, b"", OPEN)

    # Without a core

    def take(self, entries: Sequence[Entry]) -> None:
        """Take committed entries over; where an epoch ends among them, go on in the next one."""
        while entries and (held := self.held) is not None:
            count = count_before(entries, self.known.started, self.known.coming)
            part, entries = entries[:count], entries[count:]
            cut, new = held.take(part)
            self._write(Write(self._seq, held.with_commit(self.hard), cut, new))
            self._reached(held)

    def install(self, src: Nid, snap: Snap, epoch: Epoch) -> None:
        """A peer's snapshot is durable here, and came with the newest epoch that the peer knew."""
        self.known.check_lineage(epoch)
        if snap.index >= epoch.first:
            self.release(epoch.number)
        if epoch.number > self.known.number:
            self._leave_for(epoch)
        if snap.index <= self.commit:
            return  # it came too late to be of use
        held = self.held
        if held is None:
            assert self.core is not None
            self.core.snapshot_staged(self._now, src, self.core.status.ballot, snap)
            return
        cut = held.install(snap)
        self.snap = snap
        self.handed = snap.index
        self._write(Write(self._seq, held.with_commit(self.hard), cut, snap=snap), restore=snap)
        self._reached(held)

    def _reached(self, held: HeldLog) -> None:
        """The log that is held reaches further: hand it out, and start what it was wanted for."""
        self.commit = held.commit
        if self.handed < self.commit:
            self._outbox.step(self._handing_out())
        coming = self.known.coming
        if coming is not None and not self._try_start() and held.commit >= coming.first - 1:
            raise ProtocolViolation(
                f"entry {coming.first - 1} is committed, and is not the Seal before epoch "
                f"{coming.number}: this node or the one that told of it is of another history; "
                "check their data directories"
            )
        if coming is not None and self.known.coming is None:
            self._tokens.cross(self.core, self._now, coming.first_leader)
        self._obey()

    def compact(self, snap: Snap) -> None:
        """A verified snapshot is durable: the log up to it may go."""
        if snap.index > self.snap.index:
            if self.core is not None:
                self.core.compact(snap)
            else:
                assert self.held is not None
                self.held.compact(snap)
                self._write(Write(self._seq, snap=snap))
            self.snap = snap

    def _write(self, write: Write, restore: Snap | None = None) -> None:
        """Put a write of our own into the stream; there is no core at such a moment."""
        held = self.held
        assert held is not None
        if write.hard is not None:
            self.hard = write.hard
        self._writing.append((write.seq, held.last))
        self._outbox.write(write, restore)

    @property
    def _seq(self) -> Seq:
        """Of the next write."""
        return self._outbox.seq + 1
