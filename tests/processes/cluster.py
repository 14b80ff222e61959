"""A cluster of real processes on loopback, and a client that counts what was acknowledged."""

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.processes.namespaces import PORT
from waypost import wire
from waypost.cli.demo.ports import free_ports
from waypost.client.connection import error_of
from waypost.commands import Register
from waypost.errors import WaypostError
from waypost.model import Instance
from waypost.transport.frames import Frame, FrameReader, encode_frame


class NodeProcess:
    """``waypost serve`` as a member of a cluster."""

    def __init__(
        self, name: str, directory: Path, address: str, *options: str, at: Sequence[str] = ()
    ) -> None:
        """``at`` goes before the command: where it runs."""
        self.name = name
        self.directory = directory
        self.address = address
        self._at = at
        self._options = options
        self.process: subprocess.Popen[str] | None = None
        self.http = ""
        """Where its HTTP door listens, as ``host:port``; known once it is ready."""
        self.dns = ""
        """And its DNS door."""
        self.xds = ""
        """Where its xDS door listens, if it was told to open it."""

    def begin(self) -> None:
        """Start it; ``wait_ready`` returns when its doors are open."""
        command = [*self._at, sys.executable, "-m", "waypost", "serve", "--name", self.name]
        command += ["--data-dir", str(self.directory), "--http-port", "0", "--dns-port", "0"]
        command += ["--port", self.address.rsplit(":", 1)[1], *self._options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def wait_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.name} did not start"
        ready = json.loads(line)
        assert ready["native"] == self.address
        self.http = ready["http"]
        self.dns = ready["dns"]
        self.xds = ready.get("xds", "")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def wipe(self) -> None:
        """Lose its disk."""
        shutil.rmtree(self.directory)

    @property
    def log(self) -> Path:
        """What it says on its standard error, over all its lives."""
        return self.directory.with_name(f"{self.name}.log")

    @property
    def is_running(self) -> bool:
        return self.process is not None

    def _reap(self) -> int:
        assert self.process is not None
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code


class Places(Protocol):
    """Machines, each with an address of its own."""

    hosts: dict[str, str]

    def at(self, name: str) -> list[str]:
        """What to put before a command so that it runs on that machine."""
        ...


class ClusterProcesses:
    """Three nodes, and those that join them."""

    def __init__(self, directory: Path, *options: str, network: Places | None = None) -> None:
        self._directory = directory
        if network is None:
            addresses = {
                name: f"127.0.0.1:{port}" for name, port in zip("abc", free_ports(3), strict=True)
            }
        else:
            addresses = {name: f"{host}:{PORT}" for name, host in network.hosts.items()}
        line = ",".join(f"{name}={address}" for name, address in addresses.items())
        self.nodes: dict[str, NodeProcess] = {}
        for name, address in addresses.items():
            more, at = [*options, "--cluster", line], list[str]()
            if network is not None:
                more += ["--host", address.rsplit(":", 1)[0], "--insecure"]
                at = network.at(name)
            self.nodes[name] = NodeProcess(name, directory / name, address, *more, at=at)

    def start(self) -> "ClusterProcesses":
        for node in self.nodes.values():
            node.begin()
        for node in self.nodes.values():
            node.wait_ready()
        return self

    def join(self, name: str, seed: NodeProcess) -> NodeProcess:
        """Start one more node."""
        (port,) = free_ports(1)
        directory = self._directory / name
        node = NodeProcess(name, directory, f"127.0.0.1:{port}", "--join", seed.address)
        self.nodes[name] = node
        node.begin()
        node.wait_ready()
        return node

    def stop(self) -> None:
        for node in self.nodes.values():
            if node.is_running:
                node.kill()

    @property
    def running(self) -> list[NodeProcess]:
        return [node for node in self.nodes.values() if node.is_running]

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes.values()]

    async def state(self) -> wire.ClusterState:
        """What the first node that answers says."""
        for node in self.nodes.values():
            with contextlib.suppress(OSError, WaypostError, TimeoutError):
                return await ask(node.address, wire.ClusterAsk("status"))
        raise AssertionError("no node answers")

    async def leader(self) -> NodeProcess:
        """The one that leads, once one does and runs."""
        async with asyncio.timeout(15):
            while True:
                name = (await self.state()).leader
                if name and self.nodes[name].is_running:
                    return self.nodes[name]
                await asyncio.sleep(0.05)

    async def leader_but(self, spared: str) -> NodeProcess:
        """The one that leads; if that is whose HTTP door is at ``spared``, another is let lead."""
        async with asyncio.timeout(15):
            while (leader := await self.leader()).http == spared:
                with contextlib.suppress(OSError, WaypostError, TimeoutError):
                    await ask(leader.address, wire.ClusterAsk("transfer"))
                await asyncio.sleep(0.05)
        return leader

    async def until_members(self, names: str) -> wire.ClusterState:
        """Wait until these are the members, and all of them are there."""
        async with asyncio.timeout(15):
            while True:
                state = await self.state()
                voting = [each for each in state.members if each.votes]
                there = sorted(each.name for each in voting if each.role != "away")
                if there == sorted(names) and len(voting) == len(names) and state.leader:
                    return state
                await asyncio.sleep(0.1)


