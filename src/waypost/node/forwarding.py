"""Writes that come to a node that does not lead: they go to the leader, and their answers back.

What a node's doors offer in one turn of the event loop leaves as one ``Forward``, in the bytes that
the doors made; the leader puts the parts into its open batch, and when they are committed it says
at which index and with what outcomes.  The node answers its clients when it has applied that index
itself, so that what they ask next is not older than what they wrote.

When the leader is lost, writes that carry an origin are forwarded again, to the next one: a
repetition changes nothing, so they have their effect once.  Of the others nobody knows what became
of them, and that is what their owners are told; as are those of the former if no next one comes.

Always true: every offered write gets exactly one ``answered`` or ``failed``, and waits no longer
than ``HOLD_NS`` for a leader to be there and ``ANSWER_NS`` for its answer, of the time in which
this node could have heard one; what waits is bounded by admission, and what is under way by
``UNDER_WAY_MAX``.
"""

import heapq
from collections.abc import Callable
from typing import Final, Protocol

from waypost.commands import Command, Origin, Outcome, decode_part
from waypost.errors import (
    ERRORS_BY_CODE,
    Overloaded,
    TimedOut,
    Unavailable,
    WaypostError,
)
from waypost.replica.replica import Owner, Proposal
from waypost.transport import peer_frames
from waypost.transport.peer_frames import (
    FORWARD,
    FORWARD_FAILED,
    FORWARDED,
    Forward,
    Forwarded,
    ForwardFailed,
)

HOLD_NS: Final = 3_000_000_000
ANSWER_NS: Final = 2_000_000_000
STALL_NS: Final = 500_000_000
"""A tick that comes so late was kept from coming, and so were answers."""
UNDER_WAY_MAX: Final = 16
PARTS_MAX: Final = 2_048
PART_BYTES_MAX: Final = 1 << 20
FORWARDED_BYTES_MAX: Final = 32 << 20
"""Of other nodes' writes, waiting at the leader: beyond it the leader sheds them."""

Send = Callable[[int, int, bytes], bool]


class _Sent:
    """What is on its way to a leader."""

    __slots__ = ("leader", "proposal", "sent_ns", "since_ns")

    def __init__(self, leader: int, proposal: Proposal, since_ns: int, sent_ns: int) -> None:
        self.leader = leader
        self.proposal = proposal
        self.since_ns = since_ns
        self.sent_ns = sent_ns


