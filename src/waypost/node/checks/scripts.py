"""Programs as probes, as Consul's agents run them: exit code 0 passes, 1 warns, all else fails.

Only where the node was started for it (``serve --check-scripts``), and only those that a program on
this machine registered here (``Check.runs_on``).

A program is run without a shell, with nothing to read, with the node's environment less what is
Waypost's own there, and in a process group of its own: when its time is up, or nobody wants to know
any more, all of that is killed.  What a program leaves behind, it leaves behind: only its output is
waited for no longer.  So many run at once, and the others wait in order; the last 4 KiB that one
prints are kept, and one that prints more than ``PRINTED_BYTES_MAX`` is no longer listened to.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from threading import Thread
from typing import IO, Final, cast

from waypost.checks import OUTPUT_BYTES_MAX, Check, CheckStatus
from waypost.node.checks.found import Found

AT_ONCE: Final = 32
PRINTED_BYTES_MAX: Final = 1 << 20
LINGER_S: Final = 0.5
"""How long after its end the output may still be held open, by what it has started."""
_STATUSES: Final[dict[int, CheckStatus]] = {0: "passing", 1: "warning"}


class Scripts:
    """Those of one node."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)

    async def run(self, check: Check) -> Found:
        """Run it once; from its start that takes no longer than the check's timeout."""
        async with self._slots:
            try:
                process = _started(check)
            except (OSError, ValueError) as error:
                return Found("critical", f"{check.args[0]} could not be started: {error}")
            return await _followed(check, process)


def _started(check: Check) -> "subprocess.Popen[bytes]":
    # Not asyncio's own: uvloop's forks, which at 2 GiB of memory stops the loop for 40 ms.  This is
    # a vfork, which takes a third of a millisecond however much there is.
    return subprocess.Popen(
        check.args,
        bufsize=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={name: text for name, text in os.environ.items() if not name.startswith("WAYPOST_")},
        start_new_session=True,
    )


async def _followed(check: Check, process: "subprocess.Popen[bytes]") -> Found:
    """Take what it prints until it ends, or its time is up."""
    name, timeout_s = check.args[0], check.probe_timeout_ms / 1000
    ended, output = _end_of(process), _Output()
    try:
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: output, cast("IO[bytes]", process.stdout)
        )
        await asyncio.wait((ended,), timeout=timeout_s)
        if ended.done():
            await asyncio.wait((output.is_over,), timeout=LINGER_S)
        code = process.returncode
    finally:
        if process.returncode is None:  # it is not reaped, and its number nobody else's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.wait((ended,), timeout=LINGER_S)
        output.close()
    if code is None:
        said = f"{name}: timed out after {timeout_s:g} s\n{output.text}"
        return Found("critical", said, True)
    return Found(_STATUSES.get(code, "critical"), output.text or f"{name}: exit code {code}")


def _end_of(process: "subprocess.Popen[bytes]") -> "asyncio.Future[None]":
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def wait() -> None:
        process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(ended.set_result, None)

    Thread(target=wait, name="waypost-script", daemon=True).start()
    return ended


class _Output(asyncio.Protocol):
    """Keeps the last that a program prints."""

    def __init__(self) -> None:
        self.is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._kept = b""
        self._count = 0
        self._pipe: asyncio.BaseTransport | None = None

    @property
    def text(self) -> str:
        """The last 4 KiB of it."""
        return self._kept.decode("utf-8", "replace")

    def close(self) -> None:
        """Listen no more."""
        if self._pipe is not None:
            self._pipe.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe = transport

    def data_received(self, data: bytes) -> None:
        self._count += len(data)
        self._kept = (self._kept + data)[-OUTPUT_BYTES_MAX:]
        if self._count > PRINTED_BYTES_MAX:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.is_over.set_result(None)
