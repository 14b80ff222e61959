"""Sends writes, and sends them again until it is known what became of them.

Commands that are given in one turn of the event loop travel in one frame.  What a node refuses for
now, or what was under way when a connection ended, is said again: on the next connection, or after
a wait that grows with each failure.  A command is given up when it is answered, when it is wrong,
or when nobody waits for it any more.

Nothing is sent until ``open``: a write that names a session must find it attached there.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from waypost import wire
from waypost.client.again import Again
from waypost.client.connection import Connection, error_of
from waypost.client.identity import Identity
from waypost.client.link import Link
from waypost.client.writes import Batch, Writes
from waypost.commands import ClientCommand, Outcome
from waypost.errors import (
    Invalid,
    Overloaded,
    ProtocolViolation,
    TimedOut,
    Unavailable,
    WaypostError,
)
from waypost.model import Revision


class Written(msgspec.Struct, frozen=True, gc=False):
    """What became of one command."""

    revision: Revision
    outcome: Outcome


_Batch: TypeAlias = "Batch[asyncio.Future[Written]]"


class Writing:
    """The writes of one client, over whatever connections."""

    def __init__(self, identity: Identity, *, draw: Callable[[], float]) -> None:
        self.link: Link
        """Set by the registry, which makes the two of them."""
        self.on_unattached: Callable[[], None] = _nothing
        """Called when a write names a session that is not attached to the connection."""
        self.again = Again(self._say_refused, draw=draw)
        self._writes: Writes[asyncio.Future[Written]] = Writes(identity.next_id)
        self._connection: Connection | None = None
        self._is_open = False
        self._is_flush_due = False
        self._refused: dict[int, _Batch] = {}
        """To be sent again in a while."""
        self._loop = asyncio.get_running_loop()

    # What others want

    def enqueue(self, command: ClientCommand) -> "asyncio.Future[Written]":
        """Have a command written, together with all others of this turn of the loop."""
        future: asyncio.Future[Written] = self._loop.create_future()
        self._writes.put(wire.encode(command), future)
        self._flush_soon()
        return future

    async def write(self, command: ClientCommand, timeout_s: float) -> Written:
        """Have a command written, or raise why it was not (``TimedOut``: it may have been)."""
        deadline = self._loop.time() + timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                await self.link.connected()
        except TimeoutError:
            raise self.link.unavailable() from None
        future = self.enqueue(command)
        try:
            async with asyncio.timeout_at(deadline):
                # Shielded, so that what is known of it is still there when time is up: whoever
                # comes by between that and the next line would forget a write without a waiter.
                return await asyncio.shield(future)
        except TimeoutError:
            raise self._why_not(future, timeout_s) from None
        finally:
            if future.cancel():
                self._writes.forget(_is_pending)
                self._flush_soon()  # there may be room now

    def close(self) -> None:
        """Send nothing more; whoever waits hears of it."""
        self.disconnected()
        for future in self._writes.tokens:
            if not future.done():
                future.set_exception(Unavailable("this client was closed before it was answered"))

    # Connections come and go

    def connected(self, connection: Connection) -> None:
        """Speak on this connection from now on, once it is ``open``."""
        self.disconnected()
        self._connection = connection
        connection.on_written = self._take

    def open(self) -> None:
        """The connection can take writes: say again what is unanswered, and then what is new."""
        if self._is_open or self._connection is None:
            return
        self._is_open = True
        self._writes.forget(_is_pending)
        for batch in self._writes.unanswered:
            self._say(batch)
        self._flush()

    def disconnected(self) -> None:
        """What was under way may have been carried out, or not."""
        self._shut()
        self._connection = None

    def _shut(self) -> None:
        for batch in self._writes.unanswered:
            batch.is_doubtful = batch.is_doubtful or batch.id not in self._refused
        self._is_open = False
        self._refused.clear()
        self.again.cancel()

    # Out

    def _flush_soon(self) -> None:
        if self._is_open and not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        if self._is_open:
            for batch in self._writes.take():
                self._say(batch)

    def _say(self, batch: _Batch) -> None:
        assert self._connection is not None
        self._connection.say_write(batch.id, batch.body)

    # In

    def _take(self, connection: Connection, kind: int, batch_id: int, body: bytes) -> None:
        """Take an answer to a write."""
        batch = self._writes.find(batch_id)
        if batch is None:
            return  # it had been answered before, or nobody waits for it
        if kind == wire.OUTCOMES:
            self.again.setbacks.ended()
            self._settle(batch, wire.decode_outcomes(body))
        elif connection is self._connection:  # one that was left says nothing of another try
            self._failed(batch, error_of(wire.decode_fault(body)))

    def _settle(self, batch: _Batch, outcomes: wire.Outcomes) -> None:
        self._done(batch)
        if len(batch.tokens) != len(outcomes.outcomes):
            error = ProtocolViolation(
                f"{len(outcomes.outcomes)} outcomes for a write of {len(batch.tokens)} commands"
            )
            for future in batch.tokens:
                if not future.done():
                    future.set_exception(error)
            raise error
        for future, outcome in zip(batch.tokens, outcomes.outcomes, strict=True):
            if not future.done():
                future.set_result(Written(outcomes.revision, outcome))

    def _failed(self, batch: _Batch, error: WaypostError) -> None:
        if isinstance(error, Invalid) and error.field == "session":
            self._shut()  # until it is attached
            self.on_unattached()
        elif not error.retryable:
            self._done(batch)
            for future in batch.tokens:
                if not future.done():
                    future.set_exception(error)
        else:
            batch.is_doubtful = batch.is_doubtful or isinstance(error, TimedOut)
            self._refused[batch.id] = batch
            self.again.later(error)

    def _done(self, batch: _Batch) -> None:
        self._writes.answered(batch)
        self._refused.pop(batch.id, None)
        self._flush_soon()

    # Again

    def _say_refused(self) -> None:
        refused, self._refused = self._refused, {}
        self._writes.forget(_is_pending)
        for batch in refused.values():
            if self._writes.find(batch.id) is batch:
                self._say(batch)
        self._flush()

    def _why_not(self, future: "asyncio.Future[Written]", timeout_s: float) -> Unavailable:
        batch = next((each for each in self._writes.unanswered if future in each.tokens), None)
        is_undone = batch is None or (batch.id in self._refused and not batch.is_doubtful)
        error = self.again.setbacks.error
        if error is None:
            told = f"no answer within {timeout_s:g} s"
        else:
            told = f"{error} (tried {self.again.setbacks.count} times in {timeout_s:g} s)"
        if isinstance(error, Overloaded) and is_undone:
            return Overloaded(told, retry_after=error.retry_after)
        if is_undone:
            return (type(error) if isinstance(error, Unavailable) else Unavailable)(told)
        return TimedOut(
            f"{told}; it may still be carried out: ask for the state before saying it again"
        )


def _is_pending(future: "asyncio.Future[Written]") -> bool:
    return not future.done()


def _nothing() -> None:
    """Do nothing."""
