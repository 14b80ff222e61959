"""The consumer: calls a service over HTTP, all the time, and remembers how each call went.

Nothing is repeated and nothing is hidden: a call that fails is counted as failed, although a real
consumer would try it again on another instance.
"""

import asyncio
import time
from collections import Counter
from typing import Final

import httpx2
import msgspec

from waypost.client.service import Service
from waypost.errors import WaypostError

WORKERS: Final = 4
PAUSE_S: Final = 0.01
CALL_S_MAX: Final = 2.0


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One call; times are those of ``time.monotonic``."""

    began: float
    ended: float
    instance: str
    """Who was called; empty if nobody could be picked."""
    error: str
    """Why it failed; empty if it did not."""


class Traffic:
    """Some callers of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._samples: list[Sample] = []
        self._callers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Call from now on."""
        self._callers = [asyncio.create_task(self._call_on()) for _ in range(WORKERS)]

    async def stop(self) -> None:
        """Call no more."""
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    def since(self, began: float, until: float = float("inf")) -> list[Sample]:
        """The calls that began in a span of time, and are over."""
        found: list[Sample] = []
        for sample in reversed(self._samples):
            if sample.ended < began:
                break
            if began <= sample.began < until:
                found.append(sample)
        return found

    def during(self, began: float, until: float) -> list[Sample]:
        """The calls that were under way at any time within a span, and are over."""
        return [s for s in self.since(began - CALL_S_MAX, until) if s.ended >= began]

    def failures_since(self, began: float, until: float = float("inf")) -> list[Sample]:
        """Those of them that failed."""
        return [sample for sample in self.since(began, until) if sample.error]

    def shares_since(self, began: float) -> dict[str, float]:
        """Which share of the calls each instance answered."""
        answered = Counter(s.instance for s in self.since(began) if not s.error)
        total = answered.total()
        return {name: answered[name] / total for name in sorted(answered)}

    async def _call_on(self) -> None:
        # Each caller has a pool of its own, as separate processes would.
        async with httpx2.AsyncClient(timeout=CALL_S_MAX) as http:
            while True:
                self._samples.append(await self._call(http))
                await asyncio.sleep(PAUSE_S)

    async def _call(self, http: httpx2.AsyncClient) -> Sample:
        began = time.monotonic()
        name = error = ""
        try:
            async with self._service.call() as instance:
                name = instance.id
                answer = await http.get(f"http://{instance.host}:{instance.port}/")
                answer.raise_for_status()
                if answer.text != name:
                    error = f"{name} was called, and {answer.text} answered"
        except (httpx2.HTTPError, WaypostError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        return Sample(began, time.monotonic(), name, error)
