"""What a member does while it leads nobody: it follows a leader, if it knows one.

Always true: ``verified`` is how far the log equals the leader's, proved by an append of this very
ballot; the commit index never passes it (G6), and an ack names no more of it than is durable (G7).

An ack leaves when it says something new, so for most appends there is one, when they are durable;
the next heartbeat makes up for one that was lost.
"""

from waypost.consensus.core import Token
from waypost.consensus.entry import NO_BALLOT, Ballot, Index, Nid, Ns
from waypost.consensus.messages import Ack, Append, Read, ReadAt
from waypost.consensus.reads import Questions
from waypost.consensus.site import Site


class Follower:
    """A member in one ballot, with or without a leader."""

    __slots__ = (
        "_acked",
        "_hint",
        "_is_ack_due",
        "_is_ack_urgent",
        "_is_probed",
        "_round",
        "_site",
        "ballot",
        "heard",
        "is_synchronised",
        "leader",
        "leader_is_connected",
        "questions",
        "verified",
    )

    def __init__(self, site: Site, ballot: Ballot, leader: Nid) -> None:
        self._site = site
        self.ballot = ballot
        self.leader = leader
        self.heard: Ns = site.now
        """When the leader's last append came."""
        self.leader_is_connected = True
        self.is_synchronised = False
        """Whether an ack may name a match: always in Raft, and see ``PaxosCore``."""
        # A leader's log holds everything committed, so up to there the logs are equal.
        self.verified: Index = site.commit
        self.questions = Questions(int(site.draw() * (1 << 52)))
        self._round = 0
        self._acked: Index = 0
        self._is_ack_due = False
        self._is_ack_urgent = False  # it does not wait until all that came is durable
        self._is_probed = False  # the leader looks where the logs meet, and waits for each ack
        self._hint: Index | None = None

    def hear(self, message: Append) -> None:
        """The leader sent this."""
        site = self._site
        site.patience.bore(site.now - self.heard, site.now)
        self.heard = site.now
        if message.round >= self._round:
            if message.round > self._round:
                self._round = message.round
                self._is_ack_due = self._is_ack_urgent = True
            self.leader_is_connected = message.connected
        if message.frames:
            self._is_ack_due = True
        if message.echo and (moment := site.own_moment(message.echo) - message.age) > 0:
            site.freshness.offer(moment, message.commit, site.applied)

    def accept(self, end: Index) -> None:
        """The log equals the leader's up to ``end``."""
        self._hint = None
        if end > self.verified or self._is_probed:
            self._is_ack_due = True
        self._is_probed = False
        self.verified = max(self.verified, end)

    def reject(self, prev: Index, ballot: Ballot) -> None:
        """There is no entry (prev, ballot) here."""
        site = self._site
        self._hint = max(site.log.hint(prev, ballot), min(site.commit, prev))
        self._is_probed = self._is_ack_due = self._is_ack_urgent = True

    @property
    def match(self) -> Index:
        """What may be acknowledged."""
        return min(self.verified, self._site.durable) if self.is_synchronised else 0

    def persisted(self) -> None:
        """A write became durable: the leader is to know how far."""
        if self.leader and self.match > self._acked:
            self._is_ack_due = self._is_ack_urgent = True

    def read(self, token: Token) -> None:
        """Ask the leader; with nobody to ask, fail."""
        site = self._site
        if self.leader and len(self.questions) < site.settings.reads_max:
            self.questions.read(token)
        else:
            site.reads_failed.append(token)

    def on_read_at(self, message: ReadAt) -> None:
        """The leader answered a question."""
        tokens = self.questions.answered(message.number)
        if message.ok:
            self._site.reads += [(token, message.index) for token in tokens]
        else:
            self._site.reads_failed += tokens

    def lose_leader(self) -> None:
        """The leader is silent, or not one any more."""
        self.leader = 0
        self._is_ack_due = self._is_ack_urgent = False
        self._site.reads_failed += self.questions.give_up()

    def flush(self) -> None:
        """Say what is to be said."""
        if not self.leader:
            return
        site = self._site
        # The ack asserts the promise of its ballot, and what Paxos accepted in it (G1).
        if (
            self._is_ack_due
            and site.journal.hard_is_durable
            and (self._is_ack_urgent or site.durable >= self.verified)
        ):
            self._is_ack_due = self._is_ack_urgent = False
            site.send(self.leader, self._ack())
        if number := self.questions.next(site.now + site.settings.election):
            site.send(self.leader, Read(self.ballot, number))

    def _ack(self) -> Ack:
        site = self._site
        hint, self._hint = self._hint, None
        # A disk that may have forgotten a promise confirms nothing.
        is_voter = not site.journal.suspect
        self._acked = match = self.match if is_voter else 0
        return Ack(
            self.ballot,
            hint is None,
            match,
            self.verified,
            self._round if is_voter else 0,
            hint or 0,
            self._ballot_at(hint) if hint else NO_BALLOT,
            site.echo_of(site.now),
        )

    def _ballot_at(self, hint: Index) -> Ballot:
        log = self._site.log
        return log.ballot_at(hint) if log.base <= hint else log.base_ballot
