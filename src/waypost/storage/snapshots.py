"""Snapshot files: written beside the log, verified by reading them back, two kept.

A file is a header of 72 bytes, chunks, and a footer.  Little-endian:

    header  magic "WPSNAP\\r\\n", version u32, crc u32 over all but itself, cluster u64, node u32,
            kind u32, index u64, ballot (epoch u64, round u64, node u32), chain u32,
            epoch_bytes u32, epoch_crc u32; then so many bytes of the newest epoch known,
            MessagePack (none in version 1)
    chunk   crc u32 over the bytes; length u32 above 0; the bytes
    footer  crc u32 over the rest, u32 0, count of chunks u64, bytes u64, SHA-256 of all bytes

Always true: a file named ``*.snap`` was complete, synced and read back before it got that name, so
damage in it is rot; the file before it is still there, and ``floor`` keeps the log that it needs.

Knows nothing of what is in a chunk.  A writer may work on a thread of its own while the log is
written; the store itself is for one thread at a time.
"""

import errno
import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import msgspec

from waypost.consensus.core import Ballot, Index, Nid, Snap
from waypost.consensus.epoch import Epoch, decode_epoch, encode_epoch
from waypost.errors import CorruptData, Invalid, ReadOnly, StorageFailed
from waypost.storage.disk import Disk, File

KEPT = 2
CHUNK_BYTES_MAX = 64 << 20
VERSION = 2
_VERSION_WITHOUT_EPOCHS = 1

_MAGIC = b"WPSNAP\r\n"
_HEADER = struct.Struct("<8sIIQIIQQQIIII")
_CHUNK = struct.Struct("<II")
_FOOTER = struct.Struct("<IIQQ32s")
_SYNC_EVERY_BYTES = 8 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Kept(msgspec.Struct, frozen=True):
    """A snapshot that is whole."""

    snap: Snap
    epoch: Epoch | None
    """The newest epoch that was known where it was taken; None from before there were epochs."""
    chunks: Iterator[bytes]


class _Head(msgspec.Struct, frozen=True, gc=False):
    snap: Snap
    epoch: Epoch | None
    end: int
    cluster: int
    node: Nid


class SnapshotStore:
    """The snapshots of one node, on the disk that its log is on."""

    def __init__(self, disk: Disk, *, cluster: int, node: Nid) -> None:
        self.notes: list[str] = []
        """What was found rotten, for the node to tell."""
        self._disk = disk
        self._cluster = cluster
        self._node = node
        self._kept: list[Index] = []  # newest first; those known to be rotten are not among them
        try:
            for name in disk.names():
                if name.startswith("snap-") and name.endswith(".tmp"):
                    disk.unlink(name)
                elif name.startswith("snap-") and name.endswith(".snap"):
                    self._kept.insert(0, int(name[5:-5], 16))
        except OSError as error:
            raise _failed("reading the snapshot directory", error) from error

    @property
    def floor(self) -> Index:
        """Up to here the log is not needed by any kept snapshot: what ``Wal.drop_below`` takes.

        0 until two are kept: a single one may rot, and then the whole log is the way back.
        """
        return self._kept[KEPT - 1] if len(self._kept) >= KEPT else 0

    def begin(self, snap: Snap, epoch: Epoch | None = None) -> "SnapshotWriter":
        """Start a file, with the newest epoch; nothing of it counts before ``finish``."""
        return SnapshotWriter(self._disk, snap, epoch, self._cluster, self._node, self._adopt)

    def newest(self) -> "Kept | None":
        """Find the newest snapshot that is whole.

        Every byte is verified before the first chunk is given out, so that no state machine is
        ever filled with half of a snapshot.
        """
        while self._kept:
            name = _name(self._kept[0])
            try:
                head = _verify(self._disk, name, self._cluster, self._node)
            except CorruptData as error:
                self.notes.append(error.message)
                del self._kept[0]
            else:
                return Kept(head.snap, head.epoch, self._chunks(name, head.end))
        return None

    def _chunks(self, name: str, begin: int) -> Iterator[bytes]:
        try:
            file = self._disk.open(name)
            try:
                yield from _read_chunks(self._disk, file, name, begin)
            finally:
                self._disk.close(file)
        except OSError as error:
            raise _failed(f"reading {name}", error) from error

    def _adopt(self, temporary: str, snap: Snap) -> None:
        """Give a verified file its name, and delete what is older than the two newest."""
        name = _name(snap.index)
        self._disk.rename(temporary, name)
        self._disk.sync_names()
        kept = sorted({snap.index, *self._kept}, reverse=True)
        self._kept = kept[:KEPT]
        files = [_name(index) for index in self._kept]
        for old in self._disk.names():
            if old.startswith("snap-") and old.endswith(".snap") and old not in files:
                self._disk.unlink(old)
        self._disk.sync_names()