class Forwarding:
    """The writes of this node's own doors, as long as another one leads."""

    def __init__(self, send: Send, clock: Callable[[], int]) -> None:
        self.send = send
        self._clock = clock
        self._open = Proposal()
        self._since_ns = 0
        self._sent: dict[int, _Sent] = {}
        self._committed: list[tuple[int, int, Proposal, Forwarded]] = []
        self._in_doubt: set[Origin] = set()  # of what waits: sent before, and not answered
        self._last_token = 0
        self._ticked_ns = clock()
        self.waiting_commands = 0
        self.waiting_bytes = 0

    @property
    def has_open(self) -> bool:
        """Whether anything waits to be forwarded."""
        return bool(self._open.parts)

    @property
    def has_waiting(self) -> bool:
        """Whether anything waits that this node could do itself, if it led."""
        return bool(self._open.parts or self._sent)

    def offer(
        self, part: bytes, commands: list[Command], owner: Owner, ticket: int, origin: Origin | None
    ) -> None:
        """Take a write on."""
        if not self._open.parts:
            self._since_ns = self._clock()
        self._open.add((part, commands, owner, ticket, origin))
        self.waiting_commands += len(commands)
        self.waiting_bytes += len(part)

    def flush(self, leader: int) -> None:
        """Send what waits to the leader, as far as the window allows; 0 for nobody."""
        while leader and self._open.parts and len(self._sent) < UNDER_WAY_MAX:
            proposal = self._open
            self._open = proposal.cut(PART_BYTES_MAX, PARTS_MAX)
            self._last_token += 1
            origins = proposal.origins if any(proposal.origins) else []
            body = peer_frames.encode(Forward(self._last_token, proposal.parts, origins))
            if not self.send(leader, FORWARD, body):
                self._first(proposal)
                return
            now = self._clock()
            self._sent[self._last_token] = _Sent(leader, proposal, self._since_ns, now)

    # What the leader says

    def forwarded(self, message: Forwarded, applied: int) -> None:
        """The leader has committed a batch of ours."""
        sent = self._sent.pop(message.token, None)
        if sent is None:
            return  # given up, or answered already
        if message.index <= applied:
            self._answer(sent.proposal, message)
        else:
            entry = (message.index, message.token, sent.proposal, message)
            heapq.heappush(self._committed, entry)

    def forward_failed(self, message: ForwardFailed) -> None:
        """The leader has not taken a batch of ours, or does not know what became of it."""
        sent = self._sent.pop(message.token, None)
        if sent is None:
            return
        kind = ERRORS_BY_CODE.get(message.code, Unavailable)
        if kind is TimedOut:
            self._doubt(sent)
        elif kind is Unavailable:
            self._again(sent.proposal, sent.since_ns)
        else:
            self._fail(sent.proposal, kind(message.message))

    def applied(self, index: int) -> None:
        """This node has applied everything up to ``index``."""
        committed = self._committed
        while committed and committed[0][0] <= index:
            _, _, proposal, message = heapq.heappop(committed)
            self._answer(proposal, message)

    # When the leader is lost

    def leader_lost(self, but: int = 0) -> None:
        """Whoever led leads no more, or cannot be reached: all that waits for its answer."""
        for token, sent in list(self._sent.items()):
            if sent.leader != but:
                del self._sent[token]
                self._doubt(sent)

    def tick(self, now_ns: int, leader: int) -> None:
        """Give up what has waited too long, and try again what could not be sent."""
        stall_ns, self._ticked_ns = now_ns - self._ticked_ns, now_ns
        if stall_ns > STALL_NS:
            self._since_ns += stall_ns
            for sent in self._sent.values():
                sent.sent_ns += stall_ns
                sent.since_ns += stall_ns
        for token, sent in list(self._sent.items()):
            if now_ns - sent.sent_ns > ANSWER_NS:
                del self._sent[token]
                self._doubt(sent)
        if self._open.parts and now_ns - self._since_ns > HOLD_NS:
            self._give_up()
        self.flush(leader)
        if not self.waiting_commands:
            self._in_doubt.clear()

    def take_all(self) -> Proposal:
        """This node leads: hand over what waits here."""
        self.leader_lost()
        return self.take_open()

    def take_open(self) -> Proposal:
        """Hand over what was not sent to anybody yet."""
        waiting, self._open = self._open, Proposal()
        self._settle(waiting)
        return waiting

    def take_back(self, proposal: Proposal) -> None:
        """This node leads no more, and these were certainly not put into the log."""
        commands, size = proposal.size
        self.waiting_commands += commands
        self.waiting_bytes += size
        self._again(proposal, self._clock())

    def refuse_all(self, error: WaypostError) -> None:
        """Fail everything that waits: the node is going."""
        waiting = [sent.proposal for sent in self._sent.values()]
        waiting += [entry[2] for entry in self._committed]
        waiting.append(self._open)
        self._sent.clear()
        self._committed.clear()
        self._open = Proposal()
        for proposal in waiting:
            self._fail(proposal, error)

    def _give_up(self) -> None:
        """No leader came: what was never sent was not made, of the rest nobody knows."""
        waiting, self._open = self._open, Proposal()
        doubtful, unmade = Proposal(), Proposal()
        for item in waiting.items():
            (doubtful if item[4] in self._in_doubt else unmade).add(item)
        no_leader = f"no leader took the change within {HOLD_NS / 1e9:g} s"
        advice = "a majority of the members must reach each other"
        self._fail(
            unmade,
            Unavailable(f"{no_leader}, and it was not made: {advice}; ask again, or another node"),
        )
        self._fail(
            doubtful,
            TimedOut(
                f"{no_leader} after the last one was lost, which may have made it: {advice}; ask "
                "for the state before sending it again"
            ),
        )

    def _doubt(self, sent: _Sent) -> None:
        """Repeat what may be repeated, and say of the rest that nobody knows."""
        doubtful, again = Proposal(), Proposal()
        proposal = sent.proposal
        for item in proposal.items():
            (doubtful if item[4] is None else again).add(item)
        if again.parts:
            self._in_doubt.update(filter(None, again.origins))
            self._again(again, sent.since_ns)
        if doubtful.parts:
            self._fail(
                doubtful,
                TimedOut(
                    "the leader was lost before it had answered, and the change may still be "
                    "applied: ask for the state before sending it again"
                ),
            )

    def _again(self, proposal: Proposal, since_ns: int) -> None:
        self._since_ns = min(since_ns, self._since_ns) if self._open.parts else since_ns
        self._first(proposal)

    def _first(self, proposal: Proposal) -> None:
        """Put these before what waits."""
        proposal.join(self._open)
        self._open = proposal

    def _answer(self, proposal: Proposal, message: Forwarded) -> None:
        self._settle(proposal)
        revisions = message.revisions or [message.index] * len(message.outcomes)
        proposal.answered(revisions, message.outcomes)

    def _fail(self, proposal: Proposal, error: WaypostError) -> None:
        self._settle(proposal)
        proposal.failed(error)

    def _settle(self, proposal: Proposal) -> None:
        commands, size = proposal.size
        self.waiting_commands -= commands
        self.waiting_bytes -= size
        assert self.waiting_commands >= 0
        assert self.waiting_bytes >= 0


