"""Snapshots on their way from one node to another: in chunks, checked, resumable.

The sender offers what a snapshot stands for; the taker says from which offset it wants it, and
acknowledges each chunk by wanting the next.  When a connection breaks the sender offers again, and
the taker goes on where it was.  The taker writes into a file of its own, which counts only after it
was read back whole; half a file is deleted at the next start, or when nobody goes on with it.

Always true: one snapshot at a time comes in, and one goes out to each peer, with at most
``WINDOW`` chunks under way; each chunk is checked by its CRC-32, and the whole by its SHA-256.
Reading and writing are on threads: the event loop waits for no disk.
"""

import asyncio
import contextlib
import hashlib
import logging
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from waypost.consensus.core import Ballot, Snap
from waypost.consensus.epoch import Epoch, decode_epoch, encode_epoch
from waypost.errors import CorruptData, Unavailable, WaypostError
from waypost.storage.snapshots import SnapshotStore, SnapshotWriter
from waypost.transport import peer_frames
from waypost.transport.peer_frames import (
    STREAM_BEGIN,
    STREAM_CHUNK,
    STREAM_DONE,
    STREAM_END,
    STREAM_WANT,
    StreamBegin,
    StreamChunk,
    StreamDone,
    StreamEnd,
    StreamWant,
)

log = logging.getLogger("waypost.node")

CHUNK_BYTES: Final = 256 << 10
WINDOW: Final = 4
OFFER_AGAIN_S: Final = 0.5
SILENT_S: Final = 5.0
"""A sender gives a transfer up in which nothing moved for so long."""
KEPT_S: Final = 30.0
"""A taker keeps what has come for so long, for the sender to go on."""

Send = Callable[[int, int, bytes], bool]
Sent = Callable[[int, int, bool], None]
"""Called with whom, up to which index, and whether it arrived."""
Staged = Callable[[int, Snap, Epoch], None]


