"""Incremental: one stream of the protocol that Envoy speaks when told ``DELTA_GRPC``.

As ``sotw``, but a request says what is wanted from now on and what no more, and a response of any
type says what changed and what is gone.  A client that comes back says which versions it has, and
is told what differs.

- What is asked for by name and can be no service is told as removed, so that nobody waits for it.
- What is asked for again is told again.

Source: the xDS protocol, "Incremental xDS".
"""

import msgspec

from waypost.servers.xds.kinds import IN_ORDER, TOLD_WHOLE, Kind
from waypost.servers.xds.resources import Resource
from waypost.servers.xds.stream import Stream
from waypost.servers.xds.subscription import (
    RESPONSE_BYTES_MAX,
    WILDCARD,
    Refusal,
    Response,
    Subscription,
)

_GONE = ""
"""The version of what the client was told does not exist."""
_UNKNOWN = "unknown"
"""The version of what the client may have, and is to be told of whatever it is."""


class DeltaRequest(msgspec.Struct, frozen=True, gc=False):
    """What a client says."""

    kind: Kind
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial: dict[str, str] = {}
    """The versions of what it has from an earlier stream, by name."""
    nonce: str = ""
    error: str | None = None


_Told = Subscription[str]
"""With the version of each resource that the client has."""


class DeltaStream(Stream[_Told]):
    """One stream."""

    def receive(self, request: DeltaRequest) -> Refusal | None:
        """Take in a request; returns what it refuses."""
        if request.kind not in IN_ORDER:
            return None  # there are none of it, and there is no way to say so
        told = self._subscriptions.get(request.kind)
        if told is None:
            told = self._subscriptions[request.kind] = _Told(request.kind)
            self._subscribe(told, request)
            if not request.subscribe and request.kind in TOLD_WHOLE:
                told.begin_wildcard(self._source)
            self._remember(told, request.initial)
            return None
        refusal = told.settle(request.nonce, request.error)
        self._unsubscribe(told, request.unsubscribe)
        self._subscribe(told, request)
        return refusal

    def _subscribe(self, told: _Told, request: DeltaRequest) -> None:
        if WILDCARD in request.subscribe:
            told.begin_wildcard(self._source)
        names = [name for name in request.subscribe if name != WILDCARD]
        for name in names:
            told.sent.pop(name, None)
        told.add(names)

    def _unsubscribe(self, told: _Told, names: tuple[str, ...]) -> None:
        if WILDCARD in names:
            told.wildcard = False
        told.drop(names)
        for name in names:
            # Whether a wildcard still covers it is not for the client to guess: it is told again,
            # or that it is gone.
            if told.covers(name) and name in told.sent:
                told.sent[name] = _UNKNOWN
                told.dirty[name] = None
        for name in [name for name in told.sent if not told.covers(name)]:
            del told.sent[name]

    def _remember(self, told: _Told, versions: dict[str, str]) -> None:
        for name, version in versions.items():
            if told.covers(name):
                told.sent[name] = version or _UNKNOWN
                told.dirty[name] = None

    def _compose(self, kind: Kind) -> Response | None:
        told = self._subscriptions.get(kind)
        if told is None or told.outstanding is not None or not (told.dirty or told.owes):
            return None
        changed: dict[str, Resource] = {}
        gone: list[str] = []
        left: dict[str, None] = {}
        size = 0
        for name in told.dirty:
            if size > RESPONSE_BYTES_MAX:
                left[name] = None
                continue
            resource = told.find(self._source, name)
            before = told.sent.get(name)
            if resource is None:
                if before != _GONE and (before is not None or name in told.names):
                    gone.append(name)
            elif before != resource.version:
                changed[name] = resource
                size += len(resource.body)
        told.dirty = left
        told.sent.update((name, resource.version) for name, resource in changed.items())
        for name in gone:
            if name in told.names:
                told.sent[name] = _GONE
            else:
                del told.sent[name]
        if not (changed or gone or told.owes):
            return None
        told.owes = False
        self._nonce += 1
        told.outstanding = Response(kind, str(self._nonce), list(changed.values()), gone)
        return told.outstanding
