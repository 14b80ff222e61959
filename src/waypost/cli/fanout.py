"""One writer, many watchers: does every watcher see every change, once, in order, and how soon?

Each change moves one instance's version on by one, so a watcher can tell a gap from a repeat.  The
clock starts when the writer has its acknowledgement; a watcher that was told before counts as 0.
"""

import asyncio
import time
from array import array
from typing import Final, cast

import msgspec

from waypost import wire
from waypost.commands import Deregister, Register
from waypost.errors import Unavailable
from waypost.model import Instance
from waypost.transport.frames import FrameReader, encode_frame

SERVICE: Final = "bench-watch"


class FanOut(msgspec.Struct):
    """What the watchers saw."""

    changes: int = 0
    received: int = 0
    missed: int = 0
    repeated: int = 0
    out_of_order: int = 0
    seconds: float = 0.0
    latencies: "array[int]" = msgspec.field(default_factory=lambda: array("q"))

    def percentile_ms(self, share: float) -> float:
        """Latency below which that share of the receptions was, in milliseconds."""
        if not self.latencies:
            return 0.0
        ranked = sorted(self.latencies)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 1e6


class _Watcher(asyncio.Protocol):
    """Watches the service, and notes when each version came."""

    def __init__(self) -> None:
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._transport: asyncio.Transport
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.seen: list[tuple[int, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet and watch."""
        self._transport = cast("asyncio.Transport", transport)
        hello = wire.encode(wire.Hello(1, "waypost bench"))
        watch = wire.encode(wire.Watch(SERVICE))
        self._transport.write(
            encode_frame(wire.HELLO, 0, hello) + encode_frame(wire.WATCH, 1, watch)
        )

    def data_received(self, data: bytes) -> None:
        """Note what came, and when."""
        now = time.perf_counter_ns()
        for kind, _, body in self._reader.feed(data):
            match kind:
                case wire.CHANGES:
                    for change in wire.decode_changes(body).changes:
                        if change.kind != "down":
                            self.seen.append((int(change.record.instance.version), now))
                case wire.SNAPSHOT:
                    self.ready.set_result(None)
                case wire.FAULT:
                    self.ready.set_exception(Unavailable(wire.decode_fault(body).message))
                case _:
                    pass

    def connection_lost(self, exc: Exception | None) -> None:
        """The server went away."""
        if not self.ready.done():
            self.ready.set_exception(Unavailable(f"the connection broke: {exc}"))

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def ping(self) -> None:
        """Stay alive: a silent connection is closed."""
        self._transport.write(encode_frame(wire.PING, 0))


class _Writer(asyncio.Protocol):
    """Sends one write at a time, and notes when each was acknowledged."""

    def __init__(self) -> None:
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        hello = wire.encode(wire.Hello(1, "waypost bench"))
        self._transport.write(encode_frame(wire.HELLO, 0, hello))

    def data_received(self, data: bytes) -> None:
        """Take the acknowledgement."""
        now = time.perf_counter_ns()
        for kind, _, body in self._reader.feed(data):
            if kind in (wire.OUTCOMES, wire.FAULT) and self._answer is not None:
                if kind == wire.FAULT:
                    fault = wire.decode_fault(body)
                    self._answer.set_exception(Unavailable(fault.message))
                else:
                    self._answer.set_result(now)
                self._answer = None

    async def write(self, command: Register | Deregister) -> int:
        """Commit one command; returns when it was acknowledged, in nanoseconds."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(encode_frame(wire.WRITE, 1, wire.encode([command])))
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()


async def fan_out(address: tuple[str, int], watchers: int, seconds: float, rate: float) -> FanOut:
    """Change one instance ``rate`` times a second, and compare what every watcher saw."""
    loop = asyncio.get_running_loop()
    watching = [_Watcher() for _ in range(watchers)]
    for watcher in watching:
        await loop.create_connection(lambda watcher=watcher: watcher, *address)  # type: ignore[misc]
    await asyncio.gather(*(watcher.ready for watcher in watching))
    writer = _Writer()
    await loop.create_connection(lambda: writer, *address)

    result = FanOut()
    acknowledged: dict[int, int] = {}
    begun = time.perf_counter()
    pinged = begun
    while time.perf_counter() - begun < seconds:
        result.changes += 1
        instance = Instance(SERVICE, f"{SERVICE}-1", "10.0.0.1", 8000, version=str(result.changes))
        acknowledged[result.changes] = await writer.write(Register(instance))
        if time.perf_counter() - pinged > 1.0:
            pinged = time.perf_counter()
            for watcher in watching:
                watcher.ping()
        await asyncio.sleep(1 / rate)
    result.seconds = time.perf_counter() - begun
    for _ in range(500):
        if all(len(watcher.seen) >= result.changes for watcher in watching):
            break
        await asyncio.sleep(0.01)
    await writer.write(Deregister(SERVICE, f"{SERVICE}-1"))
    writer.close()
    for watcher in watching:
        watcher.close()
        _judge(watcher.seen, acknowledged, result)
    return result


def _judge(seen: list[tuple[int, int]], acknowledged: dict[int, int], result: FanOut) -> None:
    last = 0
    met: set[int] = set()
    for version, at in seen:
        if version in met:
            result.repeated += 1
            continue
        if version < last:
            result.out_of_order += 1
        met.add(version)
        last = max(last, version)
        result.received += 1
        result.latencies.append(max(0, at - acknowledged[version]))
    result.missed += len(acknowledged) - len(met)