class SnapshotWriter:
    """One snapshot being written: ``add`` chunks, then ``finish`` or ``abort``.

    A full disk raises ``ReadOnly`` and leaves nothing behind; the log is not touched by that.
    """

    def __init__(
        self,
        disk: Disk,
        snap: Snap,
        epoch: Epoch | None,
        cluster: int,
        node: Nid,
        adopt: Callable[[str, Snap], None],
    ) -> None:
        self._disk = disk
        self._snap = snap
        self._cluster = cluster
        self._node = node
        self._adopt = adopt
        self._name = f"snap-{snap.index:016x}.tmp"
        self._file: File = -1
        header = _encode_header(snap, epoch, cluster, node)
        self._end = len(header)
        self._synced = 0
        self._count = 0
        self._bytes = 0
        self._digest = hashlib.sha256()
        try:
            self._file = disk.create(self._name, 0)
            disk.write(self._file, (header,), 0)
        except OSError as error:
            raise self._gave_up(error) from error

    def add(self, chunk: bytes) -> None:
        """Append one chunk; 1 MB is a good size."""
        assert 0 < len(chunk) <= CHUNK_BYTES_MAX, f"a chunk of {len(chunk)} bytes"
        crc = zlib.crc32(chunk)
        self._digest.update(chunk)
        try:
            self._disk.write(self._file, (_CHUNK.pack(crc, len(chunk)), chunk), self._end)
            self._end += _CHUNK.size + len(chunk)
            if self._end - self._synced >= _SYNC_EVERY_BYTES:
                # So that a sync of the log never queues behind more than this.
                self._disk.sync(self._file)
                self._synced = self._end
        except OSError as error:
            raise self._gave_up(error) from error
        self._count += 1
        self._bytes += len(chunk)

    def finish(self) -> Snap:
        """Make it durable, read it back, and let it count."""
        footer = _encode_footer(self._count, self._bytes, self._digest.digest())
        try:
            self._disk.write(self._file, (footer,), self._end)
            self._disk.sync(self._file)
            self._disk.close(self._file)
            self._file = -1
            found = _verify(self._disk, self._name, self._cluster, self._node).snap
            assert found == self._snap, f"wrote {self._snap}, read {found}"
            self._adopt(self._name, self._snap)
        except OSError as error:
            raise self._gave_up(error) from error
        except CorruptData:
            self.abort()
            raise
        return self._snap

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``finish``, and twice."""
        try:
            if self._file >= 0:
                self._disk.close(self._file)
                self._file = -1
            if self._name in self._disk.names():
                self._disk.unlink(self._name)
        except OSError as error:
            raise _failed(f"removing {self._name}", error) from error

    def _gave_up(self, error: OSError) -> ReadOnly | StorageFailed:
        if error.errno not in _NO_ROOM:
            return _failed(f"writing {self._name}", error)
        self.abort()
        return ReadOnly(
            f"disk full: no room for the snapshot at {self._snap.index}: free some space; until "
            "then the log is kept whole and grows"
        )


def as_file(
    snap: Snap, epoch: Epoch | None, chunks: Iterable[bytes], *, cluster: int, node: Nid
) -> Iterator[bytes]:
    """The bytes of a snapshot's file, one after the other: for one that goes elsewhere."""
    yield _encode_header(snap, epoch, cluster, node)
    count = size = 0
    digest = hashlib.sha256()
    for chunk in chunks:
        yield _CHUNK.pack(zlib.crc32(chunk), len(chunk))
        yield chunk
        count += 1
        size += len(chunk)
        digest.update(chunk)
    yield _encode_footer(count, size, digest.digest())


class Stranger(msgspec.Struct, frozen=True):
    """A snapshot's file that may be anybody's."""

    cluster: int
    node: Nid
    """0: of no data directory, made for a backup."""
    snap: Snap
    epoch: Epoch | None
    bytes: int
    sha256: str
    """Of all that is in its chunks."""


def examine(disk: Disk, name: str) -> Stranger:
    """Read a snapshot's file to its end, whoever it belongs to, or raise ``CorruptData``."""
    digest = hashlib.sha256()
    size = 0
    try:
        file = disk.open(name)
        try:
            head = _read_any_header(disk, file, name)
            for chunk in _read_chunks(disk, file, name, head.end):
                digest.update(chunk)
                size += len(chunk)
        finally:
            disk.close(file)
    except OSError as error:
        raise _failed(f"reading {name}", error) from error
    return Stranger(head.cluster, head.node, head.snap, head.epoch, size, digest.hexdigest())


