"""A program that a command runs and stands in for: signals go to it, and its exit code is ours.

It has a process group of its own.  So a Ctrl-C reaches it only when it is passed on, after it has
been taken out of use, and a signal reaches what it started too, such as a shell's child.  A
process group that is not in the terminal's foreground may not read from it (POSIX, job control):
standard input is passed on only when it is not a terminal.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_PROBE_EVERY_S: Final = 0.05
_PROBE_TIMEOUT_S: Final = 0.5


class Program:
    """One running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ended = asyncio.ensure_future(process.wait())
        """Done when it has ended; its result is the exit status, or minus a signal."""

    @property
    def pid(self) -> int:
        """Its process id, which is its group's too."""
        return self._process.pid

    @property
    def exit_code(self) -> int:
        """As a shell tells it: its own, or 128 and the number of the signal that ended it."""
        status = self.ended.result()
        return 128 - status if status < 0 else status

    def send(self, number: int) -> None:
        """Send it and all that it started a signal; does nothing when it has ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        self.send(signal.SIGKILL)


async def start_program(command: Sequence[str], env: Mapping[str, str]) -> Program:
    """Run a command.  Raises ``OSError`` if it cannot be."""
    stdin = asyncio.subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None
    process = await asyncio.create_subprocess_exec(
        *command, stdin=stdin, env={**os.environ, **env}, process_group=0
    )
    return Program(process)


async def accepts(host: str, port: int, within_s: float) -> bool:
    """Wait until something accepts connections there; returns whether it did in time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while True:
        if await _accepts_now(host, port):
            return True
        if loop.time() >= until:
            return False
        await asyncio.sleep(_PROBE_EVERY_S)


async def _accepts_now(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
