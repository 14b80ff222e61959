"""The core of an epoch whose log is kept outside: somewhere that has a consensus of its own.

It decides nothing.  What is proposed here is handed to whoever speaks with that log (``asked``);
what stands there comes back by ``entry``, in order, and is committed by definition.  So this is the
part of a core that remains: a copy of the log, in memory and on this disk, under the same indexes,
ballots and checksums at every member, from which the next epoch goes on as from any other.

Every member may append.  Since nobody leads, members tell each other now and then how far they
hold the log: whoever ends the epoch must know that the next one's members are there.

Always true: everything in the log is committed; its entries of this epoch have one ballot,
``(epoch, 1, 0)``, which belongs to no node; nothing comes after the Seal, so that what was
proposed and is not in the log by then never will be.

Knows nothing of what or where that log is.
"""

import msgspec

from waypost.consensus.core import (
    FOREVER,
    KIND_BATCH,
    KIND_SEAL,
    Ballot,
    Boot,
    Done,
    Entry,
    Hard,
    Index,
    Message,
    Nid,
    Ns,
    Outcome,
    Ready,
    Seq,
    Snap,
    Status,
    Token,
    Write,
)
from waypost.consensus.entry import encode
from waypost.consensus.epoch import Epoch
from waypost.consensus.log import Log
from waypost.consensus.messages import Ack
from waypost.consensus.settings import Settings
from waypost.errors import CorruptData, Invalid

PATIENCE: Ns = 3_000_000_000
"""What nobody has taken to the log for so long was certainly not appended."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Something for the log outside."""

    number: int
    """To be repeated in the answer."""
    kind: int | None
    """Of the entry to append; None asks to confirm a read."""
    payload: bytes


class _Asked(msgspec.Struct, frozen=True, gc=False):
    token: Token
    is_read: bool
    size: int
    until: Ns


