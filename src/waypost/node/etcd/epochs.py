"""Epochs in etcd of a cluster whose nodes have disks of their own: the way there, and back.

One epoch at a time, one ``Part`` each.  When the cluster has left for the next epoch, and that one
holds everything durably, its first leader clears away what the last one left in etcd.

Knows grpcio only when there is an etcd to speak with: it is an extra, and takes long to import.
"""

import asyncio
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Final

import msgspec

from waypost.consensus.core import Boot
from waypost.consensus.epoch import Epoch
from waypost.consensus.outside import OutsideCore
from waypost.consensus.settings import Settings
from waypost.errors import Invalid, WaypostError
from waypost.node.etcd.settings import NO_GRPC, EtcdSettings
from waypost.node.outside import Inside, Self
from waypost.replica.member import MemberStatus

if TYPE_CHECKING:
    from waypost.node.etcd.client import EtcdClient
    from waypost.node.etcd.part import Part

log = logging.getLogger("waypost.etcd")

ENDPOINTS: Final = "endpoints"
PREFIX: Final = "prefix"
ETCD: Final = "etcd"
"""Keys of an epoch's settings; under the last is the id of the etcd cluster."""


class EtcdEpochs:
    """See the module; an ``Outside``."""

    def __init__(self, me: Self, access: EtcdSettings, settings: Settings) -> None:
        """``access`` is how this node gets in: of it only endpoints and prefix are the epoch's."""
        self._me = me
        self._access = access
        self._settings = settings
        self._engine: Inside | None = None
        self._part: Part | None = None
        self._errors: dict[int, WaypostError] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self._ready: tuple[EtcdSettings, EtcdClient] | None = None

    # Outside

    def make(self, epoch: Epoch, boot: Boot) -> OutsideCore:
        """Make the core of an epoch, and begin to take part in it."""
        _import_part()
        from waypost.node.etcd.part import Part

        self._leave()
        me, now = self._me, self._me.now()
        core = OutsideCore(me.nid, epoch, boot, now=now, settings=self._settings)
        settings = self._where(epoch.settings)
        client = self._client(settings)
        client.cluster_id = int(epoch.settings.get(ETCD, "0"), 16)
        self._part = Part(me, epoch, core, client, settings.prefix, self._errors)
        if self._engine is not None:
            self._part.start(self._engine)
        return core

    def attach(self, engine: Inside) -> None:
        """This is the engine."""
        self._engine = engine
        if self._part is not None:
            self._part.start(engine)

    def pump(self) -> bool:
        """Take what the core asks for to the log."""
        return self._part is not None and self._part.pump()

    def moved(self, status: MemberStatus) -> None:
        """Leave an epoch that is over."""
        if self._part is not None and status.epoch.number > self._part.epoch.number:
            self._leave()

    def why(self, token: int) -> WaypostError | None:
        """Why that proposal was refused."""
        return self._errors.pop(token, None)

    @property
    def is_on(self) -> bool:
        """Whether the present epoch is one of these."""
        return self._part is not None

    @property
    def is_busy(self) -> bool:
        """Whether an entry is on its way."""
        return self._part is not None and self._part.is_busy

    @property
    def is_writable(self) -> bool:
        """Whether an append has a chance."""
        return self._part is not None and self._part.is_writable

    @property
    def is_restoring(self) -> bool:
        """Whether a state is being fetched."""
        return self._part is not None and self._part.is_restoring

    @property
    def fresh_ns(self) -> int:
        """What was handed over is no older than this."""
        return 0 if self._part is None else self._part.fresh_ns

    async def preflight(self, settings: dict[str, str]) -> str:
        """Try what this node will do, with its own credentials; return the etcd cluster's id."""
        await asyncio.to_thread(_import_part)  # so that this node does not stand still meanwhile
        from waypost.node.etcd.preflight import preflight

        where = self._where(settings)
        client = self._client(where)
        state_bytes = await self._me.state_bytes()
        found = await preflight(client, where.prefix, state_bytes=state_bytes)
        if found.findings:
            client.close()
            raise Invalid(
                f"etcd, seen from {self._me.node.name}: " + "; ".join(found.findings), field="etcd"
            )
        # The epoch begins sooner on a connection that is there.
        self._ready = where, client
        return f"{found.cluster_id:x}"

    async def stop(self) -> None:
        """Finish what is on its way, and leave."""
        for task in self._finishing:
            task.cancel()
        await asyncio.gather(*self._finishing, return_exceptions=True)
        part, self._part = self._part, None
        if part is not None:
            await part.leave()
            part.client.close()
        if self._ready is not None:
            self._ready[1].close()

    # Coming and going

    def _where(self, settings: dict[str, str]) -> EtcdSettings:
        endpoints = tuple(filter(None, settings.get(ENDPOINTS, "").split(",")))
        prefix = settings.get(PREFIX, "") or EtcdSettings(endpoints=()).prefix
        return msgspec.structs.replace(self._access, endpoints=endpoints, prefix=prefix)

    def _client(self, settings: EtcdSettings) -> "EtcdClient":
        """Connect; a connection that a preflight left is taken."""
        ready, self._ready = self._ready, None
        if ready is not None and ready[0] == settings:
            return ready[1]
        if ready is not None:
            ready[1].close()
        from waypost.node.etcd.client import EtcdClient

        return EtcdClient(settings)

    def _leave(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.is_over = True
            task = asyncio.get_running_loop().create_task(self._finish(part))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish(self, part: "Part") -> None:
        """Leave an epoch, and clear away what is left of it, if that is this node's to do."""
        from waypost.node.etcd.opening import clear
        from waypost.node.etcd.part import until

        try:
            await part.leave()
            await until(lambda: self._is_followed(part.epoch))
            assert self._engine is not None
            follower = self._engine.member_status.epoch
            if follower.first_leader == self._me.nid:
                await clear(part.client, part.keys)
                log.info("epoch %d is cleared away from etcd", part.epoch.number)
        except WaypostError as error:
            log.warning("what epoch %d left in etcd stays there: %s", part.epoch.number, error)
        finally:
            part.client.close()

    def _is_followed(self, epoch: Epoch) -> bool:
        """Whether a later epoch is released, so that nobody needs this one."""
        assert self._engine is not None
        status = self._engine.member_status
        return status.epoch.number > epoch.number and status.released


def _import_part() -> None:
    try:
        import_module("waypost.node.etcd.part")
    except ImportError as error:
        if error.name != "grpc":
            raise
        raise Invalid(NO_GRPC, field="etcd") from None
