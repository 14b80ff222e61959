"""Load generators: connections that keep a window of requests outstanding, and count.

They speak frames directly, without the client library, so that what is measured is the server as
far as one Python process can drive it; but what they write has its effect once, as a client's does.
Latency is from the write of a request's frame to the
arrival of its answer, taken per frame and counted once for each operation in it.
"""

import asyncio
import itertools
import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from waypost import wire
from waypost.commands import Refused, Register
from waypost.errors import Unavailable
from waypost.model import Instance, Query
from waypost.transport.frames import FrameReader, encode_frame

COMMANDS_PER_FRAME_MAX: Final = 128
_ID_MAX: Final = 0xFFFF_FFFF
_ANSWERS: Final = frozenset((wire.OUTCOMES, wire.RESOLVED, wire.PONG, wire.FAULT))
_VERSION: Final = b"v%08d"


class Tally(msgspec.Struct):
    """What happened in one run; latencies are in nanoseconds, one per frame, with its weight."""

    operations: int = 0
    errors: int = 0
    first_error: str = ""
    latencies: "array[int]" = msgspec.field(default_factory=lambda: array("q"))
    weights: "array[int]" = msgspec.field(default_factory=lambda: array("q"))

    def add(self, operations: int, latency_ns: int) -> None:
        """Count operations that were answered together."""
        self.operations += operations
        self.latencies.append(latency_ns)
        self.weights.append(operations)

    def failed(self, message: str) -> None:
        """Count an operation that was refused."""
        self.errors += 1
        self.first_error = self.first_error or message

    def percentile_ms(self, share: float) -> float:
        """Latency below which that share of the operations was, in milliseconds."""
        if not self.latencies:
            return 0.0
        ranked = sorted(zip(self.latencies, self.weights, strict=True))
        wanted = share * sum(self.weights)
        for latency, weight in ranked:
            wanted -= weight
            if wanted <= 0:
                return latency / 1e6
        return ranked[-1][0] / 1e6


