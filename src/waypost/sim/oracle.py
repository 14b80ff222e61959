"""What must always be true, compared at every step with what only an onlooker can know.

The oracle sees all disks at once, durable and not, and keeps the *shadow log*: for each index the
entry that was first committed there, by anyone.  Its invariants are those of ``consensus.core``
(G1 to G9, D3, D5), those of the handover between epochs (I3 to I8), and these, after the fuzzer of
openraft:

    election     one leader in a ballot, and it holds all that was committed in lower ones
    matching     equal (index, ballot) means equal logs up to there
    safety       every node applies the shadow log, and nothing else
    quorum       what is committed is durable at a majority of its epoch
    immutable    no node cuts from its log what is committed
    monotone     promises, commits, what is applied, epochs: none goes back
    fresh        who says how fresh its state is does not lie
    state        equal logs have equal effects and equal states (``effects``)

Header checksums are chained, so that comparing one compares whole logs.
"""

from bisect import bisect_right

import msgspec

from waypost.consensus.core import (
    KIND_SEAL,
    NO_BALLOT,
    Ballot,
    Entry,
    Index,
    Nid,
    Ns,
    Snap,
    Write,
)
from waypost.consensus.epoch import Epoch, after, decode_proposed
from waypost.consensus.messages import Ack, CoreMessage, Prepare, Promise
from waypost.sim.effects import Effects
from waypost.sim.image import UNKNOWN_CHAIN, Image
from waypost.sim.tokens import Life, Tokens
from waypost.sim.violation import Violation

HIGHEST_ROUND = 1 << 62


class Known(msgspec.Struct):
    """What the oracle remembers of one node, over all of its processes."""

    durable: Image
    newest: Image
    promised: Ballot = NO_BALLOT
    """The highest that was durable here."""
    has_lost: bool = False
    """Its disk lost what it should have kept: for what it had promised, nobody can say."""


