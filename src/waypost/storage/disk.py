"""The few verbs that storage needs of a file system, and the real one.

A disk is one flat directory.  What is true of every implementation: nothing is durable before
``sync`` (bytes and length of a file) or ``sync_names`` (which names exist) returned; bytes that
nobody wrote read as zeros; a read beyond the end is short.  A verb either does all of its work or
raises ``OSError``.  After ``OSError`` from ``sync`` the unwritten pages are gone for good, although
they may still be read (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020):
callers end the process.

Verbs may be called from several threads, on different files.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from typing import Protocol

from waypost.errors import Invalid

File = int
"""Handle of an open file."""

LOCK_NAME = "lock"
_BUFFERS_MAX = 1024  # IOV_MAX of Linux and macOS
_ZEROS = bytes(1 << 20)
_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


class Disk(Protocol):
    """One directory."""

    def names(self) -> list[str]:
        """Every file, sorted."""
        ...

    def create(self, name: str, size: int) -> File:
        """Make a new file with ``size`` bytes of zeros, their space reserved."""
        ...

    def open(self, name: str) -> File:
        """Open a file; what is read is what the medium holds, as far as one can know."""
        ...

    def close(self, file: File) -> None:
        """Forget the handle."""
        ...

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Read; short at the end of the file."""
        ...

    def write(self, file: File, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write all buffers, one behind the other."""
        ...

    def sync(self, file: File) -> None:
        """Make the file's bytes and length durable."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, replacing whatever had it."""
        ...

    def unlink(self, name: str) -> None:
        """Remove a file."""
        ...

    def sync_names(self) -> None:
        """Make all creations, renames and removals durable."""
        ...


class RealDisk:
    """A directory of the real file system, locked against every other process."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root)
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        self._dir = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._lock = _lock(self.root, self._dir)
        except BaseException:
            os.close(self._dir)
            raise

    def shut(self) -> None:
        """Release the lock.  A process that dies releases it as well."""
        os.close(self._lock)
        os.close(self._dir)

    def names(self) -> list[str]:
        """Every file but the lock, sorted."""
        return sorted(name for name in os.listdir(self._dir) if name != LOCK_NAME)

    def create(self, name: str, size: int) -> File:
        """Make a new file and reserve its space; when that fails, no file is left behind."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=self._dir)
        try:
            if size:
                _reserve(file, size)
        except OSError:
            os.close(file)
            os.unlink(name, dir_fd=self._dir)
            raise
        return file

    def open(self, name: str) -> File:
        """Open a file and ask the kernel to read it from the medium, not from its cache."""
        file = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._dir)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return file

    def close(self, file: File) -> None:
        """Close the descriptor."""
        os.close(file)

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Read until ``size`` bytes are there or the file ends."""
        return read_at(file, offset, size)

    def write(self, file: File, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write with one ``pwritev`` where the kernel takes it all at once."""
        for start in range(0, len(buffers), _BUFFERS_MAX):
            some = buffers[start : start + _BUFFERS_MAX]
            size = sum(map(len, some))
            done = os.pwritev(file, some, offset)
            if done < size:
                rest = memoryview(b"".join(some))
                while done < size:
                    count = os.pwrite(file, rest[done:], offset + done)
                    if not count:
                        raise OSError(errno.EIO, "wrote nothing")
                    done += count
            offset += size

    def sync(self, file: File) -> None:
        """``fdatasync``, or on macOS, where that does not reach the medium, ``F_FULLFSYNC``."""
        if _FULLFSYNC is None:
            os.fdatasync(file)
        else:
            fcntl.fcntl(file, _FULLFSYNC)

    def rename(self, old: str, new: str) -> None:
        """Rename within the directory."""
        os.rename(old, new, src_dir_fd=self._dir, dst_dir_fd=self._dir)

    def unlink(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self._dir)

    def sync_names(self) -> None:
        """``fsync`` the directory."""
        os.fsync(self._dir)


def read_at(file: File, offset: int, size: int) -> bytes:
    """Read until ``size`` bytes are there or the file ends, however the kernel parts them."""
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(file, min(size, 1 << 30), offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _reserve(file: File, size: int) -> None:
    """Allocate the blocks now, so that a later write cannot run out of them."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    for offset in range(0, size, len(_ZEROS)):
        os.pwrite(file, _ZEROS[: size - offset], offset)


def _lock(root: str, directory: File) -> File:
    """Take the directory's lock, or say who holds it."""
    file = os.open(LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(file)
        raise Invalid(
            f"data directory: {root} is in use by process {holder}: stop that process, or give "
            "this node a directory of its own",
            field="data directory",
        ) from None
    except BaseException:
        os.close(file)
        raise
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file
