"""A disk in memory with a power switch: what a real one may do to us, on purpose and repeatably.

The model is the one of ALICE (Pillai et al., OSDI 2014) at sectors of 512 bytes.  Until ``sync``,
each written sector is on its own: when the power goes it is kept, lost, or torn (one part new, the
other old, cut at a multiple of 8 bytes).  Until ``sync_names``, each name is on its own as well.
After a failed ``sync`` the unsynced sectors can still be read and will never be written (ATC 2020).

Deterministic: all chance comes from the callable given to ``crash``.
"""

import errno as errnos
import os
from collections.abc import Callable, Sequence

from waypost.storage.disk import File

SECTOR = 512

Choose = Callable[[int], int]
"""``choose(n)`` draws one of 0 .. n-1; ``random.Random(seed).randrange`` will do."""


class PowerLost(BaseException):
    """The power went in the middle of a call.  Nothing may catch it but the test."""


class _Inode:
    """One file: what reads see, what the medium has, and which sectors differ."""

    def __init__(self, size: int) -> None:
        self.data = bytearray()  # as far as written; zeros follow up to size
        self.size = size
        self.durable = bytearray()
        self.durable_size = 0
        self.unsynced: dict[int, None] = {}  # sector numbers; insertion order, so repeatable
        self.size_is_synced = False

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        return bytes(self.data[offset:end]).ljust(end - offset, b"\0")

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        _put(self.data, offset, data)
        if end > self.size:
            self.size = end
            self.size_is_synced = False
        for sector in range(offset // SECTOR, -(-end // SECTOR)):
            self.unsynced[sector] = None

    def sync(self) -> None:
        for sector in self.unsynced:
            start = sector * SECTOR
            _put(self.durable, start, bytes(self.data[start : start + SECTOR]))
        self.unsynced.clear()
        self.durable_size = self.size
        self.size_is_synced = True

    def lose_power(self, choose: Choose) -> None:
        for sector in self.unsynced:
            start = sector * SECTOR
            new = bytes(self.data[start : start + SECTOR]).ljust(SECTOR, b"\0")
            old = bytes(self.durable[start : start + SECTOR]).ljust(SECTOR, b"\0")
            match choose(4):
                case 0:
                    _put(self.durable, start, new)
                case 1:
                    pass
                case side:
                    cut = 8 * (1 + choose(SECTOR // 8 - 1))
                    torn = new[:cut] + old[cut:] if side == 2 else old[:cut] + new[cut:]
                    _put(self.durable, start, torn)
        if not self.size_is_synced and choose(2):
            self.durable_size = self.size
        self.size_is_synced = True
        self.size = self.durable_size
        del self.durable[self.size :]
        self.unsynced.clear()
        self.data = bytearray(self.durable)


class SimDisk:
    """A ``Disk`` in memory.

    ``before`` is called with verb and name ahead of every call, to stall it, count it or raise.
    ``capacity`` bounds the bytes of all files together; beyond it calls raise ``ENOSPC``.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.before: Callable[[str, str], None] | None = None
        self.calls = 0
        self._inodes: dict[str, _Inode] = {}
        self._durable: dict[str, _Inode] = {}
        self._open: dict[File, tuple[str, _Inode]] = {}
        self._next_file = 1
        self._faults: list[tuple[str, int, int]] = []  # verb, calls to go, errno
        self._calls_left: int | None = None

    # What a test does to it.

    def fail(self, verb: str, *, nth: int = 1, errno: int = errnos.EIO) -> None:
        """Let the ``nth`` call of ``verb`` from now on raise ``OSError(errno)``."""
        self._faults.append((verb, nth, errno))

    def cut_after(self, calls: int) -> None:
        """Let the power go after so many more calls; every later call raises ``PowerLost``."""
        self._calls_left = calls

    def crash(self, choose: Choose) -> None:
        """Lose power: what was not synced is kept, lost or torn, as ``choose`` says."""
        names: dict[str, _Inode] = {}
        for name in sorted(self._inodes.keys() | self._durable.keys()):
            now, then = self._inodes.get(name), self._durable.get(name)
            inode = now if now is then or choose(2) else then
            if inode is not None:
                names[name] = inode
        seen: list[_Inode] = []
        for inode in names.values():
            if inode not in seen:
                seen.append(inode)
                inode.lose_power(choose)
        self._inodes = names
        self._durable = dict(names)
        self.kill()

    def kill(self) -> None:
        """End the process and leave the power on: what was written can be read."""
        self._open.clear()
        self._faults.clear()
        self._calls_left = None

    @property
    def used(self) -> int:
        """Bytes of all files together."""
        return sum(inode.size for inode in self._inodes.values())

    @property
    def open_files(self) -> int:
        """How many handles are out."""
        return len(self._open)

    def peek(self, name: str) -> bytes:
        """All bytes of a file, as reads see them."""
        inode = self._inodes[name]
        return inode.read(0, inode.size)

    def damage(self, name: str, offset: int, data: bytes) -> None:
        """Put other bytes on the medium, as rot does."""
        inode = self._inodes[name]
        _put(inode.data, offset, data)
        _put(inode.durable, offset, data)

    def flip(self, name: str, offset: int, mask: int = 1) -> None:
        """Flip bits of one byte on the medium."""
        self.damage(name, offset, bytes((self.peek(name)[offset] ^ mask,)))

    # The verbs.

    def names(self) -> list[str]:
        """Every file, sorted."""
        self._call("names", "")
        return sorted(self._inodes)

    def create(self, name: str, size: int) -> File:
        """Make a new file of zeros."""
        self._call("create", name)
        if name in self._inodes:
            raise FileExistsError(errnos.EEXIST, "exists", name)
        self._take(size)
        inode = self._inodes[name] = _Inode(size)
        return self._opened(name, inode)

    def open(self, name: str) -> File:
        """Open a file."""
        self._call("open", name)
        if name not in self._inodes:
            raise FileNotFoundError(errnos.ENOENT, "no such file", name)
        return self._opened(name, self._inodes[name])

    def close(self, file: File) -> None:
        """Forget the handle."""
        del self._open[file]

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Read, short at the end."""
        name, inode = self._open[file]
        self._call("read", name)
        return inode.read(offset, size)

    def write(self, file: File, buffers: Sequence[bytes | memoryview], offset: int) -> None:
        """Write into the cache."""
        name, inode = self._open[file]
        self._call("write", name)
        data = b"".join(buffers)
        self._take(max(0, offset + len(data) - inode.size))
        inode.write(offset, data)

    def sync(self, file: File) -> None:
        """Make a file durable; when it fails, the sectors count as clean and never get there."""
        name, inode = self._open[file]
        try:
            self._call("sync", name)
        except OSError:
            inode.unsynced.clear()
            raise
        inode.sync()

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self._call("rename", old)
        self._inodes[new] = self._inodes.pop(old)

    def unlink(self, name: str) -> None:
        """Remove a file."""
        self._call("unlink", name)
        del self._inodes[name]

    def sync_names(self) -> None:
        """Make the names durable."""
        self._call("sync_names", "")
        self._durable = dict(self._inodes)

    def _opened(self, name: str, inode: _Inode) -> File:
        file = self._next_file
        self._next_file += 1
        self._open[file] = (name, inode)
        return file

    def _take(self, size: int) -> None:
        if self.capacity is not None and size and self.used + size > self.capacity:
            raise OSError(errnos.ENOSPC, os.strerror(errnos.ENOSPC))

    def _call(self, verb: str, name: str) -> None:
        if self._calls_left is not None:
            if self._calls_left <= 0:
                raise PowerLost
            self._calls_left -= 1
        self.calls += 1
        if self.before is not None:
            self.before(verb, name)
        for position, (which, nth, errno) in enumerate(self._faults):
            if which == verb:
                if nth == 1:
                    del self._faults[position]
                    raise OSError(errno, os.strerror(errno), name)
                self._faults[position] = (which, nth - 1, errno)
                break


def _put(target: bytearray, offset: int, data: bytes) -> None:
    """Write into a bytearray that is as long as needed."""
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data