def chunks_of(disk: Disk, name: str) -> Iterator[bytes]:
    """What is in a snapshot's file; ``examine`` it before."""
    try:
        file = disk.open(name)
        try:
            head = _read_any_header(disk, file, name)
            yield from _read_chunks(disk, file, name, head.end)
        finally:
            disk.close(file)
    except OSError as error:
        raise _failed(f"reading {name}", error) from error


def _name(index: Index) -> str:
    return f"snap-{index:016x}.snap"


def _failed(doing: str, error: OSError) -> StorageFailed:
    return StorageFailed(f"disk: {doing} failed: {error}: check the file system and restart")


def _verify(disk: Disk, name: str, cluster: int, node: Nid) -> _Head:
    """Read a file to its end, or raise ``CorruptData``."""
    try:
        file = disk.open(name)
        try:
            head = _read_header(disk, file, name, cluster, node)
            for _ in _read_chunks(disk, file, name, head.end):
                pass
        finally:
            disk.close(file)
    except OSError as error:
        raise _failed(f"reading {name}", error) from error
    return head


def _encode_header(snap: Snap, epoch: Epoch | None, cluster: int, node: Nid) -> bytes:
    ballot = snap.ballot
    told = b"" if epoch is None else encode_epoch(epoch)
    fields = (
        cluster,
        node,
        snap.kind,
        snap.index,
        ballot.epoch,
        ballot.round,
        ballot.node,
        snap.chain,
        len(told),
        zlib.crc32(told),
    )
    crc = zlib.crc32(_HEADER.pack(_MAGIC, VERSION, 0, *fields))
    return _HEADER.pack(_MAGIC, VERSION, crc, *fields) + told


def _encode_footer(count: int, size: int, digest: bytes) -> bytes:
    crc = zlib.crc32(_FOOTER.pack(0, 0, count, size, digest))
    return _FOOTER.pack(crc, 0, count, size, digest)


def _read_header(disk: Disk, file: File, name: str, cluster: int, node: Nid) -> _Head:
    head = _read_any_header(disk, file, name)
    if (head.cluster, head.node) != (cluster, node):
        raise Invalid(
            f"data directory: {name} belongs to node {head.node} of cluster {head.cluster:#x}, and "
            f"this is node {node} of cluster {cluster:#x}: give each node its own directory",
            field="data directory",
        )
    return head


def _read_any_header(disk: Disk, file: File, name: str) -> _Head:
    data = disk.read(file, 0, _HEADER.size)
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise _rotten(name, 0, "this is not a snapshot")
    _, version, crc, theirs, owner, kind, index, *ballot, chain, told_bytes, told_crc = (
        _HEADER.unpack(data)
    )
    if zlib.crc32(data[:12] + bytes(4) + data[16:]) != crc:
        raise _rotten(name, 0, "the header does not match its checksum")
    if version not in (VERSION, _VERSION_WITHOUT_EPOCHS):
        raise _rotten(name, 0, f"format {version}, and this version of Waypost reads {VERSION}")
    told = disk.read(file, _HEADER.size, told_bytes)
    if len(told) != told_bytes or zlib.crc32(told) != told_crc:
        raise _rotten(name, _HEADER.size, "the epoch does not match its checksum")
    try:
        epoch = decode_epoch(told) if told else None
    except msgspec.MsgspecError as error:
        raise _rotten(name, _HEADER.size, f"the epoch cannot be read ({error})") from None
    snap = Snap(index, Ballot(*ballot), kind, chain)
    return _Head(snap, epoch, _HEADER.size + told_bytes, theirs, owner)


def _read_chunks(disk: Disk, file: File, name: str, begin: int) -> Iterator[bytes]:
    """Give out every chunk, each verified; the end is reached only if the whole is."""
    offset, count, size = begin, 0, 0
    digest = hashlib.sha256()
    while True:
        head = disk.read(file, offset, _CHUNK.size)
        if len(head) < _CHUNK.size:
            raise _rotten(name, offset, "it ends without a footer")
        crc, length = _CHUNK.unpack(head)
        if length == 0:
            break
        chunk = disk.read(file, offset + _CHUNK.size, length) if length <= CHUNK_BYTES_MAX else b""
        if len(chunk) != length or zlib.crc32(chunk) != crc:
            raise _rotten(name, offset, f"chunk {count} does not match its checksum")
        digest.update(chunk)
        offset += _CHUNK.size + length
        count += 1
        size += length
        yield chunk
    if disk.read(file, offset, _FOOTER.size + 1) != _encode_footer(count, size, digest.digest()):
        raise _rotten(name, offset, "the footer does not match what stands before it")


def _rotten(name: str, offset: int, what: str) -> CorruptData:
    return CorruptData(f"{name}: offset {offset}: {what}: an older snapshot or a peer must do")
