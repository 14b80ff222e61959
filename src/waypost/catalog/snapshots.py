"""The whole catalog as bytes, and back.

Format, version 3.  A stream of frames, each ``length (u32 big-endian), checksum (u32 big-endian),
payload``.  The checksum is the CRC-32 of the payload continued from that of the frame before, so
that a frame that is missing, repeated or moved is noticed as surely as one that is damaged.  A
payload is a positional MessagePack array that begins with its kind:

    0 Head      [0, "waypost catalog", 4, revision, now_ms, serial, services, instances, sessions,
                 clients, has keyspace, check rows, checks revision, nodes revision]
    1 Sessions  [1, [[id, node, attachment, ttl_ms, grace_ms], ...]]
    2 Records   [2, service, revision, bucket or nil, [orphan id, ...], [record, ...]]
    3 Windows   [3, [[client, [seq, index, outcome or nil, ...]], ...]]
    4 Bulk      [4, [[client, seq, [outcome, ...]], ...]]
    5 to 8      checks and nodes: see check_frames
    16 to 18    the keyspace, in three kinds of frames of its own: see keyspace_frames

Version 3 had no checks and nodes; version 2 had no keyspace, which is there only if anybody ever
used it; version 1 had neither Windows nor Bulk, and no clients in its Head.

One Head, then the keyspace and its pairs by key, then the sessions, then the last writes of
clients, then the services, then checks and nodes; a service with many instances takes several
frames in a row, the first of which lists its orphans.  The stream ends when the counts of the Head
are reached.  Sessions, clients, services, instances, orphans and checks come in the order in which
the catalog has them: that order is part of the state, and a catalog that was read back goes on to
give the same bytes as one that was never written.

Not in it: the history of changes (a catalog that is read back starts its own at its revision) and
what a session holds (each record names its session).
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from zlib import crc32

import msgspec

from waypost.catalog.capture import Capture
from waypost.catalog.check_frames import CheckFrame, captured_checks, restore, rows_of
from waypost.catalog.checks import Checks
from waypost.catalog.eviction import Bucket
from waypost.catalog.history import AGE_MS_MAX, CHANGES_MAX, History
from waypost.catalog.keyspace_frames import (
    KeyspaceFrame,
    KeyspaceLoader,
    PairsFrame,
    RowsFrame,
    damaged,
    frames_of,
)
from waypost.catalog.nodes import Nodes
from waypost.catalog.origins import FIELDS, WRITES_PER_CLIENT, Origins
from waypost.catalog.services import Service
from waypost.catalog.sessions import HELD_ROOM_MIN, Session, Sessions
from waypost.catalog.sharing import Pool
from waypost.catalog.state import Catalog
from waypost.commands import Outcome, Refused
from waypost.errors import CorruptData
from waypost.model import InstanceId, Record, Revision, ServiceName, SessionId

MAGIC = "waypost catalog"
VERSION = 4
_VERSIONS_READ = (1, 2, 3, 4)
CHUNK_BYTES = 128 * 1024
"""A chunk is handed out as soon as it has this many: two milliseconds of work at most."""
ROWS_PER_FRAME = 256
_OUTCOMES_PER_FRAME = 4_096
FRAME_BYTES_MAX = 256 * 1024 * 1024
"""Above what 256 records at all their limits can take; more is damage."""
_HEADER_BYTES = 8


class _Head(msgspec.Struct, frozen=True, array_like=True, tag=0, gc=False):
    magic: str
    version: int
    revision: Revision
    now_ms: int
    serial: int
    services: int
    instances: int
    sessions: int
    clients: int = 0
    has_keyspace: bool = False
    check_rows: int = 0
    checks_revision: Revision = 0
    nodes_revision: Revision = 0


class _SessionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: SessionId
    node: str
    attachment: int
    ttl_ms: int
    grace_ms: int


class _Sessions(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    sessions: list[_SessionRow]


class _Records(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    service: ServiceName
    revision: Revision
    bucket: Bucket | None
    orphans: list[InstanceId]
    records: list[Record]


class _Windows(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    windows: list[tuple[str, list[int | Refused | bytes | None]]]


class _Bulk(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    writes: list[tuple[str, int, list[Outcome]]]


_Payload = (
    _Head
    | _Sessions
    | _Records
    | _Windows
    | _Bulk
    | KeyspaceFrame
    | RowsFrame
    | PairsFrame
    | CheckFrame
)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Payload)


def dump(catalog: Catalog, *, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Write the catalog as it is at this call, in chunks, while it may go on changing.

    A reader that stops early should close the iterator, or drop it.
    """
    chunks = _dump(catalog, chunk_bytes)
    # Up to its first yield, which is where the capture begins and from where ``finally`` holds.
    next(chunks)
    return chunks


