"""Who of the nodes lives, and who of them expires the sessions of those that do not.

Each node holds a lease of etcd, and puts ``P/alive/<node>`` under it; when it stops renewing, the
key goes.  One node holds ``P/expirer`` in the same way, whoever was first to put it.

Always true: what a node does as the expirer is bound to the revision at which it became that
(``guard``), compared in the transaction that does it: one that was cut off and replaced does
nothing, whatever it believes.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from waypost.errors import WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import Compacted, EtcdClient
from waypost.node.etcd.layout import Keys

log = logging.getLogger("waypost.etcd")

Guard = tuple[bytes, int]
"""A key, and the revision at which it was created."""

LEASE_S: Final = 5
RENEW_S: Final = 1.5
_RETRY_S: Final = 0.5


class Members:
    """The nodes that live, as etcd knows them."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        node: str,
        address: str = "",
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._client = client
        self._keys = keys
        self._node = node
        self._address = address
        self._clock = clock
        self._lease = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.alive: dict[str, str] = {node: address}
        """Who lives, and where its native port is."""
        self.lost_ns: dict[str, int] = {}
        """When those that were seen alive were lost."""
        self.on_change: Callable[[], None] = lambda: None
        """Told when somebody came or went."""
        self.guard: Guard | None = None
        """This node is the expirer: the key, and the revision at which it put it."""

    async def start(self) -> None:
        """Show that this node lives."""
        await self._renew()
        self._tasks = [asyncio.create_task(part) for part in (self._keep(), self._follow())]

    def vanish(self) -> None:
        """Show nothing any more: the others see it when the lease is over."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Leave: the others see it at once."""
        self.vanish()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lease:
            try:
                await self._client.revoke(self._lease)
            except WaypostError as error:
                log.info("the others will see that this node left in %d s: %s", LEASE_S, error)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
            except WaypostError as error:
                log.warning("etcd has not renewed this node's lease: %s", error)

    async def _renew(self) -> None:
        if self._lease and await self._client.keep_alive(self._lease):
            return
        self.guard = None
        lease = await self._client.grant(LEASE_S)
        address = self._address.encode()
        living = rpc.put(self._keys.living(self._node), address, lease=lease)
        await self._client.txn([], [living])
        self._lease = lease

    async def _follow(self) -> None:
        while True:
            try:
                await self._look()
            except Compacted:
                continue
            except WaypostError as error:
                log.info("who lives is not known for a moment: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _look(self) -> None:
        """Read who lives, and follow it, until something breaks."""
        keys = self._keys
        answer = await self._client.snapshot_of(
            [rpc.get(keys.alive, keys.alive_end), rpc.get(keys.expirer)]
        )
        living, expirer = answer.ranges
        known = set(self.alive)
        for kv in living.kvs:
            known.discard(self._came(kv))
        for name in sorted(known):
            self._went(name)
        self.on_change()
        if not expirer.kvs:
            await self._apply_for_expirer()
        elif expirer.one.value == _value(self._node, self._lease):
            self.guard = (keys.expirer, expirer.one.create_revision)  # its answer was lost
        start = answer.header.revision + 1
        # One range for both; what else lies in it is written before there are nodes.
        request = rpc.watch_request(keys.alive, keys.expirer + b"\0", start)
        async for told in self._client.watch(request):
            for event in told.events:
                if event.kv.key.startswith(keys.alive):
                    if event.is_delete:
                        self._went(self._name(event.kv.key))
                    else:
                        self._came(event.kv)
                    self.on_change()
                elif event.kv.key == keys.expirer and event.is_delete:
                    await self._apply_for_expirer()

    def _came(self, kv: rpc.KeyValue) -> str:
        name = self._name(kv.key)
        self.alive[name] = kv.value.decode(errors="replace")
        self.lost_ns.pop(name, None)
        return name

    def _went(self, name: str) -> None:
        if self.alive.pop(name, None) is not None:
            self.lost_ns[name] = self._clock()
            log.info("node %r is gone", name)

    async def _apply_for_expirer(self) -> None:
        key = self._keys.expirer
        value = _value(self._node, self._lease)
        answer = await self._client.txn(
            [rpc.created_at(key, 0)], [rpc.put(key, value, lease=self._lease)]
        )
        self.guard = (key, answer.header.revision) if answer.succeeded else None

    def _name(self, key: bytes) -> str:
        return key[len(self._keys.alive) :].decode()


def _value(node: str, lease: int) -> bytes:
    """Tell one run of a node from another."""
    return f"{node} {lease:x}".encode()
