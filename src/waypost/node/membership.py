"""Who the members are, and how that changes: what ``waypost cluster`` asks for.

A question is answered by the leader, whichever node it is put to.  A change ends the present epoch
and begins the next one (``waypost.replica.member``); it is answered when that one is at work.

A node that was started with ``--join``, or anew in the place of one whose disk was lost, asks for
its membership by itself: when it has caught up, and until it is a member.  It takes the place of
the node of its name, if that one is not heard any more.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from waypost import wire
from waypost.consensus.epoch import Peer
from waypost.errors import Invalid, TimedOut, Unavailable, WaypostError
from waypost.node.calls import CLUSTER, JOIN, PREFLIGHT, Calls
from waypost.node.outside import Outside
from waypost.replica.member import MemberStatus
from waypost.transport.peer_frames import PeerHello
from waypost.transport.peers import Peers
from waypost.wire import ClusterAsk, ClusterState, MemberView

log = logging.getLogger("waypost.node")

CHANGE_S: Final = 10.0
AT_WORK_S: Final = 5.0
LEADERLESS_S: Final = 2.0
HAND_OVER_S: Final = 1.0
LOOK_S: Final = 0.005
JOIN_AGAIN_S: Final = 0.5
AWAY_NS: Final = 2_000_000_000
"""A node that was not heard for longer is away."""
CAUGHT_UP_NS: Final = 1_000_000_000
ALONE: Final = "local"
GROWS_TO: Final = "raft"
"""The engine of a node of its own becomes this when a second one joins."""
OUTSIDE: Final = "etcd"
ENGINES: Final = ("local", "raft", "paxos", OUTSIDE)
KNOWN_SETTINGS: Final = ("endpoints", "prefix")
"""What a change may say of an etcd: how to get in is each node's own affair."""
PREFLIGHT_S: Final = 12.0

_decode_settings = msgspec.msgpack.Decoder(dict[str, str]).decode


class Changing(Protocol):
    """The engine, as far as it changes members."""

    @property
    def member_status(self) -> MemberStatus:
        """Where this node stands."""
        ...

    async def change(
        self, engine: str, members: dict[int, Peer], first_leader: int, settings: dict[str, str]
    ) -> None:
        """Begin another epoch; returns when the end of this one is committed."""
        ...

    def transfer(self, to: int) -> None:
        """Hand leadership over."""
        ...