class Sending:
    """What goes out: one transfer for each peer."""

    def __init__(self, store: SnapshotStore, send: Send, on_sent: Sent) -> None:
        self._store = store
        self._send = send
        self._on_sent = on_sent
        self._transfers: dict[int, _Outgoing] = {}
        self._last_stream = 0

    def begin(self, nid: int, index: int, epoch: Epoch) -> None:
        """Bring the newest snapshot to ``nid``; ``on_sent`` says what came of it.

        ``epoch`` is told along with a snapshot from before there were epochs.
        """
        if nid in self._transfers:
            return
        self._last_stream += 1
        out = _Outgoing(self._store, self._send, nid, self._last_stream)
        self._transfers[nid] = out
        out.task = asyncio.get_running_loop().create_task(self._run(out, index, epoch))

    async def _run(self, out: "_Outgoing", index: int, epoch: Epoch) -> None:
        ok = False
        try:
            await out.run(epoch)
            ok = True
        except (WaypostError, OSError) as error:
            log.warning("snapshot for %08x not delivered: %s", out.nid, error)
        finally:
            del self._transfers[out.nid]
        self._on_sent(out.nid, index, ok)

    def take(self, src: int, kind: int, body: bytes) -> None:
        """The taker said something."""
        out = self._transfers.get(src)
        if kind == STREAM_WANT:
            want = peer_frames.decode_stream_want(body)
            if out is not None and out.stream == want.stream:
                out.wanted(want.offset)
        else:
            done = peer_frames.decode_stream_done(body)
            if out is not None and out.stream == done.stream:
                out.done(done)

    def lost(self, nid: int) -> None:
        """The connection broke: whoever wants the rest will ask again, and go on where it was."""
        out = self._transfers.get(nid)
        if out is not None:
            out.done(StreamDone(out.stream, False, "connection lost"))

    async def close(self) -> None:
        """Stop every transfer."""
        tasks = [out.task for out in self._transfers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Outgoing:
    """One transfer, at the sender."""

    def __init__(self, store: SnapshotStore, send: Send, nid: int, stream: int) -> None:
        self.nid = nid
        self.stream = stream
        self.task: asyncio.Task[None]
        self._store = store
        self._send = send
        self._moved = asyncio.Event()
        self._wanted = -1
        self._done: StreamDone | None = None

    def wanted(self, offset: int) -> None:
        """The taker has everything below ``offset``."""
        self._wanted = offset
        self._moved.set()

    def done(self, done: StreamDone) -> None:
        """The taker is through."""
        self._done = done
        self._moved.set()

    async def run(self, epoch: Epoch) -> None:
        """Carry it over; raises what prevented it."""
        found = await asyncio.to_thread(self._store.newest)
        if found is None:
            raise CorruptData("no snapshot on this disk is whole: the next one will be sent")
        snap, chunks = found.snap, found.chunks
        ballot = (snap.ballot.epoch, snap.ballot.round, snap.ballot.node)
        known = encode_epoch(found.epoch or epoch)
        begin = StreamBegin(self.stream, snap.index, ballot, snap.kind, snap.chain, known)
        offer = peer_frames.encode(begin)
        pieces = _Pieces(chunks)
        await self._offer(offer)
        log.info("sending the snapshot at %d to %08x", snap.index, self.nid)
        offset = await asyncio.to_thread(pieces.skip_to, self._wanted)
        while self._done is None:
            data = await asyncio.to_thread(pieces.take)
            if not data:
                break
            while offset - self._wanted >= WINDOW * CHUNK_BYTES and self._done is None:
                await self._wait()
            chunk = StreamChunk(self.stream, offset, zlib.crc32(data), data)
            await self._say(STREAM_CHUNK, peer_frames.encode(chunk))
            offset += len(data)
        end = StreamEnd(self.stream, pieces.size, pieces.digest)
        await self._say(STREAM_END, peer_frames.encode(end))
        while self._done is None:
            await self._wait()
        if not self._done.ok:
            raise Unavailable(f"the other side refused it: {self._done.why}")

    async def _offer(self, offer: bytes) -> None:
        for _ in range(round(SILENT_S / OFFER_AGAIN_S)):
            self._moved.clear()
            self._send(self.nid, STREAM_BEGIN, offer)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), OFFER_AGAIN_S)
            if self._wanted >= 0 or self._done is not None:
                return
        raise Unavailable(f"no answer within {SILENT_S:g} s")

    async def _say(self, kind: int, body: bytes) -> None:
        """Say it, as soon as the connection takes it."""
        for _ in range(round(SILENT_S / 0.05)):
            if self._send(self.nid, kind, body):
                return
            await asyncio.sleep(0.05)
        raise Unavailable(f"the connection took nothing for {SILENT_S:g} s")

    async def _wait(self) -> None:
        """Until the taker says something."""
        self._moved.clear()
        before = self._wanted
        try:
            await asyncio.wait_for(self._moved.wait(), SILENT_S)
        except TimeoutError:
            raise Unavailable(f"silent for {SILENT_S:g} s after {before} bytes") from None


class _Pieces:
    """The content of a snapshot in pieces of the size that travels."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._sha = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> bytes:
        """Of all that was read."""
        return self._sha.digest()

    def take(self) -> bytes:
        """The next piece; empty at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = memoryview(chunk)
        piece = bytes(self._rest[:CHUNK_BYTES])
        self._rest = self._rest[CHUNK_BYTES:]
        self._sha.update(piece)
        self.size += len(piece)
        return piece

    def skip_to(self, offset: int) -> int:
        """Go over what the taker has already; returns where it stands then."""
        while self.size < offset and self.take():
            pass
        return self.size


