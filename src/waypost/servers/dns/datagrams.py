"""Queries by UDP: read until there is none, or a batch of them is answered.

One turn of the event loop serves many queries, and never so many that others wait long.  A reply
that the kernel does not take is dropped, as the network may do with any datagram.

On a wildcard address a reply leaves from the very address that was asked (RFC 2181, section 4.1):
on Linux the kernel tells it with each datagram (``IP_PKTINFO``, ip(7); RFC 3542, section 6).
"""

import functools
import logging
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

from waypost.servers.dns.counts import Counts
from waypost.servers.dns.message import QUERY_BYTES_MAX, Question
from waypost.servers.dns.replies import Alias

log = logging.getLogger("waypost.dns")

BATCH: Final = 64
RECEIVE_BYTES: Final = 4 << 20
Address = tuple[Any, ...]
Send = Callable[[bytes], None]
Reply = Callable[[bytes], bytes | Question | Alias | None]
Elsewhere = Callable[[bytes, Question | Alias, Address, Send], None]
"""A query, what others have to be asked for it, who asks, and how to answer him."""

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_INFO_V4: Final = struct.Struct("=i4s4s")
_ROOM: Final = 64


class Datagrams:
    """One bound socket."""

    def __init__(
        self, family: int, address: Address, reply: Reply, elsewhere: Elsewhere, counts: Counts
    ) -> None:
        """Raises ``OSError`` for an address that is taken."""
        self._reply = reply
        self._elsewhere = elsewhere
        self._counts = counts
        self._count = counts.by_udp.count
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            self._is_everywhere = sys.platform == "linux" and address[0] in ("0.0.0.0", "::")
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
                if self._is_everywhere:
                    self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, True)
            elif self._is_everywhere:
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, True)
            self._socket.bind(address)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For the event loop to watch."""
        return self._socket.fileno()

    def close(self) -> None:
        """Take no more."""
        self._socket.close()

    def on_readable(self) -> None:
        """Answer what has come."""
        read, reply_to = self._socket.recvfrom, self._reply
        for _ in range(BATCH):
            try:
                if self._is_everywhere:
                    data, asked, _, sender = self._socket.recvmsg(QUERY_BYTES_MAX, _ROOM)
                    send: Send = functools.partial(self._send_from, _source(asked), sender)
                else:
                    data, sender = read(QUERY_BYTES_MAX)
                    send = functools.partial(self._send, sender)
            except BlockingIOError:
                return
            except OSError as error:  # an earlier reply bounced
                log.debug("a datagram was not read: %s", error)
                continue
            reply = reply_to(data)
            if isinstance(reply, bytes):
                send(reply)
            elif reply is not None:
                self._elsewhere(data, reply, sender, send)
            else:
                self._counts.ignored += 1

    def _send(self, sender: Address, reply: bytes) -> None:
        self._count(reply)
        try:
            self._socket.sendto(reply, sender)
        except OSError as error:
            log.debug("a reply to %s was not sent: %s", sender, error)

    def _send_from(
        self, source: list[tuple[int, int, bytes]], sender: Address, reply: bytes
    ) -> None:
        self._count(reply)
        try:
            self._socket.sendmsg([reply], source, 0, sender)
        except OSError as error:
            log.debug("a reply to %s was not sent: %s", sender, error)


def _source(asked: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """From where a reply is to leave, by what was told of the query."""
    for level, kind, told in asked:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            _, local, _ = _INFO_V4.unpack(told)
            return [(level, kind, _INFO_V4.pack(0, local, b"\0\0\0\0"))]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO:
            return [(level, kind, told)]
    return []
