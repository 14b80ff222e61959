"""A registration to be: what was asked for, and what is found out by itself."""

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Final

import msgspec

from waypost import checks
from waypost.client.check import Check, declared
from waypost.client.link import Link
from waypost.client.provider import Registration
from waypost.errors import Invalid
from waypost.model import ID_CHARS_MAX, Health, Instance, check_instance, check_ttl

EVERYWHERE: Final = ("0.0.0.0", "::")
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9._:@-]+")


class Registering:
    """``await`` it, or use it in ``async with``."""

    def __init__(
        self,
        begin: "Callable[[Registering], Awaitable[Registration]]",
        instance: Instance,
        *,
        host: str | None,
        id: str | None,
        ttl: float,
        grace: float,
        health: Health,
        checks: Sequence[Check] | None,
    ) -> None:
        """Without ``host`` and ``id``, those of ``instance`` only stand in for what is found.

        Raises ``Invalid`` for what is out of bounds.
        """
        self.ttl_ms, self.grace_ms = round(ttl * 1000), round(grace * 1000)
        check_ttl(self.ttl_ms)
        if self.grace_ms < 0:
            raise Invalid(f"grace: {grace:g} s is negative: 0 is none at all", field="grace")
        if host in EVERYWHERE:
            raise Invalid(
                f"host: {host} is where a server listens, not where it is reached: give an address "
                "that consumers can connect to, or leave it out",
                field="host",
            )
        check_instance(instance)
        self._checks = None if checks is None else tuple(checks)
        self.checks_of(instance)
        self.health: Health = health
        self._begin = begin
        self._instance = instance
        self._host = host
        self._id = id
        self._registration: Registration | None = None

    async def start(self) -> Registration:
        """Register, and return once it is done."""
        return await self._begin(self)

    async def completed(self, link: Link, timeout_s: float) -> Instance:
        """Fill in what was left out; that may need the connection to the registry."""
        instance = self._instance
        if self._host is None:
            instance = msgspec.structs.replace(instance, host=await _local_host(link, timeout_s))
        if self._id is None:
            instance = msgspec.structs.replace(instance, id=_made_up_id(instance))
        check_instance(instance)
        return instance

    def checks_of(self, instance: Instance) -> tuple[checks.Check, ...] | None:
        """What was asked for, at the instance's host and port; None if nothing was said."""
        return (
            None if self._checks is None else declared(self._checks, instance.host, instance.port)
        )

    def __await__(self) -> Generator[object, None, Registration]:
        return self.start().__await__()

    async def __aenter__(self) -> Registration:
        self._registration = await self.start()
        return self._registration

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._registration is not None
        await self._registration.leave()


async def _local_host(link: Link, timeout_s: float) -> str:
    """Find the address from which this process reaches the registry."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await link.connected()
    except TimeoutError:
        raise link.unavailable() from None
    host = connection.local_host
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 and address.is_loopback:
        return "127.0.0.1"  # not 127.0.1.1, where Debian puts the host's own name
    return host


def _made_up_id(instance: Instance) -> str:
    """Tell instances apart at a glance, and for certain."""
    name = f"{instance.service}-{instance.host}-{instance.port}"
    return f"{_NOT_OF_AN_ID.sub('-', name)[: ID_CHARS_MAX - 9]}-{secrets.token_hex(4)}"
