"""One node's part in the log, over all epochs: what drivers know instead of a core.

A member of the present epoch runs its core; every other node follows what is committed.  How a node
gets from one epoch to the next is told in ``handover``; this is the surface, and the talk between
nodes that lies outside of the cores:

* who knows of an epoch tells its members and those before them, until it is released: an entry of
  it is committed, so a majority of its members holds all that came before (``pushing``);
* who has no core asks for what is committed, and is told as the log moves (``asking``,
  ``feeding``); so quorums never see who is not a member;
* an epoch is ended only when the next one can work (``changing``).

Always true: every token gets exactly one answer, across epochs too; what comes while a Seal is on
its way is held and goes into the next epoch.

Sources: Lamport, Malkhi and Zhou, "Stoppable Paxos" (2008); OmniPaxos (EuroSys 2023); Delos (OSDI
2020).  Knows no engine: ``make_core`` does.  No clock, no I/O, no chance but what is injected.
"""

from collections.abc import Callable, Mapping

from waypost.consensus.core import FOREVER, Boot, Done, Index, Nid, Ns, Seq, Snap, Token
from waypost.consensus.epoch import Epoch, Peer, Proposed, encode_proposed
from waypost.consensus.messages import ballot_of
from waypost.consensus.settings import Settings
from waypost.errors import ProtocolViolation
from waypost.replica.asking import Asking
from waypost.replica.changing import Living, check_moment, check_names, check_readiness
from waypost.replica.feeding import Feeding
from waypost.replica.handover import Handover, MakeCore
from waypost.replica.outbox import Outbox
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
from waypost.replica.questions import Questions
from waypost.replica.step import MemberStatus, Step
from waypost.replica.tokens import Tokens

