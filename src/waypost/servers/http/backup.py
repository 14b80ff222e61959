"""A snapshot of the registry as an answer: the bytes of a file, streamed.

The state is that of one moment, however long the reader takes; what changes meanwhile is kept twice
until the stream ends.  So only a few may go on at once, and one whose reader has gone ends.  The
footer of the file has its SHA-256: an answer that was cut short is not taken for a whole one.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from starlette.types import Receive, Scope, Send

from waypost.errors import Overloaded

CONTENT_TYPE: Final = "application/vnd.waypost.snapshot"
STREAMS_MAX: Final = 2


class Backups:
    """How many are under way."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = 0

    def admit(self) -> None:
        """Raise ``Overloaded`` unless one more may begin."""
        if self.open >= STREAMS_MAX:
            raise Overloaded(
                f"{self.open} snapshots are being read from this node, the most at once: wait for "
                "them, or ask another node",
                retry_after=5.0,
            )


class BackupStream:
    """One snapshot on its way out: an ASGI response."""

    status_code: Final = 200

    def __init__(self, backups: Backups, revision: int, pieces: Iterator[bytes]) -> None:
        self._backups = backups
        self._revision = revision
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it, until its end or until the reader leaves."""
        self._backups.open += 1
        tasks = [asyncio.create_task(self._write(send)), asyncio.create_task(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._backups.open -= 1
            for task in tasks:
                task.cancel()
            written, _ = await asyncio.gather(*tasks, return_exceptions=True)
            self._pieces = iter(())  # a capture of the catalog ends with its iterator
        if isinstance(written, Exception):
            raise written

    async def _write(self, send: Send) -> None:
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"cache-control", b"no-store"),
            (b"waypost-revision", str(self._revision).encode()),
        ]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # others have their turn between the pieces
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass
