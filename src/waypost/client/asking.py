"""Requests that are asked until they are answered, or there is no point in asking again.

Only what is safe to repeat comes here: reads, and drains, which change nothing when they are
carried out twice (``writing`` has what is to be carried out once).  A node that refused for a
reason of its own is passed over for another one, if the registry has several; after that it is its
turn again.  ``retry`` decides when, and how often.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from waypost.client.addresses import Address
from waypost.client.connection import Connection
from waypost.client.link import Link
from waypost.client.retry import RetryBudget, wait_before_retry_ms
from waypost.errors import Overloaded, TimedOut, Unavailable

CLOSED = "this client is closed: open another with waypost.connect()"


def _always() -> bool:
    return True


class Asking:
    """Asks over one link, within one budget of retries."""

    def __init__(self, link: Link, *, draw: Callable[[], float], timeout_s: float) -> None:
        self._link = link
        self._draw = draw
        self._timeout_s = timeout_s
        self._budget = RetryBudget(_now_ms())
        self._is_closed = False

    async def ask(
        self,
        kind: int,
        body: bytes | Callable[[], bytes] = b"",
        *,
        is_patient: Callable[[], bool] = _always,
        more_s: float = 0.0,
    ) -> bytes:
        """Send a request and return the body of its answer.

        ``is_patient`` tells whether a registry that was lost is waited for; ``more_s`` is what the
        request may take on top of the client's timeout.
        """
        return await self._until_answered(
            lambda connection: connection.ask(kind, body() if callable(body) else body),
            is_patient,
            self._timeout_s + more_s,
        )

    def close(self) -> None:
        """Ask nothing more."""
        self._is_closed = True

    def check_open(self) -> None:
        """Raise ``Unavailable`` once it is closed."""
        if self._is_closed:
            raise Unavailable(CLOSED)

    async def _until_answered(
        self,
        send: Callable[[Connection], Awaitable[bytes]],
        is_patient: Callable[[], bool],
        timeout_s: float,
    ) -> bytes:
        self.check_open()
        self._budget.earn(_now_ms())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        tried: list[str] = []
        refused: Unavailable | None = None
        refused_by: Connection | None = None
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    connection = self._link.connection
                    if connection is None:
                        connection = await self._link.connected(patient=is_patient())
                    try:
                        if connection is not refused_by or not self._link.has_choice:
                            refused_by = connection
                            return await send(connection)
                        refused_by = None
                        return await self._elsewhere(send, connection)
                    except Unavailable as error:
                        refused = error
                        tried.append(_told(connection.address, error))
                        wait_s = wait_before_retry_ms(error, len(tried), self._draw()) / 1000
                        is_too_late = loop.time() + wait_s >= deadline
                        # What a lost connection owed is asked once on each that takes its place:
                        # that adds no load to what the registry can have seen.
                        may_retry = not connection.is_open or self._budget.spend(_now_ms())
                        if is_too_late or not may_retry:
                            if len(tried) > 1:
                                raise _after(tried, error) from error
                            raise
                        await asyncio.sleep(wait_s)
        except TimeoutError:
            if refused is not None:
                raise _after(tried, refused) from None
            raise TimedOut(
                f"no answer within {timeout_s:g} s: ask again, or allow more time"
            ) from None

    async def _elsewhere(
        self, send: Callable[[Connection], Awaitable[bytes]], than: Connection
    ) -> bytes:
        other = await self._link.elsewhere(than)
        try:
            return await send(other)
        finally:
            other.abort("it has answered")
            await other.closed


def _told(address: Address, error: Unavailable) -> str:
    return f"{address}: {error.message.removeprefix(f'{address}: ')}"


def _after(tried: list[str], error: Unavailable) -> Unavailable:
    """The same error, telling what has been tried."""
    message = f"{error.message} (tried {len(tried)} times: {'; '.join(dict.fromkeys(tried))})"
    if isinstance(error, Overloaded):
        return Overloaded(message, retry_after=error.retry_after)
    return type(error)(message)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
