"""An acknowledged write is there after a crash; a refused one is not."""

import asyncio
import random
import time
from pathlib import Path

import msgspec
import pytest

from tests.processes.programs import RegistryProcess
from waypost import wire
from waypost.commands import ClientCommand, Deregister, Refused, Register
from waypost.model import Instance
from waypost.transport.frames import FrameReader, encode_frame

ROUNDS = 100
WRITERS = 8
IDS = 20


class Ledger(msgspec.Struct):
    """What one instance id may be after a crash."""

    acknowledged: int = 0
    sent: int = 0


class Writer(asyncio.Protocol):
    """Writes versions of its instances, a few at a time, and some writes that must be refused."""

    def __init__(self, number: int, ledgers: dict[str, Ledger], seed: int) -> None:
        self._number = number
        self._ledgers = ledgers
        self._random = random.Random(seed)
        self._reader = FrameReader(wire.ANSWER_BYTES_MAX)
        self._under_way: dict[int, list[tuple[str, int]]] = {}
        self._next = 1
        self._transport: asyncio.Transport
        self.refused = 0
        self.acknowledged = 0
        self.gone = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(encode_frame(wire.HELLO, 0, wire.encode(wire.Hello(1))))
        for _ in range(4):
            self._write()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        for kind, frame_id, body in self._reader.feed(data):
            if kind == wire.OUTCOMES:
                written = self._under_way.pop(frame_id)
                for (name, version), outcome in zip(
                    written, wire.decode_outcomes(body).outcomes, strict=True
                ):
                    if isinstance(outcome, Refused):
                        assert version == 0, outcome
                        self.refused += 1
                    else:
                        assert version > 0, f"{name} should have been refused"
                        ledger = self._ledgers[name]
                        ledger.acknowledged = max(ledger.acknowledged, version)
                        self.acknowledged += 1
                self._write()
            elif kind == wire.FAULT:
                self.refused += 1
                self._write()

    def _write(self) -> None:
        commands: list[ClientCommand] = []
        written: list[tuple[str, int]] = []
        for _ in range(self._random.randint(1, 12)):
            name = f"w{self._number}-{self._random.randrange(IDS)}"
            ledger = self._ledgers.setdefault(name, Ledger())
            ledger.sent += 1
            commands.append(
                Register(Instance("durable", name, "10.0.0.1", 8000, version=str(ledger.sent)))
            )
            written.append((name, ledger.sent))
        if self._random.random() < 0.2:
            commands.append(Deregister("durable", "never-was"))
            written.append(("never-was", 0))
        if self._random.random() < 0.1:  # refused whole, at the door
            bad = Register(Instance("durable", f"refused-{self._number}", "10.0.0.1", 0))
            body = wire.encode([bad, *commands])
            self._transport.write(encode_frame(wire.WRITE, self._next, body))
            self._next += 1
            return
        self._under_way[self._next] = written
        self._transport.write(encode_frame(wire.WRITE, self._next, wire.encode(commands)))
        self._next += 1


async def _load(address: tuple[str, int], ledgers: dict[str, Ledger], seed: int) -> list[Writer]:
    loop = asyncio.get_running_loop()
    writers = [Writer(n, ledgers, seed * 1000 + n) for n in range(WRITERS)]
    for writer in writers:
        await loop.create_connection(lambda writer=writer: writer, *address)
    return writers


async def _state(address: tuple[str, int]) -> dict[str, int]:
    reader, writer = await asyncio.open_connection(*address)
    resolve = wire.Resolve("durable")
    writer.write(
        encode_frame(wire.HELLO, 0, wire.encode(wire.Hello(1)))
        + encode_frame(wire.RESOLVE, 1, wire.encode(resolve))
    )
    frames = FrameReader(wire.ANSWER_BYTES_MAX)
    while True:
        for kind, _, body in frames.feed(await reader.read(1 << 20)):
            if kind == wire.RESOLVED:
                writer.close()
                await writer.wait_closed()
                records = wire.decode_resolved(body).records
                return {r.instance.id: int(r.instance.version) for r in records}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_under_load_lose_no_acknowledged_write_and_keep_no_refused_one(
    tmp_path: Path,
) -> None:
    registry = RegistryProcess(tmp_path / "data")
    ledgers: dict[str, Ledger] = {}
    chance = random.Random(20)

    async def one_round(number: int) -> tuple[int, int]:
        state = await _state(registry.address)
        for name, ledger in ledgers.items():
            version = state.get(name, 0)
            assert ledger.acknowledged <= version <= ledger.sent, (number, name, version, ledger)
        assert state.keys() <= ledgers.keys(), "something is there that was never acknowledged"
        writers = await _load(registry.address, ledgers, number)
        await asyncio.sleep(chance.uniform(0.02, 0.25))
        registry.kill()
        for writer in writers:
            await writer.gone
        return sum(w.acknowledged for w in writers), sum(w.refused for w in writers)

    acknowledged = refused = 0
    begun = time.monotonic()
    for number in range(ROUNDS):
        registry.start()
        a, r = asyncio.run(one_round(number))
        acknowledged, refused = acknowledged + a, refused + r
    registry.start()
    state = asyncio.run(_state(registry.address))
    assert registry.stop() == 0

    for name, ledger in ledgers.items():
        assert ledger.acknowledged <= state.get(name, 0) <= ledger.sent
    assert not [name for name in state if name.startswith("refused")]
    assert acknowledged > 100 * ROUNDS, "the load was too light to show anything"
    assert refused > ROUNDS
    print(
        f"{ROUNDS} kills in {time.monotonic() - begun:.0f} s: {acknowledged} acknowledged, "
        f"{refused} refused, none lost, none kept"
    )


def test_a_registry_that_is_stopped_and_started_again_goes_on_at_its_revision(
    tmp_path: Path,
) -> None:
    registry = RegistryProcess(tmp_path / "data").start()

    async def write() -> None:
        ledgers: dict[str, Ledger] = {}
        writers = await _load(registry.address, ledgers, 1)
        while sum(w.acknowledged for w in writers) < 100:
            await asyncio.sleep(0.01)
        for writer in writers:
            writer._transport.abort()

    asyncio.run(write())
    before = asyncio.run(_state(registry.address))
    assert registry.stop() == 0
    registry.start()
    after = asyncio.run(_state(registry.address))
    registry.stop()

    assert before
    assert all(after[name] >= version for name, version in before.items())
