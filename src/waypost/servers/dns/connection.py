"""One client by TCP: many queries, each answered when its answer is there (RFC 7766).

Closed after ``IDLE_S`` of silence.  A client that does not read its answers is not read either,
and one that comes when ``CONNECTIONS_MAX`` are there is sent away.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, cast

from waypost.servers.dns.counts import Counts
from waypost.servers.dns.message import HEADER

IDLE_S: Final = 30.0
CONNECTIONS_MAX: Final = 1_000
BATCH: Final = 64
_LENGTH: Final = struct.Struct("!H")


class Connection(asyncio.Protocol):
    """Its queries in, its answers out."""

    def __init__(
        self,
        all_of_them: "set[Connection]",
        answer: "Callable[[Connection, bytes], None]",
        counts: Counts,
    ) -> None:
        self._all = all_of_them
        self._answer = answer
        self._counts = counts
        self._said = bytearray()
        self._is_deaf = False
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle
        self.peer: tuple[Any, ...] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is here."""
        self._transport = cast("asyncio.Transport", transport)
        self.peer = transport.get_extra_info("peername")
        if len(self._all) >= CONNECTIONS_MAX:
            self._transport.abort()
        self._all.add(self)
        self._await_more()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is gone."""
        self._timer.cancel()
        self._all.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take in what it says."""
        self._said += data
        self._answer_all()

    def pause_writing(self) -> None:
        """It does not read: what it asks waits."""
        self._is_deaf = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._is_deaf = False
        self._answer_all()

    def _answer_all(self) -> None:
        """Answer whole queries while the answers are read: a batch, and more after others."""
        if self._transport.is_closing():
            return
        said = self._said
        at = count = 0
        while count < BATCH and not self._is_deaf and (query := _query_at(said, at)) is not None:
            if len(query) < HEADER.size:
                self._counts.ignored += 1
                self.abort()
                return
            at += _LENGTH.size + len(query)
            count += 1
            self._answer(self, query)
        del said[:at]
        if count:
            self._timer.cancel()
            self._await_more()
        if self._is_deaf or self._transport.is_closing():
            return
        if count == BATCH:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._answer_all)
        else:
            self._transport.resume_reading()

    def send(self, reply: bytes) -> None:
        """Answer one of its queries."""
        if not self._transport.is_closing():
            self._counts.by_tcp.count(reply)
            self._transport.write(_LENGTH.pack(len(reply)) + reply)

    def abort(self) -> None:
        """End it."""
        self._transport.abort()

    def _await_more(self) -> None:
        # Whoever neither asks nor reads is no reason to keep anything.
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self.abort)


def _query_at(said: bytearray, at: int) -> bytes | None:
    """What stands there, if it is there as a whole."""
    if len(said) - at < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(said, at)
    begin = at + _LENGTH.size
    return bytes(said[begin : begin + length]) if len(said) >= begin + length else None
