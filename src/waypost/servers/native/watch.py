"""One watch of a native connection: what it is told, as frames with its id."""

from typing import Protocol

from waypost import wire
from waypost.model import Record
from waypost.node.watches import Burst, Watcher


class Sender(Protocol):
    """The connection."""

    @property
    def is_slow(self) -> bool:
        """Whether its buffer is full."""
        ...

    def send(self, kind: int, frame_id: int, body: bytes = b"") -> None:
        """Write one frame."""
        ...


class NativeWatch:
    """The reader of a watch: a watch of ``node.watches`` on one side, its frames on the other."""

    __slots__ = ("_connection", "_id", "watcher")

    def __init__(self, connection: Sender, watch_id: int) -> None:
        self._connection = connection
        self._id = watch_id
        self.watcher: Watcher

    @property
    def is_slow(self) -> bool:
        """Whether the connection's buffer is full."""
        return self._connection.is_slow

    def send_snapshot(self, revision: int, records: list[Record]) -> None:
        """Everything, as of ``revision``."""
        at, step = 0, wire.RECORDS_PER_SNAPSHOT_MAX
        while at == 0 or at < len(records):
            part = wire.Snapshot(revision, records[at : at + step], at + step < len(records))
            self._connection.send(wire.SNAPSHOT, self._id, wire.encode(part))
            at += step

    def send_burst(self, burst: Burst) -> None:
        """What changed; the body is the same for every connection."""
        body = burst.encoded.get("native")
        if body is None:
            body = wire.encode(wire.Changes(burst.revision, burst.changes))
            burst.encoded["native"] = body
        self._connection.send(wire.CHANGES, self._id, body)

    def send_bookmark(self, revision: int) -> None:
        """Nothing changed up to ``revision``."""
        self._connection.send(wire.BOOKMARK, self._id, wire.encode(revision))
