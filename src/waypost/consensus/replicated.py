"""The surface of a replicated core: inputs in, one ``Ready`` out; ``core.Core`` is its contract.

What Raft and Multi-Paxos have in common is here and in ``roles``, ``leader``, ``follower``,
``campaign`` and ``healing``; ``raft`` and ``paxos`` say what a promise costs, what a winner does
with the logs that it hears of, and when an append synchronises a follower (compare Howard and
Mortier, "Paxos vs Raft: Have we reached consensus on distributed consensus?", 2020).
"""

from collections.abc import Sequence

from waypost.consensus.core import Message, Ready, Seq, Snap, Status, Token
from waypost.consensus.entry import KIND_BATCH, KIND_SEAL, Ballot, Entry, Index, Nid, Ns
from waypost.consensus.messages import (
    Ack,
    Append,
    Handoff,
    Hello,
    HelloAck,
    Prepare,
    Promise,
    Read,
    ReadAt,
    Repair,
    Repaired,
)
from waypost.consensus.roles import Roles
from waypost.errors import Invalid


class ReplicatedCore(Roles):
    """One member of an epoch."""

    # Where it stands

    @property
    def status(self) -> Status:
        """Where it stands now."""
        site, leader = self._site, self._leader
        return Status(
            role=self._role,
            ballot=self._ballot,
            leader=site.me if leader else self._follower.leader,
            last=site.log.last,
            durable=site.durable,
            commit=site.visible,
            barrier=leader.barrier if leader else 0,
            lease_until=leader.lease_until if leader else 0,
            sealed=site.sealed,
            fresh=site.freshness.at,
            matches=leader.matches if leader else (),
        )

    # Inputs

    def tick(self, now: Ns) -> None:
        """Time has passed."""
        self._see(now)
        site = self._site
        if self._leader is not None:
            if self._leader.tick():
                self._count()
            else:
                self._step_down(soon=False)
        elif now >= self._election_at:
            self._stand()
        if now >= self._follower.questions.until:
            site.reads_failed += self._follower.questions.give_up()
        if now >= site.answers.patience:
            site.answers.give_up(self._follower.leader)
        self._healing.tick()

    def receive(self, now: Ns, src: Nid, message: Message) -> None:
        """A peer sent this; what another epoch or a stranger says counts for nothing."""
        self._see(now)
        site = self._site
        if message.ballot.epoch != site.epoch or src not in site.others:
            return
        match message:
            case Append():
                self._on_append(src, message)
            case Ack():
                self._on_ack(src, message)
            case Prepare():
                if not message.pre:
                    site.hear_of(message.ballot)
                if self._may_vote:
                    self._on_prepare(src, message)
            case Promise():
                self._on_promise(src, message)
            case Read():
                self._on_read(src, message)
            case ReadAt():
                if message.ballot == self._follower.ballot:
                    self._follower.on_read_at(message)
            case Handoff():
                self._on_handoff(src, message)
            case Hello():
                self._on_hello(src, message)
            case HelloAck():
                self._healing.on_hello_ack(src, message)
            case Repair():
                self._on_repair(src, message)
            case Repaired():
                self._healing.on_repaired(message)

    def propose(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append a batch, or refuse it: not the leader, no room, or the epoch ends."""
        self._append(now, KIND_BATCH, payload, token)

    def seal(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append the Seal of this epoch; from here on there is no lease and no proposal."""
        self._append(now, KIND_SEAL, payload, token)

    def _append(self, now: Ns, kind: int, payload: bytes, token: Token) -> None:
        self._see(now)
        site, leader = self._site, self._leader
        answers, size = site.answers, len(payload)
        if leader is None:
            answers.refuse(token, self._follower.leader)
        elif leader.target:
            answers.refuse(token, leader.target)
        elif (
            site.log.seal
            or not site.has_space
            or (
                answers.uncommitted_bytes
                and answers.uncommitted_bytes + size > site.settings.uncommitted_bytes_max
            )
        ):
            answers.refuse(token, site.me)
        else:
            answers.expect(self._put(kind, payload), token, size)

    def read(self, now: Ns, token: Token) -> None:
        """Confirm an index for a linearizable read: here if this node leads, or by asking."""
        self._see(now)
        if self._site.sealed:
            self._site.reads_failed.append(token)
        elif self._leader is not None:
            self._leader.read(0, token)
        else:
            self._follower.read(token)

    def transfer(self, now: Ns, to: Nid) -> None:
        """Hand leadership over to ``to``, if it is here; proposals are refused meanwhile."""
        self._see(now)
        site = self._site
        if to != site.me and to not in site.others:
            raise Invalid(
                f"transfer: node {to} is not a member of epoch {site.epoch}: name one of "
                f"{', '.join(map(str, (site.me, *site.others)))}",
                field="transfer",
            )
        if self._leader is not None and to != site.me:
            self._leader.transfer(to)

    def persisted(self, now: Ns, seq: Seq) -> None:
        """Writes are durable: messages and counts that waited for them may go."""
        self._see(now)
        site = self._site
        site.journal.persisted(seq)
        if self._leader is not None:
            self._count()
        elif self._campaign is not None:
            self._count_promises()
        else:
            self._follower.persisted()

    def applied(self, now: Ns, index: Index) -> None:
        """Move the mark above which no snapshot is taken."""
        self._see(now)
        site = self._site
        assert site.applied <= index <= site.visible, (
            f"applied {index} is outside {site.applied} to {site.visible}"
        )
        site.applied = index
        site.freshness.applied(index)

    def entries(self, first: Index, last: Index) -> Sequence[Entry]:
        """The log from ``first`` to ``last``, as far back as it is in memory."""
        return self._site.log.between(first, last)

    def snap(self, index: Index) -> Snap:
        """The identity of a snapshot taken exactly after ``index``."""
        return self._site.identity(index)

    def compact(self, snap: Snap) -> None:
        """A verified snapshot is durable: note it, and drop what nobody needs."""
        self._site.compact(snap)

    def snapshot_staged(self, now: Ns, src: Nid, ballot: Ballot, snap: Snap) -> None:
        """Go on from a peer's snapshot.  Whoever sent it, what it holds is committed."""
        self._see(now)
        assert src != self._site.me, f"a snapshot of ballot {ballot} from this very node"
        if self._leader is None and self._site.install(snap):
            self._campaign = None  # it asked with another log
            self._status_is_due = True
            self._follower.accept(snap.index)
            self._follower.persisted()
            self._learn_commit(snap.index)

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, ok: bool) -> None:
        """What came of a snapshot on its way to a peer."""
        self._see(now)
        if self._leader is not None:
            self._leader.snapshot_sent(to, index, ok=ok)

    def space(self, ok: bool) -> None:
        """Without room, refuse proposals and let another member lead if one will."""
        self._site.has_space = ok
        if self._leader is not None:
            self._leader.retry_space = 0

    # Recovering

    def _recover(self) -> None:
        """Promise anew what this disk may have forgotten; vote when nothing is missing."""
        site, healing, follower = self._site, self._healing, self._follower
        forgotten = healing.forgotten
        if forgotten is None:
            return
        vow = self._vow(forgotten)
        if vow > site.journal.promised:
            site.journal.promise(vow)
        if self._admits(follower.ballot) and healing.has_caught_up(follower):
            site.journal.trust()
            self._status_is_due = True

    # Output

    def ready(self) -> Ready | None:
        """What to do now, drained."""
        site = self._site
        if site.journal.suspect:
            self._recover()
        if self._leader is not None:
            self._leader.flush()
        else:
            self._follower.flush()
        site.outbox += site.journal.released()
        write = site.journal.take(site.now, site.commit)
        visible = site.visible
        if not (
            write is not None
            or site.outbox
            or visible != self._told_visible
            or self._status_is_due
            or site.answers.done
            or site.reads
            or site.reads_failed
            or site.send_snapshot
            or site.restore is not None
        ):
            return None
        ready = Ready(
            visible,
            tuple(site.outbox),
            write,
            tuple(site.answers.done),
            tuple(site.reads),
            tuple(site.reads_failed),
            tuple(site.send_snapshot),
            site.restore,
            self.status if self._status_is_due else None,
        )
        site.drained()
        self._told_visible = visible
        self._status_is_due = False
        return ready
