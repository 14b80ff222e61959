"""What connects a node with the others: every frame from another node finds its taker here.

Knows which kind of frame is whose, and nothing of what the takers do with it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from waypost.consensus.epoch import encode_epoch
from waypost.errors import ProtocolViolation, Unavailable, UnknownSession, WaypostError
from waypost.node.calls import ANSWER_S, RENEW, SEEN, Calls
from waypost.node.forwarding import take_forward
from waypost.node.member_engine import MemberEngine
from waypost.node.membership import Membership
from waypost.node.node import Node
from waypost.node.streaming import Sending, Taking
from waypost.replica.peer_messages import PeerMessage, decode_message, encode_message
from waypost.storage.snapshots import SnapshotStore
from waypost.transport import peer_frames
from waypost.transport.peer_frames import (
    CALL,
    CALL_FAULT,
    FORWARD,
    FORWARD_FAILED,
    FORWARDED,
    MEMBER,
    PEER_PING,
    PEER_VERSION,
    STREAM_BEGIN,
    STREAM_DONE,
    STREAM_END,
    STREAM_WANT,
    GenesisTold,
    PeerHello,
)
from waypost.transport.peers import Peers
from waypost.wire import ClusterAsk, ClusterState

log = logging.getLogger("waypost.node")

QUORUM_HEARD_NS: Final = 1_000_000_000

_decode_drain = msgspec.msgpack.Decoder(tuple[str, int, int]).decode
_decode_counts = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Cluster:
    """The other nodes, as one node knows them."""

    def __init__(
        self,
        me: PeerHello,
        node: Node,
        engine: MemberEngine,
        snapshots: SnapshotStore,
        addresses: dict[int, str],
        *,
        clock: Callable[[], int],
        draw: Callable[[], float],
    ) -> None:
        self._me = me
        self._node = node
        self._engine = engine
        self._clock = clock
        self._addresses = addresses
        self.peers = Peers(me, self, clock=clock, draw=draw)
        self.calls = Calls(self.peers.send)
        self.membership = Membership(me, engine, self.peers, self.calls, clock=clock)
        self._sending = Sending(snapshots, self.peers.send, engine.snapshot_sent)
        self._taking = Taking(snapshots, self.peers.send, engine.snapshot_staged)
        self._taking.is_allowed = lambda: not engine.is_taking_snapshot
        self._joining: asyncio.Task[None] | None = None
        self.serve = self.calls.serve
        self.serve(RENEW, self._renewed)
        self.calls.serve(SEEN, self._seen)
        node.writes.forwarding.send = self.peers.send
        node.others = self
        engine.attach(self)

    def join(self) -> None:
        """Ask for membership, as soon as this node has caught up."""
        self._joining = asyncio.get_running_loop().create_task(self.membership.join())

    async def close(self) -> None:
        """Leave the others alone."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.gather(self._joining, return_exceptions=True)
        self.calls.close()
        await self._sending.close()
        await self._taking.close()
        await self.peers.close()

    async def hand_over(self) -> None:
        """If this node leads, let another one lead before it goes."""
        await self.membership.hand_over()

    async def call_owner(self, name: str, session: str) -> None:
        """Have the node that owns a session hear that it is alive."""
        await self.call(name, RENEW, session.encode())

    async def call(self, name: str, verb: str, body: bytes) -> bytes:
        """Ask another node, by its name."""
        nids = [hello.nid for hello in self.peers.present if hello.name == name]
        if not nids:
            raise Unavailable(f"{name} is not connected: ask again in a moment")
        return await self.calls.call(nids[0], verb, body)

    async def _renewed(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        node = self._node
        held = node.owned(body.decode())
        if held is None:
            raise UnknownSession("session: this node does not hold it: attach it anew")
        node.sessions.renewed(held, node.clock())
        return b""

    async def all_seen(self, service: str, revision: int, deadline_ms: int) -> tuple[int, int]:
        """Wait until all who watch a service at the nodes that are there have applied it.

        Who watches at a node that does not answer counts as one that has not confirmed.
        """
        body = peer_frames.encode((service, revision, deadline_ms))
        within_s = deadline_ms / 1000 + ANSWER_S

        async def at(nid: int) -> tuple[int, int]:
            try:
                return _decode_counts(await self.calls.call(nid, SEEN, body, within_s))
            except WaypostError as error:
                log.info("a drain of %s: %s", service, error)
                return 1, 1

        counts = await asyncio.gather(*(at(hello.nid) for hello in self.peers.present))
        return sum(watchers for watchers, _ in counts), sum(unseen for _, unseen in counts)

    async def _seen(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        service, revision, deadline_ms = _decode_drain(body)
        await self._node.barrier()  # what is not applied here has been told to nobody here
        seen = await self._node.watches.all_seen(service, revision, deadline_ms / 1000)
        return peer_frames.encode(seen)

    async def ask(self, ask: ClusterAsk) -> ClusterState:
        """Answer what a client asks about the members, or do it."""
        return await self.membership.ask(ask)

    # For the engine

    def send(self, messages: tuple[tuple[int, PeerMessage], ...]) -> None:
        """Carry what the members say to each other; what cannot be carried now is dropped."""
        send = self.peers.send
        for nid, message in messages:
            send(nid, MEMBER, encode_message(message))
        self.peers.flush()

    def want(self, addresses: dict[int, str]) -> None:
        """Keep in touch with these."""
        known = self._addresses
        self.peers.want({nid: address or known.get(nid, "") for nid, address in addresses.items()})

    def send_snapshot(self, nid: int, index: int) -> None:
        """Bring another node the newest snapshot."""
        self._sending.begin(nid, index, self._engine.member_status.epoch)

    @property
    def is_taking(self) -> bool:
        """Whether a snapshot is coming in."""
        return self._taking.is_busy

    # For the node

    def heard_ns(self, name: str) -> int:
        """When a node was last heard, by its name."""
        peers = self.peers
        epoch = self._engine.member_status.epoch
        nids = [nid for nid, peer in epoch.members.items() if peer.name == name]
        nids += [hello.nid for hello in peers.present if hello.name == name]
        return max((peers.heard_ns(nid) for nid in nids), default=0)

    def is_cut_off(self) -> bool:
        """Whether less than a majority is heard: the others may be better off."""
        members = self._engine.member_status.epoch.members
        now = self._clock()
        heard = [
            nid
            for nid in members
            if nid == self._me.nid or now - self.peers.heard_ns(nid) < QUORUM_HEARD_NS
        ]
        return 2 * len(heard) <= len(members) and len(members) > 1

    # Being dialled

    def accept(self, transport: asyncio.Transport, body: bytes) -> None:
        """A connection that another node has dialled."""
        self.peers.accept(transport, body)

    def genesis(self, body: bytes) -> bytes:
        """A machine without a cluster asks."""
        asked = peer_frames.decode_genesis(body)
        status = self._engine.member_status
        log.info("%s (%08x) at %s asks for its cluster", asked.name, asked.nid, asked.address)
        epoch = encode_epoch(status.epoch) if status.epoch.number else b""
        cluster = self._me.cluster if epoch else ""
        addresses = dict(self._addresses)
        addresses |= {hello.nid: hello.address for hello in self.peers.present if hello.address}
        addresses[self._me.nid] = self._me.address
        told = GenesisTold(
            PEER_VERSION,
            self._me.nid,
            self._me.name,
            cluster,
            epoch,
            status.released,
            addresses,
        )
        return peer_frames.encode(told)

    # Peering

    def peer_said(self, src: int, frames: list[tuple[int, int, bytes]]) -> None:
        """Frames came together: all of them are taken, then the engine looks what is to do."""
        engine = self._engine
        messages: list[PeerMessage] = []
        try:
            for kind, _, body in frames:
                if kind == MEMBER:
                    messages.append(decode_message(body))
                else:
                    self._take(src, kind, body)
            if messages:
                engine.receive(src, messages)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolViolation(str(error)) from error

    def _take(self, src: int, kind: int, body: bytes) -> None:
        node = self._node
        if kind == FORWARD:
            take_forward(
                self.peers.send,
                src,
                body,
                node,
                waiting_bytes=node.replica.waiting_bytes,
                leads=self._engine.can_append,
            )
        elif kind == FORWARDED:
            node.writes.forwarding.forwarded(peer_frames.decode_forwarded(body), node.revision)
        elif kind == FORWARD_FAILED:
            node.writes.forwarding.forward_failed(peer_frames.decode_forward_failed(body))
        elif CALL <= kind <= CALL_FAULT:
            self.calls.take(src, kind, body)
        elif kind in (STREAM_WANT, STREAM_DONE):
            self._sending.take(src, kind, body)
        elif STREAM_BEGIN <= kind <= STREAM_END:
            self._taking.take(src, kind, body)
        elif kind != PEER_PING:
            log.debug("a frame of kind %d from %08x: of a newer version?", kind, src)

    def peer_came(self, src: int) -> None:
        """It can be spoken to."""
        self._engine.met(src)

    def peer_left(self, src: int) -> None:
        """What it had dialled has ended."""
        self.calls.lost(src)
        self._sending.lost(src)

    def peer_gone(self, src: int) -> None:
        """Its process has ended, as it seems."""
        self._engine.gone(src)

    def peer_out_of_reach(self, src: int) -> None:
        """What was said to it last may be lost."""
        self.calls.lost(src)
        if src == self._engine.leader_nid:
            self._node.writes.forwarding.leader_lost()