def digest(catalog: Catalog) -> bytes:
    """Tell 16 bytes that two catalogs share if, and only if, they are in the same state."""
    state = blake2b(digest_size=16)
    for chunk in dump(catalog):
        state.update(chunk)
    return state.digest()


def load(
    chunks: Iterable[bytes], *, changes_max: int = CHANGES_MAX, age_ms_max: int = AGE_MS_MAX
) -> Catalog:
    """Read back what ``dump`` wrote, however the bytes were cut since.

    Raise ``CorruptData`` if they are not all there, or are not what was written.
    """
    loader = _Loader()
    for payload in _payloads(chunks):
        loader.take(payload)
    return loader.finish(changes_max, age_ms_max)


def _dump(catalog: Catalog, chunk_bytes: int) -> Iterator[bytes]:
    capture = catalog.capture()
    head = _Head(
        MAGIC,
        VERSION,
        catalog.revision,
        catalog.now_ms,
        catalog.serial,
        catalog.service_count,
        catalog.instance_count,
        len(catalog.sessions),
        capture.clients,
        capture.keyspace is not None,
        rows_of(capture),
        catalog.checks.revision,
        catalog.nodes.revision,
    )
    try:
        yield b""
        frames: list[bytes] = []
        size = 0
        checksum = 0
        for payload in _captured(head, capture):
            data = _encoder.encode(payload)
            checksum = crc32(data, checksum)
            frames += (len(data).to_bytes(4, "big"), checksum.to_bytes(4, "big"), data)
            size += len(data) + _HEADER_BYTES
            if size >= chunk_bytes:
                yield b"".join(frames)
                frames.clear()
                size = 0
        if frames:
            yield b"".join(frames)
    finally:
        catalog.release(capture)


def _captured(head: _Head, capture: Capture) -> Iterator[_Payload]:
    yield head
    if capture.keyspace is not None:
        yield from frames_of(capture.keyspace)
    for sessions in capture.sessions():
        for start in range(0, len(sessions), ROWS_PER_FRAME):
            yield _Sessions(
                [
                    _SessionRow(each.id, each.node, each.attachment, each.ttl_ms, each.grace_ms)
                    for each in sessions[start : start + ROWS_PER_FRAME]
                ]
            )
    yield from _captured_origins(capture)
    for image in capture.services():
        orphans = image.orphans
        for start in range(0, len(image.records), ROWS_PER_FRAME):
            rows = image.records[start : start + ROWS_PER_FRAME]
            yield _Records(image.name, image.revision, image.bucket, orphans, rows)
            orphans = []
    yield from captured_checks(capture)


def _captured_origins(capture: Capture) -> Iterator[_Payload]:
    while windows := list(islice(capture.windows, ROWS_PER_FRAME)):
        yield _Windows([(client, list(window)) for client, window in windows])
    rows: list[tuple[str, int, list[Outcome]]] = []
    outcomes = 0
    for (client, seq), came in capture.bulk:
        rows.append((client, seq, came))
        outcomes += len(came)
        if outcomes >= _OUTCOMES_PER_FRAME or len(rows) == ROWS_PER_FRAME:
            yield _Bulk(rows)
            rows, outcomes = [], 0
    if rows:
        yield _Bulk(rows)


def _payloads(chunks: Iterable[bytes]) -> Iterator[_Payload]:
    checksum = 0
    number = 0
    rest = b""
    for chunk in chunks:
        data = memoryview(rest + chunk if rest else chunk)
        start = 0
        while len(data) - start >= _HEADER_BYTES:
            size = int.from_bytes(data[start : start + 4], "big")
            if size > FRAME_BYTES_MAX:
                raise damaged(f"frame {number} claims {size} bytes, at most {FRAME_BYTES_MAX}")
            end = start + _HEADER_BYTES + size
            if end > len(data):
                break
            payload = data[start + _HEADER_BYTES : end]
            checksum = crc32(payload, checksum)
            if checksum != int.from_bytes(data[start + 4 : start + 8], "big"):
                raise damaged(f"the checksum of frame {number} does not match")
            try:
                yield _decoder.decode(payload)
            except msgspec.DecodeError as error:
                raise damaged(f"frame {number} cannot be read: {error}") from error
            start = end
            number += 1
        rest = bytes(data[start:])
    if rest:
        raise damaged(f"it ends within frame {number}")


