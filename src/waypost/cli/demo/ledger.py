"""The writer, and who watches it: every acknowledged write is accounted for, once.

The writer registers one new instance after the other at a steady rate, whatever becomes of the
earlier ones (an open loop), by the client library's own writes: those find the leader, and come
again until they are answered.  The watcher hears of each.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from waypost.client.addresses import parse_addresses
from waypost.client.connection import Connection
from waypost.client.identity import Identity
from waypost.client.link import Link
from waypost.client.registry import Registry
from waypost.client.writing import Writing
from waypost.commands import Refused, Register
from waypost.errors import WaypostError
from waypost.model import Instance

LEDGER: Final = "ledger"
RATE: Final = 100
"""Writes per second."""
WRITE_S_MAX: Final = 15.0
CONNECT_S_MAX: Final = 1.0


class Writer:
    """Writes, and remembers what was acknowledged, when, and at which revision."""

    def __init__(self, addresses: Sequence[str]) -> None:
        identity = Identity()
        self.acknowledged: dict[str, int] = {}
        """By id: the revision."""
        self.failed: list[str] = []
        self._times: list[float] = []
        self._sent = 0
        self._writing = Writing(identity, draw=random.random)
        self._link = Link(
            parse_addresses(",".join(addresses)),
            self,
            connect_timeout_s=CONNECT_S_MAX,
            draw=random.random,
            identity=identity,
        )
        self._writing.link = self._writing.again.link = self._link
        self._task = asyncio.create_task(self._write_on())
        self._is_over = False

    async def stop(self) -> None:
        """Write no more, and wait for what is under way."""
        self._is_over = True
        await self._task
        self._writing.close()
        await self._link.close()

    def rate(self, span_s: float) -> float:
        """How many writes a second were acknowledged lately."""
        since = time.monotonic() - span_s
        return sum(1 for at in self._times[-int(4 * RATE * span_s) :] if at >= since) / span_s

    def has_answer_since(self, moment: float) -> bool:
        """Whether anything was acknowledged after that."""
        return bool(self._times) and self._times[-1] > moment

    def longest_gap_s(self, since: float) -> float:
        """The longest time without an acknowledgement, from just before that moment on."""
        earlier = [at for at in self._times if at <= since][-1:]
        times = [*earlier, *(at for at in self._times if at > since)]
        return max((b - a for a, b in pairwise(times)), default=0.0)

    async def _write_on(self) -> None:
        began = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        while not self._is_over:
            while self._sent < (time.monotonic() - began) * RATE:
                self._sent += 1
                task = asyncio.create_task(self._write(f"entry-{self._sent}"))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(*under_way)

    async def _write(self, name: str) -> None:
        try:
            written = await self._writing.write(
                Register(Instance(LEDGER, name, "127.0.0.1", 1)), WRITE_S_MAX
            )
        except WaypostError as error:
            self.failed.append(f"{name}: {error}")
            return
        if isinstance(written.outcome, Refused):
            self.failed.append(f"{name}: {written.outcome.message}")
        else:
            self.acknowledged[name] = written.revision
            self._times.append(time.monotonic())

    # The link tells

    def connected(self, connection: Connection) -> None:
        """A connection stands: what is unanswered goes over it again."""
        self._writing.connected(connection)
        self._writing.open()

    def disconnected(self) -> None:
        """There is none."""
        self._writing.disconnected()


class Watcher:
    """Hears of every write, and remembers in which order."""

    def __init__(self, registry: Registry) -> None:
        self._watch = registry.watch(LEDGER)
        self._told: list[tuple[int, str]] = []
        self._task = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Look away."""
        self._watch.close()
        await self._task

    def has_heard(self, revision: int) -> bool:
        """Whether it was told everything up to there."""
        return bool(self._told) and self._told[-1][0] >= revision

    def trouble(self, acknowledged: dict[str, int]) -> str:
        """What it was told wrongly of these, by id and revision; empty for nothing."""
        return trouble_in(self._told, acknowledged)

    async def _look(self) -> None:
        async for change in self._watch:
            self._told.append((change.revision, change.record.instance.id))


def trouble_in(told: Sequence[tuple[int, str]], acknowledged: dict[str, int]) -> str:
    """What it was told wrongly of these, by id and revision; empty for nothing."""
    counts = Counter(name for _, name in told)
    repeated = [name for name, count in counts.items() if count > 1]
    missing = [name for name in acknowledged if name not in counts]
    revisions = [revision for revision, _ in told]
    other = [name for at, name in told if acknowledged.get(name, at) != at]
    troubles = {
        f"{len(repeated)} twice": repeated,
        f"{len(missing)} never": missing,
        f"{len(other)} with another revision": other,
        "out of order": revisions != sorted(revisions),
    }
    return ", ".join(words for words, found in troubles.items() if found)
