"""The registry that a test holds in its hands, in two forms: for blocking code, and to await.

Both pass on what they are asked to the registry's own event loop, where ``steering`` does it: so a
test may block, and the registry goes on.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar

from waypost.model import HealthFilter
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread
from waypost.testing.clock import StandingClock
from waypost.testing.steering import Provider, Steering
from waypost.views import InstanceView

_T = TypeVar("_T")
WAIT_S: Final = 5.0


class _Running:
    """A registry on its thread, until it is stopped."""

    def __init__(self) -> None:
        clock = StandingClock()
        thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None, clock=clock)
        self._thread = thread.start()
        self._is_stopped = False
        self.address = thread.standalone.native_address
        self.steering = Steering(thread.standalone, clock)
        thread.submit(self.steering.take_over()).result()

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do it there, and block until it is done."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._thread.submit(work).result()
        work.close()
        raise RuntimeError(
            "this would block the event loop of the test, and with it every client that runs "
            "there: use 'async with waypost.testing.registry()', or await it by asyncio.to_thread"
        )

    async def reach(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do it there, and await its end."""
        return await asyncio.wrap_future(self._thread.submit(work))

    def stop(self) -> None:
        """Stop without a word to anybody.  Stopping twice does nothing."""
        if not self._is_stopped:
            self._is_stopped = True
            self._thread.submit(self.steering.hang_up()).result()
            self._thread.stop()


class Clock:
    """The time of a registry in a test: it stands still until it is moved."""

    def __init__(self, running: _Running) -> None:
        self._running = running

    def advance(self, seconds: float) -> None:
        """Let time pass: who answers keeps its lease, who does not loses it.

        Returns when every client has taken in what came of it.
        """
        self._running.call(self._running.steering.advance(seconds))


class TemporaryRegistry:
    """A registry in memory, for one test."""

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._steering = running.steering
        self.address = running.address
        """Where clients connect, as ``host:port``."""
        self.clock = Clock(running)

    @property
    def http_address(self) -> str:
        """Where its HTTP API is, as ``host:port``; opened when first asked for."""
        return self._running.call(self._steering.open_http())

    def instances(self, service: str, health: HealthFilter = "resolvable") -> list[InstanceView]:
        """List what a consumer would be told of a service, or with ``any`` all of it."""
        return self._running.call(self._steering.instances(service, health))

    def wait_for(self, service: str, instances: int, *, timeout: float = WAIT_S) -> None:
        """Wait until a service has so many usable instances; ``AssertionError`` if it never has.

        ``timeout`` is in seconds of real time.
        """
        self._running.call(self._steering.wait_for(service, instances, timeout))

    def settle(self) -> None:
        """Wait until every client has taken in what has happened so far."""
        self._running.call(self._steering.settle())

    def silence(self, provider: Provider) -> None:
        """Hear nothing of a provider any more, as if its process hung."""
        self._running.call(self._steering.silence(provider))

    def kill(self, provider: Provider) -> None:
        """Find a provider's connection closed, as if its process had been killed."""
        self._running.call(self._steering.kill(provider))

    def revive(self, provider: Provider) -> None:
        """Let a provider that was silenced or killed reach the registry again."""
        self._running.call(self._steering.revive(provider))

    def stop(self) -> None:
        """Be gone, as a registry that crashed.  Stopping twice does nothing."""
        self._running.stop()


class AsyncClock:
    """The time of a registry in a test: it stands still until it is moved."""

    def __init__(self, running: _Running) -> None:
        self._running = running

    async def advance(self, seconds: float) -> None:
        """Let time pass: who answers keeps its lease, who does not loses it.

        Returns when every client has taken in what came of it.
        """
        await self._running.reach(self._running.steering.advance(seconds))


class AsyncTemporaryRegistry:
    """A registry in memory, for one test that is a coroutine."""

    def __init__(self, running: _Running) -> None:
        self._running = running
        self._steering = running.steering
        self.address = running.address
        """Where clients connect, as ``host:port``."""
        self.clock = AsyncClock(running)

    async def open_http(self) -> str:
        """Open its HTTP API, if it is not open, and tell where, as ``host:port``."""
        return await self._running.reach(self._steering.open_http())

    async def instances(
        self, service: str, health: HealthFilter = "resolvable"
    ) -> list[InstanceView]:
        """List what a consumer would be told of a service, or with ``any`` all of it."""
        return await self._running.reach(self._steering.instances(service, health))

    async def wait_for(self, service: str, instances: int, *, timeout: float = WAIT_S) -> None:
        """Wait until a service has so many usable instances; ``AssertionError`` if it never has.

        ``timeout`` is in seconds of real time.
        """
        await self._running.reach(self._steering.wait_for(service, instances, timeout))

    async def settle(self) -> None:
        """Wait until every client has taken in what has happened so far."""
        await self._running.reach(self._steering.settle())

    async def silence(self, provider: Provider) -> None:
        """Hear nothing of a provider any more, as if its process hung."""
        await self._running.reach(self._steering.silence(provider))

    async def kill(self, provider: Provider) -> None:
        """Find a provider's connection closed, as if its process had been killed."""
        await self._running.reach(self._steering.kill(provider))

    async def revive(self, provider: Provider) -> None:
        """Let a provider that was silenced or killed reach the registry again."""
        await self._running.reach(self._steering.revive(provider))

    async def stop(self) -> None:
        """Be gone, as a registry that crashed.  Stopping twice does nothing."""
        await asyncio.to_thread(self._running.stop)


class Opening:
    """A registry to be: use it in ``with`` or in ``async with``."""

    def __init__(self) -> None:
        self._running: _Running | None = None

    def __enter__(self) -> TemporaryRegistry:
        self._running = _Running()
        return TemporaryRegistry(self._running)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._running is not None
        self._running.stop()

    async def __aenter__(self) -> AsyncTemporaryRegistry:
        self._running = await asyncio.to_thread(_Running)
        return AsyncTemporaryRegistry(self._running)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._running is not None
        await asyncio.to_thread(self._running.stop)
