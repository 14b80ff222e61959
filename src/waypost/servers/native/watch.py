"""The watches of a native connection: what each is told, as frames with its id."""

from typing import Protocol

from waypost import wire
from waypost.errors import Invalid, Overloaded
from waypost.model import Record, check_service
from waypost.node.node import Node
from waypost.node.watches import ALL, Burst, Watcher


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


class NativeWatches:
    """All watches of one connection, by their ids."""

    __slots__ = ("_connection", "_node", "_open")

    def __init__(self, connection: Sender, node: Node) -> None:
        self._connection = connection
        self._node = node
        self._open: dict[int, NativeWatch] = {}

    @property
    def have_confirmed(self) -> bool:
        """Whether all have confirmed what they were told."""
        return all(each.watcher.seen >= each.watcher.sent for each in self._open.values())

    def begin(self, watch_id: int, watch: wire.Watch) -> None:
        """Open one, and bring it up to date."""
        self._node.admit("watch")
        if watch.service != ALL:
            check_service(watch.service)
        if watch_id in self._open:
            raise Invalid(f"id: a watch {watch_id} is open already: take another", field="id")
        if len(self._open) >= wire.WATCHES_PER_CONNECTION_MAX:
            raise Overloaded(
                f"{wire.WATCHES_PER_CONNECTION_MAX} watches are open on this connection: watch all "
                "services at once, or open another connection"
            )
        native = NativeWatch(self._connection, watch_id)
        self._open[watch_id] = native
        native.watcher = self._node.watches.begin(
            watch.service,
            native,
            watch.since,
            confirms=True,
            may_be_ahead=bool(self._node.native_addresses),
        )

    def end(self, watch_id: int) -> None:
        """Close one; one that is not open is closed already."""
        native = self._open.pop(watch_id, None)
        if native is not None:
            self._node.watches.end(native.watcher)

    def seen(self, watch_id: int, revision: int) -> None:
        """The client has taken in what it was told up to there."""
        native = self._open.get(watch_id)
        if native is not None:
            self._node.watches.confirmed(native.watcher, min(revision, native.watcher.sent))

    def catch_up(self) -> None:
        """Tell each what it missed, as long as the client reads."""
        for native in list(self._open.values()):
            if self._connection.is_slow:
                break
            self._node.watches.catch_up(native.watcher)

    def end_all(self) -> None:
        """The connection is gone."""
        for native in self._open.values():
            self._node.watches.end(native.watcher)
        self._open.clear()
