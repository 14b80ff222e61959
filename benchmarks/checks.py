"""10,000 health checks over HTTP at an interval of 10 s on one node: what they cost, and how soon
a failure is known."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.servers import PYTHON, ours
from waypost import wire
from waypost.checks import Check
from waypost.commands import Command, PutCheck, Register
from waypost.model import Instance
from waypost.transport.frames import FrameReader, encode_frame

COUNT = 10_000
FAILING = 500
INTERVAL_MS = 10_000
MEASURED_S = 20.0


class Target(asyncio.Protocol):
    """Answers every request; those for a number below ``failing`` with 500."""

    failing = 0
    answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1][1:]
        if path.startswith(b"fail/"):
            Target.failing = int(path[5:])
            path = b"0" if not Target.failing else str(Target.failing).encode()
        status = b"500 Failing" if int(path) < Target.failing else b"200 OK"
        Target.answered += 1
        body = b"%012d" % Target.answered
        self.transport.write(b"HTTP/1.1 %b\r\nContent-Length: 12\r\n\r\n%b" % (status, body))  # type: ignore[attr-defined]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


class Client:
    """A native connection, one thing at a time."""

    async def open(self, address: tuple[str, int]) -> "Client":
        self._reader, self._writer = await asyncio.open_connection(*address)
        self._frames = FrameReader(1 << 26)
        self._last = 0
        await self.ask(wire.HELLO, wire.Hello(wire.PROTOCOL_VERSION, "bench"))
        return self

    async def ask(self, kind: int, body: object) -> bytes:
        self._last += 1
        self._writer.write(encode_frame(kind, self._last, wire.encode(body)))
        while True:
            data = await self._reader.read(1 << 20)
            assert data, "the node closed the connection"
            for answered, number, answer in self._frames.feed(data):
                assert answered != wire.FAULT, answer
                if number == self._last and answered not in (wire.PING, wire.PONG):
                    return bytes(answer)

    async def passing(self) -> int:
        listed = wire.decode_services(await self.ask(wire.LIST, 0))
        return sum(service.pickable for service in listed.services)


async def told(target: int, path: str) -> int:
    """Ask the target; how many it has answered so far."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target)
    writer.write(f"GET /{path} HTTP/1.1\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(12)
    writer.close()
    return int(answer[-12:])


async def measure(pid: int, address: tuple[str, int], target: int) -> None:
    client = await Client().open(address)
    idle_mb = rss_mb(pid)
    for start in range(0, COUNT, 500):
        commands: list[Command] = []
        for number in range(start, start + 500):
            name, at = f"i-{number}", f"http://127.0.0.1:{target}/{number}"
            check = Check("http", kind="http", target=at, interval_ms=INTERVAL_MS)
            commands.append(Register(Instance("bench", name, "127.0.0.1", target)))
            commands.append(PutCheck("bench", name, "", check))
        await client.ask(wire.WRITE, commands)
    began = time.monotonic()
    while await client.passing() < COUNT:
        await asyncio.sleep(0.5)
        assert time.monotonic() - began < 60, await client.passing()
    print(f"  all {COUNT:,} passing after {time.monotonic() - began:.1f} s")
    await asyncio.sleep(2)

    probed = await told(target, "0")
    before, began = cpu_s(pid), time.monotonic()
    await asyncio.sleep(MEASURED_S)
    passed_s, used_s = time.monotonic() - began, cpu_s(pid) - before
    probed = await told(target, "0") - probed
    print(
        f"  {probed / passed_s:,.0f} probes/s at {used_s / passed_s:.0%} of a core "
        f"({used_s / probed * 1e6:.0f} µs each), {rss_mb(pid) - idle_mb:.0f} MB for all"
    )

    client = await Client().open(address)
    await told(target, f"fail/{FAILING}")
    began = time.monotonic()
    while await client.passing() > COUNT - FAILING:
        await asyncio.sleep(0.1)
        assert time.monotonic() - began < 60
    print(f"  the last of {FAILING} failures was known after {time.monotonic() - began:.1f} s")


def main() -> None:
    command = [PYTHON, "-m", "benchmarks.checks", "target"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as served, ours() as node:
        try:
            assert served.stdout is not None
            target = int(served.stdout.readline())
            uvloop.run(measure(node.process.pid, node.native_address, target))
        finally:
            served.kill()


if __name__ == "__main__":
    uvloop.run(serve()) if sys.argv[1:] == ["target"] else main()
