"""The state of the world: one stream of the protocol that gRPC speaks, and Envoy may.

Requests come in by ``receive``, changes by ``touch``; ``take`` yields what to send next.  So a
client that is slow to read or to answer is told the latest state when it comes back, and costs no
more than the names that changed meanwhile.

- Every request says all names that the client wants now, whatever response it answers: these
  always count.  Whether it takes or refuses a response is read only from the answer to the latest.
- A taken response is not answered.  What the client has is not told again.
- A response with listeners or clusters holds all of them, and what it leaves out is deleted; one
  with routes or endpoints holds those that changed.

Source: the xDS protocol, "State of the World".
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


class SotwRequest(msgspec.Struct, frozen=True, gc=False):
    """What a client says."""

    kind: Kind
    names: tuple[str, ...]
    nonce: str = ""
    version: str = ""
    """Of the latest response that it took, maybe on an earlier stream and from another node."""
    error: str | None = None


class _Told(Subscription[Resource]):
    """A subscription, with the resources that the client has."""

    __slots__ = ("has_named",)

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.has_named = False
        """No names mean all to one who never gave any; to another, they mean none."""


class SotwStream(Stream[_Told]):
    """One stream."""

    def receive(self, request: SotwRequest) -> Refusal | None:
        """Take in a request; returns what it refuses."""
        if request.kind not in IN_ORDER:
            return None  # there are none of it, and there is no way to say so
        told = self._subscriptions.get(request.kind)
        refusal = None
        if told is None:
            told = self._subscriptions[request.kind] = _Told(request.kind)
        else:
            refusal = told.settle(request.nonce, request.error)
        self._set_names(told, request.names)
        return refusal

    def _set_names(self, told: _Told, names: tuple[str, ...]) -> None:
        told.has_named = told.has_named or bool(names)
        is_wild = WILDCARD in names or (told.kind in TOLD_WHOLE and not told.has_named)
        if is_wild and not told.wildcard:
            told.begin_wildcard(self._source)
        told.wildcard = is_wild
        wanted = dict.fromkeys(name for name in names if name != WILDCARD)
        dropped = [name for name in told.names if name not in wanted]
        told.drop(dropped)
        if told.wildcard:  # which may list them too, or not
            told.dirty.update(dict.fromkeys(dropped))
        told.add([name for name in wanted if name not in told.names])
        for name in [name for name in told.sent if not told.covers(name)]:
            del told.sent[name]  # the client forgets it by itself

    def _compose(self, kind: Kind) -> Response | None:
        told = self._subscriptions.get(kind)
        if told is None or told.outstanding is not None or not (told.dirty or told.owes):
            return None
        changed: dict[str, Resource] = {}
        gone: list[str] = []
        left: dict[str, None] = {}
        size = 0
        for name in told.dirty:
            if size > RESPONSE_BYTES_MAX and kind not in TOLD_WHOLE:
                left[name] = None
                continue
            resource = told.find(self._source, name)
            before = told.sent.get(name)
            if resource is None:
                if before is not None and kind in TOLD_WHOLE:
                    gone.append(name)
            elif before is None or before.version != resource.version:
                changed[name] = resource
                size += len(resource.body)
        told.sent.update(changed)
        for name in gone:
            del told.sent[name]
        told.dirty = left
        if not (changed or gone or told.owes):
            return None
        told.owes = False
        is_whole = kind in TOLD_WHOLE
        self._nonce += 1
        told.outstanding = Response(
            kind, str(self._nonce), list((told.sent if is_whole else changed).values())
        )
        return told.outstanding
