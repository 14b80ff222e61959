"""Asks other servers for the names that are not ours, for those who told us to.

Each question goes out from a port of its own under an id of its own, and only an answer from the
server asked, with that id and that question, is one (RFC 5452).  A question that came by TCP is
asked by TCP.  The servers are asked one after the other, each for ``WAIT_S``.
"""

import asyncio
import contextlib
import secrets
import struct
from collections.abc import Sequence
from typing import Final

from waypost.servers.dns.message import AA, QUESTION_AT, RA

WAIT_S: Final = 2.0
AT_ONCE_MAX: Final = 512
_FLAGS: Final = struct.Struct("!H")


class Forwarder:
    """The other servers."""

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        self._servers = servers
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether so many questions wait that no more should be taken."""
        return self._waiting >= AT_ONCE_MAX

    async def ask(self, data: bytes, end: int, *, over_tcp: bool) -> bytes | None:
        """Have a query answered, whose question ends at ``end``; None if nobody does."""
        self._waiting += 1
        try:
            for host, port in self._servers:
                query = secrets.token_bytes(2) + data[2:]
                ask = _by_tcp if over_tcp else _by_udp
                with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(WAIT_S):
                        answer = await ask(host, port, query, end)
                    (flags,) = _FLAGS.unpack_from(answer, 2)
                    return data[:2] + _FLAGS.pack(flags & ~AA | RA) + answer[4:]
        finally:
            self._waiting -= 1
        return None


def _answers(reply: bytes, query: bytes, end: int) -> bool:
    """Whether it is a reply to that query."""
    return (
        len(reply) >= end
        and reply[:2] == query[:2]
        and bool(reply[2] & 0x80)
        and reply[QUESTION_AT:end].lower() == query[QUESTION_AT:end].lower()
    )


class _Asking(asyncio.DatagramProtocol):
    """One question, by UDP."""

    def __init__(self, query: bytes, end: int) -> None:
        self._query = query
        self._end = end
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        if _answers(data, self._query, self._end) and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _by_udp(host: str, port: int, query: bytes, end: int) -> bytes:
    transport, asking = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Asking(query, end), remote_addr=(host, port)
    )
    try:
        transport.sendto(query)
        return await asking.answer
    finally:
        transport.close()


async def _by_tcp(host: str, port: int, query: bytes, end: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_FLAGS.pack(len(query)) + query)
        while True:
            (length,) = _FLAGS.unpack(await reader.readexactly(_FLAGS.size))
            reply = await reader.readexactly(length)
            if _answers(reply, query, end):
                return reply
    finally:
        writer.close()
