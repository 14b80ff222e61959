"""Calls to an etcd cluster: connections, failover between its endpoints, TLS and tokens.

Always true: a call that fails with ``TimedOut`` may have happened, one that fails with anything
else has not; every answer comes from the etcd cluster that the first one came from (its id is in
each header), or ``CorruptData`` is raised.

grpcio and messages of our own (``rpc``): aetcd 1.0 is no faster, untyped, and needs protobuf's
runtime; etcd's JSON gateway takes twice as long for small transactions and six times for large
ones (base64 within JSON, unpacked in etcd).  grpcio's threads and not ``grpc.aio``, which is as
fast, but knows one event loop in a process.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import grpc

from waypost.errors import (
    CorruptData,
    Invalid,
    Overloaded,
    ReadOnly,
    TimedOut,
    Unavailable,
    WaypostError,
)
from waypost.node.etcd import rpc
from waypost.node.etcd.settings import EtcdSettings

CALL_S: Final = 2.0
"""One attempt; etcd itself gives up on a request after seven seconds."""
READ_S: Final = 5.0
"""All attempts of what may be asked again."""
RETRY_S: Final = 0.05

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),  # etcd hangs up on who asks more often than every 5 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_NEEDS_LEADER: Final = ("hasleader", "true")
"""A member cut off from its majority then says so, instead of keeping a request or a watch."""

_AHEAD: Final = 64

_Metadata = tuple[tuple[str, str], ...]


class Ended(Protocol):
    """What a call tells once it is over, however it ended."""

    def code(self) -> grpc.StatusCode:
        """How."""
        ...

    def details(self) -> str:
        """Why, in the other side's words."""
        ...

    def cancel(self) -> bool:
        """End it."""
        ...


class _Call(Ended, Protocol):
    def result(self) -> bytes: ...

    def add_done_callback(self, fn: Callable[[object], None]) -> None: ...


class _StreamCall(Ended, Protocol):
    def __iter__(self) -> Iterator[bytes]: ...


class Compacted(Exception):
    """The revision that was asked for is compacted away: read the present state instead."""