class Taking:
    """What comes in: one snapshot at a time."""

    def __init__(self, store: SnapshotStore, send: Send, on_staged: Staged) -> None:
        self._store = store
        self._send = send
        self._on_staged = on_staged
        self._incoming: _Incoming | None = None
        self._inbox: asyncio.Queue[tuple[int, int, bytes]] = asyncio.Queue(4 * WINDOW)
        self._task = asyncio.get_running_loop().create_task(self._work())
        self.is_allowed: Callable[[], bool] = lambda: True
        """Whether one may come in now: not while the node writes one of its own."""

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot is coming in."""
        return self._incoming is not None

    def take(self, src: int, kind: int, body: bytes) -> None:
        """The sender said something; what does not fit into the window was not asked for."""
        with contextlib.suppress(asyncio.QueueFull):
            self._inbox.put_nowait((src, kind, body))

    async def close(self) -> None:
        """Take no more, and leave no half file."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._drop()

    async def _work(self) -> None:
        while True:
            try:
                item = await asyncio.wait_for(self._inbox.get(), KEPT_S if self._incoming else None)
            except TimeoutError:
                log.warning("the snapshot that was coming in is given up: nobody goes on with it")
                await self._drop()
                continue
            src, kind, body = item
            try:
                await self._take(src, kind, body)
            except (WaypostError, OSError) as error:
                log.warning("snapshot from %08x not taken: %s", src, error)
                await self._drop(str(error))

    async def _take(self, src: int, kind: int, body: bytes) -> None:
        incoming = self._incoming
        if kind == STREAM_BEGIN:
            await self._begin(src, peer_frames.decode_stream_begin(body))
        elif incoming is None or incoming.src != src:
            return
        elif kind == STREAM_CHUNK:
            chunk = peer_frames.decode_stream_chunk(body)
            if chunk.stream == incoming.stream and chunk.offset == incoming.offset:
                await asyncio.to_thread(incoming.add, chunk)
                self._want(incoming)
        else:
            end = peer_frames.decode_stream_end(body)
            if end.stream == incoming.stream:
                snap, epoch = await asyncio.to_thread(incoming.finish, end)
                self._incoming = None
                self._done(src, end.stream, "")
                self._on_staged(src, snap, epoch)

    async def _begin(self, src: int, begin: StreamBegin) -> None:
        snap = Snap(begin.index, Ballot(*begin.ballot), begin.kind, begin.chain)
        incoming = self._incoming
        if incoming is not None and incoming.snap == snap:
            incoming.src, incoming.stream = src, begin.stream
            self._want(incoming)
            return
        if incoming is not None and incoming.src != src:
            self._done(src, begin.stream, "another snapshot is coming in")
            return
        await self._drop()
        if not self.is_allowed():
            self._done(src, begin.stream, "this node writes a snapshot of its own")
            return
        epoch = decode_epoch(begin.epoch)
        writer = await asyncio.to_thread(self._store.begin, snap, epoch)
        self._incoming = _Incoming(src, begin.stream, snap, epoch, writer)
        log.info("taking the snapshot at %d from %08x", snap.index, src)
        self._want(self._incoming)

    def _want(self, incoming: "_Incoming") -> None:
        want = StreamWant(incoming.stream, incoming.offset)
        self._send(incoming.src, STREAM_WANT, peer_frames.encode(want))

    def _done(self, src: int, stream: int, why: str) -> None:
        self._send(src, STREAM_DONE, peer_frames.encode(StreamDone(stream, not why, why)))

    async def _drop(self, why: str = "") -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            with contextlib.suppress(WaypostError, OSError):
                await asyncio.to_thread(incoming.writer.abort)
            self._done(incoming.src, incoming.stream, why or "given up")


class _Incoming:
    """One transfer, at the taker."""

    def __init__(
        self, src: int, stream: int, snap: Snap, epoch: Epoch, writer: SnapshotWriter
    ) -> None:
        self.src = src
        self.stream = stream
        self.snap = snap
        self.epoch = epoch
        self.writer = writer
        self.offset = 0
        self._sha = hashlib.sha256()

    def add(self, chunk: StreamChunk) -> None:
        """Write one chunk down."""
        if zlib.crc32(chunk.data) != chunk.crc:
            raise CorruptData(f"chunk at {chunk.offset} does not match its checksum")
        self.writer.add(chunk.data)
        self._sha.update(chunk.data)
        self.offset += len(chunk.data)

    def finish(self, end: StreamEnd) -> tuple[Snap, Epoch]:
        """Make it count."""
        if (end.size, end.digest) != (self.offset, self._sha.digest()):
            raise CorruptData(f"{self.offset} of {end.size} bytes, or they are not the same")
        return self.writer.finish(), self.epoch
