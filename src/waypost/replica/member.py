"""One node's part in the log, over all epochs: the handover between cores, and life without one.

A member of the present epoch runs its core; every other node follows what is committed.  When a
Seal commits at index s, or somebody tells of a newer epoch, the node leaves its epoch, gets hold of
everything up to s, and starts the next one, as a member if it is named.

Always true:

* there is one core at most; ``_core`` and ``_held`` are never both there;
* a node starts an epoch only on the log that ends in that very Seal (by index and ballot, not by
  length), by one atomic write, and no message of the epoch leaves before that write is durable;
* nothing after the first committed Seal of an epoch is ever handed out as part of that epoch;
* every token gets exactly one answer, across epochs too; what comes while a Seal is on its way is
  held and goes into the next epoch;
* quorums never see who is not a member: learners have no core, and ask with ``Fetch``.

Sources: Lamport, Malkhi and Zhou, "Stoppable Paxos" (2008); OmniPaxos (EuroSys 2023); Delos (OSDI
2020).  Knows no engine: ``make_core`` does.  No clock, no I/O, no chance but what is injected.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from waypost.consensus.core import (
    FOREVER,
    KIND_SEAL,
    Ballot,
    Boot,
    Core,
    Done,
    Entry,
    Hard,
    Index,
    Nid,
    Ns,
    Ready,
    Role,
    Seq,
    Snap,
    Token,
    Write,
)
from waypost.consensus.entry import NO_BALLOT, parse
from waypost.consensus.epoch import (
    Epoch,
    Peer,
    Proposed,
    after,
    decode_proposed,
    encode_proposed,
)
from waypost.consensus.messages import CoreMessage, ballot_of
from waypost.consensus.settings import Settings
from waypost.errors import ProtocolViolation, Unavailable
from waypost.replica.asking import Asking
from waypost.replica.changing import check_names, check_readiness
from waypost.replica.feeding import Feeding, Subscriber, cut_to_size
from waypost.replica.held_log import HeldLog, unreadable
from waypost.replica.peer_messages import (
    AskEpoch,
    AskIndex,
    EpochKnown,
    Fetch,
    Fetched,
    IndexAt,
    InEpoch,
    PeerMessage,
)
from waypost.replica.pushing import Pushing

MakeCore = Callable[[Epoch, Boot, bool], Core]
"""Makes the core of an epoch; the last argument: it may lead the epoch's first ballot at once."""

HELD_BYTES_MAX = 16 << 20
OPEN: Token = -1
"""The first entry of an epoch, empty: its commit is the release of everything before."""


class MemberStatus(msgspec.Struct, frozen=True, gc=False):
    """Where a node stands."""

    role: Role
    ballot: Ballot
    leader: Nid
    epoch: Epoch
    """The newest that this node knows of; number 0 if it knows none."""
    started: bool
    """This node takes part in it, as member or learner; otherwise it still lacks what came before.
    """
    released: bool
    """Its members hold all that came before, on a majority of their disks."""
    last: Index
    durable: Index
    commit: Index
    applied: Index
    fresh: Ns
    """What is applied here is no older than what was committed at this moment of our clock;
    ``FOREVER`` where that is always so, 0 where it was never."""
    matches: tuple[tuple[Nid, Index], ...]
    """How far others hold the log, members and learners, as far as this node has heard."""
    peers: dict[Nid, Peer]
    """Whom this node may send to, and where they are."""


class Step(msgspec.Struct, frozen=True, gc=False):
    """What the driver is to do now: restore, write and send, apply, answer; in this order."""

    send: tuple[tuple[Nid, PeerMessage], ...] = ()
    """Safe to send at once, in any order, any number of times, or never."""
    write: Write | None = None
    """The next of one stream of writes, numbered without gaps from 1 in each life of a node."""
    entries: tuple[Entry, ...] = ()
    """Newly committed, to be applied now, in this order.  Only a batch that is not empty says
    anything."""
    done: tuple[Done, ...] = ()
    reads: tuple[tuple[Token, Index], ...] = ()
    """To be served when this step is done: the indexes are among what was handed out by then."""
    reads_failed: tuple[Token, ...] = ()
    send_snapshot: tuple[tuple[Nid, Index], ...] = ()
    restore: Snap | None = None
    status: MemberStatus | None = None
    """When role, leader, epoch or release changed; positions move without a notice."""
    retired: bool = False
    """This node was removed and nobody needs it any more: it may end."""