__all__ = ["MakeCore", "Member", "MemberStatus", "Step"]


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
        """``applied`` is where the state machine stands: at ``boot.snap``, or nowhere."""
        assert me > 0, "node 0 is nobody"
        self._me = me
        self._lineage = lineage
        self._now = now
        self._outbox = Outbox()
        self._tokens = Tokens(me, lineage, self._outbox)
        self._log = Handover(
            me,
            boot,
            lineage=lineage,
            applied=applied,
            make_core=make_core,
            outbox=self._outbox,
            tokens=self._tokens,
        )
        self._known = self._log.known
        self._asking = Asking(self._log, self._outbox, settings.election, draw)
        self._feeding = Feeding(self._log, self._outbox, settings.heartbeat, settings.election)
        self._pushing = Pushing()
        self._questions = Questions(lineage, settings.election, draw, self._outbox, self._tokens)
        self._told: tuple[int, bool] = (0, False)  # newest epoch that was acted on; with a core?
        self._is_retired = False
        self._living = Living(2 * settings.election)
        self._log.boot(now, boot)
        self._follow_up()

    # What it tells

    @property
    def deadline(self) -> Ns:
        """Call ``tick`` no later than this."""
        core = self._log.core
        return min(
            FOREVER if core is None else core.deadline,
            self._log.deadline,
            self._asking.deadline,
            self._feeding.deadline,
            self._pushing.deadline,
            self._questions.deadline,
        )

    @property
    def status(self) -> MemberStatus:
        """Where it stands now."""
        log, known = self._log, self._known
        core, held = log.core, log.held
        learners = tuple((nid, asker.commit) for nid, asker in self._feeding.askers.items())
        if core is not None:
            of_core = core.status
            role, ballot, leader = of_core.role, of_core.ballot, of_core.leader
            last, durable, fresh = of_core.last, of_core.durable, of_core.fresh
            matches = of_core.matches + learners
        else:
            assert held is not None
            role, ballot, leader = "learner", log.hard.promised, self._asking.leader
            last, durable, fresh = held.last, log.durable, self._asking.fresh
            matches = learners
        return MemberStatus(
            role=role,
            ballot=ballot,
            leader=leader,
            epoch=known.newest or Epoch(known.lineage, 0, "", {}, 1),
            started=known.started is not None and known.coming is None,
            released=known.is_released,
            last=last,
            durable=durable,
            commit=log.commit,
            applied=log.applied,
            fresh=fresh,
            matches=matches,
            peers=known.peers,
        )

    @property
    def _leader(self) -> Nid:
        """Who leads, or may be about to; 0: nobody known."""
        if self._log.core is not None:
            return self._log.core.status.leader
        newest = self._known.newest
        return self._asking.leader or (newest.first_leader if newest is not None else 0)

    # What a driver asks for

    def found(self, now: Ns, epoch: Epoch) -> None:
        """A cluster begins with this epoch, or somebody who knows tells of it."""
        self._see(now)
        self._log.learn(epoch)
        self._follow_up()

    def met(self, now: Ns, nid: Nid) -> None:
        """There is a connection to this node: each tells the other what it knows."""
        self._see(now)
        if self._known.newest is None:
            self._outbox.say(nid, AskEpoch(self._lineage, 0))
        else:
            self._tell(nid)

    def gone(self, now: Ns, nid: Nid) -> None:
        """Where this node ran, nothing listens any more: its process has ended, as it seems."""
        self._see(now)
        if self._log.core is not None:
            self._log.core.gone(now, nid)

    def append(self, now: Ns, payload: bytes, token: Token) -> None:
        """Append a batch; the answer is a ``Done``.  While a Seal is on its way it is held."""
        self._see(now)
        core = self._log.core
        self._tokens.append(core, now, payload, token, 0 if core is not None else self._leader)

    def read(self, now: Ns, token: Token) -> None:
        """Ask when a linearizable read may be served, here; one token, many reads."""
        self._see(now)
        core = self._log.core
        if core is not None:
            self._tokens.read(core, now, token)
        else:
            leader = self._leader
            self._questions.ask(now, leader if leader != self._me else 0, token)

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
        core, epoch = self._log.core, self._known.started
        if core is None or epoch is None or (status := core.status).role != "leader":
            self._outbox.done.append(Done(token, "refused", 0, self._leader))
            return
        check_names(epoch, engine, members, first_leader)
        check_moment(self._known, is_sealing=self._tokens.is_sealing or status.sealed > 0)
        check_readiness(
            epoch,
            members,
            self._me,
            status.last,
            dict(status.matches),
            self._feeding.askers,
            self._living.at(now),
        )
        proposed = Proposed(
            epoch.number + 1, engine, dict(sorted(members.items())), first_leader, dict(settings)
        )
        self._tokens.seal(core, now, encode_proposed(proposed), token)

    def transfer(self, now: Ns, to: Nid) -> None:
        """Hand leadership over, if this node holds it."""
        self._see(now)
        if self._log.core is not None:
            self._log.core.transfer(now, to)

    def space(self, ok: bool) -> None:
        """Whether the disk has room: without it proposals are refused, all else goes on."""
        self._log.has_space = ok
        if self._log.core is not None:
            self._log.core.space(ok)

    # What a driver reports

    def persisted(self, now: Ns, seq: Seq) -> None:
        """Every write up to ``seq`` is durable."""
        self._see(now)
        self._outbox.persisted(seq)
        self._log.persisted(seq)

    def applied(self, now: Ns, index: Index) -> None:
        """The state machine has applied everything up to ``index``."""
        self._see(now)
        log = self._log
        assert log.applied <= index <= log.handed, (
            f"applied {index} is outside {log.applied} to {log.handed}"
        )
        log.applied = index
        if log.core is not None:
            log.core.applied(now, index)

    def snap(self, index: Index) -> Snap:
        """The identity of a snapshot taken exactly after ``index``, applied and durable."""
        if self._log.core is not None:
            return self._log.core.snap(index)
        assert self._log.held is not None
        return self._log.held.at(index)

    def compact(self, snap: Snap) -> None:
        """A verified snapshot is durable: the log up to it may go."""
        self._log.compact(snap)

    def snapshot_staged(self, now: Ns, src: Nid, snap: Snap, epoch: Epoch) -> None:
        """A snapshot from a peer is complete, verified and durable here; it came with its epoch."""
        self._see(now)
        self._log.install(src, snap, epoch)
        self._follow_up()

    def snapshot_sent(self, now: Ns, to: Nid, index: Index, *, ok: bool) -> None:
        """What came of ``Step.send_snapshot``."""
        self._see(now)
        if not self._feeding.sent(to, ok=ok):
            self._log.snapshot_sent(to, index, ok=ok)

    def told(self, now: Ns) -> None:
        """The core of an epoch whose log is kept outside has heard from there."""
        self._see(now)

    def tick(self, now: Ns) -> None:
        """Time has passed."""
        self._see(now)
        core = self._log.core
        if core is not None and now >= core.deadline:
            core.tick(now)
        if now >= self._log.deadline:
            self._log.tick()
            self._follow_up()
        if now >= self._asking.deadline:
            self._asking.tick(now)
        if now >= self._pushing.deadline:
            for nid in self._pushing.due(now, self._known.peers):
                self._tell(nid)
        if now >= self._questions.deadline:
            self._questions.tick(now)
        if now >= self._feeding.deadline:
            self._feed()

    # What to do

    def ready(self) -> Step | None:
        """What to do now, drained; None when there is nothing."""
        outbox = self._outbox
        step = outbox.next_step()
        if step is None:
            self._log.advance()
            if outbox.status_is_due or self._feeding.askers:
                self._follow_up()
            step = outbox.next_step()
        return self._rest() if step is None else step

    def _rest(self) -> Step | None:
        """All that is to be said besides."""
        outbox = self._outbox
        if self._tokens.has_confirmed:
            outbox.reads += self._tokens.take_reads(self._log.handed)
        if not outbox.status_is_due:
            return outbox.rest(None, is_retired=False)
        outbox.status_is_due = False
        is_retired = not self._is_retired and self._log.is_removed
        self._is_retired = self._is_retired or is_retired
        return outbox.rest(self.status, is_retired=is_retired)

    def _follow_up(self) -> None:
        """The log moved, or an epoch began: whoever is to know is told."""
        if self._feeding.is_due:
            self._feed()
        known, has_core = self._known, self._log.core is not None
        told = (known.number, has_core)
        if told != self._told:
            if known.number > self._told[0] and not known.is_released:
                self._pushing.begin(self._now)
            self._told = told
            if has_core:
                self._asking.end()
            else:
                self._asking.begin(self._now)
        if self._pushing.is_at_it and known.is_released:
            self._pushing.end()

    # What others say

    def receive(self, now: Ns, src: Nid, message: PeerMessage) -> None:
        """A peer sent this.  Raises ``ProtocolViolation`` for what belongs to another history, and
        ``CorruptData`` for entries that contradict the log here.
        """
        self._see(now)
        lineage = message.epoch.lineage if isinstance(message, EpochKnown) else message.lineage
        if lineage != self._lineage:
            raise ProtocolViolation(
                f"node {src} is of lineage {lineage:#x}, this cluster is of {self._lineage:#x}: "
                "check that address"
            )
        self._living.heard(now, src)
        match message:
            case InEpoch():
                self._on_core_message(src, message)
            case EpochKnown(epoch, is_released):
                self._log.learn(epoch, is_released=is_released)
                self._compare(src, epoch.number)
            case AskEpoch():
                self._compare(src, message.number)
            case Fetch():
                self._on_fetch(src, message)
            case Fetched():
                self._asking.answered(now, src, message)
            case AskIndex():
                self._tokens.read_for(self._log.core, now, src, message.number)
            case IndexAt():
                self._questions.answered(message.number, message.index)
        self._follow_up()

    def _on_core_message(self, src: Nid, message: InEpoch) -> None:
        number = ballot_of(message.message).epoch
        if number > self._known.number and message.epoch is not None:
            self._log.learn(message.epoch)
        self._compare(src, number)
        self._log.receive(src, number, message.message)

    def _compare(self, src: Nid, number: int) -> None:
        """A node is in, or knows of, epoch ``number``: who knows less is told."""
        known = self._known.number
        if number > known:
            if not self._log.has_heard_of(number):
                self._outbox.say(src, AskEpoch(self._lineage, known))
        elif number < known:
            self._tell(src)
        else:
            self._pushing.knows(src)

    def _tell(self, nid: Nid) -> None:
        if (newest := self._known.newest) is not None:
            self._outbox.say(nid, EpochKnown(newest, self._known.is_released))

    def _on_fetch(self, src: Nid, fetch: Fetch) -> None:
        if fetch.epoch is not None:
            self._log.learn(fetch.epoch)
        self._compare(src, fetch.number)
        self._feeding.asked(self._now, src, fetch)
        self._feed()

    def _feed(self) -> None:
        """Tell those who asked, of what is new or that nothing is."""
        core = self._log.core
        if core is None:
            self._feeding.feed(self._now, self._asking.leader, self._asking.fresh)
        else:
            status = core.status
            self._feeding.feed(self._now, status.leader, status.fresh)

    def _see(self, now: Ns) -> None:
        self._now = now
        self._log.see(now)
