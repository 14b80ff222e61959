"""Who keeps instances alive: the open sessions.

They are kept in shards, for two reasons that show at a million of them: a dict that doubles moves
every entry at once, and a snapshot must list what it is about to write before it changes.  Either
would be a pause of tens of milliseconds; in a shard it is a fraction of one.

The shard comes from a checksum of the id, never from ``hash``, which differs between processes.

Beside it, and in the same shards, stands which node answers for which: when a node is lost, its
sessions are found at a cost that grows with their number and not with that of all.
"""

from collections.abc import Iterator
from zlib import crc32

from msgspec import Struct, structs

from waypost.model import InstanceId, Record, ServiceName, SessionId

SHARDS = 256
HELD_ROOM_MIN = 64


class Session(Struct, frozen=True, gc=False):
    """One client process, and the node that answers for its liveness."""

    id: SessionId
    node: str
    attachment: int
    """Which of its connections is current; what names an older one has no effect."""
    ttl_ms: int
    grace_ms: int
    held: list[str]
    """Service and id, in turn, of all that it ever took, and so of all that it holds.

    What it has lost since is still listed, until the list outgrows ``held_room`` and is pruned:
    whoever reads it asks the record.  A removal then costs nothing here, and a session with one
    instance, the usual one, costs 88 bytes instead of a dict's 290.
    """
    held_room: int


class Sessions:
    """All open sessions by id, in shards."""

    __slots__ = ("_by_node", "_count", "shards")

    def __init__(self) -> None:
        self.shards: list[dict[SessionId, Session]] = [{} for _ in range(SHARDS)]
        self._by_node: dict[str, list[dict[SessionId, None]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Session]:
        for shard in self.shards:
            yield from shard.values()

    def find(self, session_id: SessionId) -> Session | None:
        """Look a session up."""
        return self.shards[crc32(session_id.encode()) % SHARDS].get(session_id)

    def put(self, session: Session) -> None:
        """Add a session, or replace the one with its id."""
        number = shard_of(session.id)
        shard = self.shards[number]
        before = shard.get(session.id)
        shard[session.id] = session
        if before is None:
            self._count += 1
        elif before.node == session.node:
            return
        else:
            del self._by_node[before.node][number][session.id]
        of_node = self._by_node.get(session.node)
        if of_node is None:
            of_node = self._by_node[session.node] = [{} for _ in range(SHARDS)]
        of_node[number][session.id] = None

    def remove(self, session: Session) -> None:
        """Forget a session."""
        number = shard_of(session.id)
        del self.shards[number][session.id]
        del self._by_node[session.node][number][session.id]
        self._count -= 1

    @property
    def nodes(self) -> list[str]:
        """The nodes that answer for sessions, or did."""
        return list(self._by_node)

    def count_of(self, node: str) -> int:
        """Count the sessions for which a node answers."""
        return sum(map(len, self._by_node.get(node, ())))

    def of_node(self, node: str) -> Iterator[Session]:
        """Go through the sessions for which a node answers.

        A shard is listed when it is reached: sessions may come and go on the way.
        """
        for number, of_node in enumerate(self._by_node.get(node, ())):
            shard = self.shards[number]
            yield from [shard[session_id] for session_id in of_node]


def shard_of(session_id: SessionId) -> int:
    """Tell the number of the shard in which a session with this id is kept."""
    return crc32(session_id.encode()) % SHARDS


def pruned(session: Session, records: list[Record]) -> Session:
    """Make the session that lists these records, and has room for as many again."""
    held: list[str] = []
    for record in records:
        held += (record.instance.service, record.instance.id)
    return structs.replace(session, held=held, held_room=max(HELD_ROOM_MIN, 2 * len(held)))


def listed(session: Session) -> Iterator[tuple[ServiceName, InstanceId]]:
    """Go through all that a session may hold."""
    names = iter(session.held)
    return zip(names, names, strict=True)
