"""One probe: resolve, ask whether the address is allowed, connect, ask, read, let go.

Every probe has a connection of its own: that a target takes a new one is part of what is checked.
It ends by its timeout at the latest, holds a few KiB, and lets go without a farewell: whatever the
target does, hang, flood, or say nothing, costs its own probe and no other.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

from waypost.checks import Check
from waypost.node.checks import grpc, http
from waypost.node.checks.allowed import Allowed
from waypost.node.checks.found import Found
from waypost.node.checks.scripts import Scripts

_NAMES_MAX: Final = 4_096
_NAME_S: Final = 5.0
_LOOK_UPS_AT_ONCE: Final = 16


class Reader(Protocol):
    """Makes something of the bytes of an answer."""

    def feed(self, data: bytes) -> Found | None:
        """Take what came; tell what was found once that is known."""
        ...

    def end(self) -> Found:
        """Nothing more comes."""
        ...


class Probes:
    """What the probes of one node share: what is allowed, names, TLS contexts."""

    def __init__(self, allowed: Allowed, scripts: Scripts | None = None) -> None:
        """Without ``scripts`` none is run."""
        self._allowed = allowed
        self._scripts = scripts
        self._names: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._look_ups = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)
        self._contexts: dict[tuple[bool, bool], ssl.SSLContext] = {}

    async def probe(self, check: Check) -> Found:
        """Look once how the target is; takes no longer than the check's timeout."""
        if check.kind == "script":
            return await self._run(check)
        timeout_s = check.probe_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                return await self._probe(check)
        except TimeoutError:
            return Found("critical", f"{_head(check)}: timed out after {timeout_s:g} s", True)
        except (OSError, ValueError) as error:  # such as a label that IDNA does not take
            return Found("critical", f"{_head(check)}: {_words(error)}")

    async def _run(self, check: Check) -> Found:
        if self._scripts is None:
            return Found(
                "critical", "this node runs no scripts: start it with waypost serve --check-scripts"
            )
        return await self._scripts.run(check)

    async def _probe(self, check: Check) -> Found:
        host, port, is_tls = _where(check)
        addresses = await self._resolve(host, port)
        allowed = [address for address in addresses if self._allowed.permits(address)]
        if not allowed:
            return Found(
                "critical",
                f"{_head(check)}: this node may not probe {', '.join(addresses)}: see "
                "waypost serve --check-allow",
            )
        context = await self._context(check) if is_tls else None
        for number, address in enumerate(allowed, 1):
            try:
                return await _ask(check, address, port, host, context)
            except OSError:
                if number == len(allowed):
                    raise
        raise AssertionError("the last address has an answer or an error")

    async def _resolve(self, host: str, port: int) -> tuple[str, ...]:
        if _is_literal(host):
            return (host,)
        loop = asyncio.get_running_loop()
        kept = self._names.get(host)
        if kept is not None and kept[0] > loop.time():
            return kept[1]
        async with self._look_ups:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
        if len(self._names) >= _NAMES_MAX:
            self._names.clear()
        self._names[host] = (loop.time() + _NAME_S, addresses)
        return addresses

    async def _context(self, check: Check) -> ssl.SSLContext:
        key = (check.tls_skip_verify, check.kind == "grpc")
        context = self._contexts.get(key)
        if context is None:
            # Reading the system's certificates takes tens of milliseconds: beside the loop.
            made = await asyncio.to_thread(ssl.create_default_context)
            context = self._contexts.setdefault(key, made)
            if check.tls_skip_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if check.kind == "grpc":
                context.set_alpn_protocols([grpc.ALPN])
        return context


class _Talk(asyncio.Protocol):
    """Sends a request, and hands what comes to a reader until that knows."""

    def __init__(self, request: bytes, reader: Reader | None) -> None:
        self._request = request
        self._reader = reader
        self.found: asyncio.Future[Found] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._request:
            transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._reader is not None and not self.found.done():
            found = self._reader.feed(data)
            if found is not None:
                self.found.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.found.done():
            return
        if isinstance(exc, OSError):
            self.found.set_exception(exc)
        elif self._reader is not None:
            self.found.set_result(self._reader.end())
        else:
            self.found.cancel()


async def _ask(
    check: Check, address: str, port: int, host: str, context: ssl.SSLContext | None
) -> Found:
    request = b""
    reader: Reader | None = None
    if check.kind == "http":
        request, reader = http.request_of(check), http.Answer(check)
    elif check.kind == "grpc":
        request, reader = grpc.request_of(check), grpc.Answer(check)
    talk = _Talk(request, reader)
    transport: asyncio.Transport | None = None
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: talk,
            address,
            port,
            ssl=context,
            server_hostname=host if context is not None else None,
        )
        if reader is None:
            return Found("passing", f"TCP connect {check.target}: Success")
        return await talk.found
    finally:
        if transport is not None:
            transport.abort()
        if talk.found.done():
            with contextlib.suppress(BaseException):
                talk.found.exception()


def _where(check: Check) -> tuple[str, int, bool]:
    if check.kind == "http":
        url = urlsplit(check.target)
        is_tls = url.scheme == "https"
        return url.hostname or "", url.port or (443 if is_tls else 80), is_tls
    host, _, port = check.target.partition("/")[0].rpartition(":")
    return host.strip("[]"), int(port), check.tls


def _is_literal(host: str) -> bool:
    if not host[:1].isdigit() and ":" not in host:
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _head(check: Check) -> str:
    if check.kind == "http":
        return f"HTTP {check.method} {check.target}"
    return f"{'TCP connect' if check.kind == 'tcp' else 'gRPC check'} {check.target}"


def _words(error: Exception) -> str:
    number = getattr(error, "errno", None) or 0
    if isinstance(error, ssl.SSLError) or number <= 0:
        return str(error)[:500] or type(error).__name__
    return os.strerror(number).lower()
