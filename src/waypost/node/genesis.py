"""How a machine without a cluster finds its cluster, or makes it together with the others.

The machines of a ``--cluster`` line ask each other who they are.  When the one with the lowest name
has heard every other one, and none of them has a cluster, it draws one: the first epoch, with the
node ids that it heard.  It writes that down before it tells anybody; the others write it down
before they begin.  Whoever is told of a cluster that does not know its node id (it came late, or
its disk was wiped) follows it as a learner.

Always true: node ids are drawn with the data directory, so a wiped machine is a new node and never
speaks for what the old one had promised; one cluster comes of one line, because only one machine
may make it, and it does so only when *every* machine says that it knows of none.

While it lasts, the native port answers machines that ask the same, and tells clients to wait.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final, cast

import msgspec

from waypost import wire
from waypost.consensus.epoch import Epoch, Peer, decode_epoch, encode_epoch
from waypost.errors import ProtocolViolation, Unavailable, WaypostError
from waypost.transport import peer_frames
from waypost.transport.frames import FrameReader, encode_frame
from waypost.transport.peer_frames import GENESIS, GENESIS_TOLD, PEER_VERSION, Genesis, GenesisTold
from waypost.transport.port import NativePort

log = logging.getLogger("waypost.genesis")

ASK_AGAIN_S: Final = 0.2
ASK_TIMEOUT_S: Final = 1.0
_TELL_EVERY_S: Final = 5.0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The one that looks for its cluster."""

    name: str
    nid: int
    address: str
    line: dict[str, str]
    """All machines of the ``--cluster`` line, by name, with their addresses; or none."""
    seeds: tuple[str, ...] = ()
    """Of ``--join``: addresses of nodes of the cluster to join."""
    engine: str = "raft"


