"""The ordered log alone, and one who writes down what it hears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from waypost.catalog.snapshots import dump
from waypost.catalog.state import Catalog
from waypost.consensus.epoch import Epoch
from waypost.errors import TimedOut, WaypostError
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.layout import Keys, SnapHead
from waypost.node.etcd.log import EtcdLog
from waypost.node.etcd.opening import find_epoch, open_epoch
from waypost.node.etcd.settings import EtcdSettings


class Heard:
    """A follower that keeps everything."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, bytes, int]] = []
        self.refusals: dict[int, WaypostError] = {}
        self.passed: list[int] = []
        self.restores: list[tuple[int, bytes]] = []
        self.end: WaypostError | None = None
        self._changed = asyncio.Event()

    def entry(self, index: int, kind: int, payload: bytes, token: int) -> None:
        self.entries.append((index, kind, payload, token))
        self._changed.set()

    async def restored(self, snapshot: SnapHead, chunks: list[bytes]) -> None:
        self.restores.append((snapshot.index, b"".join(chunks)))
        self._changed.set()

    def refused(self, token: int, error: WaypostError) -> None:
        assert token not in self.refusals
        self.refusals[token] = error
        self._changed.set()

    def caught_up(self, token: int) -> None:
        self.passed.append(token)
        self._changed.set()

    def settled(self) -> None: ...

    def ended(self, error: WaypostError) -> None:
        self.end = error
        self._changed.set()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, _, payload, _ in self.entries]

    @property
    def tokens(self) -> list[int]:
        return [token for *_, token in self.entries if token]

    async def count(self, number: int) -> None:
        """Wait for so many entries."""
        await self.until(lambda: len(self.entries) >= number)

    async def until(self, condition: object, seconds: float = 30.0) -> None:
        assert callable(condition)
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Holding(EtcdClient):
    """A client that can keep back what etcd answers to reads, and lose it."""

    is_lost = False

    def __init__(self, settings: EtcdSettings) -> None:
        super().__init__(settings)
        self.held = asyncio.Event()
        """One is kept back."""
        self._may_pass = asyncio.Event()
        self._may_pass.set()

    def hold(self) -> None:
        self._may_pass.clear()

    def let_go(self) -> None:
        self._may_pass.set()

    async def snapshot_of(self, *args: object, **more: object) -> rpc.TxnAnswer:
        answer = await super().snapshot_of(*args, **more)  # type: ignore[arg-type]
        if not self._may_pass.is_set():
            self.held.set()
            await self._may_pass.wait()
            if self.is_lost:
                raise TimedOut("lost on its way")
        return answer


class Forgetful(EtcdClient):
    """A client that loses what etcd answers to the next so many transactions."""

    losses = 0

    async def txn(self, *args: object, **more: object) -> rpc.TxnAnswer:
        answer = await super().txn(*args, **more)  # type: ignore[arg-type]
        if self.losses > 0:
            self.losses -= 1
            raise TimedOut("lost on its way")
        return answer


class Writer:
    """One node's log and what it heard."""

    def __init__(self, log: EtcdLog, heard: Heard, client: EtcdClient) -> None:
        self.log = log
        self.heard = heard
        self.client = client

    async def append(self, payload: bytes, token: int) -> None:
        """Append, and wait for the answer."""
        self.log.append(payload, token)
        await self.heard.until(
            lambda: token in self.heard.tokens or token in self.heard.refusals or self.heard.end
        )


async def opened(
    settings: EtcdSettings, name: str, client: EtcdClient, state: bytes = b""
) -> tuple[Keys, Epoch, Writer]:
    cluster, epoch = await find_epoch(client, settings.prefix, name)
    keys, found = await open_epoch(
        client, settings.prefix, cluster, epoch, name, lambda: [state] if state else dump(Catalog())
    )
    heard = Heard()
    log = EtcdLog(client, keys, name, found, heard)
    for each in found.entries:
        heard.entry(found.init.s + each.version - 1, each.kind, each.payload, 0)
    if found.snapshot is not None:
        await heard.restored(found.snapshot, found.chunks)
    return keys, epoch, Writer(log, heard, client)


@contextlib.asynccontextmanager
async def writer(
    settings: EtcdSettings, name: str = "a", client: EtcdClient | None = None
) -> AsyncIterator[Writer]:
    client = client or EtcdClient(settings)
    _, _, it = await opened(settings, name, client)
    await it.log.start()
    try:
        yield it
    finally:
        await it.log.stop()
        client.close()