class OutsideCore:
    """See the module."""

    def __init__(self, me: Nid, epoch: Epoch, boot: Boot, *, now: Ns, settings: Settings) -> None:
        assert me in epoch.members, f"node {me:#x} is not a member of epoch {epoch.number}"
        self._me = me
        self._first = epoch.first
        self._opening = 0
        """Number of the empty batch that is to begin the epoch."""
        self._others = tuple(sorted(nid for nid in epoch.members if nid != me))
        self._ballot = Ballot(epoch.number, 1, 0)
        self._settings = settings
        self._now = now
        self._hard = boot.hard
        self._log = log = Log(epoch.number, boot.snap, boot.entries, boot.faulty)
        self._snap = boot.snap
        self._cut: Index | None = None
        if log.faulty:
            # What rotted here is whole outside, or in a snapshot there.
            self._cut = log.first_fault
            log.truncate(self._cut)
        self._durable = log.last
        self._unwritten: list[Entry] = []
        self._unwritten_snap: Snap | None = None
        self._restore: Snap | None = None
        self._seq: Seq = 0
        self._writing: list[tuple[Seq, Index]] = []
        self._last_number = 0
        self._to_ask: list[Ask] = []
        self._asked: dict[int, _Asked] = {}  # oldest first
        self._waiting_bytes = 0
        self._has_space = True
        self._fresh: Ns = 0
        self._matches: dict[Nid, Index] = {}
        self._beat = now
        self._send: list[tuple[Nid, Message]] = []
        self._done: list[Done] = []
        self._reads: list[tuple[Token, Index]] = []
        self._reads_failed: list[Token] = []
        self._status_is_due = True
        self._handed: Index = boot.snap.index

    # For whoever speaks with the log outside

    @property
    def last(self) -> Index:
        """How far the log is held here: what comes next is the entry after it."""
        return self._log.last

    @property
    def chain(self) -> int:
        """Of the last entry: what a snapshot of the state after it is known by."""
        return self._log.chain

    def holds(self, index: Index, kind: int, payload: bytes) -> bool:
        """Whether this stands at ``index``, as far as that is in memory."""
        if not self._log.base < index <= self._log.last:
            return True
        entry = self._log.at(index)
        return entry.kind == kind and bytes(entry.payload) == payload

    def asked(self) -> list[Ask]:
        """What is to be taken to the log outside, in order; each once."""
        if self._opening and self._log.last >= self._first:
            # Another member has begun the epoch already.
            self._to_ask = [ask for ask in self._to_ask if ask.number != self._opening]
            self._settle(self._opening, "refused")
        asked, self._to_ask = self._to_ask, []
        return asked

    def entry(self, now: Ns, index: Index, kind: int, payload: bytes, number: int = 0) -> None:
        """The log outside goes on; ``number`` is that of the ``Ask`` that this answers, or 0."""
        self._see(now)
        log = self._log
        if index != log.last + 1 or log.seal:
            raise CorruptData(
                f"entry {index} came from outside after {log.last}"
                + (", which ends this epoch's log" if log.seal else "")
                + ": the log there is not the one that this node has followed"
            )
        entry = encode(index, self._ballot, kind, payload, log.chain)
        log.append(entry)
        self._unwritten.append(entry)
        self._settle(number, "committed", index)
        if kind == KIND_SEAL:
            self._status_is_due = True
            self._to_ask.clear()
            for each, asked in list(self._asked.items()):
                if not asked.is_read:  # reads are for the next epoch to answer
                    self._settle(each, "lost")

    def answered(self, now: Ns, number: int, what: Outcome) -> Token:
        """What was asked for under ``number`` did not come about, or nobody knows."""
        self._see(now)
        asked = self._asked.get(number)
        self._settle(number, what)
        return 0 if asked is None or asked.is_read else asked.token

    def confirmed(self, now: Ns, number: int) -> None:
        """Everything that was committed when the read ``number`` was asked for is in the log."""
        self._see(now)
        self._settle(number, "committed", self._log.last)

    def fresh_at(self, moment: Ns) -> None:
        """What is held here is no older than what was committed at this moment."""
        self._fresh = max(self._fresh, moment)

    def _settle(self, number: int, what: Outcome, index: Index = 0) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        if number == self._opening:
            self._opening = 0
        self._waiting_bytes -= asked.size
        if not asked.is_read:
            self._done.append(Done(asked.token, what, index, self._me))
        elif what == "committed":
            self._reads.append((asked.token, index))
        else:
            self._reads_failed.append(asked.token)

    # Core

    @property
    def deadline(self) -> Ns:
        """When the others are to hear of this node, or somebody has waited for too long."""
        waiting = self._asked[self._to_ask[0].number].until if self._to_ask else FOREVER
        beats = self._others or self._log.last < self._first
        return min(self._beat if beats else FOREVER, waiting)

    @property
    def status(self) -> Status:
        """Everyone may append."""
        log = self._log
        return Status(
            role="leader",
            ballot=Ballot(self._ballot.epoch, 1, self._me),
            leader=self._me,
            last=log.last,
            durable=self._durable,
            commit=log.last,
            barrier=0,
            lease_until=0,
            sealed=log.seal,
            fresh=self._fresh,
            matches=tuple(sorted(self._matches.items())),
        )

    def tick(self, now: Ns) -> None:
        """Tell the others how far this node is, and give up what nobody takes."""
        self._see(now)
        if now >= self._beat:
            self._beat = now + self._settings.election // 2
            # Not an answer to anything: round 0 confirms nobody's leadership.
            ack = Ack(self._ballot, True, self._durable, self._log.last, 0, sent=now)
            self._send += [(nid, ack) for nid in self._others]
            if self._log.last < self._first and not self._opening:
                self._status_is_due = True  # whoever saw to the beginning did not succeed
        while self._to_ask and self._asked[self._to_ask[0].number].until <= now:
            self._settle(self._to_ask.pop(0).number, "refused")

    def receive(self, now: Ns, src: Nid, message: Message) -> None:
        """Another member says how far it is."""
        self._see(now)
        if isinstance(message, Ack):
            self._matches[src] = max(message.match, self._matches.get(src, 0))

    def propose(self, now: Ns, payload: bytes, token: Token) -> None:
        """Ask for a batch to be appended."""
        self._ask(now, KIND_BATCH, payload, token)

    def seal(self, now: Ns, payload: bytes, token: Token) -> None:
        """Ask for the Seal to be appended."""
        self._ask(now, KIND_SEAL, payload, token)

    def read(self, now: Ns, token: Token) -> None:
        """Ask how far the log outside is."""
        self._ask(now, None, b"", token)

    def _ask(self, now: Ns, kind: int | None, payload: bytes, token: Token) -> None:
        self._see(now)
        size = len(payload)
        is_full = (
            bool(self._waiting_bytes)
            and self._waiting_bytes + size > self._settings.uncommitted_bytes_max
        )
        is_read = kind is None
        if self._log.seal or (not is_read and (is_full or not self._has_space)):
            if is_read:
                self._reads_failed.append(token)
            else:
                self._done.append(Done(token, "refused", 0, self._me))
            return
        is_opening = kind == KIND_BATCH and not payload
        if is_opening and (self._opening or self._log.last >= self._first):
            self._done.append(Done(token, "refused", 0, self._me))  # one is enough
            return
        self._last_number += 1
        if is_opening:
            self._opening = self._last_number
        self._asked[self._last_number] = _Asked(token, is_read, size, now + PATIENCE)
        self._waiting_bytes += size
        self._to_ask.append(Ask(self._last_number, kind, payload))

    def transfer(self, now: Ns, to: Nid) -> None:
        """Refuse: nobody leads."""
        self._see(now)
        raise Invalid(
            f"transfer: every member appends in epoch {self._ballot.epoch}, so there is nothing to "
            f"hand over to node {to:#x}",
            field="transfer",
        )

    def gone(self, now: Ns, nid: Nid) -> None:  # noqa: ARG002
        """Nobody leads here that could be missed."""
        self._see(now)

    def persisted(self, now: Ns, seq: Seq) -> None:
        """It is on this disk too."""
        self._see(now)
        assert seq <= self._seq, f"write {seq} was never handed out, the last one is {self._seq}"
        while self._writing and self._writing[0][0] <= seq:
            self._durable = max(self._durable, self._writing.pop(0)[1])

    def applied(self, now: Ns, index: Index) -> None:
        """Nothing depends on it: whatever is in the log is committed."""
        self._see(now)
        assert index <= self._log.last, f"applied {index} of {self._log.last}"

    def entries(self, first: Index, last: Index) -> list[Entry]:
        """Return entries from memory; what ``compact`` dropped is gone."""
        return self._log.between(first, last)

    def snap(self, index: Index) -> Snap:
        """Return the identity of a snapshot at ``index``."""
        if index == self._snap.index:
            return self._snap
        entry = self._log.at(index)
        return Snap(index, entry.ballot, entry.kind, entry.chain)

    def compact(self, snap: Snap) -> None:
        """Drop the log up to ``snap`` from memory, and note the snapshot in the next write."""
        if snap.index > self._snap.index:
            self._log.drop(snap.index)
            self._snap = self._unwritten_snap = snap

    def snapshot_staged(self, now: Ns, src: Nid, ballot: Ballot, snap: Snap) -> None:  # noqa: ARG002
        """So much was missed, or has rotted, that the log goes on behind a snapshot."""
        self._see(now)
        log = self._log
        if snap.index <= log.last:
            return
        if log.last > log.base:
            self._cut = min(self._cut or FOREVER, log.base + 1)
        log.restart(snap)
        self._unwritten.clear()
        self._snap = self._unwritten_snap = self._restore = snap
        self._handed = snap.index

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, ok: bool) -> None:  # noqa: ARG002
        """An earlier epoch's core had asked for it: nothing to do here."""
        self._see(now)

    def space(self, ok: bool) -> None:
        """Refuse proposals while the disk is full; what comes from outside is kept all the same."""
        self._has_space = ok

    def ready(self) -> Ready | None:
        """What to do now."""
        write, log = self._next_write(), self._log
        is_due = (
            self._send
            or self._done
            or self._reads
            or self._reads_failed
            or self._status_is_due
            or self._handed < log.last
        )
        if write is None and not is_due:
            return None
        ready = Ready(
            log.last,
            send=tuple(self._send),
            write=write,
            done=tuple(self._done),
            reads=tuple(self._reads),
            reads_failed=tuple(self._reads_failed),
            restore=self._restore,
            status=self.status if self._status_is_due else None,
        )
        self._handed = log.last
        self._restore, self._status_is_due = None, False
        for each in (self._send, self._done, self._reads, self._reads_failed):
            each.clear()
        return ready

    def _next_write(self) -> Write | None:
        if not self._unwritten and self._unwritten_snap is None and self._cut is None:
            return None
        self._seq += 1
        hard = self._hard
        self._hard = Hard(hard.promised, hard.accepted, self._log.last, hard.suspect)
        write = Write(
            self._seq, self._hard, self._cut, tuple(self._unwritten), self._unwritten_snap
        )
        self._writing.append((self._seq, self._log.last))
        self._unwritten.clear()
        self._unwritten_snap = self._cut = None
        return write

    def _see(self, now: Ns) -> None:
        assert now >= self._now, f"time went back from {self._now} to {now}"
        self._now = now
