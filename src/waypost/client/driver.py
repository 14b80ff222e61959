"""A thread that runs the asyncio client, for code that blocks."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from waypost.client.asking import CLOSED
from waypost.client.registry import Registry
from waypost.errors import Unavailable, WaypostError

_T = TypeVar("_T")
STOP_S: Final = 5.0


class Driver:
    """A thread that runs an event loop with one ``Registry`` on it."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        # Not uvloop, whatever the policy: a loop that was forked away must be safe to abandon.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._serve, name="waypost client", daemon=True)
        self._thread.start()

        async def open_it() -> Registry:
            return open_registry()

        self.registry = self.run(open_it())

    def run(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and wait for its result; an interrupt cancels it."""
        if not self._thread.is_alive():
            what.close()
            raise Unavailable(CLOSED)
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def stop(self) -> None:
        """Close the registry, and end the thread."""
        with suppress(WaypostError):
            self.run(self.registry.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
