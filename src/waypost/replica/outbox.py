"""What leaves a member, in order: one stream of writes, and the gate at the start of an epoch.

Always true: writes are numbered without gaps; steps leave in the order in which they were made; no
core's message leaves between the start of its epoch and the moment when that start is durable.
"""

from collections import deque

from waypost.consensus.core import Done, Index, Nid, Seq, Snap, Token, Write
from waypost.replica.peer_messages import InEpoch, PeerMessage
from waypost.replica.step import MemberStatus, Step


class Outbox:
    """Steps that are due, and what is to be said besides."""

    def __init__(self) -> None:
        self.seq: Seq = 0
        """Of the last write."""
        self.durable_seq: Seq = 0
        self.done: list[Done] = []
        self.reads: list[tuple[Token, Index]] = []
        self.reads_failed: list[Token] = []
        self.send_snapshot: list[tuple[Nid, Index]] = []
        self.status_is_due = True
        self._steps: deque[Step] = deque()
        self._send: list[tuple[Nid, PeerMessage]] = []
        self._gate: Seq = 0
        self._gated: list[tuple[Nid, InEpoch]] = []

    def say(self, nid: Nid, message: PeerMessage) -> None:
        """Send something that is true at any time."""
        self._send.append((nid, message))

    def step(self, step: Step) -> None:
        """This is to be done, after all that is due already."""
        self._steps.append(step)

    def write(self, write: Write, restore: Snap | None = None) -> None:
        """Write this, numbered, after all that is due already."""
        assert write.seq == self.seq + 1, f"write {write.seq} after {self.seq}"
        self.seq = write.seq
        self._steps.append(Step(write=write, restore=restore))

    # The gate

    def close_gate(self) -> None:
        """What is said of the new epoch waits until the last write is durable."""
        self._gate = self.seq
        self._gated.clear()

    def pass_gate(
        self, messages: tuple[tuple[Nid, InEpoch], ...]
    ) -> tuple[tuple[Nid, InEpoch], ...]:
        """The core's messages, if they may leave now; otherwise they are kept."""
        if self.durable_seq >= self._gate:
            return messages
        self._gated += messages
        return ()

    def persisted(self, seq: Seq) -> None:
        """Every write up to ``seq`` is durable."""
        assert seq <= self.seq, f"write {seq} was never handed out, the last one is {self.seq}"
        self.durable_seq = seq
        if self._gated and seq >= self._gate:
            self._send += self._gated
            self._gated.clear()

    # Taking out

    def next_step(self) -> Step | None:
        """The step that is due first."""
        return self._steps.popleft() if self._steps else None

    def rest(self, status: MemberStatus | None, *, is_retired: bool) -> Step | None:
        """All that is to be said besides; None when there is nothing."""
        if not (
            self._send
            or self.done
            or self.reads
            or self.reads_failed
            or self.send_snapshot
            or status is not None
            or is_retired
        ):
            return None
        step = Step(
            send=tuple(self._send),
            done=tuple(self.done),
            reads=tuple(self.reads),
            reads_failed=tuple(self.reads_failed),
            send_snapshot=tuple(self.send_snapshot),
            status=status,
            retired=is_retired,
        )
        self._send.clear()
        self.done.clear()
        self.reads.clear()
        self.reads_failed.clear()
        self.send_snapshot.clear()
        return step
