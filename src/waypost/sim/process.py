"""The software of one node, from its start to its end: a member, a replica, and who is waiting.

Drives the shipped ``Member`` as the node's engine does, without a loop: inputs come in, and what
each step asks for is done before the next input.  Everything that leaves goes through the ``Host``,
and every step passes the oracle.

Always true: time here is the machine's own; nothing here survives the process.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from waypost.catalog.snapshots import dump
from waypost.catalog.state import Applied, Catalog
from waypost.commands import Origin, Outcome, decode_batch, decode_part
from waypost.consensus.core import KIND_BATCH, Boot, Done, Entry, Index, Nid, Ns, Snap, Token, Write
from waypost.consensus.epoch import Peer
from waypost.consensus.settings import Settings
from waypost.errors import TimedOut, Unavailable, WaypostError
from waypost.replica.cluster_time import ClusterTime
from waypost.replica.member import MakeCore, Member, MemberStatus, Step
from waypost.replica.peer_messages import InEpoch, PeerMessage
from waypost.replica.replica import Replica
from waypost.sim.answering import read_at, word_of
from waypost.sim.marks import Marks
from waypost.sim.messages import Reply, Request
from waypost.sim.oracle import Oracle
from waypost.sim.tokens import Life

BATCHES_MAX = 3
"""So many are under way at once."""
DIGEST_EVERY = 16
_encoder = msgspec.msgpack.Encoder()


class Host(Protocol):
    """The machine that a process runs on."""

    def send(self, target: Nid, message: PeerMessage) -> None:
        """Send to another node."""
        ...

    def send_snapshot(self, target: Nid, index: Index) -> None:
        """Send the newest snapshot."""
        ...

    def submit(self, write: Write) -> None:
        """Give a write to the disk."""
        ...

    def reply(self, reply: Reply) -> None:
        """Answer a client."""
        ...

    def load(self, index: Index) -> Catalog:
        """Read a snapshot back."""
        ...

    def take_snapshot(self, snap: Snap, data: bytes) -> None:
        """Begin to write a snapshot; ``snapshot_kept`` comes when it is durable."""
        ...

    def world_now(self) -> Ns:
        """The time of the world, which no node knows: for the oracle."""
        ...

    def observe(self, status: MemberStatus) -> None:
        """Hear of a change of role, leader or epoch."""
        ...


class Reading(msgspec.Struct, frozen=True, gc=False):
    """A read that waits until the state is new enough."""

    request: Request
    index: Index


class Process:
    """See the module."""

    def __init__(
        self,
        nid: Nid,
        host: Host,
        oracle: Oracle,
        marks: Marks,
        *,
        boot: Boot,
        life: Life,
        catalog: Catalog,
        now: Ns,
        lineage: int,
        make_core: MakeCore,
        draw: Callable[[], float],
        settings: Settings,
        snapshot_every: int,
    ) -> None:
        self.nid = nid
        self.life = life
        self.is_retired = False
        self._host = host
        self._oracle = oracle
        self._marks = marks
        self._replica = Replica(catalog)
        self._now = now
        self._applied = boot.snap.index
        self._snapshot_at = boot.snap.index
        self._snapshot_every = snapshot_every
        self._is_snapshotting = False
        self._cluster_time: ClusterTime | None = None
        self._batches = 0
        self._ticket = 0
        self._tickets: dict[int, Request] = {}
        self._tokens: dict[Index, Token] = {}
        self._last_token = 0  # of all that is no proposal
        self._changes: dict[Token, None] = {}
        self._reads: dict[Token, tuple[Request, Index]] = {}
        self._parked: list[Reading] = []
        self.member = Member(
            nid,
            boot,
            lineage=lineage,
            applied=boot.snap.index,
            now=now,
            make_core=make_core,
            draw=draw,
            settings=settings,
        )

    @property
    def catalog(self) -> Catalog:
        """The state."""
        return self._replica.catalog

    @property
    def applied(self) -> Index:
        """The last entry applied."""
        return self._applied

    @property
    def waits(self) -> int:
        """How many clients' requests have no answer yet."""
        return len(self._tickets) + len(self._reads) + len(self._parked)

    # What comes in

    def at(self, now: Ns) -> Member:
        """The member, for an input at this time; ``run`` follows."""
        self._now = now
        return self.member

    def tick(self, now: Ns) -> None:
        """Time has passed."""
        if now >= self.member.deadline:
            self.at(now).tick(now)

    def request(self, now: Ns, request: Request) -> None:
        """A client calls."""
        self._now = now
        match request.kind:
            case "read":
                self._parked.append(Reading(request, request.seen))
                self._serve_parked()
            case "read_stale":
                self._read_stale(request)
            case "read_linear" | "read_key":
                token = self._next_token()
                self._oracle.tokens.asks(self.life, token)
                self._reads[token] = (request, self._oracle.commit)
                self.member.read(now, token)
            case _:
                self._offer(request)

    def _next_token(self) -> Token:
        """A token for anything but a proposal: those have the even ones."""
        self._last_token += 1
        return 2 * self._last_token + 1

    def change(self, now: Ns, engine: str, members: dict[Nid, Peer], first_leader: Nid) -> None:
        """The operator asks for another epoch.  Raises what ``Member.change`` raises."""
        self._now = now
        token = self._next_token()
        self.member.change(now, engine, members, first_leader, {}, token)
        self._changes[token] = None
        self._oracle.tokens.asks(self.life, token)

    def snapshot_kept(self, now: Ns, compact_to: Snap) -> None:
        """A snapshot is durable: the log up to ``compact_to`` may go."""
        self._now = now
        self._is_snapshotting = False
        self.member.compact(compact_to)

    def _offer(self, request: Request) -> None:
        if self.member.status.role != "leader":
            self._refuse(request)
            return
        self._ticket += 1
        self._tickets[self._ticket] = request
        origin = Origin(f"client-{request.client}", request.seq)
        self._replica.offer(request.part, decode_part(request.part), self, self._ticket, origin)

    def _read_stale(self, request: Request) -> None:
        fresh = self.member.status.fresh
        if fresh >= self._now - request.stale and self._applied >= request.seen:
            self._host.reply(read_at(self.catalog, request, self._applied))
        else:
            self._marks.hit("stale read refused")
            self._refuse(request)

    def _refuse(self, request: Request, what: str = "refused") -> None:
        leader = self.member.status.leader
        self._host.reply(Reply(request.client, request.seq, request.attempt, what, leader=leader))

    # What comes of it

    def run(self) -> None:
        """Do everything that is to be done now."""
        while True:
            while (step := self.member.ready()) is not None:
                self._perform(step)
            if not self._seal():
                break
        self._maybe_snapshot()

    def _seal(self) -> bool:
        replica = self._replica
        if not replica.has_open_batch or self._batches >= BATCHES_MAX:
            return False
        if self._cluster_time is None:
            self._cluster_time = ClusterTime(replica.catalog.now_ms, self._now)
        token, payload = replica.seal(self._cluster_time.stamp(self._now))
        self._batches += 1
        self._oracle.tokens.asks(self.life, 2 * token, payload)
        self.member.append(self._now, payload, 2 * token)
        return True

    def _perform(self, step: Step) -> None:
        """Restore, write and send, apply, answer; in this order."""
        oracle, life, host = self._oracle, self.life, self._host
        if step.restore is not None:
            self._restore(step.restore)
        if step.write is not None:
            host.submit(step.write)
        for target, message in step.send:
            if type(message) is InEpoch:
                oracle.sends(self.nid, message.message)
            host.send(target, message)
        for target, index in step.send_snapshot:
            host.send_snapshot(target, index)
        if step.status is not None:
            self._observe(step.status)
        for done in step.done:
            oracle.tokens.answers(life, done)
            if done.token in self._changes:
                del self._changes[done.token]
                self._marks.hit(f"change {done.what}")
            elif done.what == "committed":
                self._tokens[done.index] = done.token
        if step.entries:
            self._apply(step.entries)
        for done in step.done:
            if done.what != "committed" and done.token % 2 == 0:
                self._failed(done)
        for token, index in step.reads:
            request, committed = self._reads.pop(token)
            oracle.tokens.confirms(life, token, index, committed)
            self._parked.append(Reading(request, index))
        for token in step.reads_failed:
            request, _ = self._reads.pop(token)
            oracle.tokens.fails_read(life, token)
            self._refuse(request)
        if self._parked:
            self._serve_parked()
        if step.retired:
            self.is_retired = True

    def _observe(self, status: MemberStatus) -> None:
        if status.role == "leader":
            self._oracle.leads(self.nid, status.ballot)
        else:
            self._cluster_time = None
        if status.epoch.number:
            self._oracle.is_epoch(self.nid, status.epoch)
        self._oracle.moved(self.life, status.commit)
        self._host.observe(status)

    def _restore(self, snap: Snap) -> None:
        self._oracle.is_snapshot(self.nid, snap)
        self._marks.hit("snapshot installed")
        self._replica.catalog = self._host.load(snap.index)
        self._applied = self._snapshot_at = self.life.applied = snap.index

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        oracle, replica, life = self._oracle, self._replica, self.life
        now = self._host.world_now()
        status = self.member.status
        for entry in entries:
            is_first = oracle.applies(now, life, entry, status.ballot)
            index = self._applied = entry.index
            token = self._tokens.pop(index, 0)
            payload = entry.payload
            if entry.kind != KIND_BATCH or not payload:
                continue
            if token:
                self._batches -= 1
            applied = replica.committed(index, payload, token // 2)
            if is_first:
                origins = decode_batch(payload).origins
                oracle.effects.took(origins, applied, index)
            oracle.effects.came_of(self.nid, index, _effect_of(applied))
            if index % DIGEST_EVERY == 0:
                oracle.effects.state(self.nid, index, b"".join(dump(replica.catalog)))
        oracle.moved(life, status.commit)
        self.member.applied(self._now, self._applied)

    def _failed(self, done: Done) -> None:
        self._batches -= 1
        self._marks.hit(f"proposal {done.what}")
        error: WaypostError
        if done.what == "unknown":
            error = TimedOut("the leader changed; the write may or may not have happened")
        else:
            error = Unavailable("this node does not lead: ask another")
        self._replica.refused(done.token // 2, error)

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """A write was committed."""
        request = self._tickets.pop(ticket)
        result = " ".join(word_of(request, outcome) for outcome in outcomes)
        self._host.reply(
            Reply(request.client, request.seq, request.attempt, "done", revision, result)
        )

    def failed(self, ticket: int, error: WaypostError) -> None:
        """A write was refused, or nobody knows."""
        request = self._tickets.pop(ticket)
        self._refuse(request, "unknown" if isinstance(error, TimedOut) else "refused")

    def _serve_parked(self) -> None:
        waiting: list[Reading] = []
        for reading in self._parked:
            if self._applied >= reading.index:
                self._host.reply(read_at(self.catalog, reading.request, self._applied))
            else:
                waiting.append(reading)
        self._parked = waiting

    # Snapshots

    def snapshot(self) -> bool:
        """Take one now, if there is anything new that is durable."""
        index = self._applied
        if self._is_snapshotting or index <= self._snapshot_at:
            return False
        if index > self.member.status.durable:
            self._marks.hit("snapshot waits for the disk")
            return False
        data = b"".join(dump(self.catalog))
        self._oracle.effects.state(self.nid, index, data)
        snap = self.member.snap(index)
        self._oracle.is_snapshot(self.nid, snap)
        self._is_snapshotting = True
        self._snapshot_at = index
        self._host.take_snapshot(snap, data)
        return True

    def _maybe_snapshot(self) -> None:
        if self._applied - self._snapshot_at >= self._snapshot_every:
            self.snapshot()


def _effect_of(applied: Applied) -> bytes:
    """Everything that the outside may notice of an entry."""
    return _encoder.encode((applied.outcomes, applied.changed))
