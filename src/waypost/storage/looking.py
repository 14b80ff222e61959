"""A directory to look into and change nothing: of a node that is stopped, or even of one that runs.

No lock is taken, so what a running node writes meanwhile may be seen half.  ``unlink``, which
recovery asks for to tidy up after a crash, only takes the file out of what is seen.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from waypost.storage.disk import LOCK_NAME, File, read_at


class LookingDisk:
    """See the module; a ``Disk`` whose every change but ``unlink`` is refused."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)
        self._removed: set[str] = set()

    def names(self) -> list[str]:
        """Every file but the lock and what was removed, sorted."""
        found = {path.name for path in self._root.iterdir() if path.is_file()}
        return sorted(found - self._removed - {LOCK_NAME})

    def bytes_of(self, name: str) -> int:
        """How large a file is."""
        return (self._root / name).stat().st_size

    def holder(self) -> str:
        """The process that runs on this directory; empty if none does."""
        try:
            with (self._root / LOCK_NAME).open("rb") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return lock.read(32).decode("ascii", "replace").strip() or "unknown"
        except OSError:
            return ""
        return ""

    def create(self, name: str, size: int) -> File:  # noqa: ARG002
        """Refuse."""
        raise _refusal(name)

    def open(self, name: str) -> File:
        """Open a file for reading."""
        return os.open(self._root / name, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, file: File) -> None:
        """Close the descriptor."""
        os.close(file)

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Read until ``size`` bytes are there or the file ends."""
        return read_at(file, offset, size)

    def write(self, file: File, buffers: Sequence[bytes | memoryview], offset: int) -> None:  # noqa: ARG002
        """Refuse."""
        raise _refusal(str(file))

    def sync(self, file: File) -> None:
        """Refuse."""
        raise _refusal(str(file))

    def rename(self, old: str, new: str) -> None:  # noqa: ARG002
        """Refuse."""
        raise _refusal(old)

    def unlink(self, name: str) -> None:
        """See it no more."""
        self._removed.add(name)

    def sync_names(self) -> None:
        """Nothing changed."""


def _refusal(name: str) -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS), name)