class Session:
    """One native connection, asked one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(1 << 24)
        self._waiting: list[Frame] = []

    @classmethod
    async def open(cls, address: str, client: str = "") -> "Session":
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        session = cls(reader, writer)
        hello = wire.Hello(wire.PROTOCOL_VERSION, "test", client)
        try:
            await session.ask(wire.HELLO, 1, wire.encode(hello))
        except BaseException:
            session.close()
            raise
        return session

    async def ask(self, kind: int, frame_id: int, body: bytes) -> bytes:
        self._writer.write(encode_frame(kind, frame_id, body))
        while True:
            while self._waiting:
                answered, number, answer = self._waiting.pop(0)
                if answered == wire.FAULT:
                    raise error_of(wire.decode_fault(answer))
                if number == frame_id and answered not in (wire.PING, wire.PONG):
                    return answer
            chunk = await self._reader.read(1 << 16)
            if not chunk:
                raise ConnectionResetError("closed")
            self._waiting += self._frames.feed(chunk)

    def close(self) -> None:
        self._writer.transport.abort()


async def ask(address: str, question: wire.ClusterAsk) -> wire.ClusterState:
    """Put one question about the cluster to one node."""
    async with asyncio.timeout(15):
        session = await Session.open(address)
        try:
            return wire.decode_cluster_state(
                await session.ask(wire.CLUSTER, 2, wire.encode(question))
            )
        finally:
            session.close()


async def linearizable(address: str, service: str) -> set[str]:
    """The ids of a service's instances, as of now."""
    session = await Session.open(address)
    try:
        request = wire.Resolve(service, consistency="linearizable")
        answer = await session.ask(wire.RESOLVE, 2, wire.encode(request))
        return {record.instance.id for record in wire.decode_resolved(answer).records}
    finally:
        session.close()


class Load:
    """A client that writes one instance after the other, and goes elsewhere when it fails.

    A write that got no answer is said again with the id that it had, by the same client.
    """

    def __init__(self, cluster: ClusterProcesses, every_s: float = 0.01) -> None:
        self._cluster = cluster
        self._every_s = every_s
        self._client = secrets.token_hex(8)
        self.acknowledged: list[str] = []
        self.longest_gap_s = 0.0
        self._session: Session | None = None
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._session is not None:
            self._session.close()
        await asyncio.sleep(0)

    async def until(self, more: int) -> None:
        """Wait until so many more are acknowledged."""
        aim = len(self.acknowledged) + more
        async with asyncio.timeout(20):
            while len(self.acknowledged) < aim:
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        number, turn = 0, 0
        last = time.monotonic()
        while True:
            number += 1
            name = f"i-{number}"
            write = wire.encode([Register(Instance("load", name, "10.0.0.1", 8000))])
            while True:
                addresses = self._cluster.addresses
                try:
                    async with asyncio.timeout(3):
                        if self._session is None:
                            address = addresses[turn % len(addresses)]
                            self._session = await Session.open(address, self._client)
                        body = await self._session.ask(wire.WRITE, number + 1, write)
                except (OSError, TimeoutError, WaypostError):
                    if self._session is not None:
                        self._session.close()
                    self._session, turn = None, turn + 1
                    await asyncio.sleep(0.01)
                else:
                    break
            (outcome,) = wire.decode_outcomes(body).outcomes
            assert isinstance(outcome, int), outcome
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last)
            last = now
            self.acknowledged.append(name)
            await asyncio.sleep(self._every_s)
