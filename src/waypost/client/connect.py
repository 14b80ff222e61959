"""``waypost.connect``: the way in, for asyncio and for blocking code."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from waypost.client.addresses import ADDRESS_DEFAULT, parse_addresses
from waypost.client.blocking import BlockingRegistry
from waypost.client.lastknown import directory_default
from waypost.client.registry import Registry
from waypost.errors import Invalid

ADDRESS_VARIABLE: Final = "WAYPOST"
TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 1.0


def connect(
    address: str | None = None,
    *,
    timeout: float = TIMEOUT_S,
    connect_timeout: float = CONNECT_TIMEOUT_S,
    cache_dir: str | os.PathLike[str] | None = "auto",
) -> "Connecting":
    """Connect to a registry: ``async with`` gives a ``Registry``, ``with`` a ``BlockingRegistry``.

    ``address`` is ``host:port`` or ``waypost://host:port,host:port``; by default what ``$WAYPOST``
    says, or else 127.0.0.1:8300.  ``timeout`` is for how many seconds a request may go on, retries
    included, and ``connect_timeout`` for how many one address may take to answer.

    What was last known of each service is kept in ``cache_dir``, by default ``waypost`` under
    ``$XDG_CACHE_HOME`` or ``~/.cache``; None keeps nothing.

    Returns at once and connects in the background: what needs the registry waits for it, and raises
    ``Unavailable`` if it cannot be reached.  Raises ``Invalid`` for an address that is none.
    """
    if timeout <= 0 or connect_timeout <= 0:
        raise Invalid(
            f"timeout: {timeout:g} s and {connect_timeout:g} s to connect must both be above 0",
            field="timeout",
        )
    addresses = parse_addresses(address or os.environ.get(ADDRESS_VARIABLE) or ADDRESS_DEFAULT)
    if cache_dir == "auto":
        directory: Path | None = directory_default()
    else:
        directory = Path(cache_dir).expanduser() if cache_dir else None

    def open_registry() -> Registry:
        return Registry(
            addresses, timeout=timeout, connect_timeout=connect_timeout, cache_dir=directory
        )

    return Connecting(open_registry)


class Connecting:
    """A connection to be: use it in ``async with`` or in ``with``."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self._registry: Registry | None = None
        self._blocking: BlockingRegistry | None = None

    async def __aenter__(self) -> Registry:
        self._registry = self._open()
        return self._registry

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._registry is not None
        await self._registry.close()

    def blocking(self) -> BlockingRegistry:
        """Open it for blocking code without a ``with`` block; whoever does closes it."""
        return BlockingRegistry(self._open)

    def __enter__(self) -> BlockingRegistry:
        self._blocking = self.blocking()
        return self._blocking

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._blocking is not None
        self._blocking.close()
