"""Connections between members: one that this node dials to each peer, one that each dials here.

A node speaks on what it dialled and listens on what it accepted, so neither direction waits for the
other.  A link reconnects by itself, with backoff and jitter, at once when its peer dials.  What is
said in one turn of the event loop leaves in one call of the transport.

Always true: what is dropped on the way to a slow peer, the members' protocols say again; two live
processes with one nid are not both listened to; nobody of another cluster or lineage is listened to
at all.

Knows nothing of what the frames carry.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from waypost import wire
from waypost.errors import Invalid, ProtocolViolation, WaypostError
from waypost.transport import peer_frames
from waypost.transport.frames import FrameReader, encode_frame
from waypost.transport.link import Link
from waypost.transport.peer_frames import PEER_BYTES_MAX, PEER_WELCOME, PeerHello

log = logging.getLogger("waypost.peers")

PING_S: Final = 0.25
WANTS: Final = "wants"
DEAD_S: Final = 3.0
"""A peer that was silent for so long, though it has to ping, is dialled anew."""


class Peering(Protocol):
    """Who hears the peers."""

    def peer_said(self, src: int, frames: list[tuple[int, int, bytes]]) -> None:
        """Frames that came together, in order."""
        ...

    def peer_came(self, src: int) -> None:
        """A peer can be spoken to from now on."""
        ...

    def peer_left(self, src: int) -> None:
        """The connection that a peer had dialled has ended: it may be gone."""
        ...

    def peer_gone(self, src: int) -> None:
        """Nothing listens any more where it was."""
        ...

    def peer_out_of_reach(self, src: int) -> None:
        """The connection to a peer has ended: what was said last may be lost."""
        ...


class Peers:
    """The links of one node."""

    def __init__(
        self,
        me: PeerHello,
        peering: Peering,
        *,
        clock: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self.me = me
        self._peering = peering
        self._clock = clock
        self._draw = draw
        self._links: dict[int, Link] = {}
        self._inbound: dict[int, _Inbound] = {}
        self._heard_ns: dict[int, int] = {}
        self._wanted: dict[int, str] = {}
        self._refused = ""
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._timer = self._loop.call_later(PING_S, self._on_timer)

    # Whom to know

    def want(self, peers: dict[int, str]) -> None:
        """Keep links to these, by nid and address, and to whoever dials here; drop the others."""
        if peers == self._wanted:
            return
        self._wanted = dict(peers)
        self._aim()

    def _aim(self) -> None:
        # What a peer says of itself now is newer than what an epoch says of it.
        said = {nid: inbound.hello.address for nid, inbound in self._inbound.items()}
        addresses = self._wanted | {nid: address for nid, address in said.items() if address}
        addresses.pop(self.me.nid, None)
        # Where this node is now, another one was before: nobody else is there.
        addresses = {nid: at for nid, at in addresses.items() if at != self.me.address}
        for nid, link in list(self._links.items()):
            if addresses.get(nid) != link.address:
                self._links.pop(nid).close()
        for nid, address in addresses.items():
            if address and nid not in self._links and not self._is_closing:
                self._links[nid] = Link(self, nid, address)

    def heard_ns(self, nid: int) -> int:
        """When a peer was last heard, by this node's clock; 0 for never."""
        return self._heard_ns.get(nid, 0)

    def hello_of(self, nid: int) -> PeerHello | None:
        """What a peer says of itself, if it is connected."""
        inbound = self._inbound.get(nid)
        return None if inbound is None else inbound.hello

    @property
    def present(self) -> Iterable[PeerHello]:
        """Everyone whose connection stands."""
        return [inbound.hello for inbound in self._inbound.values()]

    def is_up(self, nid: int) -> bool:
        """Whether something can be said to a peer now."""
        link = self._links.get(nid)
        return link is not None and link.is_up

    # Speaking

    def send(self, nid: int, kind: int, body: bytes) -> bool:
        """Say something; False if it was dropped: no connection, or the peer is too slow."""
        link = self._links.get(nid)
        return link is not None and link.send(kind, body)

    def flush(self) -> None:
        """Let go what was said; otherwise the end of this turn of the loop does."""
        for link in self._links.values():
            link.flush()

    # Being dialled

    def accept(self, transport: asyncio.Transport, body: bytes) -> None:
        """Take a connection over whose first frame is ``PEER_HELLO``, or hang it up."""
        try:
            hello = peer_frames.decode_peer_hello(body)
            self._check(hello)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _refuse(transport, Invalid(f"peer hello: {error}", field="hello"))
            return
        except WaypostError as error:
            is_usual = getattr(error, "field", "") == WANTS
            if not is_usual and error.message != self._refused:
                self._refused = error.message
                log.error("refused %s", error.message)
            _refuse(transport, error)
            return
        before = self._inbound.pop(hello.nid, None)
        if before is not None:
            before.abort()
        inbound = _Inbound(self, hello, transport)
        self._inbound[hello.nid] = inbound
        self._heard_ns[hello.nid] = self._clock()
        transport.set_protocol(inbound)
        transport.write(encode_frame(PEER_WELCOME, 0, peer_frames.encode(self.me)))
        self._aim()
        link = self._links.get(hello.nid)
        if link is not None:
            link.hurry()

    def _check(self, hello: PeerHello) -> None:
        who = f"peer {hello.name!r} at {hello.address or 'an unknown address'}"
        if hello.cluster != self.me.cluster or hello.lineage != self.me.lineage:
            raise Invalid(
                f"{who} belongs to cluster {hello.cluster} (lineage {hello.lineage:x}), this is "
                f"cluster {self.me.cluster} (lineage {self.me.lineage:x}): check the addresses, or "
                "empty its data directory to let it join",
                field="cluster",
            )
        if hello.wants not in (0, self.me.nid):
            # Taken for a new connection, it would end the one that there is.
            raise Invalid(
                f"{who} looks for node {hello.wants:08x}, and this is node {self.me.name!r} "
                f"({self.me.nid:08x}) now",
                field=WANTS,
            )
        before = self._inbound.get(hello.nid)
        is_second = hello.nid == self.me.nid or (
            before is not None
            and before.hello.nonce != hello.nonce
            and self._clock() - self._heard_ns[hello.nid] < 2 * PING_S * 1e9
        )
        if is_second:
            raise Invalid(
                f"{who} has the node id {hello.nid:08x} of another running process: was its data "
                "directory copied? Stop one of them and empty its directory",
                field="nid",
            )

    # From the connections

    def heard(self, inbound: "_Inbound", frames: list[tuple[int, int, bytes]]) -> None:
        """Frames of one chunk."""
        self._heard_ns[inbound.hello.nid] = self._clock()
        if len(frames) == 1 and frames[0][0] == peer_frames.PEER_PING:
            return
        self._peering.peer_said(inbound.hello.nid, frames)

    def left(self, inbound: "_Inbound") -> None:
        """What a peer had dialled is over."""
        nid = inbound.hello.nid
        if self._inbound.get(nid) is inbound:
            del self._inbound[nid]
            if not self._is_closing:
                if nid not in self._wanted:
                    self._aim()  # it tells its address when it comes again
                self._peering.peer_left(nid)

    def link_up(self, link: "Link") -> None:
        """A link stands."""
        if not self._is_closing:
            self._peering.peer_came(link.nid)

    def link_down(self, link: "Link") -> None:
        """A link broke."""
        if not self._is_closing and self._links.get(link.nid) is link:
            self._peering.peer_out_of_reach(link.nid)

    def link_refused(self, link: "Link") -> None:
        """Nothing listens any more where a link went."""
        if not self._is_closing and self._links.get(link.nid) is link:
            self._peering.peer_gone(link.nid)

    def draw(self) -> float:
        """Chance, for the jitter."""
        return self._draw()

    def _on_timer(self) -> None:
        now = self._clock()
        for nid, link in self._links.items():
            link.ping()
            inbound = self._inbound.get(nid)
            if inbound is not None and now - self._heard_ns[nid] > DEAD_S * 1e9:
                inbound.abort()
                link.abort()
        self._timer = self._loop.call_later(PING_S, self._on_timer)

    async def close(self) -> None:
        """Say what is still to be said, and end every connection."""
        self._is_closing = True
        self._timer.cancel()
        links, self._links = list(self._links.values()), {}
        for link in links:
            link.flush()
            link.close()
        for inbound in list(self._inbound.values()):
            inbound.abort()
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)


class _Inbound(asyncio.Protocol):
    """What a peer has dialled: it is only listened to."""

    def __init__(self, peers: Peers, hello: PeerHello, transport: asyncio.Transport) -> None:
        self.hello = hello
        self._peers = peers
        self._transport = transport
        self._reader = FrameReader(PEER_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            frames = self._reader.feed(data)
            if frames:
                self._peers.heard(self, frames)
        except (ProtocolViolation, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("peer %s does not speak the protocol: %s", self.hello.name, error)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is over."""
        self._peers.left(self)

    def abort(self) -> None:
        """End it."""
        self._transport.abort()


def _refuse(transport: asyncio.Transport, error: WaypostError) -> None:
    """Say why, and close."""
    fault = wire.Fault(error.code, error.message, getattr(error, "field", ""))
    transport.set_protocol(asyncio.Protocol())
    transport.write(encode_frame(wire.FAULT, 0, wire.encode(fault)))
    transport.close()
