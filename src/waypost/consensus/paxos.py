"""Multi-Paxos in its log-structured form, Sequence Paxos.

Haridi, Kroll and Carbone, "Lecture Notes on Leader-based Sequence Paxos", 2020; OmniPaxos, EuroSys
2023; after Lamport, "Paxos Made Simple", 2001.  What it shares with Raft is in ``roles``,
``leader`` and ``follower``.

An acceptor keeps one promised ballot, one accepted ballot *for its whole log*, and the log.  The
paper's words and ours: prepare (1a) is ``Prepare``; promise (1b) is ``Promise`` and brings the
suffix of a better log; accept (2a) and decide are ``Append``; accepted (2b) is ``Ack``.

Always true: an acceptor acknowledges entries only in a ballot in which its log was synchronised,
that is up to ``base``, the end of the log that the proposer took over; and when that happens, what
stands in the log beyond is trimmed.  Without the trim, old entries would be taken for accepted in
the new ballot, and the next proposer would prefer that longer log.
"""

from waypost.consensus.campaign import Campaign
from waypost.consensus.entry import Ballot, Index, Nid
from waypost.consensus.follower import Follower
from waypost.consensus.merging import merge
from waypost.consensus.messages import Ack, Append, Prepare, Promise
from waypost.consensus.replicated import ReplicatedCore


class PaxosCore(ReplicatedCore):
    """A member that agrees by Multi-Paxos: proposer, acceptor and learner in one."""

    def _admits(self, ballot: Ballot) -> bool:
        return ballot >= self._site.journal.promised

    # Phase 1, acceptor

    def _on_prepare(self, src: Nid, message: Prepare) -> None:
        """ "If an acceptor receives a prepare request with number n greater than that of any
        prepare request to which it has already responded, then it responds with a promise not to
        accept any more proposals numbered less than n and with the highest-numbered proposal (if
        any) that it has accepted" (Paxos Made Simple, section 2.2).
        """
        site = self._site
        ballot = message.ballot
        if not self._admits(ballot) or (not message.force and self._is_loyal_against(src)):
            refusal = Promise(site.journal.promised, message.pre, False, *self._credentials())
            site.send(src, refusal)
            return
        promise = self._promise(message)
        if message.pre:
            # Who has no way to give its better log lets the candidate wait: it can lead itself.
            is_useful = not promise.withheld
            site.send(src, Promise(ballot, True, is_useful, promise.accepted, promise.last))
            return
        if ballot > site.journal.promised:
            self._defer_to(ballot)
            self._rest()
        site.journal.promise(ballot)
        site.journal.hold(src, promise)

    def _promise(self, message: Prepare) -> Promise:
        """The answer (1b), with the suffix above the candidate's commit if this log is better."""
        log = self._site.log
        accepted, last = self._credentials()
        first = message.commit + 1
        if (accepted, last) <= (message.accepted, message.last) or last < first:
            return Promise(message.ballot, message.pre, True, accepted, last)
        if first <= log.base or (log.faulty and log.faulty[-1] >= first):
            return Promise(message.ballot, message.pre, True, accepted, last, withheld=True)
        frames, _ = log.frames(first, self._site.settings.suffix_bytes_max)
        if first + len(frames) <= last:
            return Promise(message.ballot, message.pre, True, accepted, last, withheld=True)
        return Promise(message.ballot, message.pre, True, accepted, last, first, frames)

    def _credentials(self) -> tuple[Ballot, Index]:
        return self._site.journal.accepted, self._site.log.last

    # Phase 1, proposer

    def _elected(self, campaign: Campaign) -> None:
        """ "The value v of the highest-numbered proposal among the responses": here the whole log,
        of the highest accepted ballot and the longest in that; and no value of its own before that.
        """
        site = self._site
        promises = campaign.promises.values()
        best, giver = self._credentials(), None
        for promise in promises:
            if not promise.withheld and (promise.accepted, promise.last) > best:
                best, giver = (promise.accepted, promise.last), promise
        # A promise that tells of a better log and withholds it must not be counted.
        counted = [each for each in promises if (each.accepted, each.last) <= best]
        if len(counted) + 1 < site.quorum:
            return
        if giver is not None:
            self._adopt(campaign.commit, giver)
        site.journal.accept(campaign.ballot)
        base = site.log.last
        self._lead(campaign.ballot, barrier=base, base=base, counts_from=0)

    def _adopt(self, commit: Index, promise: Promise) -> None:
        """Make the log equal to the one that the promise tells of."""
        end = merge(self._site, commit, promise.suffix)
        assert end == promise.last, f"a suffix to {end} of a log that ends at {promise.last}"
        self._trim(end)

    def _lead_first(self) -> None:
        site = self._site
        site.journal.accept(site.journal.promised)
        last = site.log.last
        self._lead(site.journal.promised, barrier=last, base=last, counts_from=0)

    # Phase 2, acceptor

    def _on_append(self, src: Nid, message: Append) -> None:
        """ "If an acceptor receives an accept request for a proposal numbered n, it accepts the
        proposal unless it has already responded to a prepare request having a number greater than
        n."
        """
        site = self._site
        if not self._admits(message.ballot):
            site.send(src, Ack(site.journal.promised, ok=False, match=0, held=0, round=0))
            return
        site.journal.promise(message.ballot)
        follower = self._follow(message.ballot, src)
        follower.is_synchronised = site.journal.accepted == message.ballot
        self._heard(follower, message)
        if message.prev > site.commit and not site.log.holds(message.prev, message.prev_ballot):
            follower.reject(message.prev, message.prev_ballot)
            return
        follower.accept(merge(site, message.prev, message.frames))
        if not follower.is_synchronised and follower.verified >= message.base:
            self._synchronise(follower)
        # Decide: what is verified equals the proposer's log, synchronised or not.
        self._learn_commit(min(message.commit, follower.verified))

    def _synchronise(self, follower: Follower) -> None:
        """Accept, in the follower's ballot, the log as far as it is the proposer's: no further.

        The trim and the new accepted ballot are one write: with the ballot and without the trim,
        entries would count as accepted in a ballot in which nobody proposed them.
        """
        self._trim(follower.verified)
        self._site.journal.accept(follower.ballot)
        follower.is_synchronised = True

    def _trim(self, last: Index) -> None:
        site = self._site
        assert last >= site.commit, f"{site.commit} is committed and another log ends at {last}"
        if site.log.last > last:
            site.log.truncate(last + 1)
            site.journal.rewrite(last + 1)
            site.write_repairs()

    def _vow(self, forgotten: Ballot) -> Ballot:
        """Take part in nothing below what this acceptor may have promised."""
        return forgotten
