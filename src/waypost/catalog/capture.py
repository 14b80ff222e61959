"""The catalog as it was at one revision, while it goes on changing.

Records are immutable, so the state of a service is a list of references.  The list is made when
the reader gets there, or just before the service changes, whichever comes first: nobody ever
waits for more than one service, or one shard of sessions, to be listed.  The windows of clients'
last writes are listed at once, which is no more than 65,536 references; so are the holders of keys,
the pieces in which keys stand, checks and nodes.  While there is a capture, windows and pieces are
replaced and not changed.
"""

from collections.abc import Iterator

import msgspec

from waypost.catalog.checks import Checks, Held, States
from waypost.catalog.eviction import Bucket
from waypost.catalog.holders import Holder
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import Event, Keyspace
from waypost.catalog.nodes import Key, Nodes
from waypost.catalog.origins import Origins
from waypost.catalog.services import Service
from waypost.catalog.sessions import Session
from waypost.checks import NodeEntry, NodeName
from waypost.model import InstanceId, Record, Revision, ServiceName, SessionId


class ServiceImage(msgspec.Struct, frozen=True, gc=False):
    """A service as it was."""

    name: ServiceName
    revision: Revision
    bucket: Bucket | None
    orphans: list[InstanceId]
    records: list[Record]


class KeyspaceImage(msgspec.Struct, frozen=True, gc=False):
    """Keys and their holders as they were."""

    revision: Revision
    forgotten: Revision
    holders_revision: Revision
    events_fired: int
    count: int
    pieces: list[list[Pair]]
    graves: list[tuple[str, Revision]]
    holders: list[Holder]
    delays: list[tuple[str, int]]
    events: list[Event]


class Capture:
    """A reader's hold on one revision.

    Invariant: each service and shard is untouched since the capture began, or its image is kept,
    or it was read.
    """

    __slots__ = (
        "_images",
        "_lists",
        "_names",
        "_services",
        "_shards",
        "bulk",
        "check_revisions",
        "checked",
        "clients",
        "keyspace",
        "node_checks",
        "nodes",
        "windows",
    )

    def __init__(
        self,
        services: dict[ServiceName, Service],
        shards: list[dict[SessionId, Session]],
        origins: Origins,
        checks: Checks,
        nodes: Nodes,
        keyspace: Keyspace,
        now_ms: int,
    ) -> None:
        self.checked: dict[Key, Held] = checks.instances.copy()
        self.node_checks: dict[NodeName, States] = checks.nodes.copy()
        self.check_revisions: dict[ServiceName, Revision] = checks.revisions.copy()
        self.nodes: dict[NodeName, NodeEntry] = nodes.entries.copy()
        self.keyspace = None if keyspace.is_empty else _keyspace_image(keyspace, now_ms)
        """None if nobody ever used it."""
        self.clients = len(origins)
        self.windows = origins.windows()
        self.bulk = origins.bulk()
        self._names = list(services)
        self._services = services.copy()
        self._images: dict[ServiceName, ServiceImage] = {}
        self._shards: list[dict[SessionId, Session] | None] = list(shards)
        self._lists: dict[int, list[Session]] = {}

    def before_service(self, service: Service) -> None:
        """Keep a service as it is; call it before it changes."""
        if self._services.pop(service.name, None) is not None:
            self._images[service.name] = _image(service)

    def before_shard(self, number: int) -> None:
        """Keep a shard of sessions as it is; call it before it changes."""
        shard = self._shards[number]
        if shard is not None:
            self._shards[number] = None
            self._lists[number] = list(shard.values())

    def services(self) -> Iterator[ServiceImage]:
        """Go through the services as they were, once."""
        for name in self._names:
            service = self._services.pop(name, None)
            yield self._images.pop(name) if service is None else _image(service)

    def sessions(self) -> Iterator[list[Session]]:
        """Go through the shards of sessions as they were, once."""
        for number in range(len(self._shards)):
            self.before_shard(number)
            yield self._lists.pop(number)


def _image(service: Service) -> ServiceImage:
    return ServiceImage(
        service.name,
        service.revision,
        service.bucket,
        list(service.orphans),
        list(service.records.values()),
    )


def _keyspace_image(keyspace: Keyspace, now_ms: int) -> KeyspaceImage:
    keys, holders = keyspace.keys, keyspace.holders
    return KeyspaceImage(
        keys.revision,
        keys.forgotten,
        holders.revision,
        keyspace.events_fired,
        len(keys),
        keys.pieces(),
        keys.graves(),
        holders.all(),
        holders.delays(now_ms),
        list(keyspace.events),
    )
