"""The processes of the demo: started, killed, and in the end all gone.

Every process that was started is either ended already or in ``_running``, and ``end`` kills those;
it needs no event loop, so it works wherever an interruption hits.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

READY_S_MAX: Final = 15.0
GOODBYE_S_MAX: Final = 10.0
LAST_WORDS: Final = 5


class Failure(Exception):
    """The story cannot go on; the message says why."""


class Actor:
    """One process."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.process = process
        self.said: dict[str, Any] = {}
        """What it printed once it was ready."""


class Cast:
    """All of them."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._running: dict[str, Actor] = {}

    async def start_registry(
        self, native_port: int = 0, http_port: int = 0, *, xds_port: int | None = None
    ) -> Actor:
        """Start a durable registry, on the ports given or on free ones."""
        ports = ["--port", str(native_port), "--http-port", str(http_port), "--dns-port", "0"]
        doors = ports if xds_port is None else [*ports, "--xds-port", str(xds_port)]
        data = ["--data-dir", str(self._directory / "data")]
        return await self._start("registry", ["-m", "waypost", "serve", "--quiet", *doors, *data])

    async def start_member(self, name: str, address: str, *how: str) -> Actor:
        """Start a member of a cluster, again if it ran before, on the data that it has."""
        doors = ["--port", address.rpartition(":")[2], "--http-port", "0", "--dns-port", "0"]
        data = ["--data-dir", str(self._directory / name)]
        who = ["-m", "waypost", "serve", "--quiet", "--name", name]
        return await self._start(name, [*who, *doors, *data, *how])

    def wipe(self, name: str) -> None:
        """Delete all that a member had."""
        shutil.rmtree(self._directory / name)

    async def start_provider(self, server: str, service: str, name: str, ttl_s: float) -> Actor:
        """Start a provider and wait until it is registered."""
        return await self.start_program(name, "provider", server, service, name, f"{ttl_s:g}")

    async def start_program(self, name: str, module: str, *arguments: str) -> Actor:
        """Start another program of the demo and wait until it says something."""
        return await self._start(name, ["-m", f"waypost.cli.demo.{module}", *arguments])

    def kill(self, actor: Actor) -> None:
        """SIGKILL: it gets no chance to say anything to anybody."""
        actor.process.kill()
        self._forget(actor)

    async def dismiss(self, actor: Actor) -> int:
        """Let a provider end by itself; returns its exit code."""
        assert actor.process.stdin is not None
        actor.process.stdin.close()
        try:
            code = await asyncio.to_thread(actor.process.wait, GOODBYE_S_MAX)
        except subprocess.TimeoutExpired:
            raise Failure(f"{actor.name} did not end within {GOODBYE_S_MAX:g} s") from None
        self._forget(actor)
        return code

    def end(self) -> None:
        """Kill whoever is left."""
        for actor in list(self._running.values()):
            self.kill(actor)

    def last_words(self) -> list[str]:
        """What the processes said last on their standard errors."""
        return [
            f"{path.stem}: {line}"
            for path in sorted(self._directory.glob("*.err"))
            for line in path.read_text(errors="replace").splitlines()[-LAST_WORDS:]
        ]

    async def _start(self, name: str, arguments: Sequence[str]) -> Actor:
        with (self._directory / f"{name}.err").open("ab") as errors:
            process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        actor = self._running[name] = Actor(name, process)
        try:
            async with asyncio.timeout(READY_S_MAX):
                line = await _line_of(process)
        except TimeoutError:
            raise Failure(f"{name} was not ready within {READY_S_MAX:g} s") from None
        if not line:
            raise Failure(f"{name} ended before it was ready")
        actor.said = json.loads(line)
        return actor

    def _forget(self, actor: Actor) -> None:
        actor.process.wait()
        for pipe in (actor.process.stdin, actor.process.stdout):
            assert pipe is not None
            pipe.close()
        self._running.pop(actor.name, None)


async def _line_of(process: "subprocess.Popen[bytes]") -> bytes:
    """The first line that it prints, or nothing if it ends before."""
    assert process.stdout is not None
    loop = asyncio.get_running_loop()
    has_output = asyncio.Event()
    loop.add_reader(process.stdout, has_output.set)
    try:
        await has_output.wait()
    finally:
        loop.remove_reader(process.stdout)
    return process.stdout.readline()  # it is there: written at once, and shorter than a pipe
