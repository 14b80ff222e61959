"""What was last known of each service: what answers when no registry does.

In memory for this process, and on disk for those that start while the registry is away.  One small
file per registry and service, replaced atomically, at most once a second; what is written is never
synced, because a cache that is lost costs nothing.  The number of files and the size of each are
bounded; the oldest go first.

A file that cannot be read or written is reported once, and the cache does without it: it must never
be the reason why something fails.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from waypost.model import Record, ServiceName, Source

log = logging.getLogger("waypost")

FORMAT: Final = 1
WRITE_AFTER_S: Final = 1.0
FILES_MAX: Final = 512
FILE_BYTES_MAX: Final = 16 << 20
REMEMBERED_MAX: Final = 1024


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A service as the registry last told it."""

    format: int
    registry: str
    service: ServiceName
    cluster: str
    as_of_ms: int
    """Unix time, in milliseconds, at which it was last known to be so."""
    records: list[Record]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Known).decode


def directory_default() -> Path:
    """Where caches belong (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "waypost"


class LastKnown:
    """The last known good answers of one registry.

    Invariant: ``_due`` holds what has changed since it was last written.
    """

    def __init__(self, directory: Path | None, registry: str) -> None:
        """``directory`` of None keeps it in memory only; ``registry`` names it among others."""
        self._directory = directory
        self._registry = registry
        self._remembered: dict[ServiceName, Known] = {}
        self._due: dict[ServiceName, Callable[[], Known]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._has_complained = False

    def known(
        self, service: ServiceName, cluster: str, as_of_ms: int, records: list[Record]
    ) -> Known:
        """Make an entry."""
        return Known(FORMAT, self._registry, service, cluster, as_of_ms, records)

    def remember(self, known: Known) -> None:
        """Keep an answer, in memory and on disk."""
        self._remembered.pop(known.service, None)
        self._remembered[known.service] = known
        while len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]
        self.write_later(known.service, lambda: known)

    def recall(self, service: ServiceName) -> tuple[Known, Source] | None:
        """Say what was last known of a service, and where from; None if nothing was."""
        if service in self._remembered:
            return self._remembered[service], "cache"
        known = self._read(service)
        return None if known is None else (known, "disk")

    def write_later(self, service: ServiceName, make: Callable[[], Known]) -> None:
        """Write what ``make`` returns then, within a second or so."""
        if self._directory is None:
            return
        self._due[service] = make
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(WRITE_AFTER_S, self._start_writing)

    async def close(self) -> None:
        """Write what is due."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        # Not in another thread: at the interpreter's exit there may be none to be had.
        self._write(self._take_due())

    def _start_writing(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._start_writing)
            return
        entries = self._take_due()
        self._writing = asyncio.get_running_loop().create_task(
            asyncio.to_thread(self._write, entries)
        )

    def _take_due(self) -> list[Known]:
        due, self._due = self._due, {}
        return [make() for make in due.values()]

    # Files

    def _path(self, service: ServiceName) -> Path:
        assert self._directory is not None
        name = blake2b(f"{self._registry}\n{service}".encode(), digest_size=16).hexdigest()
        return self._directory / f"{name}.msgpack"

    def _read(self, service: ServiceName) -> Known | None:
        if self._directory is None:
            return None
        path = self._path(service)
        try:
            known = _decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._complain(f"{path} cannot be read, and is not used: {error}")
            return None
        if (known.format, known.registry, known.service) != (FORMAT, self._registry, service):
            return None
        return known

    def _write(self, entries: list[Known]) -> None:
        if self._directory is None or not entries:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for known in entries:
                self._write_one(known)
            self._prune()
        except OSError as error:
            self._complain(f"the last known answers cannot be kept in {self._directory}: {error}")

    def _write_one(self, known: Known) -> None:
        content = _encode(known)
        path = self._path(known.service)
        if len(content) > FILE_BYTES_MAX:
            self._complain(
                f"{known.service}: {len(content)} bytes are not kept on disk, at most "
                f"{FILE_BYTES_MAX} are: while no registry answers, a new process will not know it"
            )
            path.unlink(missing_ok=True)
            return
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_bytes(content)
        beside.replace(path)

    def _prune(self) -> None:
        assert self._directory is not None
        files = list(self._directory.glob("*.msgpack"))
        if len(files) <= FILES_MAX:
            return
        by_age = sorted(files, key=_modified_at)
        for path in by_age[: len(files) - FILES_MAX]:
            path.unlink(missing_ok=True)

    def _complain(self, what: str) -> None:
        if not self._has_complained:
            self._has_complained = True
            log.warning("%s", what)


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process pruned it
        return 0.0
