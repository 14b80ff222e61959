"""Raft.

Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm (Extended Version)",
2014.  Figure 2 of the paper is this file; what Raft shares with Multi-Paxos is in ``roles``,
``leader`` and ``follower``.

The paper's words and ours: a term is ``ballot.round``; (currentTerm, votedFor) is ``promised``, and
nobody voted for is node 0; RequestVote is ``Prepare``, AppendEntries is ``Append``.

Always true: at most one vote in a term; a leader commits an entry of an earlier term only by
committing one of its own after it.
"""

from waypost.consensus.campaign import Campaign
from waypost.consensus.entry import KIND_NOOP, Ballot, Index, Nid
from waypost.consensus.log import is_unknown
from waypost.consensus.merging import merge
from waypost.consensus.messages import Ack, Append, Prepare, Promise
from waypost.consensus.replicated import ReplicatedCore


class RaftCore(ReplicatedCore):
    """A member that agrees by Raft."""

    def _admits(self, ballot: Ballot) -> bool:
        return ballot.round >= self._site.journal.promised.round

    # RequestVote RPC, receiver implementation

    def _on_prepare(self, src: Nid, message: Prepare) -> None:
        journal = self._site.journal
        ballot = message.ballot
        current_term, voted_for = journal.promised.round, journal.promised.node
        # 1. Reply false if term < currentTerm.  Nor disturb a leader that lives (section 6).
        may_vote = self._admits(ballot) and (message.force or not self._is_loyal_against(src))
        # 2. If votedFor is null or candidateId, and candidate's log is at least as up-to-date as
        #    receiver's log, grant vote.
        is_free = ballot.round > current_term or voted_for in (0, src)
        grants = may_vote and is_free and self._is_up_to_date(message)
        if message.pre:
            self._site.send(src, self._vote(ballot, pre=True, grants=grants))
            return
        # "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to
        # follower" (Rules for Servers, All Servers).
        if may_vote and ballot.round > current_term:
            self._defer_to(ballot)
            journal.promise(ballot if grants else Ballot(ballot.epoch, ballot.round, 0))
        if not grants:
            self._site.send(src, self._vote(ballot, pre=False, grants=False))
            return
        journal.promise(ballot)
        self._rest()
        journal.hold(src, self._vote(ballot, pre=False, grants=True))

    def _vote(self, ballot: Ballot, *, pre: bool, grants: bool) -> Promise:
        said = ballot if grants else self._site.journal.promised
        return Promise(said, pre, grants, *self._credentials())

    def _credentials(self) -> tuple[Ballot, Index]:
        return self._site.log.last_ballot, self._site.log.last

    def _is_up_to_date(self, candidate: Prepare) -> bool:
        """ "If the logs have last entries with different terms, then the log with the later term is
        more up-to-date.  If the logs end with the same term, then whichever log is longer is more
        up-to-date" (section 5.4.1).
        """
        log = self._site.log
        if log.last > log.base and is_unknown(log.at(log.last)):
            return False  # rotten beyond recognition: it may have been a later term than any
        return (candidate.accepted, candidate.last) >= self._credentials()

    # AppendEntries RPC, receiver implementation

    def _on_append(self, src: Nid, message: Append) -> None:
        site = self._site
        # 1. Reply false if term < currentTerm.
        if not self._admits(message.ballot):
            site.send(src, Ack(site.journal.promised, ok=False, match=0, held=0, round=0))
            return
        if message.ballot.round > site.journal.promised.round:
            site.journal.promise(message.ballot)
        follower = self._follow(message.ballot, src)
        follower.is_synchronised = True
        self._heard(follower, message)
        # 2. Reply false if log doesn't contain an entry at prevLogIndex whose term matches
        #    prevLogTerm.  What is committed matches, also where it is compacted.
        if message.prev > site.commit and not site.log.holds(message.prev, message.prev_ballot):
            follower.reject(message.prev, message.prev_ballot)
            return
        # 3. If an existing entry conflicts with a new one, delete the existing entry and all that
        #    follow it.  4. Append any new entries not already in the log.
        follower.accept(merge(site, message.prev, message.frames))
        # 5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
        #    entry).
        self._learn_commit(min(message.commit, follower.verified))

    # Rules for Servers: Candidates, Leaders

    def _elected(self, campaign: Campaign) -> None:
        """ "Upon election" a leader appends a no-op (section 8), and commits what was there before
        by committing that: "only log entries from the leader's current term are committed by
        counting replicas" (section 5.4.2).
        """
        first = self._site.log.last + 1
        self._lead(campaign.ballot, barrier=first, base=first - 1, counts_from=first)
        self._put(KIND_NOOP)

    def _lead_first(self) -> None:
        last = self._site.log.last
        self._lead(self._site.journal.promised, barrier=last, base=last, counts_from=last + 1)

    def _vow(self, forgotten: Ballot) -> Ballot:
        """Take part in that term, but vote for nobody: the vote may be given."""
        promised = self._site.journal.promised
        if forgotten.round > promised.round or promised.node == 0:
            return Ballot(forgotten.epoch, max(forgotten.round, promised.round), self._site.me)
        return promised