class EtcdClient:
    """One etcd cluster, by whichever of its endpoints answers."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._targets = [_target(endpoint) for endpoint in settings.endpoints]
        if not self._targets:
            raise Invalid("etcd: no endpoint: name one, as http://host:port", field="etcd")
        self._credentials = _credentials(settings)
        self._channels: dict[int, grpc.Channel] = {}
        self._current = 0
        self._token = ""
        self.read_s = READ_S
        self.cluster_id = 0
        """Of the etcd cluster; 0 until it has answered, or until it is set to what it must be."""

    @property
    def endpoint(self) -> str:
        """The one that is asked at present."""
        return self._settings.endpoints[self._current]

    def close(self) -> None:
        """Close all connections; what is under way there fails."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            channel.close()

    # Calls

    async def txn(
        self, compares: list[bytes], success: list[bytes], failure: Sequence[bytes] = ()
    ) -> rpc.TxnAnswer:
        """Try a transaction once.  ``TimedOut``: it may have happened, and may yet."""
        encoded = rpc.txn(compares, success, list(failure))
        answer = rpc.parse_txn(await self._call(rpc.TXN, encoded))
        self._check(answer.header)
        return answer

    async def range(self, request: bytes) -> rpc.RangeAnswer:
        """Read keys; asks again, and elsewhere, for ``read_s``."""
        answer = rpc.parse_range(await self._asked(rpc.RANGE, request))
        self._check(answer.header)
        return answer

    async def snapshot_of(self, operations: list[bytes]) -> rpc.TxnAnswer:
        """Read several ranges at one revision; asks again like ``range``."""
        answer = rpc.parse_txn(await self._asked(rpc.TXN, rpc.txn([], operations, [])))
        self._check(answer.header)
        return answer

    async def delete(self, key: bytes, end: bytes = b"") -> None:
        """Delete a key or a range: may be done again, so it is."""
        await self._asked(rpc.DELETE, rpc.delete_request(key, end))

    async def grant(self, ttl_s: int) -> int:
        """Make a lease."""
        return rpc.parse_lease(await self._asked(rpc.GRANT, rpc.grant_request(ttl_s)))[0]

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it its keys."""
        await self._call(rpc.REVOKE, rpc.lease_request(lease))

    async def keep_alive(self, lease: int) -> bool:
        """Renew a lease; False when it is over."""
        # Of a stream that carries one message each way nobody can tell that it is a stream.
        _, ttl_s = rpc.parse_lease(await self._call(rpc.KEEP_ALIVE, rpc.lease_request(lease)))
        return ttl_s > 0

    async def status(self) -> tuple[str, int]:
        """Tell etcd's version, and the bytes of its database."""
        return rpc.parse_status(await self._asked(rpc.STATUS, b""))

    async def alarms(self) -> list[int]:
        """Tell which alarms are raised: 1 no space, 2 corrupt."""
        return rpc.parse_alarms(await self._asked(rpc.ALARM, b""))

    async def watch(self, request: bytes) -> AsyncIterator[rpc.WatchAnswer]:
        """Watch what ``request`` names; ends with an error, never by itself.

        Raises ``Compacted`` when etcd no longer has the revision to begin with.
        """
        number = self._current
        token = await self._authenticated()
        # Who only creates one watch sends one message, and nothing after it.
        to_stream: grpc.UnaryStreamMultiCallable[bytes, bytes]
        to_stream = self._channel(number).unary_stream(rpc.WATCH)
        stream = Stream(to_stream(request, metadata=_metadata(token)))
        try:
            async for encoded in stream:
                answer = rpc.parse_watch(encoded)
                self._check(answer.header)
                if answer.compact_revision:
                    raise Compacted
                if answer.canceled:
                    self._token = ""
                    raise Unavailable(f"etcd ended the watch: {answer.cancel_reason}; again")
                yield answer
            self._is_token_refused(stream.call, token)
            raise self._told(stream.call, number)
        finally:
            stream.cancel()

    # How a call is made

    async def _asked(self, method: str, request: bytes) -> bytes:
        """Ask until there is an answer, and give up after ``read_s``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.read_s
        while True:
            try:
                return await self._call(method, request)
            except (TimedOut, Overloaded):
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _call(self, method: str, request: bytes) -> bytes:
        """Make one attempt; but one more with a new token if the present one is refused."""
        number = self._current
        for is_last in (False, True):
            token = await self._authenticated()
            call = self._begin(number, method, request, _metadata(token))
            await _ended(call)
            if call.code() is grpc.StatusCode.OK:
                return call.result()
            if is_last or not self._is_token_refused(call, token):
                break
        raise self._told(call, number)

    async def _authenticated(self) -> str:
        settings = self._settings
        if settings.user and not self._token:
            number = self._current
            request = rpc.authenticate_request(settings.user, settings.password)
            call = self._begin(number, rpc.AUTHENTICATE, request, _metadata(""))
            await _ended(call)
            if call.code() is not grpc.StatusCode.OK:
                raise self._told(call, number)
            self._token = rpc.parse_token(call.result())
        return self._token

    def _is_token_refused(self, call: Ended, token: str) -> bool:
        """Whether etcd has forgotten the token; then the next call asks for another."""
        said = call.details() or ""
        is_refused = "invalid auth token" in said or "auth store is old" in said
        if is_refused and self._token == token:
            self._token = ""
        return is_refused and bool(token)

    def _begin(self, number: int, method: str, request: bytes, metadata: _Metadata) -> _Call:
        to_call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        to_call = self._channel(number).unary_unary(method)
        return to_call.future(request, timeout=CALL_S, metadata=metadata)

    def _channel(self, number: int) -> grpc.Channel:
        channel = self._channels.get(number)
        if channel is None:
            target, is_secure = self._targets[number]
            if is_secure:
                channel = grpc.secure_channel(target, self._credentials, _OPTIONS)
            else:
                channel = grpc.insecure_channel(target, _OPTIONS)
            self._channels[number] = channel
        return channel

    def _give_up(self, number: int) -> None:
        """Ask the next endpoint from now on, and take all that is under way there with us.

        Who answers nothing to one call may keep another one, a watch, for a quarter of a minute.
        """
        if self._current == number:
            self._current = (number + 1) % len(self._targets)
        channel = self._channels.pop(number, None)
        if channel is not None:
            channel.close()

    def _shown(self, number: int) -> str:
        return f"etcd at {self._settings.endpoints[number]}"

    def _check(self, header: rpc.Header) -> None:
        if not self.cluster_id:
            self.cluster_id = header.cluster_id
        elif header.cluster_id != self.cluster_id:
            raise CorruptData(
                f"etcd at {self.endpoint} belongs to cluster {header.cluster_id:x}, and the log is "
                f"in cluster {self.cluster_id:x}: it was swapped or restored; check the endpoints"
            )

    def _told(self, call: Ended, number: int) -> WaypostError:
        """The error in words of ours; moves on to the next endpoint if this one may be to blame."""
        code = call.code()
        said = call.details() or str(code)
        where = self._shown(number)
        if code is grpc.StatusCode.OUT_OF_RANGE:
            raise Compacted
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            if "space" in said:
                return ReadOnly(
                    f"{where} is full ({said}): compact and defragment it, then disarm its alarm"
                )
            return Overloaded(f"{where} is overloaded ({said}): retry in a moment")
        if code is grpc.StatusCode.INVALID_ARGUMENT and "too large" in said:
            return Invalid(f"{where} refused the batch ({said}): send less at once", field="batch")
        if code in _CREDENTIALS:
            return Invalid(f"{where} refused the credentials ({said}): {_REMEDY}", field="etcd")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Invalid(f"{where} is no etcd 3.4 or later ({said})", field="etcd")
        self._give_up(number)
        return TimedOut(f"{where} did not answer ({said}): it is tried again")


_CREDENTIALS: Final = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
)
_REMEDY: Final = (
    "check user and password, and that the user's role may read and write below the prefix"
)


class Stream:
    """What a call streams, read by a thread of its own, a bounded number of messages ahead."""

    def __init__(self, call: _StreamCall) -> None:
        self.call = call
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        threading.Thread(target=self._read, name="waypost-etcd-watch", daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._messages.get()) is not None:
            self._room.release()
            yield message

    def cancel(self) -> None:
        """Read no more."""
        self.call.cancel()
        self._room.release()

    def _read(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and so is the reader
            try:
                for message in self.call:
                    self._loop.call_soon_threadsafe(self._messages.put_nowait, message)
                    self._room.acquire()
            except grpc.RpcError:
                pass  # the call tells which
            finally:
                self._loop.call_soon_threadsafe(self._messages.put_nowait, None)


async def _ended(call: _Call) -> None:
    """Wait for a call to end, however it does."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and so is who waits
            loop.call_soon_threadsafe(ended.set)

    call.add_done_callback(tell)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise


def _metadata(token: str) -> _Metadata:
    return (_NEEDS_LEADER, ("token", token)) if token else (_NEEDS_LEADER,)


def _target(endpoint: str) -> tuple[str, bool]:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise Invalid(
            f"etcd: {endpoint!r} is not an endpoint: use http://host:port or https://host:port",
            field="etcd",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 2379}", parts.scheme == "https"


def _credentials(settings: EtcdSettings) -> grpc.ChannelCredentials:
    if bool(settings.cert) != bool(settings.key):
        raise Invalid("etcd: a certificate and its key belong together: name both", field="etcd")
    files = [Path(name) if name else None for name in (settings.ca, settings.key, settings.cert)]
    try:
        ca, key, cert = (None if file is None else file.read_bytes() for file in files)
    except OSError as error:
        raise Invalid(f"etcd: {error.filename} cannot be read: {error}", field="etcd") from None
    return grpc.ssl_channel_credentials(ca, key, cert)