class _Loader:
    """Puts a catalog together, frame by frame."""

    def __init__(self) -> None:
        self._head: _Head | None = None
        self._services: dict[ServiceName, Service] = {}
        self._sessions = Sessions()
        self._origins = Origins()
        self._keyspace = KeyspaceLoader()
        self._checks = Checks()
        self._nodes = Nodes()
        self._check_rows = 0
        self._orphans = 0
        self._pool = Pool()

    def take(self, payload: _Payload) -> None:
        """Add what one frame holds."""
        self._pool.trim()
        if self._head is None and not isinstance(payload, _Head):
            raise damaged("its head is missing")
        match payload:
            case _Head():
                self._take_head(payload)
            case _Sessions():
                self._take_sessions(payload)
            case _Records():
                self._take_records(payload)
            case _Windows():
                self._take_windows(payload)
            case _Bulk():
                for client, seq, outcomes in payload.writes:
                    self._origins.restore_bulk(client, seq, outcomes)
            case KeyspaceFrame():
                self._keyspace.take(payload)
            case RowsFrame():
                self._keyspace.take_rows(payload)
            case PairsFrame():
                self._keyspace.take_pairs(payload)
            case _:
                self._check_rows += restore(self._checks, self._nodes, payload)

    def finish(self, changes_max: int, age_ms_max: int) -> Catalog:
        """Check that all is there, and hand it over."""
        head = self._head
        if head is None:
            raise damaged("it is empty")
        services = self._services
        instances = sum(len(service.records) for service in services.values())
        found = (len(services), instances, len(self._sessions), len(self._origins))
        claimed = (head.services, head.instances, head.sessions, head.clients)
        if found != claimed:
            raise damaged(
                f"services, instances, sessions and clients are {found}, and its head says "
                f"{claimed}"
            )
        self._checks.revision, self._nodes.revision = head.checks_revision, head.nodes_revision
        if self._check_rows != head.check_rows or not all(
            name in services and instance_id in services[name].records
            for name, instance_id in self._checks.instances
        ):
            raise damaged(
                f"checks and nodes have {self._check_rows} rows, and its head says "
                f"{head.check_rows}, or they belong to instances that are missing"
            )
        if self._orphans != sum(len(service.orphans) for service in services.values()):
            raise damaged("the orphans are not those of its records")
        return Catalog.restored(
            head.revision,
            head.now_ms,
            head.serial,
            services,
            self._sessions,
            self._origins,
            self._keyspace.finish(claimed=head.has_keyspace),
            History(head.revision, changes_max=changes_max, age_ms_max=age_ms_max),
            self._checks,
            self._nodes,
        )

    def _take_head(self, head: _Head) -> None:
        if self._head is not None:
            raise damaged("a second one begins in it")
        if head.magic != MAGIC or head.version not in _VERSIONS_READ:
            raise CorruptData(
                f"snapshot: it says {head.magic!r}, version {head.version}, and this release reads "
                f"{MAGIC!r}, versions {_VERSIONS_READ}: use the release that wrote it"
            )
        self._head = head

    def _take_sessions(self, payload: _Sessions) -> None:
        text, number = self._pool.text, self._pool.number
        for row in payload.sessions:
            node, ttl_ms, grace_ms = text(row.node), number(row.ttl_ms), number(row.grace_ms)
            self._sessions.put(
                Session(row.id, node, row.attachment, ttl_ms, grace_ms, [], HELD_ROOM_MIN)
            )

    def _take_windows(self, payload: _Windows) -> None:
        for client, fields in payload.windows:
            if not fields or len(fields) % FIELDS or len(fields) > FIELDS * WRITES_PER_CLIENT:
                raise damaged(f"client {client!r} has {len(fields)} fields of its writes")
            self._origins.restore_window(client, fields)

    def _take_records(self, payload: _Records) -> None:
        service = self._services.get(payload.service)
        if service is None:
            service = self._services[payload.service] = Service(payload.service)
            service.revision = payload.revision
            service.bucket = payload.bucket
            service.orphans = dict.fromkeys(payload.orphans)
        records, name = service.records, service.name
        find, share = self._sessions.find, self._pool.share_record
        for row in payload.records:
            session_id = row.session
            instance_id = row.instance.id
            if session_id:
                session = find(session_id)
                if session is None:
                    raise damaged(f"session {session_id!r} of an instance of {name!r} is missing")
                session_id = session.id
                session.held.extend((name, instance_id))
            elif row.suspect:
                if instance_id not in service.orphans:
                    raise damaged(f"{instance_id!r} of {name!r} is an orphan, and not listed")
                self._orphans += 1
            records[instance_id] = share(row, name, session_id)
            if row.instance.node:
                self._nodes.moved((name, instance_id), "", row.instance.node)