class Offering(Protocol):
    """The leader's open batch."""

    def offer(
        self, part: bytes, commands: list[Command], owner: Owner, ticket: int, origin: Origin | None
    ) -> None:
        """Take a write on."""
        ...


class Foreign:
    """The owner, at the leader, of what another node forwarded: it answers when all is known."""

    __slots__ = ("_index", "_missing", "_outcomes", "_revisions", "_send", "_src", "_token")

    def __init__(self, send: Send, src: int, token: int, parts: int) -> None:
        self._send = send
        self._src = src
        self._token = token
        self._missing = parts
        self._outcomes: list[list[Outcome]] = [[]] * parts
        self._revisions = [0] * parts
        self._index = 0

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:
        """One part was committed."""
        self._outcomes[ticket] = outcomes
        self._revisions[ticket] = revision
        self._index = max(self._index, revision)
        self._missing -= 1
        if self._missing == 0:
            revisions = self._revisions
            same = all(each == self._index for each in revisions)
            done = Forwarded(self._token, self._index, self._outcomes, [] if same else revisions)
            self._send(self._src, FORWARDED, peer_frames.encode(done))

    def failed(self, ticket: int, error: WaypostError) -> None:  # noqa: ARG002
        """The batch that it went with was refused, or its fate is unknown: so all of them."""
        if self._missing > 0:
            self._missing = -1
            refuse(self._send, self._src, self._token, error)


def refuse(send: Send, src: int, token: int, error: WaypostError) -> None:
    """Tell another node that what it forwarded was not taken."""
    failed = ForwardFailed(token, error.code, error.message)
    send(src, FORWARD_FAILED, peer_frames.encode(failed))


def take_forward(
    send: Send, src: int, body: bytes, into: Offering, *, waiting_bytes: int, leads: bool
) -> None:
    """Put what another node forwarded into the leader's open batch, or refuse it."""
    message = peer_frames.decode_forward(body)
    if not leads:
        refuse(send, src, message.token, Unavailable("this node does not lead"))
        return
    if waiting_bytes > FORWARDED_BYTES_MAX:
        refuse(
            send,
            src,
            message.token,
            Overloaded(f"{waiting_bytes >> 10} KiB wait at the leader: send it again in a moment"),
        )
        return
    owner = Foreign(send, src, message.token, len(message.parts))
    origins = message.origins or [None] * len(message.parts)
    parts = [(part, decode_part(part)) for part in message.parts]
    for number, ((part, commands), origin) in enumerate(zip(parts, origins, strict=True)):
        into.offer(part, commands, owner, number, origin)