class Member:
    """See the module.  The driver's obligations are those of ``consensus.core``."""

    def __init__(
        self,
        me: Nid,
        boot: Boot,
        *,
        lineage: int,
        applied: Index,
        now: Ns,
        make_core: MakeCore,
        draw: Callable[[], float],
        settings: Settings,
    ) -> None:
        assert me > 0, "node 0 is nobody"
        self._me = me
        self._lineage = lineage
        self._make_core = make_core
        self._now = now
        self._snap = boot.snap
        self._hard = boot.hard
        self._epoch = boot.epoch
        self._next: Epoch | None = None
        self._released = 0  # number of the newest epoch known to be
        self._commit: Index = boot.snap.index  # of what can be handed out
        self._handed: Index = applied
        self._applied: Index = applied
        self._has_space = True
        self._core: Core | None = None
        self._held: HeldLog | None = None
        self._base: Seq = 0  # writes before the present core's first
        self._seq: Seq = 0
        self._gate: Seq = 0  # nothing of the present epoch leaves before this is durable
        self._gated: list[tuple[Nid, PeerMessage]] = []
        self._writing: deque[tuple[Seq, Index]] = deque()  # without a core: the log's end
        self._durable: Index = boot.snap.index + len(boot.entries)
        self._durable_seq: Seq = 0
        self._steps: deque[Step] = deque()
        self._send: list[tuple[Nid, PeerMessage]] = []
        self._done: list[Done] = []
        self._reads_failed: list[Token] = []
        self._send_snapshot: list[tuple[Nid, Index]] = []
        self._status_is_due = True
        self._is_retired = False
        self._tokens: dict[Token, None] = {}  # proposed to the core, in this order
        self._reading: dict[Token, None] = {}
        self._confirmed: list[tuple[Token, Index]] = []  # reads, at indexes not handed out yet
        self._seal_token: Token | None = None
        self._waiting: list[tuple[bytes, Token]] = []  # came after the Seal
        self._waiting_bytes = 0
        self._heard: set[Nid] = set()  # in the present epoch
        self._sealed_by: Epoch | None = None  # a Seal was handed out, and is to be obeyed
        self._asking = Asking(settings.election, draw)
        self._feeding = Feeding(settings.heartbeat, settings.election)
        self._pushing = Pushing()
        self._boot(boot)

    def _boot(self, boot: Boot) -> None:
        """Go on where the last run ended."""
        epoch, left = self._epoch, boot.left
        assert epoch is not None or left is not None or not boot.entries, (
            "a log without an epoch: the directory is from before there were epochs, and whoever "
            "opens it knows which one it was in"
        )
        for known in (epoch, left):
            if known is not None and known.lineage != self._lineage:
                raise ProtocolViolation(
                    f"data directory: its epoch {known.number} is of lineage "
                    f"{known.lineage:#x}, and this cluster is {self._lineage:#x}"
                )
        if left is not None and (epoch is None or left.number > epoch.number):
            self._next = left
        if self._next is None and epoch is not None and self._me in epoch.members:
            self._run_core(epoch, boot, may_lead_first=False)
        else:
            self._held = HeldLog(boot.snap, boot.entries, boot.hard.commit, boot.faulty)
            self._commit = self._held.commit
        if self._next is not None:
            self._try_start()
        if self._newest is not None and self._released < self._newest.number:
            self._pushing.begin(self._now)
        self._ask_around()

    # What it tells

    @property
    def _newest(self) -> Epoch | None:
        return self._next or self._epoch

    @property
    def deadline(self) -> Ns:
        """Call ``tick`` no later than this."""
        core = self._core
        return min(
            FOREVER if core is None else core.deadline,
            self._asking.deadline,
            self._feeding.deadline,
            self._pushing.deadline,
        )

    @property
    def status(self) -> MemberStatus:
        """Where it stands now."""
        epoch = self._newest or Epoch(self._lineage, 0, "", {}, 1)
        released = 0 < epoch.number <= self._released
        learners = tuple((nid, asker.commit) for nid, asker in self._feeding.askers.items())
        core = self._core
        peers = self._peers(epoch)
        if core is None:
            held = self._held
            assert held is not None
            return MemberStatus(
                role="learner",
                ballot=self._hard.promised,
                leader=self._asking.leader,
                epoch=epoch,
                started=self._next is None and self._epoch is not None,
                released=released,
                last=held.last,
                durable=self._durable,
                commit=self._commit,
                applied=self._applied,
                fresh=self._asking.fresh,
                matches=learners,
                peers=peers,
            )
        status = core.status
        return MemberStatus(
            role=status.role,
            ballot=status.ballot,
            leader=status.leader,
            epoch=epoch,
            started=True,
            released=released,
            last=status.last,
            durable=status.durable,
            commit=self._commit,
            applied=self._applied,
            fresh=status.fresh,
            matches=status.matches + learners,
            peers=peers,
        )

    def _peers(self, epoch: Epoch) -> dict[Nid, Peer]:
        """Members and those before them; whoever else asked is known to the driver already."""
        known = {**epoch.sources, **epoch.members}
        return {nid: known[nid] for nid in sorted(known) if nid != self._me}

    # What comes in

    def found(self, now: Ns, epoch: Epoch) -> None:
        """A cluster begins with this epoch, or somebody who knows tells of it."""
        self._see(now)
        self._learn(epoch, is_released=False)

    def met(self, now: Ns, nid: Nid) -> None:
        """A connection to this node is there: each tells the other what it knows."""
        self._see(now)
        newest = self._newest
        if newest is None:
            self._send.append((nid, AskEpoch(self._lineage, 0)))
        else:
            self._tell(nid)

    def tick(self, now: Ns) -> None:
        """Time has passed."""
        self._see(now)
        if self._core is not None and now >= self._core.deadline:
            self._core.tick(now)
        if now >= self._asking.deadline:
            self._fetch(self._asking.next_target(now))
        if now >= self._pushing.deadline:
            newest = self._newest
            assert newest is not None
            for nid in self._pushing.due(now, self._peers(newest)):
                self._tell(nid)
        if now >= self._feeding.deadline:
            self._feed()

    def receive(self, now: Ns, src: Nid, message: PeerMessage) -> None:
        """A peer sent this.  Raises ``ProtocolViolation`` for what belongs to another history."""
        self._see(now)
        if isinstance(message, EpochKnown):
            self._on_epoch(src, message)
            return
        if message.lineage != self._lineage:
            raise ProtocolViolation(
                f"node {src} is of lineage {message.lineage:#x}, this cluster is of "
                f"{self._lineage:#x}: check that address"
            )
        match message:
            case InEpoch():
                self._on_core_message(src, message)
            case AskEpoch(_, number):
                newest = self._newest
                if newest is not None and newest.number > number:
                    self._tell(src)
            case Fetch():
                self._on_fetch(src, message)
            case Fetched():
                self._on_fetched(src, message)
            case AskIndex() | IndexAt():
                pass

    def append(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append a batch; the answer is a ``Done``.  While a Seal is on its way it is held."""
        self._see(now)
        if self._core is None:
            self._done.append(Done(token, "refused", 0, self._hint()))
        elif self._seal_token is None:
            self._tokens[token] = None
            self._core.propose(now, payload, token)
        elif self._waiting_bytes + len(payload) > HELD_BYTES_MAX:
            self._done.append(Done(token, "refused", 0, self._me))
        else:
            self._waiting.append((payload, token))
            self._waiting_bytes += len(payload)

    def read(self, now: Ns, token: Token) -> None:
        """Ask for the index at which a linearizable read may be served."""
        self._see(now)
        if self._core is None:
            self._reads_failed.append(token)
        else:
            self._reading[token] = None
            self._core.read(now, token)

    def change(
        self,
        now: Ns,
        engine: str,
        members: Mapping[Nid, Peer],
        first_leader: Nid,
        settings: Mapping[str, str],
        token: Token,
    ) -> None:
        """End this epoch and begin another, with these members; the answer is a ``Done``.

        Raises ``Invalid`` for what cannot be, and ``Unavailable`` for what cannot be now.
        """
        self._see(now)
        core, epoch = self._core, self._epoch
        if core is None or epoch is None or (status := core.status).role != "leader":
            self._done.append(Done(token, "refused", 0, self._hint()))
            return
        check_names(epoch, engine, members, first_leader)
        if self._seal_token is not None or status.sealed:
            raise Unavailable("members: another change is under way: retry in a moment")
        if self._released < epoch.number:
            raise Unavailable(
                f"members: epoch {epoch.number} has only begun, a majority does not hold it yet: "
                "retry in a moment"
            )
        matches = dict(status.matches)
        check_readiness(epoch, members, self._me, status.last, matches, self._feeding.askers)
        proposed = Proposed(
            epoch.number + 1, engine, dict(sorted(members.items())), first_leader, dict(settings)
        )
        self._seal_token = token
        self._tokens[token] = None
        core.seal(now, encode_proposed(proposed), token)

    def transfer(self, now: Ns, to: Nid) -> None:
        """Hand leadership over, if this node holds it."""
        self._see(now)
        if self._core is not None:
            self._core.transfer(now, to)

    def persisted(self, now: Ns, seq: Seq) -> None:
        """Every write up to ``seq`` is durable."""
        self._see(now)
        assert seq <= self._seq, f"write {seq} was never handed out, the last one is {self._seq}"
        self._durable_seq = seq
        writing = self._writing
        while writing and writing[0][0] <= seq:
            self._durable = writing.popleft()[1]
        if self._gated and seq >= self._gate:
            self._send += self._gated
            self._gated.clear()
        if self._core is not None and seq > self._base:
            self._core.persisted(now, seq - self._base)

    def applied(self, now: Ns, index: Index) -> None:
        """The state machine has applied everything up to ``index``."""
        self._see(now)
        assert self._applied <= index <= self._handed, (
            f"applied {index} is outside {self._applied} to {self._handed}"
        )
        self._applied = index
        if self._core is not None:
            self._core.applied(now, index)

    def snap(self, index: Index) -> Snap:
        """The identity of a snapshot taken exactly after ``index``, which is applied."""
        if self._core is not None:
            return self._core.snap(index)
        assert self._held is not None
        return self._held.at(index)

    def compact(self, snap: Snap) -> None:
        """A verified snapshot is durable: the log up to it may go."""
        if snap.index <= self._snap.index:
            return
        if self._core is not None:
            self._core.compact(snap)
        else:
            assert self._held is not None
            self._held.compact(snap)
            self._write(snap=snap)
        self._snap = snap

    def snapshot_staged(self, now: Ns, src: Nid, snap: Snap, epoch: Epoch) -> None:
        """A snapshot from a peer is complete, verified and durable here; it came with its epoch."""
        self._see(now)
        self._learn(epoch, is_released=snap.index >= epoch.first)
        if snap.index <= self._commit:
            return  # it came too late to be of use
        if self._core is not None:
            self._core.snapshot_staged(now, src, self._core.status.ballot, snap)
            return
        held = self._held
        assert held is not None
        cut = held.install(snap)
        self._snap = snap
        self._commit = held.commit
        self._handed = snap.index
        self._write(hard=held.committed_hard(self._hard), truncate=cut, snap=snap, restore=snap)
        self._reached()
        self._ask_around()

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, *, ok: bool) -> None:
        """What came of ``Step.send_snapshot``."""
        self._see(now)
        if not self._feeding.sent(to, ok=ok) and self._core is not None:
            epoch = self._epoch
            if epoch is not None and to in epoch.members:
                self._core.snapshot_sent(now, to, index, ok)

    def space(self, ok: bool) -> None:
        """Whether the disk has room: without it proposals are refused, all else goes on."""
        self._has_space = ok
        if self._core is not None:
            self._core.space(ok)

    # What goes out

    def ready(self) -> Step | None:
        """What to do now, drained; None when there is nothing."""
        core = self._core
        if not self._steps and core is not None and (ready := core.ready()) is not None:
            self._steps.append(self._step_of(ready))
            self._follow_up()
        if self._steps:
            return self._steps.popleft()
        if self._handed < self._commit:
            self._steps.append(self._handing_out())
            self._follow_up()
            return self._steps.popleft()
        return self._own_step()

    def _follow_up(self) -> None:
        """Entries were handed out: who waits for them is told, and a Seal among them is obeyed."""
        if self._sealed_by is not None:
            epoch, self._sealed_by = self._sealed_by, None
            self._learn(epoch, is_released=False)
        if self._feeding.askers:
            self._feed()

    def _step_of(self, ready: Ready) -> Step:
        """Pass on what the core asks for, within what all epochs have in common."""
        write = ready.write
        if write is not None:
            self._seq = seq = self._base + write.seq
            if self._base:
                write = msgspec.structs.replace(write, seq=seq)
            if write.hard is not None:
                self._hard = write.hard
        done = tuple([done for done in ready.done if self._is_answered(done)])
        for token, _ in ready.reads:
            del self._reading[token]
        for token in ready.reads_failed:
            del self._reading[token]
        if ready.restore is not None:
            self._snap = ready.restore
            self._handed = max(self._handed, ready.restore.index)
        self._commit = max(self._commit, ready.commit)
        if ready.status is not None:
            self._status_is_due = True
            self._open()
        entries = self._hand_out() if self._handed < self._commit else ()
        self._confirmed += ready.reads
        return Step(
            send=self._wrap(ready.send) if ready.send else (),
            write=write,
            entries=entries,
            done=done,
            reads=self._take_reads() if self._confirmed else (),
            reads_failed=ready.reads_failed,
            send_snapshot=ready.send_snapshot,
            restore=ready.restore,
        )

    def _take_reads(self) -> tuple[tuple[Token, Index], ...]:
        """The reads whose index has been handed out."""
        handed = self._handed
        reads = tuple([read for read in self._confirmed if read[1] <= handed])
        if reads:
            self._confirmed = [read for read in self._confirmed if read[1] > handed]
        return reads

    def _is_answered(self, done: Done) -> bool:
        """Whether this answer is the driver's to hear; its token is answered now."""
        token = done.token
        if token == OPEN:
            return False
        del self._tokens[token]
        if token == self._seal_token and done.what != "committed":
            self._go_on()  # the Seal is not to be: what waited for it goes where it would have gone
        return True

    def _wrap(self, messages: Sequence[tuple[Nid, CoreMessage]]) -> tuple[tuple[Nid, InEpoch], ...]:
        """Address a core's messages; the epoch goes along to who may not know of it."""
        epoch, lineage, heard = self._epoch, self._lineage, self._heard
        wrapped = tuple(
            [
                (nid, InEpoch(lineage, message, None if nid in heard else epoch))
                for nid, message in messages
            ]
        )
        if self._durable_seq < self._gate:
            self._gated += wrapped
            return ()
        return wrapped

    def _handing_out(self) -> Step:
        entries = self._hand_out()
        return Step(entries=entries, reads=self._take_reads())

    def _hand_out(self) -> tuple[Entry, ...]:
        """The entries that are newly committed, up to the Seal of the present epoch."""
        entries = tuple(self._slice(self._handed + 1, self._commit))
        epoch = self._epoch
        for position, entry in enumerate(entries):
            if entry.kind == KIND_SEAL and epoch and entry.ballot.epoch == epoch.number:
                entries = entries[: position + 1]
                proposed = decode_proposed(entry.payload)
                self._sealed_by = after(epoch, entry.index, entry.ballot, proposed)
                self._commit = entry.index
                break
        self._handed = self._commit
        if epoch is not None and self._released < epoch.number and self._handed >= epoch.first:
            self._release(epoch.number)
        return entries

    def _slice(self, first: Index, last: Index) -> Sequence[Entry]:
        if self._core is not None:
            return self._core.entries(first, last)
        assert self._held is not None
        return self._held.slice(first, last)

    def _own_step(self) -> Step | None:
        """What this node has to say without a core."""
        is_retired = self._is_retired_now()
        if not (
            self._send
            or self._done
            or self._reads_failed
            or self._send_snapshot
            or self._status_is_due
            or is_retired
        ):
            return None
        step = Step(
            send=tuple(self._send),
            done=tuple(self._done),
            reads_failed=tuple(self._reads_failed),
            send_snapshot=tuple(self._send_snapshot),
            status=self.status if self._status_is_due else None,
            retired=is_retired,
        )
        self._send.clear()
        self._done.clear()
        self._reads_failed.clear()
        self._send_snapshot.clear()
        self._status_is_due = False
        return step

    def _write(
        self,
        *,
        hard: Hard | None = None,
        truncate: Index | None = None,
        entries: tuple[Entry, ...] = (),
        snap: Snap | None = None,
        left: Epoch | None = None,
        epoch: Epoch | None = None,
        restore: Snap | None = None,
    ) -> None:
        """Put a write of our own into the stream; there is no core at such a moment."""
        held = self._held
        assert held is not None
        self._seq += 1
        write = Write(self._seq, hard, truncate, entries, snap, left=left, epoch=epoch)
        if hard is not None:
            self._hard = hard
        self._writing.append((self._seq, held.last))
        reads = self._take_reads() if restore is not None else ()
        self._steps.append(Step(write=write, restore=restore, reads=reads))

    # From one epoch to the next

    def _on_epoch(self, src: Nid, message: EpochKnown) -> None:
        epoch = message.epoch
        self._learn(epoch, is_released=message.released)
        newest = self._newest
        if newest is None or newest.number > epoch.number:
            self._tell(src)
        else:
            self._pushing.knows(src)

    def _on_core_message(self, src: Nid, message: InEpoch) -> None:
        number = ballot_of(message.message).epoch
        newest = self._newest
        if newest is None or number > newest.number:
            if message.epoch is None:
                self._send.append((src, AskEpoch(self._lineage, newest.number if newest else 0)))
                return
            self._learn(message.epoch, is_released=False)
        elif number < newest.number:
            self._tell(src)
            return
        self._pushing.knows(src)
        epoch, core = self._epoch, self._core
        if core is None or epoch is None or epoch.number != number or src not in epoch.members:
            return
        self._heard.add(src)
        core.receive(self._now, src, message.message)

    def _learn(self, epoch: Epoch, *, is_released: bool) -> None:
        """There is such an epoch.  If it is news, leave the present one for it."""
        if epoch.lineage != self._lineage:
            raise ProtocolViolation(
                f"epoch {epoch.number} is of lineage {epoch.lineage:#x}, this cluster is of "
                f"{self._lineage:#x}: it has another history"
            )
        if is_released:
            self._release(epoch.number)
        newest = self._newest
        if newest is not None and epoch.number <= newest.number:
            return
        self._next = epoch
        self._status_is_due = True
        self._stop_core()
        self._pushing.begin(self._now)
        if self._released >= epoch.number:
            self._pushing.end()
        if not self._try_start():
            self._write(left=epoch)
        self._settle_tokens()
        self._ask_around()

    def _stop_core(self) -> None:
        """Let go of the core, when all that it decided is on its way."""
        core = self._core
        if core is None:
            return
        while (ready := core.ready()) is not None:
            self._steps.append(self._step_of(ready))
        if self._handed < self._commit:
            self._steps.append(self._handing_out())
        self._sealed_by = None  # at most the epoch that is being left for
        status = core.status
        entries = core.entries(self._snap.index + 1, status.last)
        faulty = unreadable(entries, self._handed)
        self._core = None
        self._held = HeldLog(self._snap, entries, self._handed, faulty)
        self._commit = self._handed
        self._durable = status.durable
        self._writing.append((self._seq, self._held.last))
        self._gated.clear()

    def _try_start(self) -> bool:
        """Start the next epoch if all that came before it is here."""
        epoch, held = self._next, self._held
        assert epoch is not None
        assert held is not None
        if not held.holds_up_to(epoch):
            return False
        is_member = self._me in epoch.members
        may_lead = epoch.first_leader == self._me and not self._hard.suspect
        start = max(epoch.first, held.snap.index + 1)
        cut = start if held.last >= start else None
        if cut is not None:
            held.cut(cut)
        held.commit = held.last
        self._commit = held.commit
        hard = held.committed_hard(self._hard)
        if is_member:
            first = (1, epoch.first_leader) if epoch.first_leader else (0, 0)
            hard = Hard(
                Ballot(epoch.number, *first),
                Ballot(epoch.number, 0, 0),
                held.commit,
                self._hard.suspect,
            )
        self._epoch, self._next = epoch, None
        self._write(hard=hard, truncate=cut, epoch=epoch)
        self._gate = self._seq
        self._status_is_due = True
        if held.commit >= epoch.first:
            self._release(epoch.number)
        if is_member:
            boot = Boot(hard, held.snap, tuple(held.entries), held.faulty, epoch)
            self._run_core(epoch, boot, may_lead_first=may_lead)
        return True

    def _run_core(self, epoch: Epoch, boot: Boot, *, may_lead_first: bool) -> None:
        core = self._make_core(epoch, boot, may_lead_first)
        self._core, self._held = core, None
        self._base = self._seq
        self._heard.clear()
        if not self._has_space:
            core.space(False)
        self._commit = max(self._commit, core.status.commit)
        if self._applied > boot.snap.index:
            core.applied(self._now, self._applied)
        self._open()

    def _open(self) -> None:
        """Whoever leads an epoch that is still empty begins it, so that it is released."""
        core, epoch = self._core, self._epoch
        assert core is not None
        assert epoch is not None
        status = core.status
        if status.role == "leader" and status.last < epoch.first:
            core.propose(self._now, b"", OPEN)

    def _settle_tokens(self) -> None:
        """Answer what the core that was let go can answer no more, or take it along."""
        if self._core is not None:
            for token in self._reading:
                self._core.read(self._now, token)
        else:
            self._reads_failed += self._reading
            self._reading.clear()
        self._done += [Done(token, "unknown") for token in self._tokens]
        self._tokens.clear()
        self._go_on()

    def _go_on(self) -> None:
        """No Seal is on its way any more: what waited for it is proposed."""
        waiting, self._waiting = self._waiting, []
        self._waiting_bytes = 0
        self._seal_token = None
        for payload, token in waiting:
            self.append(self._now, payload, token)

    def _release(self, number: int) -> None:
        if number > self._released:
            self._released = number
            self._status_is_due = True
            newest = self._newest
            if newest is not None and number >= newest.number:
                self._pushing.end()

    def _is_retired_now(self) -> bool:
        """Whether this node was a member, is none any more, and is needed by nobody."""
        epoch = self._epoch
        if (
            self._is_retired
            or self._next is not None
            or epoch is None
            or self._me in epoch.members
            or not self._has_voted
            or self._released < epoch.number
        ):
            return False
        self._is_retired = True
        return True

    @property
    def _has_voted(self) -> bool:
        """Whether this node was ever a member: only members have promises."""
        return self._hard.promised != NO_BALLOT

    # Without a core

    def _ask_around(self) -> None:
        """Ask for what is committed, as long as no core brings it."""
        newest = self._newest
        if self._core is not None or newest is None:
            self._asking.end()
        else:
            self._asking.begin(self._now, tuple(self._peers(newest)))

    def _fetch(self, nid: Nid) -> None:
        newest, held = self._newest, self._held
        if nid == 0 or newest is None or held is None:
            return
        self._send.append(
            (
                nid,
                Fetch(
                    self._lineage,
                    newest.number,
                    held.commit,
                    self._now,
                    self._has_voted,
                    self._next,
                ),
            )
        )

    def _on_fetch(self, src: Nid, fetch: Fetch) -> None:
        if fetch.epoch is not None:
            self._learn(fetch.epoch, is_released=False)
        newest = self._newest
        number = newest.number if newest is not None else 0
        if fetch.number > number:
            self._send.append((src, AskEpoch(self._lineage, number)))
        elif fetch.number < number:
            self._tell(src)
        else:
            self._pushing.knows(src)
        self._feeding.asked(self._now, src, fetch.commit, fetch.sent, has_voted=fetch.has_voted)
        self._feed()

    def _feed(self) -> None:
        """Tell those who asked, of what is new or that nothing is."""
        told, snapshots = self._feeding.answers(self._now, self._snap.index, self._handed)
        self._send_snapshot += snapshots
        for nid, asker in told:
            self._send.append((nid, self._fetched(asker)))

    def _fetched(self, asker: Subscriber) -> Fetched:
        newest = self._newest
        number = newest.number if newest is not None else 0
        frames: tuple[bytes, ...] = ()
        if self._snap.index <= asker.commit < self._handed:
            frames = cut_to_size(self._slice, asker.commit + 1, self._handed)
        if self._core is None:
            fresh, leader = self._asking.fresh, self._asking.leader
        else:
            status = self._core.status
            fresh, leader = status.fresh, status.leader
        age = 0 if fresh == FOREVER else self._now - fresh if fresh else -1
        return Fetched(
            self._lineage,
            number,
            asker.commit,
            frames,
            self._handed,
            leader,
            asker.echo,
            age,
            0 < number <= self._released,
        )

    def _on_fetched(self, src: Nid, message: Fetched) -> None:
        newest, held = self._newest, self._held
        if held is None or newest is None:
            return
        if message.released and message.number == newest.number:
            self._release(message.number)
        before = held.commit
        self._take(message)
        if self._core is not None:
            return
        asking = self._asking
        if message.leader != asking.leader and message.number == newest.number:
            asking.leader = message.leader
            self._status_is_due = True
        if message.age >= 0 and held.commit >= message.commit:
            asking.fresh = max(asking.fresh, message.echo - message.age)
        if asking.is_answer(src, message.echo):
            is_of_use = held.commit > before or (
                self._next is None and asking.is_fresh(message.age)
            )
            self._fetch(asking.again(self._now) if is_of_use else asking.next_target(self._now))

    def _take(self, message: Fetched) -> None:
        """Take committed entries over; where an epoch ends among them, go on in the next one."""
        held = self._held
        assert held is not None
        skip = held.commit - message.after
        if skip < 0:
            return  # an answer to a question of an earlier life
        entries = [parse(frame) for frame in message.frames[skip:]]
        while entries and self._core is None:
            held = self._held
            assert held is not None
            count = self._count_until_seal(entries)
            part, entries = entries[:count], entries[count:]
            cut, new = held.take(part)
            self._write(hard=held.committed_hard(self._hard), truncate=cut, entries=new)
            self._reached()

    def _count_until_seal(self, entries: Sequence[Entry]) -> int:
        """How many of these belong before the next epoch."""
        epoch, coming = self._epoch, self._next
        for position, entry in enumerate(entries):
            if coming is not None and entry.index == coming.first - 1:
                return position + 1
            if (
                coming is None
                and epoch is not None
                and entry.kind == KIND_SEAL
                and entry.ballot.epoch == epoch.number
            ):
                return position + 1
        return len(entries)

    def _reached(self) -> None:
        """The log that is held reaches further: hand it out, and start what it was wanted for."""
        held = self._held
        assert held is not None
        self._commit = held.commit
        if self._handed < self._commit:
            self._steps.append(self._handing_out())
        if self._next is not None:
            if self._try_start():
                self._ask_around()
            elif held.commit >= self._next.first - 1:
                raise ProtocolViolation(
                    f"entry {self._next.first - 1} is committed, and is not the Seal before epoch "
                    f"{self._next.number}: this node or the one that told of it is of another "
                    "history; check their data directories"
                )
        self._follow_up()

    def _tell(self, nid: Nid) -> None:
        newest = self._newest
        if newest is not None:
            self._send.append((nid, EpochKnown(newest, newest.number <= self._released)))

    def _hint(self) -> Nid:
        if self._core is not None:
            return self._core.status.leader
        newest = self._newest
        return self._asking.leader or (newest.first_leader if newest is not None else 0)

    def _see(self, now: Ns) -> None:
        assert now >= self._now, f"time went back from {self._now} to {now}"
        self._now = now
