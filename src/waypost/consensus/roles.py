"""Who leads: how a member passes between following, standing for election and leading.

A member is a follower, asks for promises (``pre``: only whether they would be given), or leads.
Always true: at most one of ``_leader`` and ``_campaign`` is there; a leader or a candidate has
durably promised its own ballot before anyone hears of it.

Elections: PreVote (Ongaro's thesis, section 9.6), so that a member that nobody misses disturbs
nobody; voters are loyal to a leader that they heard within T; a leader that hears no majority says
so, and then whoever does may stand at once (the quorum-connected criterion of OmniPaxos, EuroSys
2023); it steps down after 1.5 T (CheckQuorum, thesis section 6.2).  T grows with the silences that
turned out to be none (``patience``), and does not count for a leader whose process has ended.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from waypost.consensus.campaign import Campaign
from waypost.consensus.core import Boot, Role
from waypost.consensus.entry import Ballot, Index, Nid, Ns, encode
from waypost.consensus.epoch import Epoch
from waypost.consensus.follower import Follower
from waypost.consensus.healing import Healing
from waypost.consensus.leader import Leader
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
)
from waypost.consensus.settings import LAN, Settings
from waypost.consensus.site import Site


class Roles(ABC):
    """The role of one member, and what makes it change."""

    def __init__(
        self,
        me: Nid,
        epoch: Epoch,
        boot: Boot,
        *,
        now: Ns,
        may_lead_first: bool,
        settings: Settings = LAN,
        draw: Callable[[], float],
    ) -> None:
        self._site = site = Site(me, epoch, boot, now=now, settings=settings, draw=draw)
        self._leader: Leader | None = None
        self._campaign: Campaign | None = None
        self._follower = Follower(site, site.journal.promised, 0)
        self._healing = Healing(site)
        self._told_visible: Index = 0
        self._status_is_due = True
        election = settings.election
        # Who may have promised a lease before a restart keeps quiet until it is over.
        self._quiet_until: Ns = now + election if settings.leases else 0
        is_new = site.journal.promised.round == 0
        wait = int(draw() * election)
        self._election_at: Ns = now + (wait if is_new else election + wait)
        is_first = site.journal.promised == Ballot(epoch.number, 1, me)
        # With entries of this epoch in its log (of a snapshot), others have led it already.
        if may_lead_first and is_first and site.log.last < epoch.first and not self._is_damaged:
            self._lead_first()

    # What Raft and Multi-Paxos do differently

    @abstractmethod
    def _admits(self, ballot: Ballot) -> bool:
        """Whether nothing higher than ``ballot`` is promised here."""

    @abstractmethod
    def _credentials(self) -> tuple[Ballot, Index]:
        """What a candidate's log is measured by."""

    @abstractmethod
    def _on_prepare(self, src: Nid, message: Prepare) -> None:
        """A candidate asks for a promise."""

    @abstractmethod
    def _on_append(self, src: Nid, message: Append) -> None:
        """A leader sends entries, or a heartbeat."""

    @abstractmethod
    def _elected(self, campaign: Campaign) -> None:
        """A majority promised: take over, if all that is needed for that is here."""

    @abstractmethod
    def _lead_first(self) -> None:
        """Lead the first ballot of an epoch, in which nothing can have been accepted yet."""

    @abstractmethod
    def _vow(self, forgotten: Ballot) -> Ballot:
        """What to promise when promises up to ``forgotten`` may have been lost."""

    @property
    def _role(self) -> Role:
        if self._leader is not None:
            return "leader"
        if self._campaign is not None:
            return "pre" if self._campaign.is_pre else "candidate"
        return "recovering" if self._site.journal.suspect else "follower"

    @property
    def _ballot(self) -> Ballot:
        if self._leader is not None:
            return self._leader.ballot
        if self._campaign is not None:
            return self._campaign.ballot
        return max(self._follower.ballot, self._site.journal.promised)

    # Time

    @property
    def deadline(self) -> Ns:
        """The next moment at which something happens by itself."""
        leader = self._leader
        at = self._election_at if leader is None else leader.next_heartbeat
        return min(
            at, self._site.answers.patience, self._healing.at, self._follower.questions.until
        )

    def _see(self, now: Ns) -> None:
        site = self._site
        half = site.settings.election // 2
        if now - site.now > half and now - self.deadline > half:
            # Nobody called for so long: this process was paused, and messages wait unread.
            site.now = now
            if self._leader is not None:
                self._leader.resume()
            else:
                wait = half + int(site.draw() * half)
                self._election_at = max(self._election_at, now + wait)
        assert now >= site.now, f"time went back from {site.now} to {now}"
        site.now = now

    def _rest(self) -> None:
        """Draw the time after which to stand, if nobody is heard until then."""
        site = self._site
        limit = site.patience.limit
        self._election_at = site.now + limit + int(site.draw() * limit)

    def gone(self, now: Ns, nid: Nid) -> None:
        """The process of ``nid`` has ended: if it led, nobody needs to wait until it is missed.

        One after the other stands, by the order of their ids, so that votes are not split.  With
        leases nothing is cut short: whoever says so may be wrong, and they rest on time alone.
        """
        self._see(now)
        site, follower = self._site, self._follower
        if self._leader is not None or follower.leader != nid or site.settings.leases:
            return
        follower.leader_is_connected = False
        rank = sum(other < site.me for other in site.others if other != nid)
        soon = site.now + int((rank + site.draw() / 2) * site.settings.heartbeat)
        self._election_at = min(self._election_at, soon)

    # Standing for election

    @property
    def _is_damaged(self) -> bool:
        site = self._site
        return site.journal.suspect or bool(site.log.faulty) or site.repaired_from > 0

    @property
    def _may_vote(self) -> bool:
        return not self._site.journal.suspect and self._site.now >= self._quiet_until

    @property
    def _may_stand(self) -> bool:
        site = self._site
        election = site.settings.election
        oldest = site.journal.oldest
        return (
            self._may_vote
            and not self._is_damaged
            and (oldest is None or site.now - oldest < election)
            and not (
                site.settings.leases
                and self._follower.leader
                and site.now < self._follower.heard + election
            )
        )

    def _is_loyal_against(self, src: Nid) -> bool:
        """Whether this voter has a leader that lives, and that ``src`` would disturb."""
        site = self._site
        if self._leader is not None:
            return self._leader.is_connected
        follower = self._follower
        return (
            follower.leader not in (0, src)
            and site.now - follower.heard < site.patience.limit
            and (follower.leader_is_connected or site.settings.leases)
        )

    def _stand(self) -> None:
        """Nobody leads, as far as this member can tell: ask whether it should."""
        self._rest()
        if self._campaign is not None:
            self._campaign = None
            self._status_is_due = True
        if self._may_stand:
            self._follower.lose_leader()
            self._ask(is_pre=True)

    def _ask(self, *, is_pre: bool, force: bool = False) -> None:
        site = self._site
        journal = site.journal
        ballot = Ballot(site.epoch, max(site.seen.round, journal.promised.round) + 1, site.me)
        self._campaign = Campaign(ballot, site.commit, is_pre=is_pre)
        self._status_is_due = True
        accepted, last = self._credentials()
        message = Prepare(ballot, is_pre, accepted, last, site.commit, force)
        if is_pre:
            for nid in site.others:
                site.send(nid, message)
        else:
            # Its own promise comes first: after a crash it must not use this ballot again.
            self._rest()
            self._follower.lose_leader()
            journal.promise(ballot)
            site.hear_of(ballot)
            for nid in site.others:
                journal.hold(nid, message)
        self._count_promises()

    def _on_promise(self, src: Nid, message: Promise) -> None:
        if not message.ok:
            self._site.hear_of(message.ballot)
        campaign = self._campaign
        if campaign is None:
            return
        if campaign.take(src, message):
            self._count_promises()
        elif (
            not message.ok and not campaign.is_pre and message.ballot.round > campaign.ballot.round
        ):
            self._campaign = None
            self._status_is_due = True

    def _count_promises(self) -> None:
        campaign, site = self._campaign, self._site
        assert campaign is not None
        own = 1 if campaign.is_pre or site.journal.hard_is_durable else 0
        if len(campaign.promises) + own < site.quorum:
            return
        if campaign.is_pre:
            self._ask(is_pre=False)
        else:
            self._elected(campaign)

    def _on_handoff(self, src: Nid, message: Handoff) -> None:
        """The leader wants this member to lead: stand at once, and ask voters to help."""
        follower, site = self._follower, self._site
        is_ours = follower.leader == src and follower.ballot == message.ballot
        if is_ours and self._leader is None and site.has_space and self._may_stand_for(src):
            self._ask(is_pre=False, force=True)

    def _may_stand_for(self, leader: Nid) -> bool:
        """Whether it may stand when ``leader`` itself asks for it."""
        assert self._follower.leader == leader
        self._follower.lose_leader()
        return self._may_stand

    # Leading

    def _lead(self, ballot: Ballot, *, barrier: Index, base: Index, counts_from: Index) -> None:
        self._campaign = None
        self._follower.lose_leader()
        self._leader = Leader(
            self._site, ballot, barrier=barrier, base=base, counts_from=counts_from
        )
        self._status_is_due = True

    def _put(self, kind: int, payload: bytes = b"") -> Index:
        """Append an entry of this leader's own."""
        assert self._leader is not None
        log = self._site.log
        entry = encode(log.last + 1, self._leader.ballot, kind, payload, log.chain)
        log.append(entry)
        return entry.index

    def _on_ack(self, src: Nid, message: Ack) -> None:
        leader = self._leader
        if leader is None:
            return
        if message.ballot == leader.ballot:
            if leader.on_ack(src, message):
                self._learn_commit(leader.committed)
            leader.serve()
        elif not message.ok and message.ballot > leader.ballot:
            # A member that promised a higher ballot to somebody cannot come back by itself: only a
            # ballot above that one takes it along (etcd#8501).
            self._site.hear_of(message.ballot)
            self._step_down(soon=True)

    def _count(self) -> None:
        """See what the acks and this disk amount to."""
        leader = self._leader
        assert leader is not None
        self._learn_commit(leader.committed)
        leader.serve()

    def _learn_commit(self, index: Index) -> None:
        """Everything up to ``index`` is committed; tell who waited."""
        site = self._site
        if index <= site.commit:
            return
        assert index <= site.log.last, f"{index} is committed and the log ends at {site.log.last}"
        was_sealed = site.sealed
        site.commit = index
        answers, sealed = site.answers, site.sealed
        leader = site.me if self._leader is not None else self._follower.leader
        answers.committed(min(index, sealed or index))
        answers.settle(site.log, min(index, sealed or index), leader)
        if sealed and not was_sealed:
            answers.lose_beyond(sealed, leader)
            self._status_is_due = True

    def _on_read(self, src: Nid, message: Read) -> None:
        leader = self._leader
        if leader is not None and message.ballot == leader.ballot:
            leader.on_read(src, message)
        else:
            self._site.send(src, ReadAt(message.ballot, message.number, ok=False, index=0))

    def _on_hello(self, src: Nid, message: Hello) -> None:
        leader, site = self._leader, self._site
        if leader is not None:
            leader.forget(src, message)
        else:
            promised = site.journal.promised
            site.send(src, HelloAck(promised, message.nonce, leads=False, last=0))

    def _on_repair(self, src: Nid, message: Repair) -> None:
        self._healing.on_repair(src, message)
        if self._leader is not None:
            self._leader.back_up(src, message.indexes[0])

    # Following

    def _follow(self, ballot: Ballot, leader: Nid) -> Follower:
        """``leader`` leads ``ballot``, and nothing higher is promised here."""
        if self._leader is not None:
            self._step_down(soon=False)
        follower = self._follower
        if self._campaign is not None or (follower.ballot, follower.leader) != (ballot, leader):
            self._campaign = None
            self._status_is_due = True
            if follower.ballot == ballot:
                follower.leader = leader
            else:
                follower.lose_leader()
                self._follower = follower = Follower(self._site, ballot, leader)
        self._rest()
        return follower

    def _heard(self, follower: Follower, message: Append) -> None:
        """Note what every append says, whatever entries it brings."""
        follower.hear(message)
        site = self._site
        if not follower.leader_is_connected and not site.settings.leases:
            soon = site.now + int(site.draw() * site.settings.heartbeat)
            self._election_at = min(self._election_at, soon)

    def _step_down(self, *, soon: bool) -> None:
        """End this leadership; ``soon``: to stand again at once, with a higher ballot."""
        leader, site = self._leader, self._site
        assert leader is not None
        leader.fail_reads()
        self._leader = None
        self._status_is_due = True
        site.answers.orphan(leader.ballot, site.now + 2 * site.settings.election)
        self._follower = Follower(site, leader.ballot, 0)
        self._rest()
        if soon:
            self._election_at = site.now + int(site.draw() * site.settings.heartbeat)

    def _defer_to(self, ballot: Ballot) -> None:
        """Somebody stands in a higher ballot: be nothing but a voter in it."""
        if self._leader is not None and ballot > self._leader.ballot:
            self._step_down(soon=False)
        if self._campaign is not None and not self._campaign.is_pre:
            self._campaign = None
            self._status_is_due = True
        self._follower.lose_leader()