class Oracle:
    """See the module."""

    def __init__(self, genesis: Epoch) -> None:
        self.nodes: dict[Nid, Known] = {}
        self.shadow: list[Entry] = []
        self.epochs: dict[int, Epoch] = {genesis.number: genesis}
        self.epoch = genesis
        """The newest of which the Seal is committed."""
        self.leaders: dict[Ballot, Nid] = {}
        self.tokens = Tokens(self.shadow)
        self.effects = Effects()
        self._times: list[Ns] = []  # when each entry of the shadow log was first committed
        self._chains: dict[tuple[Index, Ballot], int] = {}
        self._ceilings: list[tuple[Ballot, Index]] = []  # up to there, in that ballot or below

    @property
    def commit(self) -> Index:
        """Up to here something was committed, somewhere."""
        return len(self.shadow)

    def commit_at(self, moment: Ns) -> Index:
        """What was committed anywhere at or before a moment."""
        return bisect_right(self._times, moment)

    # Disks

    def starts(self, nid: Nid, durable: Image, newest: Image, applied: Index) -> Life:
        """A process begins, with this on its disk."""
        known = self.nodes.get(nid)
        if known is None:
            known = self.nodes[nid] = Known(durable, newest)
        known.durable, known.newest = durable, newest
        promised = durable.hard.promised
        if promised < known.promised and not known.has_lost:
            raise Violation(
                "monotone", f"node {nid} had promised {known.promised}, and finds {promised}"
            )
        for entry in durable.entries:
            if entry.frame and entry.index not in durable.faulty:
                self._match(nid, entry)
        return Life(nid, applied, applied, 0, {})

    def lost(self, nid: Nid) -> None:
        """A disk lost something that it should have kept."""
        if nid in self.nodes:
            self.nodes[nid].has_lost = True

    def synced(self, nid: Nid) -> None:
        """Something became durable."""
        known = self.nodes[nid]
        durable = known.durable
        known.promised = max(known.promised, durable.hard.promised)
        if durable.entries and durable.entries[-1].frame:
            self._match(nid, durable.entries[-1])

    def writes(self, life: Life, write: Write) -> None:
        """A node hands a write to its disk; after this ``newest`` has it."""
        nid = life.nid
        if write.seq != life.seq + 1:
            raise Violation("monotone", f"node {nid}: write {write.seq} follows {life.seq}")
        life.seq = write.seq
        known = self.nodes[nid]
        image = known.newest
        hard = write.hard
        if hard is not None and hard.promised < image.hard.promised and not known.has_lost:
            raise Violation(
                "monotone", f"node {nid} promises {hard.promised} after {image.hard.promised}"
            )
        for entry in write.entries:
            # A leader's own entries may be lost with its disk before anyone hears of them.
            if entry.frame and entry.ballot.node != nid:
                self._match(nid, entry)
        cut = write.truncate
        # Who cannot say what its disk lost may give up all of it, and begin anew.
        held_cut = cut is not None and self._holds(image, cut) and not known.has_lost
        started = image.epoch
        image.apply(write)
        if cut is not None and held_cut and cut > image.snap.index and not self._holds(image, cut):
            raise Violation("immutable", f"node {nid} cuts entry {cut}, which is committed")
        if write.epoch is not None:
            self._check_start(nid, image, started, write.epoch)
        if write.snap is not None:
            self.is_snapshot(nid, write.snap)

    def _holds(self, image: Image, index: Index) -> bool:
        return index <= len(self.shadow) and image.chain_at(index) == self.shadow[index - 1].chain

    def _match(self, nid: Nid, entry: Entry) -> None:
        chain = entry.chain
        if self._chains.setdefault((entry.index, entry.ballot), chain) != chain:
            raise Violation(
                "matching",
                f"node {nid} has another entry {entry.index} of {entry.ballot} than others have",
            )

    def _check_start(self, nid: Nid, image: Image, before: Epoch | None, epoch: Epoch) -> None:
        if before is not None and epoch.number <= before.number:
            raise Violation(
                "monotone", f"node {nid} starts epoch {epoch.number} after {before.number}"
            )
        self.is_epoch(nid, epoch)
        seal = epoch.first - 1
        if image.snap.index < seal and not self._holds(image, seal):
            raise Violation(
                "I6", f"node {nid} starts epoch {epoch.number} and does not hold its tail to {seal}"
            )
        if image.last > max(seal, image.snap.index):
            raise Violation(
                "I6",
                f"node {nid} starts epoch {epoch.number} at {epoch.first} with a log up to "
                f"{image.last}: what was left of earlier epochs is not cut",
            )

    def is_epoch(self, nid: Nid, epoch: Epoch) -> None:
        """A node believes in an epoch: it must be the one of that number (I3)."""
        known = self.epochs.get(epoch.number)
        if known is not epoch and known != epoch:
            raise Violation("I3", f"node {nid} believes in {epoch}, and that one is {known}")

    # Messages

    def sends(self, nid: Nid, message: CoreMessage) -> None:
        """The gate (G1): what a message asserts must be durable at its sender, now."""
        durable = self.nodes[nid].durable
        ballot = message.ballot
        if durable.epoch is None or durable.epoch.number < ballot.epoch:
            raise Violation("G1", f"node {nid} sends {message}, of an epoch not durably started")
        match message:
            case Ack(ok=True):
                self._gate_ack(nid, durable, message)
            case Promise(ok=True, pre=False) | Prepare(pre=False):
                if durable.hard.promised < ballot:
                    raise Violation(
                        "G1",
                        f"node {nid} sends {message}, and its disk has promised only "
                        f"{durable.hard.promised}",
                    )
            case _:
                pass

    def _gate_ack(self, nid: Nid, durable: Image, ack: Ack) -> None:
        match, ballot = ack.match, ack.ballot
        if durable.last < match:
            raise Violation(
                "G1",
                f"node {nid} acks {match} in {ballot}, and its disk ends at {durable.last}",
            )
        promised = durable.hard.promised
        if (promised.epoch, promised.round) < (ballot.epoch, ballot.round):
            raise Violation(
                "G1",
                f"node {nid} acks {match} in {ballot}, and its disk has promised only {promised}",
            )
        leader = self.leaders.get(ballot)
        if leader is None or match <= durable.snap.index:
            return
        # The log of a leader only grows in its ballot, so it is what an ack speaks of.
        theirs = self.nodes[leader].newest
        if theirs.hard.promised == ballot and match > theirs.snap.index:
            held, told = durable.chain_at(match), theirs.chain_at(match)
            if held != told and UNKNOWN_CHAIN not in (held, told):
                raise Violation(
                    "G7",
                    f"node {nid} acks {match} in {ballot}, and what it holds there is not what "
                    f"node {leader} has, which leads",
                )

    # Roles

    def leads(self, nid: Nid, ballot: Ballot) -> None:
        """A node says that it leads."""
        first = self.leaders.get(ballot)
        if first == nid:
            return
        if first is not None:
            raise Violation("election", f"nodes {first} and {nid} lead in {ballot}")
        if self.epochs[ballot.epoch].engine == "raft":
            for other, leader in self.leaders.items():
                if (other.epoch, other.round) == (ballot.epoch, ballot.round):
                    raise Violation("election", f"nodes {leader} and {nid} lead in {ballot}")
        self.leaders[ballot] = nid
        committed = 0
        for ceiling, index in reversed(self._ceilings):
            if ceiling < ballot:
                committed = index
                break
        image = self.nodes[nid].newest
        if committed > image.snap.index and not self._holds(image, committed):
            is_rotten = committed <= image.last and image.chain_at(committed) == UNKNOWN_CHAIN
            if not is_rotten:
                raise Violation(
                    "election",
                    f"node {nid} leads in {ballot} without what was committed before, up to "
                    f"{committed}",
                )

    # The log

    def applies(self, now: Ns, life: Life, entry: Entry, ballot: Ballot) -> bool:
        """A node applies an entry; returns whether it is the first to do so.

        ``ballot`` is the one that the node is in, which is no lower than that of the commit.
        """
        index = entry.index
        if index != life.applied + 1:
            raise Violation("D5", f"node {life.nid} applies {index} after {life.applied}")
        life.applied = index
        if index > len(self.shadow):
            self._first(now, life.nid, entry, ballot)
            return True
        first = self.shadow[index - 1]
        if first.frame is not entry.frame and first.frame != entry.frame:
            raise Violation(
                "safety",
                f"node {life.nid} applies the entry of {entry.ballot} at {index}, and that of "
                f"{first.ballot} was committed there",
            )
        return False

    def _first(self, now: Ns, nid: Nid, entry: Entry, ballot: Ballot) -> None:
        index, epoch = entry.index, self.epoch
        chain = self.shadow[-1].chain if self.shadow else 0
        if index != len(self.shadow) + 1 or entry.prev != chain:
            raise Violation(
                "matching", f"entry {index}, applied by node {nid}, follows no committed entry"
            )
        if entry.ballot.epoch != epoch.number:
            raise Violation(
                "G9",
                f"node {nid} applies an entry of epoch {entry.ballot.epoch} at {index}, which "
                f"belongs to epoch {epoch.number}",
            )
        self._check_quorum(nid, entry, epoch)
        self.tokens.spend(bytes(entry.payload), index)
        self.shadow.append(entry)
        self._times.append(now)
        is_known = ballot.epoch == epoch.number and ballot >= entry.ballot
        ceiling = ballot if is_known else Ballot(epoch.number, HIGHEST_ROUND, 0)
        if self._ceilings and self._ceilings[-1][0] >= ceiling:
            ceiling = self._ceilings.pop()[0]
        self._ceilings.append((ceiling, index))
        if entry.kind == KIND_SEAL:
            self.epoch = after(epoch, index, entry.ballot, decode_proposed(entry.payload))
            self.epochs[self.epoch.number] = self.epoch

    def _check_quorum(self, nid: Nid, entry: Entry, epoch: Epoch) -> None:
        holders = 0
        for member in epoch.members:
            known = self.nodes.get(member)
            if known is not None:
                image = known.durable
                holders += (
                    known.has_lost
                    or image.snap.index >= entry.index
                    or image.chain_at(entry.index) == entry.chain
                )
        if 2 * holders <= len(epoch.members):
            raise Violation(
                "quorum",
                f"node {nid} applies {entry.index} of {entry.ballot}, which is durable at "
                f"{holders} of {len(epoch.members)} members",
            )

    def moved(self, life: Life, commit: Index) -> None:
        """A node's commit index is now this."""
        if commit < life.commit:
            raise Violation(
                "monotone", f"node {life.nid}: commit went from {life.commit} to {commit}"
            )
        life.commit = commit

    # What it says of the past

    def is_fresh(self, nid: Nid, applied: Index, moment: Ns) -> None:
        """A node says that it knows what was committed at a moment."""
        committed = self.commit_at(moment)
        if applied < committed:
            raise Violation(
                "fresh",
                f"node {nid} claims to be as of {moment / 1e6:.3f} ms, when {committed} was "
                f"committed, and has applied {applied}",
            )

    # Snapshots

    def is_snapshot(self, nid: Nid, snap: Snap) -> None:
        """A node's snapshot must stand for the shadow log."""
        if 0 < snap.index <= self.commit:
            entry = self.shadow[snap.index - 1]
            if (entry.ballot, entry.kind, entry.chain) == (snap.ballot, snap.kind, snap.chain):
                return
        if snap.index:
            raise Violation(
                "safety", f"node {nid} has the snapshot {snap}, and that was not committed there"
            )