class Belonging(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster that a machine belongs to from now on."""

    cluster: str
    epoch: Epoch
    released: bool
    addresses: dict[int, str] = {}
    """Where nodes are, as far as whoever told of it knows."""
    is_founder: bool
    """Whether the epoch is the first one and names this machine: it may begin it as it is."""


Commit = Callable[[Belonging], None]
"""Writes down what was found: when it returns, that is durable."""


async def belong(machine: Machine, port: NativePort, commit: Commit) -> Belonging:
    """Find or make the cluster of ``machine``; returns when it is written down.

    ``port`` is the native port: others are answered on it until the doors take it over.
    """
    search = _Search(machine, commit)
    loop = asyncio.get_running_loop()
    port.enter(lambda: _Asked(search))
    others = [at for name, at in machine.line.items() if name != machine.name]
    asking = [loop.create_task(search.ask_on(at)) for at in (*others, *machine.seeds)]
    teller = loop.create_task(search.tell_on())
    try:
        return await search.found
    finally:
        for task in (*asking, teller):
            task.cancel()
        await asyncio.gather(*asking, teller, return_exceptions=True)


class _Search:
    """What one machine has heard so far."""

    def __init__(self, machine: Machine, commit: Commit) -> None:
        self.machine = machine
        self.found: asyncio.Future[Belonging] = asyncio.get_running_loop().create_future()
        self._commit = commit
        self._fresh: dict[str, int] = {}
        """The others that have no cluster either, with the node ids that they drew."""
        self._trouble: dict[str, str] = {}

    @property
    def question(self) -> bytes:
        """What it asks the others."""
        machine = self.machine
        names = sorted(machine.line)
        genesis = Genesis(PEER_VERSION, machine.nid, machine.name, machine.address, names)
        return encode_frame(GENESIS, 1, peer_frames.encode(genesis))

    async def ask_on(self, address: str) -> None:
        """Ask one other machine, until a cluster is found."""
        while not self.found.done():
            try:
                async with asyncio.timeout(ASK_TIMEOUT_S):
                    told = await ask(address, self.question)
                self._trouble.pop(address, None)
                self._heard(told, address)
            except (OSError, TimeoutError, ValueError, WaypostError) as error:
                self._trouble[address] = str(error) or "no answer"
                self._fresh = {k: v for k, v in self._fresh.items() if self._at(k) != address}
            await asyncio.sleep(ASK_AGAIN_S)

    async def tell_on(self) -> None:
        """Say now and then what it waits for."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            log.warning("%s", self.waiting)

    @property
    def waiting(self) -> str:
        """What it waits for, for people."""
        missing = [name for name in self.machine.line if name not in self._heard_names]
        who = ", ".join(missing) or ", ".join(self.machine.seeds) or min(self.machine.line)
        why = "; ".join(f"{at}: {what}" for at, what in sorted(self._trouble.items()))
        return f"waiting for {who} to begin" + (f" ({why})" if why else "")

    @property
    def _heard_names(self) -> set[str]:
        return {self.machine.name, *self._fresh}

    def _at(self, name: str) -> str:
        return self.machine.line.get(name, "")

    def _heard(self, told: GenesisTold, address: str) -> None:
        if self.found.done():
            return
        if told.cluster:
            self._join(told)
        elif self.machine.line:
            if told.name != self.machine.name and self._at(told.name) == address:
                self._fresh[told.name] = told.nid
                self._maybe_make()
            else:
                self._trouble[address] = f"it calls itself {told.name!r}: check the names"

    def _join(self, told: GenesisTold) -> None:
        epoch = decode_epoch(told.epoch)
        is_founder = epoch.number == 1 and epoch.first == 1 and self.machine.nid in epoch.members
        if not is_founder:
            log.info("cluster %s exists: following it", told.cluster)
        self._settle(
            Belonging(
                cluster=told.cluster,
                epoch=epoch,
                released=told.released,
                addresses=told.addresses,
                is_founder=is_founder,
            )
        )

    def _maybe_make(self) -> None:
        machine = self.machine
        if self._heard_names != set(machine.line) or machine.name != min(machine.line):
            return
        cluster = secrets.token_hex(8)
        nids = {**self._fresh, machine.name: machine.nid}
        if len(set(nids.values())) != len(nids):
            self._trouble["node ids"] = "two machines have the same: was a directory copied?"
            return
        members = {nids[name]: Peer(name, machine.line[name]) for name in sorted(machine.line)}
        epoch = Epoch(int(cluster, 16), 1, machine.engine, members, 1, machine.nid)
        log.info("all of %s are there: cluster %s begins", ", ".join(sorted(nids)), cluster)
        self._settle(Belonging(cluster=cluster, epoch=epoch, released=False, is_founder=True))

    def _settle(self, belonging: Belonging) -> None:
        try:
            self._commit(belonging)
        except Exception as error:  # noqa: BLE001 - it is the starter's to hear
            self.found.set_exception(error)
        else:
            self.found.set_result(belonging)

    def answer(self, genesis: Genesis) -> GenesisTold:
        """What it tells another machine that asks."""
        machine = self.machine
        if genesis.names != sorted(machine.line) and genesis.names:
            raise Unavailable(
                f"{machine.name} was started for {', '.join(sorted(machine.line)) or 'a join'}, "
                f"and {genesis.name} for {', '.join(genesis.names)}: give all the same --cluster"
            )
        if self.found.done() and not self.found.cancelled() and self.found.exception() is None:
            return told_of(machine.nid, machine.name, self.found.result())
        return GenesisTold(PEER_VERSION, machine.nid, machine.name)


def told_of(nid: int, name: str, belonging: Belonging) -> GenesisTold:
    """Tell of a cluster, as a node that belongs to it."""
    epoch = encode_epoch(belonging.epoch)
    return GenesisTold(PEER_VERSION, nid, name, belonging.cluster, epoch, belonging.released)


async def ask(address: str, question: bytes) -> GenesisTold:
    """Put one question to one machine."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[GenesisTold] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: _Asking(answer), host.strip("[]"), int(port)
    )
    try:
        transport.write(question)
        return await answer
    finally:
        transport.abort()


class _Asking(asyncio.Protocol):
    """Waits for one answer."""

    def __init__(self, answer: "asyncio.Future[GenesisTold]") -> None:
        self._answer = answer
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            for kind, _, body in self._reader.feed(data):
                if self._answer.done():
                    return
                if kind == GENESIS_TOLD:
                    self._answer.set_result(peer_frames.decode_genesis_told(body))
                elif kind == wire.FAULT:
                    fault = wire.decode_fault(body)
                    self._answer.set_exception(Unavailable(fault.message))
        except (ProtocolViolation, msgspec.MsgspecError, UnicodeDecodeError) as error:
            if not self._answer.done():
                self._answer.set_exception(Unavailable(f"no node of Waypost answers: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed without an answer"))


class _Asked(asyncio.Protocol):
    """Somebody asks this machine, before it is a node."""

    def __init__(self, search: _Search) -> None:
        self._search = search
        self._reader = FrameReader(wire.REQUEST_BYTES_MAX)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        try:
            for kind, frame_id, body in self._reader.feed(data):
                self._take(kind, frame_id, body)
        except (ProtocolViolation, msgspec.MsgspecError, UnicodeDecodeError):
            self._transport.abort()

    def _take(self, kind: int, frame_id: int, body: bytes) -> None:
        try:
            if kind != GENESIS:
                raise Unavailable(f"this node has no cluster yet: {self._search.waiting}")
            told = self._search.answer(peer_frames.decode_genesis(body))
        except WaypostError as error:
            fault = wire.Fault(error.code, error.message)
            self._transport.write(encode_frame(wire.FAULT, 0, wire.encode(fault)))
            self._transport.close()
        else:
            answer = peer_frames.encode(told)
            self._transport.write(encode_frame(GENESIS_TOLD, frame_id, answer))
