"""What a leader does: it replicates its log, counts acks, confirms reads, and knows when to stop.

The same for Raft and Multi-Paxos.  They differ in two numbers given at the start: ``base``, the end
of the log that the leader took over (Paxos), and ``counts_from``, the lowest index that may be
committed by counting acks (Raft, section 5.4.2: only entries of the leader's own term).

Always true: this object lives for one ballot, so nothing of an earlier leadership can count in it;
a peer counts by what its disk holds, and so does the leader itself.
"""

from waypost.consensus.core import Token
from waypost.consensus.entry import Ballot, Index, Nid, Ns
from waypost.consensus.messages import Ack, Append, Handoff, Hello, HelloAck, Read, ReadAt
from waypost.consensus.progress import Progress
from waypost.consensus.quorum import reached
from waypost.consensus.reads import Rounds
from waypost.consensus.site import Site

_PROBE_BYTES_MAX = 16 << 10
"""A probe carries the entries that follow if they are small: mostly it is right at once."""
_SNAPSHOT_PATIENCE = 4
"""In T: after a snapshot was sent, its receiver has so long to say that it is in use."""


class Leader:
    """One leadership."""

    __slots__ = (
        "_base",
        "_confirmed_when",
        "_counts_from",
        "_handed_over",
        "_lease_from",
        "_may_lease",
        "_peers",
        "_rounds",
        "_site",
        "_was_connected",
        "ballot",
        "barrier",
        "next_heartbeat",
        "retry_space",
        "target",
        "target_until",
    )

    def __init__(
        self, site: Site, ballot: Ballot, *, barrier: Index, base: Index, counts_from: Index
    ) -> None:
        now = site.now
        self._site = site
        self._confirmed_when = now
        self.ballot = ballot
        self.barrier = barrier
        """Reads must see at least this: what earlier leaders may have committed."""
        self._base = base
        self._counts_from = counts_from
        self._peers = {nid: Progress(nid, base + 1, now) for nid in site.others}
        self._rounds = Rounds()
        self.next_heartbeat: Ns = now + site.settings.heartbeat
        self.target: Nid = 0
        """Who is to lead next; 0 while there is no handover."""
        self.target_until: Ns = 0
        self._handed_over = False
        self._was_connected = True  # when the last appends were made
        self.retry_space: Ns = 0
        """When to try again to hand over because the disk is full."""
        self._may_lease = site.settings.leases
        self._lease_from: Ns = now
        """Only rounds that began at or after this make a lease."""
        self._begin_round()

    # What is known of the others

    @property
    def matches(self) -> tuple[tuple[Nid, Index], ...]:
        """How far each peer holds the log durably."""
        return tuple((peer.nid, peer.match) for peer in self._peers.values())

    @property
    def heard(self) -> Ns:
        """When a majority had last acknowledged this leadership."""
        site = self._site
        times = [peer.heard for peer in self._peers.values()]
        return reached([site.now, *times], site.quorum)

    @property
    def is_connected(self) -> bool:
        """Whether a majority was heard lately."""
        return self._site.now - self.heard < self._site.patience.limit

    @property
    def committed(self) -> Index:
        """What a majority holds durably, if that commits it."""
        site = self._site
        matches = [peer.match for peer in self._peers.values()]
        # Its own log counts in this ballot when it is on disk that it was accepted in it.
        matches.append(site.durable if site.journal.hard_is_durable else 0)
        index = reached(matches, site.quorum)
        return index if index >= self._counts_from else 0

    @property
    def lease_until(self) -> Ns:
        """Until when nobody else can have been elected; 0 without a lease.

        Every voter of the newest confirmed round helps nobody else until T after it came there,
        and it came there after it began here; a tenth of T is for clocks that drift.
        """
        rounds, site = self._rounds, self._site
        if (
            not self._may_lease
            or site.log.seal
            or not rounds.confirmed
            or rounds.confirmed_at < self._lease_from
            or site.commit < self.barrier
        ):
            return 0
        return rounds.confirmed_at + site.settings.election * 9 // 10

    def on_ack(self, src: Nid, ack: Ack) -> bool:
        """A peer answered an append of this very ballot; whether its disk holds more now."""
        peer = self._peers[src]
        match = peer.match
        peer.echo = ack.sent
        if ack.round:
            peer.heard = self._site.now
            if ack.round > peer.acked_round:
                peer.acked_round = ack.round
                if ack.round > self._rounds.confirmed:
                    self._confirm()
        if peer.snapshot:
            if max(ack.match, ack.held) < self._site.log.base:
                return False
            peer.probe(ack.held + 1)
        if ack.ok:
            peer.matched(ack.match, ack.held)
            return peer.match > match
        peer.match = max(peer.match, ack.match)
        # "The leader can decrement nextIndex to bypass all of the conflicting entries in that
        # term" (Raft, section 5.3); it always goes back by one at least.
        meeting = self._site.log.hint(ack.hint, ack.hint_ballot)
        refused = peer.next
        peer.probe(min(refused - 1, meeting + 1))
        # What it acknowledged it holds, and yet it refuses: it is repairing its disk.
        peer.is_paused = peer.next >= refused
        return peer.match > match

    def forget(self, src: Nid, hello: Hello) -> None:
        """A peer's disk may have lost what it acknowledged; tell it what to catch up with."""
        self._peers[src].forget()
        last = self._site.log.last
        self._site.send(src, HelloAck(self.ballot, hello.nonce, leads=True, last=last))

    def back_up(self, src: Nid, index: Index) -> None:
        """A peer lost the entry at ``index``: send from there once more."""
        peer = self._peers[src]
        index = min(index, self._site.log.last + 1)
        peer.match = min(peer.match, index - 1)
        if not peer.snapshot:
            peer.probe(index)

    # Time

    def tick(self) -> bool:
        """Send heartbeats when they are due; False: this leadership has to end."""
        site, now = self._site, self._site.now
        election = site.settings.election
        if now < self.next_heartbeat:
            return True
        self.next_heartbeat = now + site.settings.heartbeat
        for peer in self._peers.values():
            peer.is_paused = False
            if peer.snapshot and 0 < peer.resume <= now:
                peer.probe(peer.next)
        self._begin_round()
        if now - self.heard > site.patience.limit * 3 // 2:  # CheckQuorum
            return False
        self._handed_over = False  # that message may be lost too
        if now >= self.target_until:
            self.target = 0
        # A leader that cannot write cannot lead, however well its heartbeats travel
        # (hashicorp/raft#503): it hands over, and then it stops.
        stalled = now - (now if site.journal.oldest is None else site.journal.oldest)
        if stalled > 2 * election:
            if stalled > 5 * election // 2:
                return False
            self._hand_over_to_anyone()
        elif not site.has_space and now >= self.retry_space:
            self.retry_space = now + 20 * election
            self._hand_over_to_anyone()
        return True

    def resume(self) -> None:
        """The process was paused: what was known of time is not known any more."""
        site = self._site
        self.drop_lease()
        # A majority has half a T to confirm that it still follows.
        grace = site.now - site.settings.election
        for peer in self._peers.values():
            peer.heard = max(peer.heard, grace)
        self.next_heartbeat = site.now

    def drop_lease(self) -> None:
        """Serve no read by the clock before a round that begins from here on is confirmed."""
        self._lease_from = self._site.now + 1

    # Handover

    def transfer(self, to: Nid) -> None:
        """Let ``to`` catch up, then ask it to stand for election (Raft thesis, section 3.10)."""
        site = self._site
        # The voters that help it may do so at any time: no lease in this ballot any more.
        self._may_lease = False
        self.target, self._handed_over = to, False
        self.target_until = site.now + site.settings.election
        self._peers[to].is_due = True

    def _hand_over_to_anyone(self) -> None:
        if self._peers and not self.target:
            best = max(self._peers.values(), key=lambda peer: (peer.match, peer.heard, peer.nid))
            self.transfer(best.nid)

    # Reads

    def read(self, asker: Nid, token: Token) -> None:
        """Confirm a read, of this node if ``asker`` is 0, by the lease or by the next round."""
        site = self._site
        index = site.commit
        if site.sealed or len(self._rounds) >= site.settings.reads_max:
            self._answer(asker, token, ok=False)
        elif site.now < self.lease_until:
            self._answer(asker, token, ok=True, index=index)
        else:
            self._rounds.read(asker, token, index)

    def on_read(self, src: Nid, message: Read) -> None:
        """A follower asks."""
        self.read(src, message.number)

    def serve(self) -> None:
        """Answer the reads that are confirmed."""
        if self._site.sealed:
            self.fail_reads()
            return
        for asker, token, index in self._rounds.take(self.barrier, self._site.commit):
            self._answer(asker, token, ok=True, index=index)

    def fail_reads(self) -> None:
        """Nothing can be confirmed any more."""
        for asker, token in self._rounds.give_up():
            self._answer(asker, token, ok=False)

    def _answer(self, asker: Nid, token: int, *, ok: bool, index: Index = 0) -> None:
        site = self._site
        if asker:
            site.send(asker, ReadAt(self.ballot, token, ok, index))
        elif ok:
            site.reads.append((token, index))
        else:
            site.reads_failed.append(token)

    def _begin_round(self) -> None:
        self._rounds.begin(self._site.now, self._site.commit)
        for peer in self._peers.values():
            peer.is_due = True
        self._confirm()

    def _confirm(self) -> None:
        site, rounds = self._site, self._rounds
        acked = [peer.acked_round for peer in self._peers.values()]
        acked.append(rounds.newest)
        round_ = reached(acked, site.quorum)
        if round_ > rounds.confirmed:
            rounds.confirm(round_)
            site.patience.bore(site.now - self._confirmed_when, site.now)
            self._confirmed_when = site.now
            if site.commit >= self.barrier:
                commit = max(rounds.confirmed_commit, self.barrier)
                site.freshness.offer(rounds.confirmed_at, commit, site.applied)

    # Replication

    def flush(self) -> None:
        """Send to each peer what it has not been sent: entries, the commit index, a heartbeat."""
        if self._rounds.is_wanted and self._rounds.is_idle:
            self._begin_round()
            self.serve()
        site = self._site
        last = site.log.last
        self._was_connected = self.is_connected
        for peer in self._peers.values():
            if not peer.snapshot and peer.next <= last and not peer.is_paused:
                self._stream(peer, last)
            # Whoever waits for nothing else learns of a commit at once.
            if peer.is_due or (
                peer.sent_commit < site.commit and not peer.window and not peer.is_probing
            ):
                self._append(peer, ())
            if peer.nid == self.target and not self._handed_over and peer.match >= last:
                self._handed_over = True
                site.send(peer.nid, Handoff(self.ballot))

    def _stream(self, peer: Progress, last: Index) -> None:
        site = self._site
        settings = site.settings
        if peer.next <= site.log.base:
            # What comes before its next entry is compacted: no append can meet its log.
            peer.await_snapshot(site.snap.index)
            site.send_snapshot.append((peer.nid, site.snap.index))
            return
        bytes_max = _PROBE_BYTES_MAX if peer.is_probing else settings.append_bytes_max
        while peer.next <= last and (not peer.window or peer.window_bytes < settings.window_bytes):
            frames, size = site.log.frames(peer.next, bytes_max)
            if peer.is_probing:
                self._append(peer, frames if size <= bytes_max else ())
                peer.is_paused = True
                return
            end = peer.next + len(frames) - 1
            self._append(peer, frames)
            peer.sent(end, size)

    def _append(self, peer: Progress, frames: tuple[bytes, ...]) -> None:
        site, rounds = self._site, self._rounds
        log = site.log
        prev = max(peer.next - 1, log.base)
        knows_time = rounds.confirmed > 0 and site.commit >= self.barrier
        peer.is_due = False
        peer.sent_commit = site.commit
        site.outbox.append(
            (
                peer.nid,
                Append(
                    self.ballot,
                    prev,
                    log.ballot_at(prev),
                    frames,
                    site.commit,
                    rounds.newest,
                    self._base,
                    self._was_connected,
                    site.now - rounds.confirmed_at if knows_time else 0,
                    peer.echo if knows_time else 0,
                ),
            )
        )

    def snapshot_sent(self, to: Nid, index: Index, *, ok: bool) -> None:
        """Probe again after a while, should nothing be heard."""
        site = self._site
        peer = self._peers.get(to)
        if peer is not None and peer.snapshot == index:
            patience = _SNAPSHOT_PATIENCE if ok else 1
            peer.resume = site.now + patience * site.settings.election
