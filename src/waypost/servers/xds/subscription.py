"""What one stream wants of one type, and what of that may have to be told.

Knows no I/O and no encoding; ``sotw`` and ``delta`` say what it is that the client has been told.
"""

from collections.abc import Collection, Iterable
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from waypost.errors import Overloaded
from waypost.model import ServiceName
from waypost.servers.xds.kinds import CDS, Kind
from waypost.servers.xds.names import name_of, service_of
from waypost.servers.xds.resources import Resource

_Sent = TypeVar("_Sent")

WILDCARD: Final = "*"
NAMES_MAX: Final = 50_000
RESPONSE_BYTES_MAX: Final = 65_536
"""Above it, a response that may be cut is: others have their turn, and gRPC takes 4 MB at most."""


class Source(Protocol):
    """Where the resources are."""

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Find one by the name that the client has for it."""
        ...

    def lists(self, name: str) -> bool:
        """Whether a wildcard stands for this one too."""
        ...

    def names(self) -> list[str]:
        """List all names that a wildcard stands for."""
        ...


class Response(msgspec.Struct, frozen=True, gc=False):
    """What is to be sent."""

    kind: Kind
    nonce: str
    resources: list[Resource]
    removed: list[str] = []


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A client would not take what it was sent, and goes on with what it had."""

    kind: Kind
    names: list[str]
    """Of the response that it refused, which may be but one bad resource among them."""
    why: str


class Subscription(Generic[_Sent]):
    """One type on one stream.

    Invariant: at most one response is outstanding, that is, neither taken nor refused; whatever
    changes meanwhile is told by the next one, once.
    """

    __slots__ = ("_by_service", "dirty", "kind", "names", "outstanding", "owes", "sent", "wildcard")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.names: dict[str, ServiceName] = {}
        self.wildcard = False
        self.sent: dict[str, _Sent] = {}
        """What the client has been told, by name."""
        self.dirty: dict[str, None] = {}
        """Names whose resource may differ from what the client has been told."""
        self.owes = False
        """The client asked for something, and waits for an answer even if it is empty."""
        self.outstanding: Response | None = None
        self._by_service: dict[ServiceName, list[str]] = {}

    def add(self, names: Iterable[str]) -> None:
        """The client wants these too."""
        for name in names:
            if name not in self.names:
                service = service_of(name)
                self.names[name] = service
                self._by_service.setdefault(service, []).append(name)
            self.dirty[name] = None
        if len(self.names) > NAMES_MAX:
            raise Overloaded(
                f"{len(self.names)} resources are asked for on one stream, at most {NAMES_MAX}: "
                "ask for what is used, or for all with a wildcard"
            )

    def drop(self, names: Iterable[str]) -> None:
        """The client wants these no more, by name."""
        for name in names:
            service = self.names.pop(name, None)
            if service is not None:
                left = self._by_service[service]
                left.remove(name)
                if not left:
                    del self._by_service[service]

    def begin_wildcard(self, source: Source) -> None:
        """The client wants everything."""
        self.wildcard = True
        self.owes = True
        if self.kind == CDS:  # of the others, everything is nothing: our listeners are gRPC's
            self.dirty.update(dict.fromkeys(source.names()))

    def covers(self, name: str) -> bool:
        """Whether the client wants it, by name or by wildcard."""
        return name in self.names or (
            self.wildcard and self.kind == CDS and name == name_of(service_of(name))
        )

    def touch(self, services: Collection[ServiceName]) -> bool:
        """These services changed; returns whether any of it is wanted."""
        before = len(self.dirty)
        for service in services:
            for name in self._by_service.get(service, ()):
                self.dirty[name] = None
            if self.wildcard and self.kind == CDS:
                self.dirty[name_of(service)] = None
        return len(self.dirty) > before

    def touch_all(self, source: Source) -> None:
        """Everything may have changed."""
        self.dirty.update(dict.fromkeys(self.names))
        self.dirty.update(dict.fromkeys(self.sent))
        if self.wildcard and self.kind == CDS:
            self.dirty.update(dict.fromkeys(source.names()))

    def find(self, source: Source, name: str) -> Resource | None:
        """Find a resource if the client wants it; by a wildcard, it wants those that are listed."""
        if name in self.names or (self.covers(name) and source.lists(name)):
            return source.find(self.kind, name)
        return None

    def settle(self, nonce: str, error: str | None) -> Refusal | None:
        """The client answers a response; an answer to an older one says nothing any more."""
        sent = self.outstanding
        if sent is None or not nonce or nonce != sent.nonce:
            return None
        self.outstanding = None
        if error is None:
            return None
        return Refusal(self.kind, [r.name for r in sent.resources] + sent.removed, error)