class Membership:
    """The changes of one node's cluster."""

    def __init__(
        self,
        me: PeerHello,
        engine: Changing,
        peers: Peers,
        calls: Calls,
        *,
        clock: Callable[[], int],
    ) -> None:
        self._me = me
        self._engine = engine
        self._peers = peers
        self._calls = calls
        self._clock = clock
        self.outside: Outside | None = None
        """Who can tell whether an etcd will do."""
        self._one_at_a_time = asyncio.Lock()
        calls.serve(PREFLIGHT, self._preflight_asked)
        calls.serve(CLUSTER, self._asked)
        calls.serve(JOIN, self._join_asked)

    async def ask(self, ask: ClusterAsk) -> ClusterState:
        """Answer a question of a client of this node."""
        if ask.verb != "status":
            await self._until(lambda: self._engine.member_status.leader != 0, LEADERLESS_S)
        leader = self._engine.member_status.leader
        if leader == self._me.nid:
            return await self._perform(ask)
        if ask.verb == "status" and not self._peers.is_up(leader):
            return self.state()
        if leader == 0:
            raise Unavailable(
                f"members: nobody leads, as far as {self._me.name} knows: a majority of the "
                "members must be up and reach each other"
            )
        within_s = CHANGE_S + AT_WORK_S + (PREFLIGHT_S if ask.engine == OUTSIDE else 0)
        body = await self._calls.call(leader, CLUSTER, wire.encode(ask), within_s)
        return wire.decode_cluster_state(body)

    async def _asked(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        ask = wire.decode_cluster_ask(body)
        if self._engine.member_status.leader != self._me.nid:
            raise Unavailable("members: leadership has just moved: ask again")
        return wire.encode(await self._perform(ask))

    async def _perform(self, ask: ClusterAsk) -> ClusterState:
        if ask.verb == "status":
            return self.state()  # which whoever looks on wants to see while something changes
        async with self._one_at_a_time:
            match ask.verb:
                case "add":
                    await self._add(self._learner(ask.name), ask.engine)
                case "remove":
                    await self._remove(self._member(ask.name))
                case "replace":
                    await self._replace(self._member(ask.name), self._learner(ask.other))
                case "transfer":
                    await self._transfer(ask.name)
                case "switch":
                    await self._switch(ask)
        return self.state()

    # The verbs

    async def _add(self, hello: PeerHello, engine: str = "") -> None:
        epoch = self._engine.member_status.epoch
        members = {**epoch.members, hello.nid: Peer(hello.name, hello.address)}
        await self._change(engine or epoch.engine, members)

    async def _remove(self, nid: int) -> None:
        epoch = self._engine.member_status.epoch
        members = {each: peer for each, peer in epoch.members.items() if each != nid}
        if not members:
            raise Invalid(
                f"members: {epoch.members[nid].name} is the only one: nothing would be left",
                field="name",
            )
        await self._change(epoch.engine, members)

    async def _replace(self, old: int, hello: PeerHello) -> None:
        epoch = self._engine.member_status.epoch
        members = {nid: peer for nid, peer in epoch.members.items() if nid != old}
        members[hello.nid] = Peer(hello.name, hello.address)
        await self._change(epoch.engine, members)

    async def _switch(self, ask: ClusterAsk) -> None:
        epoch = self._engine.member_status.epoch
        if ask.engine not in ENGINES:
            raise Invalid(f"engine: {ask.engine!r} is none of {', '.join(ENGINES)}", field="engine")
        if ask.engine != epoch.engine:
            settings = {key: told for key, told in ask.settings.items() if key in KNOWN_SETTINGS}
            await self._change(ask.engine, dict(epoch.members), settings)

    async def _transfer(self, name: str) -> None:
        epoch = self._engine.member_status.epoch
        if epoch.engine == OUTSIDE:
            raise Invalid("transfer: on an etcd nobody leads: stop any node as it is", field="verb")
        to = self._member(name) if name else 0
        if to == self._me.nid:
            return
        others = [to] if to else [*epoch.members]
        is_there = await self._until(lambda: any(map(self._peers.is_up, others)), LEADERLESS_S)
        is_over = is_there and await self.hand_over(to)
        if not is_over or (to and self._engine.member_status.leader != to):
            raise Unavailable(
                f"transfer: {name or 'another member'} did not take over: see in `waypost cluster "
                "status` that it is up and caught up, then ask again"
            )

    async def _change(
        self, engine: str, members: dict[int, Peer], settings: dict[str, str] | None = None
    ) -> None:
        """Begin the next epoch, and wait until it is at work."""
        status = self._engine.member_status
        if engine == ALONE and len(members) > 1:
            engine = GROWS_TO
        if self._me.nid in members:  # a node that was alone had no address
            members[self._me.nid] = Peer(self._me.name, self._me.address)
        settings = dict(status.epoch.settings) if settings is None else settings
        if engine == OUTSIDE:
            settings = await self._preflight(members, settings)
        leads = self._me.nid if self._me.nid in members else self._best(members)
        try:
            async with asyncio.timeout(CHANGE_S):
                await self._until(lambda: self._engine.member_status.released)
                await self._engine.change(engine, members, leads, settings)
        except TimeoutError:
            raise TimedOut(
                f"members: the change was not decided within {CHANGE_S:g} s, and it may still be: "
                "see 'waypost cluster status' before asking for it again"
            ) from None
        log.info("epoch %d: %s of %s", status.epoch.number + 1, engine, _names(members))
        await self._at_work(status.epoch.number + 1)

    async def _preflight(
        self, members: dict[int, Peer], settings: dict[str, str]
    ) -> dict[str, str]:
        """Have every member try the etcd with its own credentials, before anything is sealed."""
        if not settings.get("endpoints"):
            raise Invalid(
                "etcd: no endpoint: name the etcd with --etcd http://host:port", field="etcd"
            )
        body = msgspec.msgpack.encode(settings)
        others = [nid for nid in members if nid != self._me.nid and self._peers.is_up(nid)]
        answers = await asyncio.gather(
            self._preflight_asked(self._me.nid, body),
            *(self._calls.call(nid, PREFLIGHT, body, PREFLIGHT_S) for nid in others),
        )
        ids = sorted({answer.decode() for answer in answers})
        if len(ids) > 1:
            raise Invalid(
                f"etcd: the members reach {len(ids)} different etcd clusters, {', '.join(ids)}: "
                "name endpoints that mean the same one everywhere",
                field="etcd",
            )
        return {**settings, OUTSIDE: ids[0]}

    async def _preflight_asked(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        assert self.outside is not None, "a member has a disk, and may go elsewhere"
        return (await self.outside.preflight(_decode_settings(body))).encode()

    async def hand_over(self, to: int = 0) -> bool:
        """Let another one lead; returns whether one does, before long."""
        status = self._engine.member_status
        if status.epoch.engine == OUTSIDE or status.leader != self._me.nid:
            return True  # this node does not lead
        others = {nid: peer for nid, peer in status.epoch.members.items() if nid != self._me.nid}
        if to == self._me.nid or not any(self._peers.is_up(nid) for nid in others):
            return False
        self._engine.transfer(to or self._best(others))

        def is_over() -> bool:
            return self._engine.member_status.leader not in (0, self._me.nid)

        return await self._until(is_over, HAND_OVER_S)

    async def _at_work(self, number: int) -> None:
        """Until the epoch has a leader and a majority holds what came before it."""

        def is_at_work() -> bool:
            now = self._engine.member_status
            return now.epoch.number >= number and now.leader != 0 and now.released

        if not await self._until(is_at_work):
            raise Unavailable(
                f"members: epoch {number} is decided, and does not work yet: a majority of "
                f"{_names(self._engine.member_status.epoch.members)} must be up; see "
                "'waypost cluster status'"
            )

    async def _until(self, what: Callable[[], bool], within_s: float = AT_WORK_S) -> bool:
        deadline = self._clock() + int(within_s * 1e9)
        while not what():
            if self._clock() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    # Who is who

    def _best(self, members: dict[int, Peer]) -> int:
        """The one that holds most of the log, and is there."""
        matches = dict(self._engine.member_status.matches)
        return max(members, key=lambda nid: (self._peers.is_up(nid), matches.get(nid, -1), -nid))

    def _member(self, name: str) -> int:
        epoch = self._engine.member_status.epoch
        for nid, peer in epoch.members.items():
            if peer.name == name:
                return nid
        raise Invalid(
            f"name: {name!r} is not a member: those are {_names(epoch.members)}", field="name"
        )

    def _learner(self, name: str) -> PeerHello:
        members = self._engine.member_status.epoch.members
        found = [each for each in self._peers.present if each.name == name]
        found = [each for each in found if each.nid not in members]
        if not found:
            if any(peer.name == name for peer in members.values()):
                raise Invalid(f"name: {name!r} is a member already", field="name")
            raise Invalid(
                f"name: no node {name!r} follows this cluster: start it with "
                f"'waypost serve --name {name} --data-dir DIR --join {self._me.address}'",
                field="name",
            )
        return found[0]

    def state(self) -> ClusterState:
        """The members, as this node sees them."""
        status, me = self._engine.member_status, self._me
        epoch = status.epoch
        learners = {
            hello.nid: Peer(hello.name, hello.address)
            for hello in self._peers.present
            if hello.nid not in epoch.members
        }
        if me.nid not in epoch.members:
            learners[me.nid] = Peer(me.name, me.address)
        matches = dict(status.matches)
        matches[me.nid] = status.durable
        views = [
            self._view(nid, peer, nid in epoch.members, status, matches.get(nid, 0))
            for nid, peer in [*epoch.members.items(), *learners.items()]
        ]
        leader = epoch.members.get(status.leader) if epoch.engine != OUTSIDE else None
        return ClusterState(
            me.name,
            me.cluster,
            epoch.engine,
            epoch.number,
            status.released,
            leader.name if leader else "",
            status.last,
            status.commit,
            sorted(views, key=lambda view: (not view.votes, view.name)),
        )

    def _view(
        self, nid: int, peer: Peer, votes: bool, status: MemberStatus, held: int
    ) -> MemberView:
        heard_ms = 0
        if nid != self._me.nid:
            heard_ns = self._peers.heard_ns(nid)
            heard_ms = (self._clock() - heard_ns) // 1_000_000 if heard_ns else -1
        is_away = heard_ms < 0 or heard_ms * 1_000_000 > AWAY_NS
        role = "leader" if nid == status.leader else "follower"
        if not votes:
            role = "learner"
        elif status.epoch.engine == OUTSIDE:
            role = "member"
        if is_away:
            role = "away"
        return MemberView(peer.name, nid, peer.address, role, votes, held, heard_ms)

    # Becoming a member

    async def join(self) -> None:
        """Ask for membership until it is given; ends at a refusal that will not change."""
        complaint = ""
        while True:
            status = self._engine.member_status
            if self._me.nid in status.epoch.members:
                return
            is_near = status.started and self._clock() - status.fresh < CAUGHT_UP_NS
            if is_near and status.leader not in (0, self._me.nid):
                try:
                    await self._calls.call(status.leader, JOIN, b"", CHANGE_S + AT_WORK_S)
                except Invalid as error:
                    log.error("not a member: %s", error)
                    return
                except WaypostError as error:
                    if str(error) != complaint:
                        complaint = str(error)
                        log.warning("not a member yet: %s", error)
            await asyncio.sleep(JOIN_AGAIN_S)

    async def _join_asked(self, src: int, body: bytes) -> bytes:  # noqa: ARG002
        status = self._engine.member_status
        if status.leader != self._me.nid:
            raise Unavailable("members: leadership has just moved: ask again")
        hello = self._peers.hello_of(src)
        if hello is None or not hello.address:
            raise Unavailable("members: whoever asks is not connected, or tells no address")
        async with self._one_at_a_time:
            members = self._engine.member_status.epoch.members
            if src in members:
                return b""
            old = [nid for nid, peer in members.items() if peer.name == hello.name]
            if not old:
                await self._add(hello)
            elif self._is_away(old[0]):
                log.info("%s comes with an empty disk: it takes its own place", hello.name)
                await self._replace(old[0], hello)
            else:
                raise Unavailable(
                    f"name: {hello.name!r} is a member that is heard now: choose another name, or "
                    "stop that one first"
                )
        return b""

    def _is_away(self, nid: int) -> bool:
        return nid != self._me.nid and self._clock() - self._peers.heard_ns(nid) > AWAY_NS


def _names(members: dict[int, Peer]) -> str:
    return ", ".join(sorted(peer.name for peer in members.values()))