class Load(asyncio.Protocol):
    """One connection under load: ``make`` gives the next request, as kind, body and operations."""

    def __init__(
        self,
        make: Callable[[], tuple[int, bytes, int]],
        window: int,
        tally: Tally,
        *,
        session: str = "",
    ) -> None:
        self._make = make
        self._window = window
        self._tally = tally
        self._session = session
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._sent: deque[tuple[int, int]] = deque()
        self._outstanding = 0
        self._next_id = 1
        self._is_running = False
        self._is_ready = False
        self._transport: asyncio.Transport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and attach a session if one is wanted."""
        self._transport = cast("asyncio.Transport", transport)
        name = wire.Hello(1, "waypost bench", secrets.token_urlsafe(12))
        hello = encode_frame(wire.HELLO, 0, wire.encode(name))
        if self._session:
            attach = wire.AttachSession(self._session, 30_000, 0)
            hello += encode_frame(wire.ATTACH, 0, wire.encode(attach))
        transport.write(hello)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Take answers, and replace each by the next request."""
        if not self._is_ready:
            self._greeted(data)
            return
        now = time.perf_counter_ns()
        for kind, frame_id, body in self._reader.feed(data):
            if kind in _ANSWERS:
                self._answered(kind, body, now)
            elif kind == wire.PING:
                self._transport.write(encode_frame(wire.PONG, frame_id))
        self._fill()

    def _greeted(self, data: bytes) -> None:
        for kind, _, body in self._reader.feed(data):
            if kind == wire.FAULT:
                self.ready.set_exception(Unavailable(wire.decode_fault(body).message))
            elif kind == (wire.OUTCOMES if self._session else wire.WELCOME):
                self._is_ready = True
                self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server went away."""
        for future in (self.ready, self.idle, self.gone):
            if not future.done():
                future.set_exception(Unavailable(f"the connection broke under load: {exc}"))

    def run(self) -> None:
        """Fill the window and keep it full."""
        self._is_running = True
        self._fill()

    def measure(self, tally: Tally) -> None:
        """Count into ``tally`` from here on."""
        self._tally = tally

    def stop(self) -> None:
        """Send no more; ``idle`` is done when everything outstanding is answered."""
        self._is_running = False
        self._settle()

    def leave(self) -> None:
        """End the session, and with it all that it registered; ``gone`` is done when it has."""
        self._is_leaving = True
        if self._session:
            self._transport.write(encode_frame(wire.DETACH, 0, wire.encode(self._session)))
        else:
            self.gone.set_result(None)

    def close(self) -> None:
        """Hang up."""
        self.idle.cancel()
        self.gone.cancel()
        self._transport.abort()

    def _answered(self, kind: int, body: bytes, now: int) -> None:
        if self._is_leaving:
            self.gone.set_result(None)
            return
        sent_ns, operations = self._sent.popleft()
        self._outstanding -= operations
        if kind == wire.FAULT:
            self._tally.failed(wire.decode_fault(body).message)
        else:
            if kind == wire.OUTCOMES:
                for refused in refusals(body):
                    self._tally.failed(refused.message)
            self._tally.add(operations, now - sent_ns)
        if not self._is_running:
            self._settle()

    def _fill(self) -> None:
        frames: list[bytes] = []
        while self._is_running and self._outstanding < self._window:
            kind, body, operations = self._make()
            frames.append(encode_frame(kind, self._next_id, body))
            self._next_id = self._next_id % _ID_MAX + 1
            self._outstanding += operations
            self._sent.append((time.perf_counter_ns(), operations))
        if frames:
            self._transport.write(b"".join(frames))

    def _settle(self) -> None:
        if not self._sent and not self.idle.done():
            self.idle.set_result(None)


def registrations(
    worker: int, window: int, services: int, ids: int
) -> Callable[[], tuple[int, bytes, int]]:
    """Registrations of ``ids`` instances in turn; each is a real change (its version moves on)."""
    per_frame = min(max(1, window // 4), COMMANDS_PER_FRAME_MAX)
    head = wire.encode([None] * per_frame)[:-per_frame]
    session = session_of(worker)
    known: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    turn = itertools.count()

    def around_version(service: int, number: int) -> tuple[bytes, bytes]:
        """Encode the command once: the next one differs in nothing but its version."""
        name = f"bench-{service}"
        instance = Instance(
            name,
            f"{name}-10.0.{worker % 256}.1-{8000 + number}",
            f"10.0.{worker % 256}.1",
            8000 + number,
            version=(_VERSION % 0).decode(),
            zone="a",
            tags=("bench",),
            meta={"scheme": "http"},
        )
        before, _, after = wire.encode(Register(instance, session)).partition(_VERSION % 0)
        return before, after

    def make() -> tuple[int, bytes, int]:
        pieces = [head]
        for n in itertools.islice(turn, per_frame):
            key = (worker + n) % services, n % ids
            around = known.get(key)
            if around is None:
                around = known[key] = around_version(*key)
            pieces += (around[0], _VERSION % (n // ids), around[1])
        return wire.WRITE, b"".join(pieces), per_frame

    return make


def resolves(
    service: str, consistency: wire.Consistency = "default"
) -> Callable[[], tuple[int, bytes, int]]:
    """The same resolve, again and again."""
    body = wire.encode(wire.Resolve(service, Query(), consistency))
    return lambda: (wire.RESOLVE, body, 1)


def renewals() -> Callable[[], tuple[int, bytes, int]]:
    """Renewals of the connection's session."""
    return lambda: (wire.PING, b"", 1)


def session_of(worker: int) -> str:
    """The session that a worker registers with."""
    return f"bench-{worker}"


async def under_load(
    addresses: Sequence[tuple[str, int]],
    makes: list[Callable[[], tuple[int, bytes, int]]],
    *,
    window: int,
    seconds: float,
    with_sessions: bool,
    warm_up_s: float = 0.5,
) -> tuple[Tally, float]:
    """Run one connection per maker, to each of the addresses in turn.

    Returns what happened, and for how many seconds it ran.
    """
    loop = asyncio.get_running_loop()
    warm_up = Tally()
    loads: list[Load] = []
    for worker, make in enumerate(makes):
        session = session_of(worker) if with_sessions else ""
        load = Load(make, window, warm_up, session=session)
        host, port = addresses[worker % len(addresses)]
        await loop.create_connection(lambda load=load: load, host, port)  # type: ignore[misc]
        loads.append(load)
    await asyncio.gather(*(load.ready for load in loads))
    for load in loads:
        load.run()
    await asyncio.sleep(warm_up_s)
    tally = Tally()
    for load in loads:
        load.measure(tally)
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    for load in loads:
        load.measure(warm_up)
    took = time.perf_counter() - begun
    for load in loads:
        load.stop()
    await asyncio.gather(*(load.idle for load in loads))
    for load in loads:
        load.leave()
    await asyncio.gather(*(load.gone for load in loads))
    for load in loads:
        load.close()
    if warm_up.errors and not tally.errors:
        tally.errors, tally.first_error = warm_up.errors, warm_up.first_error
    return tally, took


def refusals(body: bytes) -> list[Refused]:
    """The refusals among the outcomes in an answer."""
    return [o for o in wire.decode_outcomes(body).outcomes if isinstance(o, Refused)]
